"""The effect of a statement on the known schema: tables, columns, constraints, indexes; and the dispatch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace
from pglast import ast
from pglast.enums import AlterTableType as Alter
from pglast.enums import ObjectType, TableLikeOption

from backout.analysis.compatibility.known import objects
from backout.analysis.compatibility.known.defining import is_null, make_column, make_constraint, make_index
from backout.analysis.compatibility.known.schema import Column, Constraint, Name, Relation, Schema
from backout.analysis.compatibility.parsing import Node, list_name_parts
from backout.analysis.compatibility.types import read_type

if TYPE_CHECKING:
    from collections.abc import Callable

_MADE_BY_OTHERS: Final = frozenset({"pg_catalog", "information_schema"})


def apply(node: Node, schema: Schema) -> None:
    """Change the schema as the statement would."""
    handler = _HANDLERS.get(type(node)) or objects.HANDLERS.get(type(node))
    if handler is not None:
        handler(node, schema)


def note_missing(schema: Schema, name: Name) -> None:
    """Note that a statement names a relation which no migration made: the history here is not the whole."""
    if name not in schema.relations and name not in schema.indexes and name[0] not in _MADE_BY_OTHERS:
        schema.blind.add(name[0])


def _create_table(node: Node, schema: Schema, *, kind: str = "table") -> None:
    name = schema.resolve(node.relation)
    if not node.relation.schemaname and name not in schema.relations and node.relation.relpersistence != "t":
        name = (schema.search_path[0], name[1])
    if name in schema.relations and node.if_not_exists:
        return
    parents = [schema.resolve(parent) for parent in node.inhRelations or ()]
    known = [schema.relations.get(parent) for parent in parents]
    inherited = {n: c for parent in known if parent is not None for n, c in parent.columns.items()}
    whole = all(parent is not None and parent.whole for parent in known) and not node.ofTypename
    relation = Relation(name, kind, inherited, whole=whole)
    for element in (*(node.tableElts or ()), *(node.constraints or ())):
        relation = _add_element(relation, element, schema)
    schema.relations[name] = relation
    schema.novel.add(("relation", name))
    for column in relation.columns.values():
        _add_own_sequence(schema, name, column)


def _add_own_sequence(schema: Schema, table: Name, column: Column) -> None:
    default = column.default
    if isinstance(default, ast.FuncCall) and list_name_parts(default.funcname) == ("nextval",) and not default.args:
        sequence = (table[0], f"{table[1]}_{column.name}_seq")
        schema.relations[sequence] = Relation(sequence, "sequence")
        schema.novel.add(("relation", sequence))


def _add_element(relation: Relation, element: Node, schema: Schema) -> Relation:
    if isinstance(element, ast.ColumnDef):
        relation = relation.with_column(make_column(element))
        for constraint in element.constraints or ():
            relation = _apply_constraint(relation, constraint, str(element.colname))
    elif isinstance(element, ast.Constraint):
        relation = _apply_constraint(relation, element)
    elif isinstance(element, ast.TableLikeClause):
        known = schema.relations.get(schema.resolve(element.relation))
        if known is None or not known.whole:
            relation = replace(relation, whole=False)
        options = int(element.options or 0)
        for column in known.columns.values() if known is not None else ():
            keeps = options & TableLikeOption.CREATE_TABLE_LIKE_DEFAULTS
            copied = column if keeps else replace(column, default=None, generated="")
            relation = relation.with_column(copied)
    return relation


def _apply_constraint(relation: Relation, node: Node, column: str = "") -> Relation:
    constraint = make_constraint(node, relation.name, relation.constraints, column)
    if constraint is None:
        return relation
    if constraint.kind in {"primary", "not null"}:
        for name in constraint.columns:
            known = relation.column(name)
            relation = relation.with_column(replace(known, not_null=True)) if known else relation
    return replace(relation, constraints={**relation.constraints, constraint.name: constraint})


def _create_foreign_table(node: Node, schema: Schema) -> None:
    _create_table(node.base, schema, kind="foreign table")


def _add_index(node: Node, schema: Schema) -> None:
    note_missing(schema, schema.resolve(node.relation))
    index = make_index(node, schema)
    if not (node.if_not_exists and index.name in schema.indexes):
        schema.indexes[index.name] = index
        schema.novel.add(("relation", index.name))


def _alter_table(node: Node, schema: Schema) -> None:
    if ObjectType(node.objtype) is ObjectType.OBJECT_TYPE:
        _alter_composite(node, schema)
        return
    name = schema.resolve(node.relation)
    if not node.missing_ok:
        note_missing(schema, name)
    for command in node.cmds or ():
        handler = _COMMANDS.get(Alter(command.subtype))
        if handler is not None and name not in schema.indexes:
            relation = schema.relations.get(name) or Relation(name, "table", whole=False)
            schema.relations[name] = handler(relation, command, schema)


def _alter_composite(node: Node, schema: Schema) -> None:
    name = schema.find_type([part for part in (node.relation.schemaname, node.relation.relname) if part])
    attributes = dict(schema.others.get(name) or {})
    for command in node.cmds or ():
        if Alter(command.subtype) is Alter.AT_DropColumn:
            attributes.pop(str(command.name), None)
        elif command.def_ is not None and command.def_.typeName is not None:
            attributes[str(command.name or command.def_.colname)] = read_type(command.def_.typeName)
    if name in schema.others:
        schema.others[name] = attributes


def _add_column(relation: Relation, command: Node, schema: Schema) -> Relation:
    if command.missing_ok and relation.column(str(command.def_.colname)):
        return relation
    schema.novel.add(("column", relation.name, str(command.def_.colname)))
    found = _add_element(relation, command.def_, schema)
    column = found.column(str(command.def_.colname))
    if column is not None:
        _add_own_sequence(schema, relation.name, column)
    return found


def _drop_column(relation: Relation, command: Node, schema: Schema) -> Relation:
    gone = str(command.name)
    schema.novel.discard(("column", relation.name, gone))
    for index in [i for i in schema.indexes.values() if i.table == relation.name and gone in i.columns]:
        del schema.indexes[index.name]
    columns = {n: c for n, c in relation.columns.items() if n != gone}
    constraints = {n: c for n, c in relation.constraints.items() if gone not in c.columns}
    return replace(relation, columns=columns, constraints=constraints)


def _make_change_handler(**values: Any) -> Callable[[Relation, Node, Schema], Relation]:
    def handler(relation: Relation, command: Node, _schema: Schema) -> Relation:
        column = relation.column(str(command.name))
        return relation.with_column(replace(column, **values)) if column else relation

    return handler


def _drop_not_null(relation: Relation, command: Node, schema: Schema) -> Relation:
    gone = str(command.name)
    kept = {n: c for n, c in relation.constraints.items() if c.kind != "not null" or c.columns != (gone,)}
    return _make_change_handler(not_null=False)(replace(relation, constraints=kept), command, schema)


def _set_default(relation: Relation, command: Node, schema: Schema) -> Relation:
    return _make_change_handler(default=None if is_null(command.def_) else command.def_)(relation, command, schema)


def _set_identity(relation: Relation, command: Node, _schema: Schema) -> Relation:
    options = command.def_ if isinstance(command.def_, (tuple, list)) else ()
    when = str(getattr(command.def_, "generated_when", "") or "")
    for option in options:
        if option.defname == "generated":
            when = chr(option.arg.ival)
    column = relation.column(str(command.name))
    if not when:
        return relation
    generated = "always" if when == "a" else "by default"
    return relation.with_column(replace(column, generated=generated)) if column else relation


def _set_type(relation: Relation, command: Node, _schema: Schema) -> Relation:
    column = relation.column(str(command.name))
    return relation.with_column(replace(column, type=read_type(command.def_.typeName))) if column else relation


def _add_constraint(relation: Relation, command: Node, schema: Schema) -> Relation:
    node = command.def_
    made = make_constraint(node, relation.name, relation.constraints)
    if made is not None:
        schema.novel.add(("constraint", relation.name, str(node.conname or node.indexname or made.name)))
    if node.indexname:
        index = schema.indexes.pop((relation.name[0], str(node.indexname)), None)
        found = make_constraint(node, relation.name, relation.constraints)
        if found is None:
            return relation
        named = Constraint(
            str(node.conname or node.indexname),
            found.kind,
            index.columns if index else (),
            deferrable=bool(node.deferrable),
            nulls_equal=bool(index and index.nulls_equal),
        )
        return replace(relation, constraints={**relation.constraints, named.name: named})
    return _apply_constraint(relation, node)


def _drop_constraint(relation: Relation, command: Node, schema: Schema) -> Relation:
    gone = relation.constraints.get(str(command.name))
    relation = replace(relation, constraints={n: c for n, c in relation.constraints.items() if n != str(command.name)})
    if gone is not None and gone.kind == "not null":
        for name in gone.columns:
            relation = _make_change_handler(not_null=False)(relation, ast.AlterTableCmd(name=name), schema)
    return relation


def _alter_constraint(relation: Relation, command: Node, _schema: Schema) -> Relation:
    known = relation.constraints.get(str(command.def_.conname))
    if known is None or not command.def_.alterDeferrability:
        return relation
    changed = replace(known, deferrable=bool(command.def_.deferrable))
    return replace(relation, constraints={**relation.constraints, known.name: changed})


def _disable_rule(relation: Relation, command: Node, schema: Schema) -> Relation:
    if (relation.name, str(command.name)) in schema.rules:
        schema.rules[relation.name, str(command.name)] = ""
    return relation


def _set_replica_identity(relation: Relation, command: Node, _schema: Schema) -> Relation:
    identity = str(command.def_.identity_type)
    return replace(relation, identity=str(command.def_.name) if identity == "i" else identity)


_COMMANDS: Final[dict[Alter, Callable[[Relation, Node, Schema], Relation]]] = {
    Alter.AT_AddColumn: _add_column,
    Alter.AT_DropColumn: _drop_column,
    Alter.AT_SetNotNull: _make_change_handler(not_null=True),
    Alter.AT_DropNotNull: _drop_not_null,
    Alter.AT_ColumnDefault: _set_default,
    Alter.AT_AddIdentity: _set_identity,
    Alter.AT_SetIdentity: _set_identity,
    Alter.AT_DropIdentity: _make_change_handler(generated=""),
    Alter.AT_DropExpression: _make_change_handler(generated=""),
    Alter.AT_AlterColumnType: _set_type,
    Alter.AT_AddConstraint: _add_constraint,
    Alter.AT_DropConstraint: _drop_constraint,
    Alter.AT_AlterConstraint: _alter_constraint,
    Alter.AT_ReplicaIdentity: _set_replica_identity,
    Alter.AT_DisableRule: _disable_rule,
}


def _create_schema(node: Node, schema: Schema) -> None:
    name = str(node.schemaname or getattr(node.authrole, "rolename", None) or "")
    if name not in schema.schemas:
        schema.schemas.add(name)
        schema.novel.add(("schema", name))
    path = schema.search_path
    schema.search_path = (name, *path)
    for element in node.schemaElts or ():
        apply(element, schema)
    schema.search_path = path


def _note_data(node: Node, schema: Schema) -> None:
    relation = getattr(node, "relation", None)
    if relation is not None:
        note_missing(schema, schema.resolve(relation))


_HANDLERS: Final[dict[type, Callable[[Node, Schema], None]]] = {
    ast.CreateStmt: _create_table,
    ast.CreateForeignTableStmt: _create_foreign_table,
    ast.IndexStmt: _add_index,
    ast.AlterTableStmt: _alter_table,
    ast.CreateSchemaStmt: _create_schema,
    **dict.fromkeys((ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt, ast.CopyStmt), _note_data),
}
