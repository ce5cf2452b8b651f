"""The type of an expression in a view, where it can be inferred without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pglast import ast
from pglast.enums import A_Expr_Kind as Kind

from backout.analysis.compatibility.parsing import Node, list_name_parts
from backout.analysis.compatibility.types import SqlType, read_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.analysis.compatibility.known.schema import Relation, Schema

_RETURNS: Final = {
    **dict.fromkeys(("count", "row_number", "rank", "dense_rank"), "int8"),
    **dict.fromkeys(
        ("lower", "upper", "initcap", "btrim", "ltrim", "rtrim", "concat", "concat_ws", "replace", "substr",
         "substring", "left", "right", "to_char", "md5", "split_part", "string_agg", "format"), "text",
    ),
    **dict.fromkeys(("length", "char_length", "strpos", "position"), "int4"),
    **dict.fromkeys(("now", "transaction_timestamp", "clock_timestamp"), "timestamptz"),
    **dict.fromkeys(("bool_and", "bool_or", "every"), "bool"),
}  # fmt: skip
_AS_ITS_ARGUMENT: Final = frozenset({"min", "max", "abs"})
_COMPARISONS: Final = frozenset({"=", "<>", "!=", "<", ">", "<=", ">=", "~", "!~", "~*", "~~", "!~~", "@>", "<@", "&&"})


def infer_type(value: Node, sources: Sequence[Relation | None], schema: Schema) -> SqlType | None:
    """Return the type of an expression over relations, None where it cannot be inferred."""
    if isinstance(value, ast.TypeCast):
        return read_type(value.typeName)
    if isinstance(value, ast.ColumnRef):
        name = str(getattr((value.fields or (None,))[-1], "sval", ""))
        of = [c for r in sources if r is not None and (c := r.column(name)) is not None]
        return of[0].type if len(of) == 1 else None
    if isinstance(value, ast.A_Const):
        constant = {ast.Integer: "int4", ast.String: "text", ast.Boolean: "bool", ast.Float: "numeric"}
        return SqlType(constant[type(value.val)]) if type(value.val) in constant else None
    if isinstance(value, (ast.BoolExpr, ast.NullTest, ast.BooleanTest)):
        return SqlType("bool")
    if isinstance(value, ast.CoalesceExpr):
        return _infer_first(value.args, sources, schema)
    if isinstance(value, ast.A_Expr):
        kind: Node = value.kind
        compared = kind is not Kind.AEXPR_OP or list_name_parts(value.name)[-1] in _COMPARISONS
        return SqlType("bool") if compared and kind is not Kind.AEXPR_NULLIF else None
    return _infer_call(value, sources, schema) if isinstance(value, ast.FuncCall) else None


def _infer_first(values: Node, sources: Sequence[Relation | None], schema: Schema) -> SqlType | None:
    return infer_type(values[0], sources, schema) if values else None


def _infer_call(call: Node, sources: Sequence[Relation | None], schema: Schema) -> SqlType | None:
    name = list_name_parts(call.funcname)[-1]
    if name in _AS_ITS_ARGUMENT:
        return _infer_first(call.args or (), sources, schema)
    found = _RETURNS.get(name)
    return (
        SqlType(found) if found and schema.find_routine(list_name_parts(call.funcname)) not in schema.routines else None
    )
