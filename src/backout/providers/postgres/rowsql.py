"""Pieces of SQL over columns and keys, and how rows travel from one database to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backout.providers.postgres.libpq import identifier

if TYPE_CHECKING:
    from collections.abc import Sequence


def pipe(source: Any, read: str, target: Any, write: str, values: Sequence[Any] | None = None) -> None:
    """Copy rows from one connection to another, as text, without holding them; `values` belong to `read`."""
    with source.cursor().copy(read, values) as reading, target.cursor().copy(write) as writing:
        for chunk in reading:
            writing.write(chunk)


def listed(names: Sequence[str]) -> str:
    """Return names as SQL.

    >>> listed(["id", "order"])
    '"id", "order"'
    """
    return ", ".join(identifier(name) for name in names)


def same(key: Sequence[str], one: str, other: str) -> str:
    """Return the condition that two rows have the same key."""
    return " AND ".join(f"{one}.{identifier(name)} OPERATOR(pg_catalog.=) {other}.{identifier(name)}" for name in key)


def keyed(key: Sequence[str], prefix: str) -> str:
    """Return the condition that the live row is the one whose key `t` holds under this prefix."""
    return " AND ".join(f"l.{identifier(name)} OPERATOR(pg_catalog.=) t.{identifier(prefix + name)}" for name in key)


def equal(columns: Sequence[str], one: str, other: str) -> str:
    """Return the condition that two rows are the same, byte for byte: not every type has an operator `=`."""
    rows = (", ".join(f"{alias}.{identifier(name)}" for name in columns) for alias in (one, other))
    return "record_image_eq(ROW({}), ROW({}))".format(*rows)


def differ(column: str, one: str, other: str) -> str:
    """Return the condition that a column differs, NULL being a value like any other."""
    return f"record_image_ne(ROW({one}.{identifier(column)}), ROW({other}.{identifier(column)}))"
