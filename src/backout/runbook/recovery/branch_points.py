"""Restore points at a vendor that goes back to no moment: a branch of the live one, made when the point is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import Refused
from backout.model.database.branch import BranchTarget, name_point_branch
from backout.model.database.capability import Granularity
from backout.model.database.recovery import TargetKind
from backout.plan.branches import BranchMoment
from backout.rules import SafetyRule
from backout.runbook.recovery.restore_points import AFTER_MIGRATION, list_recorded_points

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.database.branch import SideBranch
    from backout.model.database.capability import VendorState
    from backout.model.database.recovery import RestorePoint
    from backout.plan.restore import Asked
    from backout.ports import PointMarker, VendorBackups
    from backout.runbook.recovery.tools import RestoreTools

_MOST_SHOWN: Final = 3
_IDS: Final = 1 << 32


class BranchMarker:
    """Port PointMarker: a branch keeps what the first point of a run was, the later ones are positions alone.

    The branch is complete before the position is written: it holds nothing that is younger than the point.

    Args:
        vendor: opens the vendor's branches.
    """

    def __init__(self, marker: PointMarker, vendor: Callable[[], VendorBackups]) -> None:
        self._marker = marker
        self._vendor = vendor
        self._is_made = False

    def mark(self, name: str) -> RestorePoint:
        """Return the point. Raises as the vendor's `restore`, and as the database's."""
        if self._is_made or name.startswith(AFTER_MIGRATION.replace(" ", "-")):
            return self._marker.mark(name)
        made = self._vendor().restore(BranchTarget(), name_point_branch(name))
        self._is_made = True
        return replace(self._marker.mark(name), branch=made.name)


def find_point(own: RestoreTools, vendor: VendorBackups, state: VendorState, asked: Asked) -> BranchMoment:
    """Return the restore point that TARGET means, or the newest one before it.

    Raises:
        Refused: no branch keeps such a point; names those that there are.
        AuthError, ProviderUnavailable: the database or the vendor does not answer.
    """
    there = {branch.name: branch for branch in vendor.branches() if branch.keeps_point}
    points = [p for p in list_recorded_points(own.journal, own.environment) if p.branch in there]
    if asked.point is not None:
        point = asked.point if asked.point in points else None
    else:
        point = _find_newest_before(own, asked, points)
    if point is None:
        raise _refuse(own, state, points)
    how = f"recorded as {point.name} ({point.why})"
    return BranchMoment(BranchTarget(snapshot=there[point.branch].id), Granularity.SNAPSHOT, how)


def list_kept(vendor: VendorBackups) -> tuple[SideBranch, ...]:
    """Return the branches that keep restore points, newest first, those that no journal knows as well."""
    return tuple(branch for branch in vendor.branches() if branch.keeps_point)


def _find_newest_before(own: RestoreTools, asked: Asked, points: list[RestorePoint]) -> RestorePoint | None:
    if asked.kind is TargetKind.TIME:
        return next((point for point in reversed(points) if point.at <= float(asked.value)), None)
    xid, began_at = None, None
    if asked.kind is TargetKind.XID:
        xid = int(asked.value)
    elif asked.kind is TargetKind.MIGRATION and (clue := own.live.find_migration(str(asked.value))) is not None:
        xid, began_at = clue.xid, clue.began_at
    if xid is None:
        return None
    # A point knows the next id at its time: what has that one or a later one began after it.
    return next(
        (
            point
            for point in reversed(points)
            if (xid - point.xid) % _IDS < _IDS // 2 and (began_at is None or point.at <= began_at)
        ),
        None,
    )


def _refuse(own: RestoreTools, state: VendorState, points: list[RestorePoint]) -> Refused:
    names = ", ".join(point.name for point in points[: -_MOST_SHOWN - 1 : -1])
    options = [f"Name one of the restore points: {names}."] if points else []
    return Refused(
        f"{state.vendor} goes back to no moment, and no branch keeps a restore point of that one",
        where=own.environment,
        rule=SafetyRule.PREFLIGHT,
        options=(
            *options,
            "Restore one of your own dumps: `backout db dumps list`.",
            "Roll forward.",
            f"For the next time: `backout db points add NAME -e {own.environment}` before each change.",
        ),
    )
