"""Column types, and whether after a change every old value still fits and reads the same.

Source: PostgreSQL 18, "Data Types"; values compared on a server in `tests/analysis/test_compatibility_postgres.py`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace
from pglast import ast

from backout.analysis.compatibility.parsing import Node, list_name_parts
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

_SERIAL: Final = {"serial": "int4", "serial4": "int4", "bigserial": "int8", "serial8": "int8"} | {
    "smallserial": "int2",
    "serial2": "int2",
}
_INTEGERS: Final = ("int2", "int4", "int8")
_DIGITS: Final = {"int2": 5, "int4": 10, "int8": 19}
_BOUNDS: Final = {"int2": (-(2**15), 2**15 - 1), "int4": (-(2**31), 2**31 - 1)}
_STRINGS: Final = ("varchar", "text")
_WITH_FRACTION: Final = ("timestamp", "timestamptz", "time", "timetz", "interval")
_MICROSECONDS: Final = 6


class SqlType(Value, frozen=True):
    """A type as the catalog names it: `int4`, `varchar` with (50,); `dimensions` of an array."""

    name: str
    modifiers: tuple[int, ...] = ()
    dimensions: int = 0

    @property
    def element(self) -> SqlType:
        """The type of an array's elements."""
        return replace(self, dimensions=0)

    def __str__(self) -> str:
        modifiers = f"({', '.join(map(str, self.modifiers))})" if self.modifiers else ""
        return f"{self.name}{modifiers}{'[]' * self.dimensions}"


class Fit(Enum):
    """The effect of a change of a column's type on its values."""

    SAME = "the same type"
    WIDER = "every value fits and reads the same"
    MAYBE = "it depends on the values"
    NARROWER = "values do not fit, or read differently"


def read_type(node: Node) -> SqlType:
    """Return the type of a TypeName; a `serial` is the integer behind it."""
    names = list_name_parts(node.names)
    if names[:1] == ("pg_catalog",):
        names = names[1:]
    name = ".".join(names)
    modifiers = tuple(
        int(m.val.ival or 0)
        for m in node.typmods or ()
        if isinstance(m, ast.A_Const) and isinstance(m.val, ast.Integer)
    )
    return SqlType(_SERIAL.get(name, name), modifiers, min(len(node.arrayBounds or ()), 1))


def is_serial(node: Node) -> bool:
    """Say whether a TypeName is one of the serial types, which bring a default."""
    return list_name_parts(node.names)[-1:] != () and list_name_parts(node.names)[-1] in _SERIAL


def compare_types(old: SqlType, new: SqlType) -> Fit:
    """Compare two built-in types; unknown types are compared by name alone."""
    if old == new:
        return Fit.SAME
    if old.dimensions != new.dimensions:
        return Fit.NARROWER
    old, new = old.element, new.element
    for rule in (_compare_integers, _compare_strings, _compare_numeric, _compare_fractions, _compare_bits):
        found = rule(old, new)
        if found is not None:
            return found
    return Fit.WIDER if (old.name, new.name) == ("cidr", "inet") else Fit.NARROWER


def holds_everything(new: SqlType) -> bool:
    """Say whether a type takes the text of every value unchanged."""
    return new.dimensions == 0 and (new.name == "text" or (new.name == "varchar" and not new.modifiers))


def get_bounds(new: SqlType) -> tuple[int, int] | None:
    """Return the smallest and largest value of a short integer type."""
    return None if new.dimensions else _BOUNDS.get(new.name)


def _compare_integers(old: SqlType, new: SqlType) -> Fit | None:
    if old.name not in _INTEGERS:
        return None
    if new.name in _INTEGERS:
        return Fit.WIDER if _INTEGERS.index(new.name) > _INTEGERS.index(old.name) else Fit.NARROWER
    if new.name == "numeric":
        precision, scale = _get_precision(new.modifiers or (1000, 0))
        return Fit.NARROWER if precision - scale < _DIGITS[old.name] else Fit.MAYBE  # a division no longer cuts off
    if new.name == "float8" and old.name != "int8":
        return Fit.MAYBE  # as above
    return Fit.NARROWER


def _compare_strings(old: SqlType, new: SqlType) -> Fit | None:
    if old.name in _STRINGS and new.name in _STRINGS:
        if new.name == "text" or not new.modifiers:
            return Fit.WIDER
        return Fit.WIDER if old.modifiers and old.modifiers[0] <= new.modifiers[0] else Fit.NARROWER
    if old.name in _STRINGS and new.name.rpartition(".")[2] == "citext":
        return Fit.MAYBE  # the same values, compared without case
    if old.name == "bpchar" and new.name in (*_STRINGS, "bpchar"):
        length = old.modifiers[0] if old.modifiers else 1
        enough = not new.modifiers or new.modifiers[0] >= length
        return Fit.MAYBE if enough else Fit.NARROWER  # the blanks at the end go, or grow
    return None


def _compare_numeric(old: SqlType, new: SqlType) -> Fit | None:
    if (old.name, new.name) != ("numeric", "numeric"):
        return None
    if not new.modifiers:
        return Fit.WIDER
    if not old.modifiers:
        return Fit.NARROWER
    (precision, scale), (new_precision, new_scale) = _get_precision(old.modifiers), _get_precision(new.modifiers)
    if new_scale < scale or new_precision - new_scale < precision - scale:
        return Fit.NARROWER
    return Fit.WIDER if scale == new_scale else Fit.MAYBE  # 1.50 reads as 1.5000


def _compare_fractions(old: SqlType, new: SqlType) -> Fit | None:
    if old.name != new.name or old.name not in _WITH_FRACTION:
        return None
    if old.name == "interval":  # its modifiers say fields and digits
        return Fit.WIDER if not new.modifiers else Fit.NARROWER
    digits = [t.modifiers[0] if t.modifiers else _MICROSECONDS for t in (old, new)]
    return Fit.WIDER if digits[0] <= digits[1] else Fit.NARROWER


def _compare_bits(old: SqlType, new: SqlType) -> Fit | None:
    if (old.name, new.name) != ("varbit", "varbit"):
        return None
    return Fit.WIDER if not new.modifiers or (old.modifiers and old.modifiers <= new.modifiers) else Fit.NARROWER


def _get_precision(modifiers: Sequence[int]) -> tuple[int, int]:
    return modifiers[0], modifiers[1] if len(modifiers) > 1 else 0
