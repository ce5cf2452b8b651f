"""The steps of a rescue from side instances, and of its undo.

Positions in the WAL are written as Postgres shows them ("0/1A2B").
"""

from __future__ import annotations

from typing import ClassVar

from backout.model.database.recovery import SideOrder
from backout.model.database.rescue import Damage, RescueReport
from backout.model.database.wal import WalSpan, parse_lsn, show_lsn
from backout.model.steps.base import Arguments, Record, Result
from backout.model.steps.comparison import ComparisonResult, NoteResult


class SideRecord(Record, frozen=True, kw_only=True):
    """What the side instance is made of on which versions in between are read."""

    backup: str
    timeline: int
    wal: tuple[str, ...]

    def order(self, end: int) -> SideOrder:
        """Return what has to be made, up to a position."""
        return SideOrder(f"between-{end:x}", self.backup, end, self.timeline, self.wal, walks=True)


class SeveralRecord(Record, frozen=True, kw_only=True):
    """Several transactions that are undone together.

    Args:
        begin, end: positions of the first commit and of the last one.
        database: its object id.
        ids: of the transactions.
        spans: of the WAL that shows them: timeline, begin, end, segments.
    """

    begin: str
    end: str
    database: int | None
    ids: tuple[int, ...]
    spans: tuple[tuple[int, str, str, tuple[str, ...]], ...]
    side: SideRecord

    def wal(self) -> list[WalSpan]:
        """Return the stretches of WAL."""
        return [
            WalSpan(timeline, parse_lsn(begin), parse_lsn(end), names) for timeline, begin, end, names in self.spans
        ]


class DamageRecord(Record, frozen=True, kw_only=True):
    """The damage that a rescue repairs: `model.database.rescue.Damage`.

    Args:
        written: file node, and kinds of records.
        first: position of the (first) commit, None in older plans.
        since: a position before its first record, None in older plans.
        several: of several transactions, None of one alone.
    """

    xids: tuple[int, ...]
    written: tuple[tuple[int, tuple[str, ...]], ...]
    conflicts: str = "live"
    skip: tuple[str, ...] = ()
    queues: bool = False
    first: str | None = None
    since: str | None = None
    several: SeveralRecord | None = None

    @classmethod
    def of(cls, damage: Damage, first: int, since: int, several: SeveralRecord | None = None) -> DamageRecord:
        """Return what is recorded of a damage; `first`, `since`: positions in the WAL."""
        return cls(
            xids=tuple(sorted(damage.xids)),
            written=damage.written or (),
            conflicts=damage.conflicts,
            skip=damage.skip,
            queues=damage.queues,
            first=show_lsn(first),
            since=show_lsn(since),
            several=several,
        )

    def damage(self) -> Damage:
        """Return the damage, without the rows of several transactions."""
        return Damage(frozenset(self.xids), self.written, self.conflicts, self.skip, self.queues)


class NoteNewerStep(Arguments[NoteResult], frozen=True, kw_only=True):
    """Note which rows others have written since; as of `RescueStep`."""

    action: ClassVar[str] = "db_note_newer"
    before: str
    after: str
    database: str
    damage: DamageRecord
    mark: str


class RescueStep(Arguments[RescueReport], frozen=True, kw_only=True):
    """Copy the damaged rows and columns back.

    Args:
        before, after: the side instances just before the damage and just after it.
        mark: tells this rescue's folders apart.
    """

    action: ClassVar[str] = "db_rescue"
    before: str
    after: str
    database: str
    damage: DamageRecord
    mark: str


class LeftResult(Result, frozen=True, kw_only=True):
    """The number of damaged rows left, and of conflicts."""

    left: int
    conflicts: int


class RescueCheckStep(Arguments[LeftResult], frozen=True, kw_only=True):
    """Compare again: nothing of the damage is left; as of `RescueStep`."""

    action: ClassVar[str] = "db_rescue_check"
    before: str
    after: str
    database: str
    damage: DamageRecord


class CompareStep(Arguments[ComparisonResult], frozen=True, kw_only=True):
    """The second check of a rescue; as of `RescueStep`."""

    action: ClassVar[str] = "db_compare"
    before: str
    after: str
    database: str
    damage: DamageRecord
    mark: str


class NoteUndoStep(Arguments[NoteResult], frozen=True, kw_only=True):
    """Note the state before the undo writes; `mark` is the rescue's."""

    action: ClassVar[str] = "db_note_undo"
    mark: str
    database: str


class UndoRescueStep(Arguments[RescueReport], frozen=True, kw_only=True):
    """Put back what the rescue replaced."""

    action: ClassVar[str] = "db_undo_rescue"
    mark: str
    database: str


class CompareUndoStep(Arguments[ComparisonResult], frozen=True, kw_only=True):
    """The second check of an undo."""

    action: ClassVar[str] = "db_compare_undo"
    mark: str
    database: str
