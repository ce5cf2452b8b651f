"""Rows that were written to a cluster after the moment of a copy of it, by table and key."""

from __future__ import annotations

from backout.model.value import Value


class WrittenTable(Value, frozen=True):
    """What was written to one table since; each key as SQL literals in the order of `key`, the first ones of each kind.

    Args:
        table: `schema.table`, quoted where it has to be.
        key: its columns; () where it has none, and then rows are only counted.
        inserts, updates, deletes: how many rows.
        inserted, updated, deleted: their keys.
        is_new: it was made since; is_gone: it was dropped since, and its rows are those of the copy.
    """

    table: str
    key: tuple[str, ...]
    inserts: int
    updates: int
    deletes: int
    inserted: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    is_new: bool = False
    is_gone: bool = False
