"""The second check of a restore: rows before the damage and rows now, compared by hashes that both servers computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class Evidence(Value, frozen=True):
    """The evidence that shows who changed a row that differs.

    Args:
        damage: the ids under which the damage was written, ours: under which the rescue wrote, as rows carry them (32
            bits).
        written: file nodes of the relations that the damage wrote to; None where that is unknown.
        overwrites: whether a column that the damage changed comes back although it was changed again.
        between: by table's object id the keys, in hexadecimal, of rows that good transactions wrote between bad ones:
            they are as before nowhere.
        over: in the same way, rows of which the rescue replaced a version written by others since the damage, each
            with the id under which.
        removed: rows that it says it removed; deleted: how many the server counted that it did.
        put_back: in the same way, hashes of the keys of rows that it inserted, as the table showed them in the same
            transaction, and of those that it says others removed; packed.
        made: by name of a table that it made again, how many rows it held then and a sum of their hashes by which
            columns: {rows, sum, columns}.
        renumbered: by table's object id the new numbers of rows whose old ones newer rows have, by the old ones.
    """

    damage: frozenset[int]
    ours: frozenset[int] = frozenset()
    written: frozenset[int] | None = None
    overwrites: bool = False
    between: Mapping[int, frozenset[str]] = msgspec.field(default_factory=dict)
    over: Mapping[int, Mapping[str, int]] = msgspec.field(default_factory=dict)
    removed: Mapping[int, frozenset[str]] = msgspec.field(default_factory=dict)
    deleted: Mapping[int, int] = msgspec.field(default_factory=dict)
    put_back: Mapping[int, tuple[str, ...]] = msgspec.field(default_factory=dict)
    made: Mapping[str, Mapping[str, object]] = msgspec.field(default_factory=dict)
    renumbered: Mapping[int, Mapping[int, int]] = msgspec.field(default_factory=dict)


class TableComparison(Value, frozen=True):
    """One table, in rows.

    Args:
        rows: those before the damage.
        equal: rows that are as before.
        newer: others wrote or removed them since, so that they are not compared.
        unread: rows that were not read, as the damage did not write them.
        left: still as the damage left them.
        missing: the damage removed them, and they are not there.
        wrong: written again, but not as before, or rows that should not exist.
        examples: keys of those that differ.
        columns: dropped by the damage and still missing.
        reason: why nothing of it was compared, "" otherwise.
        failed: it had to be, and an error came in between.
    """

    table: str
    rows: int = 0
    equal: int = 0
    newer: int = 0
    unread: int = 0
    left: int = 0
    missing: int = 0
    wrong: int = 0
    examples: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    reason: str = ""
    failed: bool = False

    @property
    def differing(self) -> int:
        """How many rows are not as they have to be."""
        return self.left + self.missing + self.wrong


class Comparison(Value, frozen=True):
    """All tables; `behind` are sequences that would hand out numbers again, each with its current value."""

    tables: tuple[TableComparison, ...]
    behind: tuple[str, ...] = ()

    def apart_from(self, left: Collection[str]) -> tuple[TableComparison, ...]:
        """Return the tables that differ, but for those that the rescue itself said it leaves alone."""
        return tuple(each for each in self.tables if (each.differing or each.columns) and each.table not in left)


class Statistics(StrEnum):
    """How a server's statistics of its tables stand to those that were noted."""

    CONTINUED = "continued"
    """They go on from them."""
    ANEW = "anew"
    """The server began them after the note, so that whatever they count was done since."""
    LOST = "lost"
    """Part of what was done since is counted nowhere."""


@dataclass
class Noted:
    """The state before a rescue wrote.

    Args:
        rows: those that others had written, {table: {key: hashes by column}}.
        full: tables with more rows than were noted.
        skipped: tables that could not be read, each with the reason: what others wrote there is not known.
        damaged: hashes of the keys of rows that stood as the damage left them, by table, packed.
        xid: the oldest id under which a transaction was running then, or the next one.
    """

    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    xid: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
