"""Side branches: for a person, and as JSON values; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.database.wal import show_lsn
from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.model.database.branch import BranchTarget, SideBranch


def make_record(branch: SideBranch) -> dict[str, object]:
    """Return a branch as JSON values."""
    return {
        "id": branch.id,
        "name": branch.name,
        "live": branch.live,
        "ready": branch.ready,
        "created_at": format_time(branch.created_at),
        "source": branch.source or None,
        "at": None if branch.at is None else format_time(branch.at),
        "lsn": None if branch.lsn is None else show_lsn(branch.lsn),
        "from_snapshot": branch.from_snapshot,
        "hibernated": branch.hibernated,
    }


def format_row(branch: SideBranch) -> tuple[str, ...]:
    """Return a branch as cells: name, id, state, what it shows, when it was made."""
    state = "live" if branch.live else "ready" if branch.ready else "hibernated" if branch.hibernated else "not ready"
    state += ", hibernated" if branch.live and branch.hibernated else ""
    return (branch.name, branch.id, state, shows(branch), format_time(branch.created_at))


def shows(branch: SideBranch) -> str:
    """Return the moment that a branch was made from, as far as the vendor reports it."""
    if branch.lsn is not None:
        return show_lsn(branch.lsn)
    if branch.at is not None:
        return format_time(branch.at)
    return branch.source if branch.from_snapshot else "-"


def describe_target(target: BranchTarget) -> str:
    """Return a target in words.

    >>> from backout.model.database.branch import BranchTarget
    >>> describe_target(BranchTarget(lsn=255)), describe_target(BranchTarget())
    ('LSN 0/FF', 'the newest state that the vendor has')
    """
    if target.lsn is not None:
        return f"LSN {show_lsn(target.lsn)}"
    if target.at is not None:
        return format_time(target.at)
    return f"snapshot {target.snapshot}" if target.snapshot else "the newest state that the vendor has"
