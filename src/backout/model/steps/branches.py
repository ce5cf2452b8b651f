"""The steps of a restore at a vendor with branches: copies of the database at an earlier moment."""

from __future__ import annotations

from typing import ClassVar

from backout.model.database.rescue import RescueReport
from backout.model.steps.base import Arguments, Record, Result
from backout.model.steps.comparison import ComparisonResult, NoteResult
from backout.model.steps.rescue import LeftResult
from backout.model.steps.restore import DropResult, NoteCopiesResult


class BranchRecord(Result, frozen=True, kw_only=True):
    """A branch as the vendor shows it: `model.database.branch.SideBranch`; times as RFC 3339."""

    id: str
    name: str
    live: bool
    ready: bool
    created_at: str
    source: str | None = None
    at: str | None = None
    lsn: str | None = None
    from_snapshot: bool = False


class BranchResult(BranchRecord, frozen=True, kw_only=True):
    """A branch, and the first transaction id that was not yet given out there: younger ones are the branch's own."""

    next_xid: int


class BranchStep(Arguments[BranchResult], frozen=True, kw_only=True):
    """Make a branch.

    Args:
        lsn: position in the WAL as Postgres shows it, or None.
        at: the moment in Unix seconds, or None.
        snapshot: the vendor's id of what is copied, or None.
    """

    action: ClassVar[str] = "db_branch"
    omitted: ClassVar[frozenset[str]] = frozenset({"snapshot"})
    name: str
    lsn: str | None
    at: float | None
    snapshot: str | None = None


class BranchBeforeStep(BranchStep, frozen=True, kw_only=True):
    """The same, of the moment just before a damage."""

    action: ClassVar[str] = "db_branch_before"


class BranchAfterStep(BranchStep, frozen=True, kw_only=True):
    """The same, of the moment just after it."""

    action: ClassVar[str] = "db_branch_after"


class BranchLookResult(Result, frozen=True, kw_only=True):
    """The newest migration that is applied there."""

    migration_head: str | None
    read_only: bool = True


class BranchLookStep(Arguments[BranchLookResult], frozen=True, kw_only=True):
    """Check a branch, read-only; "" is not checked.

    Args:
        relation: must exist.
        no_migration: must not be applied.
    """

    action: ClassVar[str] = "db_branch_look"
    name: str
    relation: str = ""
    no_migration: str = ""


class BranchDamage(Record, frozen=True, kw_only=True):
    """Find the damage among everything committed between two branches.

    Args:
        xid: the transaction, None of a migration.
        migration: its name, with `ended`, the id that its row carries.
        conflicts, skip, queues: as of `model.database.rescue.Damage`.
    """

    xid: int | None
    migration: str
    ended: int | None
    conflicts: str = "live"
    skip: tuple[str, ...] = ()
    queues: bool = False


class BranchNoteNewerStep(Arguments[NoteResult], frozen=True, kw_only=True):
    """Note which rows others have written since; as of `BranchRescueStep`."""

    action: ClassVar[str] = "db_branch_note_newer"
    before: str
    after: str
    database: str
    damage: BranchDamage
    mark: str


class BranchRescueStep(Arguments[RescueReport], frozen=True, kw_only=True):
    """Copy the damaged rows and columns back.

    Args:
        before, after: the branches.
        mark: tells this rescue's folders apart.
    """

    action: ClassVar[str] = "db_branch_rescue"
    before: str
    after: str
    database: str
    damage: BranchDamage
    mark: str


class BranchRescueCheckStep(Arguments[LeftResult], frozen=True, kw_only=True):
    """Compare again: nothing of the damage is left; as of `BranchRescueStep`."""

    action: ClassVar[str] = "db_branch_rescue_check"
    before: str
    after: str
    database: str
    damage: BranchDamage


class BranchCompareStep(Arguments[ComparisonResult], frozen=True, kw_only=True):
    """The second check of a rescue; as of `BranchRescueStep`."""

    action: ClassVar[str] = "db_branch_compare"
    before: str
    after: str
    database: str
    damage: BranchDamage
    mark: str


class FinalizeResult(Result, frozen=True, kw_only=True):
    """The branch that is live now, the name of the one that is kept, and the newest migration that is applied."""

    live: BranchRecord
    kept: str
    migration_head: str | None


class FinalizeStep(Arguments[FinalizeResult], frozen=True, kw_only=True):
    """Put a branch in the live one's place.

    Args:
        keep_as: the new name of the former live branch.
        mark: tells this swap apart.
    """

    action: ClassVar[str] = "db_branch_finalize"
    name: str
    keep_as: str
    database: str
    mark: str


class BranchNoteCopiesStep(Arguments[NoteCopiesResult], frozen=True, kw_only=True):
    """Note what the branch that comes and the live one hold, for the second check of a swap.

    Args:
        name: the branch that comes, "" where a kept one comes back.
        keep_as: the name under which the live one is kept.
    """

    action: ClassVar[str] = "db_branch_note_copies"
    name: str
    keep_as: str
    database: str


class BranchCompareCopyStep(Arguments[ComparisonResult], frozen=True, kw_only=True):
    """Compare the live database with what was noted of the branch that came.

    Args:
        name: the branch that came.
        keep_as: the name under which the former live one is kept.
        undo: whether it is a kept one that came back.
    """

    action: ClassVar[str] = "db_branch_compare_copy"
    name: str
    keep_as: str
    undo: bool


class DropBranchesStep(Arguments[DropResult], frozen=True, kw_only=True):
    """Delete branches."""

    action: ClassVar[str] = "db_branch_drop"
    names: tuple[str, ...]
