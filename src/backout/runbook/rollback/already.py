"""Whether a rollback was already done: the same command typed again is the same rollback, with TARGET or without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_remark, find_underneath
from backout.analysis.history.stability import find_quarantine
from backout.model.guard.verdict import Verdict
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind
from backout.model.steps.rollback import ActivateStep
from backout.model.value import Value
from backout.ports import find_result
from backout.runbook.probing.pre_promotion import find_chosen
from backout.runbook.safety.aside import is_left_with_jobs
from backout.runbook.safety.clock import find_target_version

if TYPE_CHECKING:
    from backout.model.deployment import Deployment
    from backout.model.incident.incident import Run
    from backout.model.situation import Situation
    from backout.model.steps.guard import WatchResult
    from backout.runbook.toolbox import Toolbox

AGAIN_S = 3_600.0
"""The same command typed again means a rollback without TARGET that is younger than this."""


class There(Value, frozen=True):
    """The version that a person wants to go back to is live at 100 %.

    Args:
        version: what TARGET means; the live one may be its code, uploaded again.
        run: the rollback that made it live, as far as this journal knows.
        read_at: Unix seconds.
        further: where one more rollback would go, "" for nowhere; None if TARGET was typed.
    """

    version: str
    live: Deployment
    run: Run | None
    read_at: float
    further: str | None = None


def find_already_there(tools: Toolbox, situation: Situation, target: str) -> There | None:
    """Return what is live if TARGET means that, else None. Raises UsageError for TARGET."""
    version, live = find_target_version(tools, target, situation), situation.live
    run = _find_making_run(tools, live, version) if live.sole is not None else None
    if run is None and live.sole != version:
        return None
    return There(version, live, run, situation.read_at)


def went_back(tools: Toolbox, situation: Situation, further: str) -> There | None:
    """Return what is live if a recent rollback made it live, and nothing has contradicted it since, else None.

    Typing the command again, or after guard went back by itself, would otherwise go one version further back than
    anyone meant.

    Args:
        further: see `There`.
    """
    live = situation.live
    remark, age_s = find_remark(live), situation.read_at + (situation.clock_offset_s or 0.0) - live.created_at
    if remark is None or remark.kind is not RemarkKind.ROLLBACK or live.sole is None or age_s >= AGAIN_S:
        return None
    known = situation.version(live.sole)
    is_bad = find_quarantine(situation, live.sole, known.code_hash if known else None) is not None
    if is_bad or _is_found_bad(tools, live, live.sole):
        return None
    return There(live.sole, live, _find_making_run(tools, live, live.sole), situation.read_at, further)


def is_meant_again(tools: Toolbox, run: Run, within_s: float = AGAIN_S) -> bool:
    """Whether the same command means an interrupted rollback of which only the job workers are left.

    Args:
        run: what keeps the environment.
        within_s: what began before that is not meant.
    """
    if run.plan.kind is not PlanKind.ROLLBACK or run.state is not RunState.INTERRUPTED or not is_left_with_jobs(run):
        return False
    history, planned = tools.deployments.history(), run.plan.arguments(ActivateStep).version
    is_live = bool(history) and find_underneath(history).sole == find_chosen(tools, run.id, planned)
    return is_live and tools.clock.now() - run.started_at < within_s


def _is_found_bad(tools: Toolbox, live: Deployment, version: str) -> bool:
    """Whether a watch of the live version, since it went live, found it bad."""
    for run in tools.runs.walk_runs(tools.environment):
        if run.started_at < live.created_at:
            break
        watched = _find_watch_result(tools, run, version)
        if watched is not None:
            return watched.verdict is Verdict.REGRESSED
    return False


def _find_watch_result(tools: Toolbox, run: Run, version: str) -> WatchResult | None:
    """Return how a watch of that version ended, None for other runs."""
    if run.plan.kind is not PlanKind.GUARD:
        return None
    from backout.model.steps.guard import WatchStep

    return find_result(tools.runs, run.id, WatchStep) if run.plan.arguments(WatchStep).version == version else None


def _find_making_run(tools: Toolbox, live: Deployment, version: str) -> Run | None:
    """Return the finished rollback to a version that made this deployment, or None."""
    remark = live.claim  # in doubt: the journal has the run
    found = tools.runs.find(remark.run) if remark is not None and remark.run else None
    if found is None or found.plan.kind is not PlanKind.ROLLBACK or found.state is not RunState.DONE:
        return None
    planned = found.plan.arguments(ActivateStep).version
    is_it = live.sole == find_chosen(tools, found.id, planned) and version in (live.sole, planned)
    return found if is_it else None
