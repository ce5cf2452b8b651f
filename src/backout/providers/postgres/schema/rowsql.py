"""SQL fragments over columns and keys, and the transfer of rows between databases."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.server.copy_out import read_copy
from backout.providers.postgres.server.pinned import PATH, SEARCH_PATH, write_pins

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST: Final = 63
"""Bytes of a name; what is longer Postgres cuts."""
_AT_ONCE: Final = 1 << 16


def copy_rows(source: Any, read: str, target: Any, write: str, values: Sequence[Any] | None = None) -> None:
    """Copy rows from one connection to another, as text, without holding them; `values` belong to `read`.

    Both ends write and read values alike: what a script or the application's code has set in a session meanwhile is set
    again.
    """
    for end in (source, target):
        end.execute(write_pins({"search_path": getattr(end, PATH, SEARCH_PATH)}, local=False).encode())
    with target.cursor().copy(write) as writing:
        rows = bytearray()
        for chunk in read_copy(source, read, values):  # a row each: written one by one, they would take as long again
            rows += chunk
            if len(rows) >= _AT_ONCE:
                writing.write(bytes(rows))
                rows.clear()
        writing.write(bytes(rows))


def join_identifiers(names: Sequence[str]) -> str:
    """Return names as SQL.

    >>> join_identifiers(["id", "order"])
    '"id", "order"'
    """
    return ", ".join(quote_identifier(name) for name in names)


class KeyColumn(str):
    """A key column's name, with the equality operator of its index, as SQL."""

    __slots__ = ("equals",)
    equals: str

    @classmethod
    def of(cls, name: str, schema: str = "pg_catalog") -> KeyColumn:
        """Return it; `schema` is where its type's `=` lies: of types of an extension, in the extension's."""
        made = cls(name)
        made.equals = f"OPERATOR({schema}.=)"
        return made


def equals(name: str) -> str:
    """Return the equality operator of a column."""
    return name.equals if isinstance(name, KeyColumn) else "OPERATOR(pg_catalog.=)"


def match_keys(key: Sequence[str], one: str, other: str) -> str:
    """Return the condition that two rows have the same key."""
    return " AND ".join(
        f"{one}.{quote_identifier(name)} {equals(name)} {other}.{quote_identifier(name)}" for name in key
    )


def name_state_column(prefix: str, column: str) -> str:
    """Return what a column's value is called beside another state of it: `o_` and `n_` for what it was and becomes.

    A name that would be truncated, and could then collide, is replaced by its digest.

    >>> name_state_column("o_", "id"), name_state_column("o_", "é" * 31), len(name_state_column("o_", "x" * 62))
    ('o_id', 'o_f299f682f8ab27d5a1e24784fb220657', 34)
    """
    if len((prefix + column).encode()) <= _LONGEST:
        return prefix + column
    return prefix + hashlib.sha256(column.encode()).hexdigest()[:32]


def name_old(column: str) -> str:
    """Return the name, as SQL, of what a column held."""
    return quote_identifier(name_state_column("o_", column))


def name_new(column: str) -> str:
    """Return the name, as SQL, of what a column is to hold."""
    return quote_identifier(name_state_column("n_", column))


def refers(columns: Sequence[str], referred: Sequence[str], child: str, parent: str) -> str:
    """Return the condition that one row refers to another, by their aliases and the columns of a foreign key."""
    pairs = zip(columns, referred, strict=True)
    return " AND ".join(
        f"{child}.{quote_identifier(one)} OPERATOR(pg_catalog.=) {parent}.{quote_identifier(other)}"
        for one, other in pairs
    )


def write_key_text(key: Sequence[str], alias: str) -> str:
    """Return a row's key as SQL for a text that a person reads."""
    return " || ',' || ".join(f"{alias}.{quote_identifier(name)}::text" for name in key)


def write_key_literals(key: Sequence[str], alias: str) -> str:
    """Return a row's key as SQL for the literals of a statement that a person types."""
    return " || ', ' || ".join(f"quote_literal({alias}.{quote_identifier(name)}::text)" for name in key)


def build_key_condition(key: Sequence[str], prefix: str) -> str:
    """Return the condition that the live row is the one whose key `t` holds under this prefix."""
    return " AND ".join(
        f"l.{quote_identifier(name)} {equals(name)} t.{quote_identifier(name_state_column(prefix, name))}"
        for name in key
    )


def match_rows(columns: Sequence[str], one: str, other: str) -> str:
    """Return the condition that two rows are the same, byte for byte: not every type has an operator `=`."""
    rows = (", ".join(f"{alias}.{quote_identifier(name)}" for name in columns) for alias in (one, other))
    return "record_image_eq(ROW({}), ROW({}))".format(*rows)


def differ(column: str, one: str, other: str) -> str:
    """Return the condition that a column differs, NULL being a value like any other."""
    return f"record_image_ne(ROW({one}.{quote_identifier(column)}), ROW({other}.{quote_identifier(column)}))"
