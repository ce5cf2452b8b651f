"""Whether an incident is open: one that began with a bad version, a rollback or a push, and is not well again yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.guard.verdict import Verdict
from backout.model.plan import PlanKind
from backout.model.steps.guard import ConcludeAction, ConcludeStep, WatchStep
from backout.model.steps.verification import VerifyHealthStep, VerifyStep
from backout.ports import find_result

if TYPE_CHECKING:
    from backout.model.incident.incident import Run
    from backout.ports import Runs

_MENDING = (PlanKind.ROLLBACK, PlanKind.FORWARD, PlanKind.RECOVER, PlanKind.SECRETS)


def find_open_incident(runs: Runs, environment: str) -> str:
    """Return the run that the open incident began with, "" when there is none. Raises BackoutError: no journal.

    The newest run that says something decides. Open: a repair that is under way, failed, or ended and was not found
    well; a watch that found its version bad and left it live. Not open: a repair that was verified, or that no one
    waited for; a watch that ended otherwise.
    """
    for run in runs.walk_runs(environment):
        is_open = _is_open(runs, run)
        if is_open is not None:
            return _find_first(runs, run).id if is_open else ""
    return ""


def _find_first(runs: Runs, run: Run) -> Run:
    """Return the run that led to all the others."""
    seen = {run.id}
    while run.plan.cause and (before := runs.find(run.plan.cause)) is not None and before.id not in seen:
        seen.add(before.id)
        run = before
    return run


def _is_open(runs: Runs, run: Run) -> bool | None:
    """Return whether an incident is open by this run; None when it says nothing."""
    if run.plan.kind is PlanKind.GUARD:
        concluded = find_result(runs, run.id, ConcludeStep)
        if concluded is None or concluded.action is ConcludeAction.VOID:
            return None  # it is still watching, ended early, or its deployment was replaced
        watched = find_result(runs, run.id, WatchStep)
        return watched is not None and watched.verdict is Verdict.REGRESSED
    if run.plan.kind not in _MENDING:
        return None
    if not run.state.is_over:
        return True
    kind = next((kind for kind in (VerifyHealthStep, VerifyStep) if run.plan.has(kind)), None)
    if kind is None:
        return False
    verified = find_result(runs, run.id, kind)
    return _has_changed(runs, run) if verified is None else verified.verified is not True


def _has_changed(runs: Runs, run: Run) -> bool:
    """Whether a run that ended before it was verified had changed something."""
    return any(runs.result(run.id, step) is not None for step in ("activate", "deploy", "push_secrets"))
