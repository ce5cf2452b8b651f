"""The value of a constraint's expression for rows that old code writes, without the new columns.

Three-valued, as in SQL: a CHECK takes a row unless it is false, a partial index holds it only when it is true.
"""

# ruff: noqa: SIM905 - lists of words read as text

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import TYPE_CHECKING, Final

from pglast import ast
from pglast.enums import A_Expr_Kind as Kind
from pglast.enums import BoolExprType, NullTestType

from backout.analysis.compatibility.parsing import Node, list_name_parts, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ALWAYS_DIFFERENT: Final = frozenset(
    ["gen_random_uuid", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4", "uuidv4", "uuidv7", "nextval"]
)
_CANNOT_FAIL: Final = frozenset(
    "lower upper coalesce length char_length trim btrim ltrim rtrim concat concat_ws md5 to_tsvector setweight "
    "unaccent immutable_unaccent greatest least nullif date_trunc abs date_part extract md5 left right".split()
)
_LENGTHS: Final = frozenset({"length", "char_length", "character_length"})
_STRICT: Final = _LENGTHS | frozenset(
    "octet_length lower upper initcap btrim ltrim rtrim abs ceil floor round date_part extract date_trunc jsonb_typeof "
    "json_typeof array_length cardinality position strpos left right substring substr starts_with regexp_like "
    "jsonb_array_length isfinite lower_inf upper_inf isempty".split()
)
"""Functions that return NULL for NULL."""
_TEXTS: Final = frozenset({"text", "varchar", "bpchar"})


class Unknown(Enum):
    """An unknown value; `DIFFERENT`: a different one in each row."""

    ANY = "any"
    DIFFERENT = "different"


Value = bool | Decimal | str | Unknown | None
"""None is NULL."""


def find_constant(expression: Node) -> Value:
    """Return the constant that an expression is, `DIFFERENT` for a key generator, `ANY` for what is not known."""
    if isinstance(expression, ast.FuncCall) and list_name_parts(expression.funcname)[-1] in _ALWAYS_DIFFERENT:
        return Unknown.DIFFERENT
    return evaluate(expression, {})


def evaluate(expression: Node, columns: Mapping[str, Value]) -> Value:
    """Return the value of an expression where the columns have these values; others are not known."""
    handler = _HANDLERS.get(type(expression))
    return handler(expression, columns) if handler else Unknown.ANY


def can_fail(expression: Node) -> bool:
    """Say whether computing it may raise an error for some row: a cast, a division, a function that is not known."""
    for node in walk(expression):
        if isinstance(node, ast.TypeCast) and not isinstance(node.arg, ast.A_Const):
            if list_name_parts(getattr(node.typeName, "names", ()))[-1] not in _TEXTS:
                return True
        elif (
            isinstance(node, ast.A_Expr)
            and list_name_parts(node.name)[-1:]
            and list_name_parts(node.name)[-1] in {"/", "%"}
        ) or (isinstance(node, ast.FuncCall) and list_name_parts(node.funcname)[-1] not in _CANNOT_FAIL):
            return True
    return False


def _evaluate_constant(node: Node, _columns: Mapping[str, Value]) -> Value:
    if node.isnull:
        return None
    value = node.val
    if isinstance(value, ast.Boolean):
        return bool(value.boolval)
    if isinstance(value, ast.Integer):
        return Decimal(int(value.ival or 0))
    if isinstance(value, ast.Float):
        try:
            return Decimal(str(value.fval))
        except InvalidOperation:
            return Unknown.ANY
    return str(value.sval) if isinstance(value, ast.String) else Unknown.ANY


def _evaluate_column(node: Node, columns: Mapping[str, Value]) -> Value:
    last = node.fields[-1]
    return columns.get(str(last.sval), Unknown.ANY) if isinstance(last, ast.String) else Unknown.ANY


def _cast(node: Node, columns: Mapping[str, Value]) -> Value:
    value = evaluate(node.arg, columns)
    target = list_name_parts(node.typeName.names)[-1]
    if value is None or (target in _TEXTS and isinstance(value, str)):
        return value
    if target == "bool" and isinstance(value, str):
        return {"t": True, "true": True, "f": False, "false": False}.get(value.lower(), Unknown.ANY)
    return value if isinstance(value, bool) and target == "bool" else Unknown.ANY


def _evaluate_boolean(node: Node, columns: Mapping[str, Value]) -> Value:
    values = [_to_truth(evaluate(argument, columns)) for argument in node.args]
    kind = BoolExprType(node.boolop)
    if kind is BoolExprType.NOT_EXPR:
        return (not values[0]) if isinstance(values[0], bool) else values[0]
    deciding = kind is BoolExprType.OR_EXPR
    if deciding in values:
        return deciding
    if any(isinstance(value, Unknown) for value in values):
        return Unknown.ANY
    return None if None in values else not deciding


def _to_truth(value: Value) -> bool | Unknown | None:
    return value if value is None or isinstance(value, bool) else Unknown.ANY


def _evaluate_null_test(node: Node, columns: Mapping[str, Value]) -> Value:
    value = evaluate(node.arg, columns)
    if value is Unknown.ANY:
        return value
    return (value is None) == (NullTestType(node.nulltesttype) is NullTestType.IS_NULL)


def _evaluate_operator(node: Node, columns: Mapping[str, Value]) -> Value:
    kind = Kind(node.kind)
    left = evaluate(node.lexpr, columns)
    rights = [evaluate(e, columns) for e in (node.rexpr if isinstance(node.rexpr, (tuple, list)) else (node.rexpr,))]
    if kind in {Kind.AEXPR_DISTINCT, Kind.AEXPR_NOT_DISTINCT, Kind.AEXPR_NULLIF}:
        return Unknown.ANY
    if left is None or rights == [None]:
        return None  # the operators of a comparison, of arithmetic and of patterns are strict
    operator = list_name_parts(node.name)[-1] if list_name_parts(node.name) else ""
    if kind is Kind.AEXPR_IN:
        found = [_compare_values("=", left, right) for right in rights]
        found_one = True if True in found else None if None in found else Unknown.ANY if Unknown.ANY in found else False
        if operator == "=" or not isinstance(found_one, bool):
            return found_one
        return not found_one
    if kind in {Kind.AEXPR_BETWEEN, Kind.AEXPR_NOT_BETWEEN}:
        inside = [_compare_values(">=", left, rights[0]), _compare_values("<=", left, rights[1])]
        within = False if False in inside else inside[0] if inside[0] is not True else inside[1]
        return within if kind is Kind.AEXPR_BETWEEN or not isinstance(within, bool) else not within
    if kind is Kind.AEXPR_OP and node.lexpr is not None:
        return _compare_values(operator, left, rights[0])
    return Unknown.ANY


_COMPARISONS: Final[dict[str, Callable[[Decimal, Decimal], bool]]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _compare_values(operator: str, left: Value, right: Value) -> Value:
    if left is None or right is None:
        return None
    if operator in _COMPARISONS and isinstance(left, Decimal) and isinstance(right, Decimal):
        return _COMPARISONS[operator](left, right)
    same_kind = type(left) is type(right) and isinstance(left, (str, bool))
    if operator in {"=", "<>"} and same_kind:
        return (left == right) == (operator == "=")
    return Unknown.ANY


def _call(node: Node, columns: Mapping[str, Value]) -> Value:
    name, values = list_name_parts(node.funcname)[-1], [evaluate(argument, columns) for argument in node.args or ()]
    if name in {"num_nulls", "num_nonnulls"} and Unknown.ANY not in values:
        nulls = sum(value is None for value in values)
        return Decimal(nulls if name == "num_nulls" else len(values) - nulls)
    if name in _STRICT and None in values:
        return None
    if name in _LENGTHS and isinstance(values[0], str):
        return Decimal(len(values[0]))
    return Unknown.ANY


def _coalesce(node: Node, columns: Mapping[str, Value]) -> Value:
    return next((v for a in node.args if (v := evaluate(a, columns)) is not None), None)


_HANDLERS: Final[dict[type, Callable[[Node, Mapping[str, Value]], Value]]] = {
    ast.A_Const: _evaluate_constant,
    ast.ColumnRef: _evaluate_column,
    ast.TypeCast: _cast,
    ast.BoolExpr: _evaluate_boolean,
    ast.NullTest: _evaluate_null_test,
    ast.A_Expr: _evaluate_operator,
    ast.FuncCall: _call,
    ast.CoalesceExpr: _coalesce,
}
