"""Decodes the key of a stored row to text, for types whose bytes can be read without the server.

Source: PostgreSQL 18, "Database Page Layout", src/include/access/tupmacs.h (att_align_pointer), src/include/varatt.h.
"""

from __future__ import annotations

import struct
import uuid
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.database.removed import StoredRow

_LAYOUT: Final = """
SELECT a.attname::text, a.attlen::int, a.attalign::text, coalesce(b.typname, t.typname)::text
FROM pg_attribute a LEFT JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = nullif(t.typbasetype, 0)
WHERE a.attrelid = %s AND a.attnum > 0 ORDER BY a.attnum
"""
_ALIGNMENTS: Final = {"c": 1, "s": 2, "i": 4, "d": 8}
_VARIABLE: Final = -1
_ON_DISK: Final = 18
"""The tag, and the number of bytes, of a value stored out of line."""
_BEGIN: Final = date(2000, 1, 1)


class Attribute(Value, frozen=True):
    """A column as rows are stored: its length in bytes (-1: varies), alignment in bytes, and type."""

    name: str
    length: int
    alignment: int
    type: str


def read_layout(end: Any, oid: int) -> tuple[Attribute, ...]:
    """Return the columns of a table in the order in which rows hold them, dropped ones among them."""
    return tuple(
        Attribute(name, length, _ALIGNMENTS[align], kind or "")
        for name, length, align, kind in end.execute(_LAYOUT, (oid,)).fetchall()
    )


def decode_key(row: StoredRow, layout: Sequence[Attribute], key: Sequence[str]) -> tuple[str, ...] | None:
    """Return the values of a key as text, None where the bytes alone do not show them.

    >>> from backout.model.database.removed import StoredRow
    >>> row = StoredRow(2, b"", bytes([7, 0, 0, 0, 5]) + b"a")
    >>> decode_key(row, (Attribute("id", 4, 4, "int4"), Attribute("v", -1, 4, "text")), ("v", "id"))
    ('a', '7')
    """
    try:
        values = dict(_split_values(row, layout))
        return tuple(_decode_text(values[name], kind) for name, kind in ((n, _find_type(layout, n)) for n in key))
    except (KeyError, IndexError, struct.error, ValueError, OverflowError):
        return None


def _find_type(layout: Sequence[Attribute], name: str) -> str:
    return next(each.type for each in layout if each.name == name)


def _split_values(row: StoredRow, layout: Sequence[Attribute]) -> list[tuple[str, bytes]]:
    """Return the columns that have a value in line, each with its bytes."""
    found, at, data = [], 0, row.data
    for number, column in enumerate(layout[: row.columns]):
        if row.nulls and not row.nulls[number // 8] >> number % 8 & 1:
            continue
        if column.length >= 0:
            at += -at % column.alignment
            found.append((column.name, data[at : at + column.length]))
            at += column.length
        elif column.length == _VARIABLE:
            if data[at] == 0:  # what is not short is aligned, with zeros before it
                at += -at % column.alignment
            value, size = _read_variable(data, at)
            if value is not None:
                found.append((column.name, value))
            at += size
        else:
            end = data.index(0, at)
            at = end + 1
    return found


def _read_variable(data: bytes, at: int) -> tuple[bytes | None, int]:
    """Return a value of varying length, and how many bytes it takes; None where it is compressed or lies elsewhere."""
    first = data[at]
    if first == 1:
        if data[at + 1] != _ON_DISK:
            raise ValueError
        return None, _ON_DISK
    if first & 1:
        return data[at + 1 : at + (first >> 1)], first >> 1
    size = int.from_bytes(data[at : at + 4], "little") >> 2
    return (None if first & 2 else data[at + 4 : at + size]), size


def _decode_text(value: bytes, kind: str) -> str:
    return _KINDS[kind](value)


def _make_integer_decoder(form: str) -> Callable[[bytes], str]:
    return lambda value: str(struct.unpack(form, value)[0])


def _decode_moment(value: bytes) -> str:
    (micros,) = struct.unpack("<q", value)
    return (datetime.combine(_BEGIN, datetime.min.time()) + timedelta(microseconds=micros)).isoformat(" ")


_KINDS: Final[dict[str, Callable[[bytes], str]]] = {
    "int2": _make_integer_decoder("<h"),
    "int4": _make_integer_decoder("<i"),
    "int8": _make_integer_decoder("<q"),
    "oid": _make_integer_decoder("<I"),
    "uuid": lambda value: str(uuid.UUID(bytes=value)),
    "bool": lambda value: "t" if value[0] else "f",
    "date": lambda value: (_BEGIN + timedelta(days=struct.unpack("<i", value)[0])).isoformat(),
    "timestamp": _decode_moment,
    "timestamptz": lambda value: f"{_decode_moment(value)}+00",
    **dict.fromkeys(("text", "varchar", "bpchar", "citext"), lambda value: value.decode()),
}
