"""The effect of a statement on the known schema beside tables: views, types, routines, triggers, sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace
from pglast import ast
from pglast.enums import ConstrType, ObjectType, VariableSetKind
from pglast.enums import FunctionParameterMode as Mode

from backout.analysis.compatibility import publishing
from backout.analysis.compatibility.known import moving
from backout.analysis.compatibility.known.defining import is_null
from backout.analysis.compatibility.known.inferring import infer_type
from backout.analysis.compatibility.known.schema import (
    PUBLIC,
    Column,
    Name,
    Relation,
    Routine,
    Schema,
)
from backout.analysis.compatibility.parsing import Node, list_name_parts, print_node
from backout.analysis.compatibility.types import read_type

if TYPE_CHECKING:
    from collections.abc import Callable


def find_view_columns(query: Node, aliases: Node, schema: Schema) -> dict[str, Column] | None:
    """Return the columns of a query by name, None where a `*` or an unnamed one cannot be resolved."""
    if not isinstance(query, ast.SelectStmt):
        return None
    first: Node = query
    while first.larg is not None:  # of a UNION, the first part names the columns
        first = first.larg
    found: dict[str, Column] = {}
    for target in first.targetList or ():
        for column in _find_target_columns(target, first, schema):
            if column is None:
                return None
            found[column.name] = column
    renamed = list_name_parts(aliases)
    names = [*renamed, *list(found)[len(renamed) :]]
    return dict(zip(names, (replace(c, name=n) for n, c in zip(names, found.values(), strict=False)), strict=False))


def _find_target_columns(target: Node, query: Node, schema: Schema) -> list[Column | None]:
    sources = _find_sources(query, schema)
    value = target.val
    type_, inner = infer_type(value, sources, schema), value
    while isinstance(inner, ast.TypeCast):
        inner = inner.arg
    if isinstance(inner, ast.ColumnRef):
        last = (inner.fields or (None,))[-1]
        if isinstance(last, ast.A_Star):
            known = [r for r in sources if r is not None and r.whole]
            if len(known) != 1 or len(sources) != 1:
                return [None]
            return [Column(c.name, c.type) for c in known[0].columns.values()]
        return [Column(str(target.name or getattr(last, "sval", "")), type_, computed=value)]
    if target.name:
        return [Column(str(target.name), type_, computed=value)]
    if isinstance(inner, ast.FuncCall):
        return [Column(list_name_parts(inner.funcname)[-1], type_, computed=value)]
    return [None]


def _find_sources(query: Node, schema: Schema) -> list[Relation | None]:
    waiting, found = list(query.fromClause or ()), list[Relation | None]()
    while waiting:
        source = waiting.pop()
        if isinstance(source, ast.JoinExpr):
            waiting += [source.larg, source.rarg]
        else:
            known = schema.relations.get(schema.resolve(source)) if isinstance(source, ast.RangeVar) else None
            found.append(known)
    return found


def make_routine(node: Node) -> Routine:
    """Return the routine of a CreateFunctionStmt."""
    taken = [p for p in node.parameters or () if Mode(p.mode) not in {Mode.FUNC_PARAM_OUT, Mode.FUNC_PARAM_TABLE}]
    given = [p for p in node.parameters or () if p not in taken]
    returns = str(read_type(node.returnType)) if node.returnType is not None else None
    if node.returnType is not None and node.returnType.setof:
        returns = f"setof {returns}"
    through = [p for p in node.parameters or () if p in given or Mode(p.mode) is Mode.FUNC_PARAM_INOUT]
    if len(through) == 1 and not node.is_procedure:  # it returns the value itself, under one more name
        of = str(read_type(through[0].argType))
        returns = f"{'setof ' if node.returnType is not None and node.returnType.setof else ''}{of} {through[0].name}"
    elif given:
        returns = f"{returns} {[(p.name, str(read_type(p.argType))) for p in given]}"
    body = [print_node(option) for option in node.options or ()] + [print_node(node.sql_body) if node.sql_body else ""]
    defaults = [print_node(p.defexpr) for p in taken if p.defexpr is not None]
    text = None if None in body or None in defaults else repr((body, defaults))
    names = tuple(str(p.name or "") for p in taken)
    variadic = any(Mode(p.mode) is Mode.FUNC_PARAM_VARIADIC for p in taken)
    return Routine(tuple(str(read_type(p.argType)) for p in taken), returns, text, names, len(defaults), variadic)


def _build_from_query(name: Name, kind: str, query: Node, aliases: Node, schema: Schema) -> Relation:
    columns = find_view_columns(query, aliases, schema)
    return Relation(name, kind, columns or {}, query=query, sources=schema.sources(query), whole=columns is not None)


def _define_view(node: Node, schema: Schema) -> None:
    _make(schema, _build_from_query(schema.resolve(node.view), "view", node.query, node.aliases, schema))


def _create_as(node: Node, schema: Schema) -> None:
    target = node.into
    kind = "materialized view" if ObjectType(node.objtype) is ObjectType.OBJECT_MATVIEW else "table"
    name = schema.resolve(target.rel)
    if not (node.if_not_exists and name in schema.relations):
        _make(schema, _build_from_query(name, kind, node.query, target.colNames, schema))


def _select(node: Node, schema: Schema) -> None:
    if node.intoClause is not None:
        _make(schema, _build_from_query(schema.resolve(node.intoClause.rel), "table", node, (), schema))
    for target in node.targetList or ():
        call = target.val if isinstance(target, ast.ResTarget) else None
        if isinstance(call, ast.FuncCall) and list_name_parts(call.funcname)[-1:] == ("set_config",):
            values = _list_texts(call.args)
            if values[:1] == ["search_path"] and len(values) > 1:
                _set_path(schema, values[1].split(","))


def _list_texts(arguments: Node) -> list[str]:
    constants = [a.val for a in arguments or () if isinstance(a, ast.A_Const)]
    return [str(value.sval) for value in constants if isinstance(value, ast.String)]


def _make(schema: Schema, relation: Relation) -> None:
    if relation.name not in schema.relations:
        schema.novel.add(("relation", relation.name))
    schema.relations[relation.name] = relation


def _define_sequence(node: Node, schema: Schema) -> None:
    _make(schema, Relation(schema.resolve(node.sequence), "sequence"))


def _define_enum(node: Node, schema: Schema) -> None:
    name = schema.find_type(list_name_parts(node.typeName))
    schema.enums[name] = tuple(str(label.sval) for label in node.vals or ())
    schema.novel.add(("type", name))


def _alter_enum(node: Node, schema: Schema) -> None:
    name = schema.find_type(list_name_parts(node.typeName))
    if name not in schema.enums:
        return
    labels = [label for label in schema.enums[name] if label != node.oldVal]
    schema.enums[name] = tuple(dict.fromkeys([*labels, str(node.newVal)]))


def _define_domain(node: Node, schema: Schema) -> None:
    name = schema.find_type(list_name_parts(node.domainname))
    kinds = {ConstrType(c.contype): c for c in node.constraints or ()}
    default = kinds.get(ConstrType.CONSTR_DEFAULT)
    filling = default.raw_expr if default is not None else None
    schema.domains[name] = Column(
        name[1],
        read_type(node.typeName),
        ConstrType.CONSTR_NOTNULL in kinds,
        None if is_null(filling) else filling,
        "checked" if ConstrType.CONSTR_CHECK in kinds else "",
    )
    schema.novel.add(("type", name))


def _alter_domain(node: Node, schema: Schema) -> None:
    name = schema.find_type(list_name_parts(node.typeName))
    known = schema.domains.get(name)
    if known is not None:
        changes: dict[str, dict[str, Any]] = {
            "N": {"not_null": False},
            "O": {"not_null": True},
            "C": {"generated": "checked"},
            "T": {"default": None if is_null(node.def_) else node.def_},
        }
        schema.domains[name] = replace(known, **changes.get(str(node.subtype), {}))


def _define_composite(node: Node, schema: Schema) -> None:
    name = schema.find_type([part for part in (node.typevar.schemaname, node.typevar.relname) if part])
    schema.others[name] = {str(c.colname): read_type(c.typeName) for c in node.coldeflist or ()}
    schema.novel.add(("type", name))


def _define_range(node: Node, schema: Schema) -> None:
    name = schema.find_type(list_name_parts(node.typeName))
    schema.others[name] = None
    schema.novel.add(("type", name))


def _define(node: Node, schema: Schema) -> None:
    name = list_name_parts(node.defnames)
    if ObjectType(node.kind) is ObjectType.OBJECT_TYPE:
        schema.others[schema.find_type(name)] = None
        schema.novel.add(("type", schema.find_type(name)))


def _define_function(node: Node, schema: Schema) -> None:
    name, made = schema.find_routine(list_name_parts(node.funcname)), make_routine(node)
    others = tuple(r for r in schema.routines.get(name, ()) if r.arguments != made.arguments)
    if len(others) == len(schema.routines.get(name, ())):
        schema.novel.add(("routine", name, made.arguments))
    schema.routines[name] = (*others, made)


def _define_trigger(node: Node, schema: Schema) -> None:
    table = schema.resolve(node.relation)
    schema.triggers.add((table, str(node.trigname)))
    schema.novel.add(("trigger", table, str(node.trigname)))


def _define_rule(node: Node, schema: Schema) -> None:
    schema.rules[schema.resolve(node.relation), str(node.rulename)] = print_node(node)


def _set(node: Node, schema: Schema) -> None:
    if str(node.name) != "search_path":
        return
    if VariableSetKind(node.kind) is VariableSetKind.VAR_SET_VALUE:
        _set_path(schema, _list_texts(node.args))
    else:
        schema.search_path = (PUBLIC,)


def _set_path(schema: Schema, parts: list[str]) -> None:
    names = [name for part in parts if (name := part.strip().strip('"')) and name != "$user"]
    schema.search_path = tuple(names) or (PUBLIC,)


HANDLERS: Final[dict[type, Callable[[Node, Schema], None]]] = {
    ast.ViewStmt: _define_view,
    ast.CreateTableAsStmt: _create_as,
    ast.SelectStmt: _select,
    ast.CreateSeqStmt: _define_sequence,
    ast.CreateEnumStmt: _define_enum,
    ast.AlterEnumStmt: _alter_enum,
    ast.CreateDomainStmt: _define_domain,
    ast.AlterDomainStmt: _alter_domain,
    ast.CompositeTypeStmt: _define_composite,
    ast.CreateRangeStmt: _define_range,
    ast.DefineStmt: _define,
    ast.CreateFunctionStmt: _define_function,
    ast.CreateTrigStmt: _define_trigger,
    ast.RuleStmt: _define_rule,
    ast.CreatePublicationStmt: publishing.create,
    ast.AlterPublicationStmt: publishing.alter,
    ast.DropStmt: moving.drop,
    ast.RenameStmt: moving.rename,
    ast.AlterObjectSchemaStmt: moving.set_schema,
    ast.VariableSetStmt: _set,
}
