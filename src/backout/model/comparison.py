"""The second check of a restore: rows before the damage and rows now, compared by hashes that both servers computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True)
class Evidence:
    """What tells, of a row that differs, whose doing that is.

    Args:
        damage: the ids under which the damage was written, ours: under which the rescue wrote, as rows carry them
            (32 bits). written: file nodes of the relations that the damage wrote to; None where nothing tells.
        overwrites: whether a column that the damage changed comes back although somebody changed it again. between: by
            table's object id the keys, in hexadecimal, of rows that good transactions wrote between bad ones: they are
            as before nowhere. over: in the same way, rows of which the rescue replaced a version that somebody wrote
            since the damage, each with the id under which. removed: rows that it says it removed; deleted: how many the
            server counted that it did.
    """

    damage: frozenset[int]
    ours: frozenset[int] = frozenset()
    written: frozenset[int] | None = None
    overwrites: bool = False
    between: Mapping[int, frozenset[str]] = field(default_factory=dict)
    over: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    removed: Mapping[int, frozenset[str]] = field(default_factory=dict)
    deleted: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableComparison:
    """One table, in rows.

    Args:
        rows: of before. equal: as before. newer: somebody else wrote them since, or removed them, so that they are not
            compared. unread: that were not looked at, as the damage did not write them.
        left: still as the damage left them. missing: the damage removed them, and they are not there. wrong: written
            again, and not as before, or not to be there.
        examples: keys of those that differ. columns: dropped by the damage, and not there. reason: why nothing of it
            was compared, "" otherwise. failed: it had to be, and an error came in between.
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


@dataclass(frozen=True, slots=True)
class Comparison:
    """All tables; `behind` are sequences that would hand numbers out again, each with what it stands at."""

    tables: tuple[TableComparison, ...]
    behind: tuple[str, ...] = ()

    def apart_from(self, left: Collection[str]) -> tuple[TableComparison, ...]:
        """Return the tables that differ, but for those that the rescue itself said it leaves alone."""
        return tuple(each for each in self.tables if (each.differing or each.columns) and each.table not in left)


@dataclass
class Noted:
    """What was there before a rescue wrote.

    Args:
        rows: what others had written, {table: {key: hashes by column}}. full: of which tables there was more than that.
        damaged: hashes of the keys of rows that stood as the damage left them, by table, packed.
        xid: the oldest id under which a transaction was running then, or the next one.
    """

    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)
    xid: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
