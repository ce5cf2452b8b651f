"""Commands of ALTER TABLE on columns: added, dropped, with another default or type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pglast import ast
from pglast.enums import ConstrType

from backout.analysis.compatibility import conditions
from backout.analysis.compatibility.constraints import add_constraint, is_required_column
from backout.analysis.compatibility.expressions import can_fail
from backout.analysis.compatibility.finding import Finding, breaking, join_findings, safe, safe_if
from backout.analysis.compatibility.known.defining import is_null, make_column
from backout.analysis.compatibility.known.schema import Name, Schema, quote_identifier
from backout.analysis.compatibility.parsing import Node, find_referenced_columns, print_node
from backout.analysis.compatibility.types import (
    Fit,
    SqlType,
    compare_types,
    get_bounds,
    holds_everything,
    is_serial,
    read_type,
)
from backout.model.database.compatibility import Reversible

if TYPE_CHECKING:
    from backout.analysis.compatibility.moment import Moment

_CACHED_PLAN = (
    "a prepared SELECT * on an open connection fails once with 'cached plan must not change result type' "
    "and has to be prepared again"
)


def add_column(moment: Moment, table: Name, command: Node) -> Finding:
    """Judge ADD COLUMN, with the constraints written behind it."""
    node = command.def_
    column = make_column(node)
    relation = moment.before.relations.get(table)
    if moment.is_new_table(table):
        return safe("add-column", "the table is new in this migration")
    if command.missing_ok and relation is not None and relation.column(column.name) is not None:
        return safe("add-column", f"{column.name} is there already: nothing changes")
    domain = moment.before.domains.get(moment.before.find_type(column.type.name.split("."))) if column.type else None
    required = column.not_null or (domain is not None and domain.not_null)
    if required and not column.filled and not (domain is not None and domain.default is not None):
        return breaking(
            "add-required-column",
            f"inserts of old code leave {column.name} out, and nothing fills it: they fail",
        )
    # The constraints are judged as if the column stood already: it is new, and its default is known.
    there = moment.with_column(table, column)
    found = [add_constraint(there, table, c, column.name) for c in node.constraints or () if _constrains(c)]
    generated = [c for c in node.constraints or () if ConstrType(c.contype) is ConstrType.CONSTR_GENERATED]
    limited = generated and node.typeName is not None and node.typeName.typmods  # such as the 3 of varchar(3)
    if limited or any(can_fail(c.raw_expr) for c in generated):
        found.append(
            safe_if("add-generated-column", f"a write of old code for which {column.name} cannot be computed fails")
        )
    kind = "add-generated-column" if generated else "add-column"
    rights = (
        "; a role that is not the owner needs USAGE on its sequence"
        if node.typeName and is_serial(node.typeName)
        else ""
    )
    told = safe(kind, f"old code neither reads nor writes {column.name}{rights}; {_CACHED_PLAN}", Reversible.IF)
    return join_findings([told, *found])


def _constrains(node: Node) -> bool:
    return ConstrType(node.contype) in {
        ConstrType.CONSTR_CHECK,
        ConstrType.CONSTR_UNIQUE,
        ConstrType.CONSTR_PRIMARY,
        ConstrType.CONSTR_FOREIGN,
    }


def drop_column(moment: Moment, table: Name, command: Node) -> Finding:
    """Judge DROP COLUMN."""
    name = str(command.name)
    relation = moment.before.relations.get(table)
    if moment.is_new_column(table, name):
        return safe("drop-column", f"{name} is new in this migration")
    gone = relation is not None and relation.whole and relation.column(name) is None
    if command.missing_ok and gone and moment.never_there(table[0]):
        return safe("drop-column", f"there is no {name}: nothing is dropped")
    now = moment.after.relations[table].column(name) if table in moment.after.relations else None
    known = relation.column(name) if relation else None
    computed = {"stored", "virtual"}
    if known and now and {known.generated, now.generated} <= computed and known.type == now.type:
        return safe_if(
            "drop-column", f"{name} is computed anew in this migration: old code may read other values in it"
        )
    return breaking(
        "drop-column",
        f"statements of old code that name {name} fail, and its values are gone",
        reversible=Reversible.NO,
    )


def judge_default(moment: Moment, table: Name, command: Node) -> Finding:
    """Judge SET DEFAULT and DROP DEFAULT."""
    name = str(command.name)
    dropped = is_null(command.def_)
    kind = "drop-default" if dropped else "set-default"
    relation = moment.before.relations.get(table)
    known = relation.column(name) if relation else None
    if moment.is_new_table(table):
        return safe(kind, "the table is new in this migration")
    if moment.is_new_column(table, name):
        if dropped and is_required_column(moment, table, name):
            return breaking(
                kind, f"inserts of old code leave the new column {name} out, and nothing fills it: they fail"
            )
        return safe(kind, f"{name} is new in this migration")
    if known is not None and not known.generated:
        same = None if known.default is None else print_node(known.default)
        if (dropped and known.default is None) or (
            not dropped and same is not None and same == print_node(command.def_)
        ):
            return safe(kind, "the default is the same as before: nothing changes")
    if dropped and known is not None and known.not_null:
        return safe_if(kind, f"an insert of old code that leaves {name} out fails: it is NOT NULL")
    return safe_if(kind, f"an insert of old code that leaves {name} out stores another value than before")


def judge_identity(moment: Moment, table: Name, command: Node) -> Finding:
    """Judge ADD GENERATED ... AS IDENTITY and SET GENERATED or a sequence option."""
    name, kind = str(command.name), "identity"
    if moment.is_new_column(table, name):
        return safe(kind, f"{name} is new in this migration")
    options = {str(o.defname): o.arg for o in command.def_} if isinstance(command.def_, (tuple, list)) else {}
    when = str(getattr(command.def_, "generated_when", "") or "")
    if "generated" in options:
        when = chr(options["generated"].ival)
    if when == "a":
        return breaking(kind, f"inserts and updates of old code that give {name} a value fail: it is GENERATED ALWAYS")
    if options.keys() - {"generated"}:
        return safe_if(kind, f"inserts of old code get other numbers for {name}, which may be taken or run out")
    return safe(kind, f"inserts of old code may go on giving {name} a value, or leave it out")


def drop_identity(moment: Moment, table: Name, command: Node) -> Finding:
    """Judge DROP IDENTITY."""
    name, kind = str(command.name), "drop-identity"
    relation = moment.after.relations.get(table)
    column = relation.column(name) if relation else None
    known = moment.before.relations.get(table)
    if moment.is_new_column(table, name) and not is_required_column(moment, table, name):
        return safe(kind, f"{name} is new in this migration")
    before = known.column(name) if known else None
    if command.missing_ok and before is not None and not before.generated:
        return safe(kind, f"{name} is no identity column: nothing changes")
    if column is not None and column.filled:
        return safe_if(kind, f"inserts of old code that leave {name} out get their value from the default instead")
    return breaking(kind, f"inserts of old code that leave {name} out fail: nothing fills it any more")


def drop_expression(moment: Moment, table: Name, command: Node) -> Finding:
    """Judge DROP EXPRESSION: a generated column becomes a plain one."""
    name, kind = str(command.name), "drop-expression"
    relation = moment.before.relations.get(table)
    column = relation.column(name) if relation else None
    if moment.is_new_column(table, name) and not is_required_column(moment, table, name):
        return safe(kind, f"{name} is new in this migration")
    if column is not None and command.missing_ok and column.generated not in {"stored", "virtual"}:
        return safe(kind, f"{name} is no generated column: nothing changes")
    if column is not None and column.not_null:
        return breaking(kind, f"inserts of old code fail: nothing computes {name} any more, and it is NOT NULL")
    return safe_if(kind, f"rows that old code writes have null in {name}, which nothing computes any more")


def set_expression(moment: Moment, table: Name, command: Node) -> Finding:
    """Judge SET EXPRESSION."""
    if moment.is_new_column(table, str(command.name)):
        return safe("set-expression", f"{command.name} is new in this migration")
    return safe_if("set-expression", f"old code reads other values in {command.name} than before")


def judge_type(moment: Moment, table: Name, command: Node) -> Finding:
    """Judge ALTER COLUMN ... TYPE."""
    name, node = str(command.name), command.def_
    new = read_type(node.typeName)
    relation = moment.before.relations.get(table)
    column = relation.column(name) if relation else None
    old = column.type if column else None
    if moment.is_new_column(table, name):
        return safe("alter-type", f"{name} is new in this migration")
    if node.raw_default is not None and not _is_plain_using(node.raw_default, name, new):
        return breaking(
            "alter-type",
            f"the values of {name} are computed anew (USING): old code reads other ones",
            reversible=Reversible.NO,
        )
    if old is None and node.raw_default is not None and holds_everything(new):
        return safe_if(
            "alter-type",
            f"{new} holds every value, but USING hints that {name} was no text: then comparisons of old code may fail",
            conditions.select_non_text(moment.before.quote_name(table), name),
            reversible=Reversible.IF,
        )
    found = change_of_type(moment, old, new, f"{moment.before.quote_name(table)}.{quote_identifier(name)}")
    if found.verdict.value == "breaking" and old is not None:
        condition = _select_too_large(moment.before, table, name, old, new)
        return Finding(found.kind, found.verdict, found.reversible, found.reason, condition)
    if node.collClause is not None and found.verdict.value == "safe":
        return safe_if("alter-type", f"with another collation {name} sorts and compares differently")
    return found


def change_of_type(moment: Moment, old: SqlType | None, new: SqlType, what: str) -> Finding:
    """Judge that values of a type become values of another; `what` names them."""
    if old is None:
        return _judge_unknown_type(new, what)
    labels_before, labels_after = (
        _find_labels(moment.before, old),
        _find_labels(moment.after, new) or _find_labels(moment.before, new),
    )
    if labels_before is not None and labels_after is not None and old.dimensions == new.dimensions:
        missing = [label for label in labels_before if label not in labels_after]
        if missing:
            return breaking(
                "alter-type",
                f"{what} no longer takes {', '.join(missing)}",
                reversible=Reversible.IF,
            )
        return safe_if(
            "alter-type",
            f"{what} is of another enum, with every old label; casts to the old type may fail",
            reversible=Reversible.IF,
        )
    old, new = _find_base(moment.before, old), _find_base(moment.before, new, keep_checked=True)
    verdict = compare_types(old, new)
    if verdict is Fit.SAME:
        return safe("alter-type", f"{what} is {new} already: every value fits and reads the same")
    if verdict is Fit.WIDER:
        note = "; a client may overflow" if new.name == "int8" else ""
        return safe("alter-type", f"every {old} is a {new} and reads the same{note}; {_CACHED_PLAN}", Reversible.IF)
    if verdict is Fit.MAYBE:
        return safe_if(
            "alter-type",
            f"every {old} fits into {new}, but some read or compare differently",
            reversible=Reversible.IF,
        )
    lossy = old.name in {"numeric", "float8", "float4", "timestamp", "timestamptz", "time", "json", "date"}
    return breaking(
        "alter-type",
        f"{what} changes from {old} to {new}: values of old code no longer fit, or read differently",
        reversible=Reversible.NO if lossy and new.name not in {"text", "json"} else Reversible.IF,
    )


def _judge_unknown_type(new: SqlType, what: str) -> Finding:
    if holds_everything(new):
        return safe(
            "alter-type",
            f"{new} holds every value of {what}, whose old type is not known here; {_CACHED_PLAN}",
            Reversible.IF,
        )
    return breaking(
        "alter-type",
        f"the old type of {what} is not known here: values of old code may not fit into {new}, or read differently",
        reversible=Reversible.IF,
    )


def _find_labels(schema: Schema, type_: SqlType) -> tuple[str, ...] | None:
    return schema.enums.get(schema.find_type(type_.name.split(".")))


def _find_base(schema: Schema, type_: SqlType, *, keep_checked: bool = False) -> SqlType:
    domain = schema.domains.get(schema.find_type(type_.name.split(".")))
    if domain is None or domain.type is None or (keep_checked and (domain.not_null or domain.generated)):
        return type_
    return SqlType(domain.type.name, domain.type.modifiers, type_.dimensions or domain.type.dimensions)


def _is_plain_using(expression: Node, column: str, new: SqlType) -> bool:
    """Say whether USING only casts the column itself, as ALTER TYPE would do without it; through text at most."""
    while isinstance(expression, ast.TypeCast):
        through = read_type(expression.typeName)
        if through != new and not holds_everything(through):
            return False
        expression = expression.arg
    return isinstance(expression, ast.ColumnRef) and find_referenced_columns(expression) == {column}


def _select_too_large(schema: Schema, table: Name, column: str, old: SqlType, new: SqlType) -> str | None:
    shown, name = schema.quote_name(table), quote_identifier(column)
    if old.dimensions or new.dimensions:
        return None
    if new.name in {"varchar", "bpchar"} and new.modifiers and old.name in {"varchar", "text", "bpchar"}:
        return conditions.select_rows(shown, f"length({name}) > {new.modifiers[0]}")
    limits = get_bounds(new)
    if limits and old.name in {"int4", "int8", "numeric"}:
        return conditions.select_rows(shown, f"{name} NOT BETWEEN {limits[0]} AND {limits[1]}")
    return None
