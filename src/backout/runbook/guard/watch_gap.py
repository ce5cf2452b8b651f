"""Who guards the guard: whether a fresh deployment runs without being watched (safety rule 19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import is_made_by
from backout.model.incident.incident import RunState
from backout.model.incident.notice import NoticeKind
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind
from backout.model.steps.guard import WatchStep
from backout.model.version import Mark
from backout.report.times import format_duration
from backout.runbook.incident.tell import tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.incident.incident import Run
    from backout.model.situation import Situation
    from backout.runbook.toolbox import Toolbox

GRACE_S = 120.0
"""How long a deployment may wait for its guard."""


def measure_watch_gap_s(situation: Situation, runs: Iterable[Run], watch_s: float) -> float | None:
    """Return how old the live deployment is when it is fresh and is not and was not watched, else None.

    A guard that died does not count. Guards of other hosts are known by what they tell the provider: a version that was
    marked stable, or a rollback; one that is still watching elsewhere tells nothing yet.
    """
    live = situation.live
    age_s = situation.read_at + (situation.clock_offset_s or 0.0) - live.created_at
    if not GRACE_S < age_s < watch_s:
        return None
    if live.is_maintenance or is_made_by(live, RemarkKind.ROLLBACK):
        return None  # a rollback proves its target and verifies itself
    if any(_is_watching(run, live.id) for run in runs):
        return None
    marks = (mark for mark in situation.marks if mark.mark is Mark.STABLE and mark.version == live.main)
    return None if any(mark.at >= live.created_at for mark in marks) else age_s


def _is_watching(run: Run, deployment: str) -> bool:
    if run.plan.kind is not PlanKind.GUARD or run.state not in (RunState.RUNNING, RunState.DONE):
        return False
    return run.plan.has(WatchStep) and run.plan.arguments(WatchStep).deployment == deployment


def tell_watch_gap(tools: Toolbox, situation: Situation, age_s: float) -> None:
    """Send the notice, once for each deployment."""
    live, environment = situation.live, tools.environment
    tell(
        tools,
        NoticeKind.UNGUARDED,
        f"{environment}: the new deployment is not watched",
        f"Version {live.main} is live since {format_duration(age_s)}, and no guard watches it or has watched it.",
        key=live.id,
        next=(f"backout guard -e {environment}",),
        facts={"version": live.main, "deployment": live.id},
    )
