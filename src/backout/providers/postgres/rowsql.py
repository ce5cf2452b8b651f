"""Pieces of SQL over columns and keys, and how rows travel from one database to another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from backout.providers.postgres.libpq import identifier
from backout.providers.postgres.pinned import PATH, SEARCH_PATH, pins

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST: Final = 63
"""Bytes of a name; what is longer Postgres cuts."""


def pipe(source: Any, read: str, target: Any, write: str, values: Sequence[Any] | None = None) -> None:
    """Copy rows from one connection to another, as text, without holding them; `values` belong to `read`.

    Both ends write and read values alike: what a script or the application's code has set in a session meanwhile is set
    again.
    """
    for end in (source, target):
        end.execute(pins({"search_path": getattr(end, PATH, SEARCH_PATH)}, local=False).encode())
    with source.cursor().copy(read, values) as reading, target.cursor().copy(write) as writing:
        for chunk in reading:
            writing.write(chunk)


def listed(names: Sequence[str]) -> str:
    """Return names as SQL.

    >>> listed(["id", "order"])
    '"id", "order"'
    """
    return ", ".join(identifier(name) for name in names)


class KeyColumn(str):
    """The name of a column of a key, with the operator by which its index tells values apart, as SQL."""

    __slots__ = ("equals",)
    equals: str

    @classmethod
    def of(cls, name: str, schema: str = "pg_catalog") -> KeyColumn:
        """Return it; `schema` is where its type's `=` lies: of types of an extension, in the extension's."""
        made = cls(name)
        made.equals = f"OPERATOR({schema}.=)"
        return made


def equals(name: str) -> str:
    """Return the operator by which values of a column are told apart."""
    return name.equals if isinstance(name, KeyColumn) else "OPERATOR(pg_catalog.=)"


def same(key: Sequence[str], one: str, other: str) -> str:
    """Return the condition that two rows have the same key."""
    return " AND ".join(f"{one}.{identifier(name)} {equals(name)} {other}.{identifier(name)}" for name in key)


def stated(prefix: str, column: str) -> str:
    """Return what a column's value is called beside another state of it: `o_` and `n_` for what it was and becomes.

    A name that would be cut, and then be nobody's or another's, is a digest of it.

    >>> stated("o_", "id"), stated("o_", "é" * 31), len(stated("o_", "x" * 62))
    ('o_id', 'o_f299f682f8ab27d5a1e24784fb220657', 34)
    """
    if len((prefix + column).encode()) <= _LONGEST:
        return prefix + column
    return prefix + hashlib.sha256(column.encode()).hexdigest()[:32]


def old(column: str) -> str:
    """Return the name, as SQL, of what a column held."""
    return identifier(stated("o_", column))


def new(column: str) -> str:
    """Return the name, as SQL, of what a column is to hold."""
    return identifier(stated("n_", column))


def keyed(key: Sequence[str], prefix: str) -> str:
    """Return the condition that the live row is the one whose key `t` holds under this prefix."""
    return " AND ".join(f"l.{identifier(name)} {equals(name)} t.{identifier(stated(prefix, name))}" for name in key)


def equal(columns: Sequence[str], one: str, other: str) -> str:
    """Return the condition that two rows are the same, byte for byte: not every type has an operator `=`."""
    rows = (", ".join(f"{alias}.{identifier(name)}" for name in columns) for alias in (one, other))
    return "record_image_eq(ROW({}), ROW({}))".format(*rows)


def differ(column: str, one: str, other: str) -> str:
    """Return the condition that a column differs, NULL being a value like any other."""
    return f"record_image_ne(ROW({one}.{identifier(column)}), ROW({other}.{identifier(column)}))"
