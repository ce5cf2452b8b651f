"""Rows that others made anew after a damage and removed again: no table shows them, but the WAL does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from backout.model.value import Value


class StoredRow(Value, frozen=True):
    """One row in the server's storage format.

    Args:
        columns: their number.
        nulls: a bit for each column, set where it has a value; empty where all have.
        data: the values one after another, each at its alignment.
    """

    columns: int
    nulls: bytes
    data: bytes


class Removed(Value, frozen=True):
    """Such rows as found in the WAL.

    Args:
        rows: (file node of the table, the row as inserted, None where the WAL does not show it).
        until_lsn: how far the WAL was read.
    """

    rows: Sequence[tuple[int, StoredRow | None]]
    until_lsn: int


class Sought(Value, frozen=True):
    """The rows to look for.

    Args:
        database: its object id.
        nodes: the tables' file nodes.
        bad: the damage's ids.
        ours: ids under which rescues and their undos wrote: their removals are not removals by others.
        begin_lsn: of the damage's first COMMIT record.
    """

    database: int
    nodes: frozenset[int]
    bad: frozenset[int]
    ours: frozenset[int]
    begin_lsn: int


RemovedSince = Callable[[Collection[int], Collection[int], int], Removed]
"""Returns them of tables (file nodes), but for those that some ids removed, read up to a position if it arrives."""
