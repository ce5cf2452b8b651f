"""Columns, constraints and indexes as a statement defines them, with the names that Postgres generates.

Source: PostgreSQL 18, indexcmds.c ChooseIndexName and makeObjectName: a name is cut to 63 bytes, the longer part first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pglast import ast
from pglast.enums import ConstrType

from backout.analysis.compatibility.known.schema import Column, Constraint, Index, Name, Schema
from backout.analysis.compatibility.parsing import Node, find_referenced_columns, list_name_parts, print_node
from backout.analysis.compatibility.types import is_serial, read_type

if TYPE_CHECKING:
    from collections.abc import Container

_LONGEST: Final = 63
KINDS: Final = {
    ConstrType.CONSTR_PRIMARY: "primary",
    ConstrType.CONSTR_UNIQUE: "unique",
    ConstrType.CONSTR_EXCLUSION: "exclude",
    ConstrType.CONSTR_FOREIGN: "foreign",
    ConstrType.CONSTR_CHECK: "check",
    ConstrType.CONSTR_NOTNULL: "not null",
}
_ENDINGS: Final = {
    "primary": "pkey",
    "unique": "key",
    "exclude": "excl",
    "foreign": "fkey",
    "check": "check",
    "not null": "not_null",
}
_GENERATED: Final = {"s": "stored", "v": "virtual", "a": "always", "d": "by default"}


def make_column(node: Node) -> Column:
    """Return the column of a ColumnDef."""
    kinds = {ConstrType(c.contype): c for c in node.constraints or ()}
    default = kinds.get(ConstrType.CONSTR_DEFAULT)
    generated = ""
    if ConstrType.CONSTR_IDENTITY in kinds:
        generated = _GENERATED.get(str(kinds[ConstrType.CONSTR_IDENTITY].generated_when), "by default")
    if ConstrType.CONSTR_GENERATED in kinds:
        generated = _GENERATED.get(str(kinds[ConstrType.CONSTR_GENERATED].generated_kind), "stored")
    serial = node.typeName is not None and is_serial(node.typeName)
    filling = default.raw_expr if default is not None else node.raw_default
    if serial and filling is None:
        filling = ast.FuncCall(funcname=(ast.String(sval="nextval"),), args=())
    required = {ConstrType.CONSTR_NOTNULL, ConstrType.CONSTR_PRIMARY, ConstrType.CONSTR_IDENTITY} & kinds.keys()
    return Column(
        str(node.colname),
        read_type(node.typeName) if node.typeName is not None else None,
        bool(required) or serial or bool(node.is_not_null),
        None if is_null(filling) else filling,
        generated,
    )


def is_null(expression: Node) -> bool:
    """Say whether an expression is missing or the constant NULL, with a cast or without."""
    while isinstance(expression, ast.TypeCast):
        expression = expression.arg
    return expression is None or (isinstance(expression, ast.A_Const) and bool(expression.isnull))


def make_constraint(node: Node, table: Name, taken: Container[str], column: str = "") -> Constraint | None:
    """Return a Constraint node as a constraint, None for what is a property of the column.

    Args:
        column: the one that it is written behind.
        taken: names that are not free.
    """
    kind = KINDS.get(ConstrType(node.contype))
    if kind is None:
        return None
    names = list_name_parts(node.fk_attrs if kind == "foreign" else node.keys)
    if kind == "exclude":
        names = tuple(str(pair[0].name or print_node(pair[0].expr)) for pair in node.exclusions or ())
    if kind == "check":
        names = tuple(sorted(find_referenced_columns(node.raw_expr)))
    names = names or ((column,) if column else ())
    name = str(node.conname or "") or make_default_name(table[1], kind, names, taken)
    return Constraint(name, kind, names, node.raw_expr, bool(node.deferrable), bool(node.nulls_not_distinct))


def make_default_name(table: str, kind: str, columns: tuple[str, ...], taken: Container[str]) -> str:
    """Return the name that Postgres gives a constraint or an index that has none."""
    ending = _ENDINGS.get(kind, "idx")
    middle = "_".join(columns)
    if kind == "primary" or (kind == "check" and len(columns) != 1):
        middle = ""
    number = 0
    while True:
        end = f"{ending}{number or ''}"
        name = _cut(table, middle, end)
        if name not in taken:
            return name
        number += 1


def _cut(first: str, second: str, ending: str) -> str:
    room = _LONGEST - len(ending) - 1 - (1 if second else 0)
    one, two = len(first.encode()), len(second.encode())
    while one + two > room:
        if one > two:
            one -= 1
        else:
            two -= 1
    parts = [text.encode()[:size].decode("utf-8", "ignore") for text, size in ((first, one), (second, two)) if text]
    return "_".join([*parts, ending])


def make_index(node: Node, schema: Schema) -> Index:
    """Return the index of an IndexStmt."""
    table = schema.resolve(node.relation)
    columns = tuple(str(p.name or print_node(p.expr) or "?") for p in node.indexParams or ())
    names = tuple(str(p.name or _name_expression(p.expr)) for p in node.indexParams or ())
    taken = {name for space, name in (*schema.relations, *schema.indexes) if space == table[0]}
    name = str(node.idxname or make_default_name(table[1], "index", names, taken))
    predicate = (print_node(node.whereClause) or "?") if node.whereClause is not None else None
    return Index((table[0], name), table, bool(node.unique), columns, predicate, bool(node.nulls_not_distinct))


def _name_expression(expression: Node) -> str:
    if isinstance(expression, ast.FuncCall):
        return list_name_parts(expression.funcname)[-1]
    return "expr"
