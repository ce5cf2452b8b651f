"""Whether an incident is open: what began with a bad version, a rollback or a push, and is not well again yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.plan import PlanKind

if TYPE_CHECKING:
    from backout.model.incident import Run
    from backout.ports import Runs

_MENDING = (PlanKind.ROLLBACK, PlanKind.FORWARD, PlanKind.RECOVER, PlanKind.SECRETS)


def open_incident(runs: Runs, environment: str) -> str:
    """Return the run that the open incident began with, "" when there is none. Raises BackoutError: no journal.

    The newest run that says something decides. Open: a mending that is under way, failed, or ended and was not found
    well; a watch that found its version bad and left it live. Not open: a mending that was verified, or that nobody
    waited for; a watch that ended otherwise.
    """
    for run in runs.runs(environment):
        is_open = _is_open(runs, run)
        if is_open is not None:
            return _first(runs, run).id if is_open else ""
    return ""


def _first(runs: Runs, run: Run) -> Run:
    """Return the run that led to all the others."""
    seen = {run.id}
    while run.plan.cause and (before := runs.find(run.plan.cause)) is not None and before.id not in seen:
        seen.add(before.id)
        run = before
    return run


def _is_open(runs: Runs, run: Run) -> bool | None:
    """Return whether an incident is open by this run; None when it says nothing."""
    if run.plan.kind is PlanKind.GUARD:
        concluded = runs.result(run.id, "conclude")
        if not isinstance(concluded, dict) or concluded.get("action") == "void":
            return None  # it still watches, ended early, or its deployment was replaced
        watched = runs.result(run.id, "watch")
        return isinstance(watched, dict) and watched.get("verdict") == "regressed"
    if run.plan.kind not in _MENDING:
        return None
    if not run.state.is_over:
        return True
    results = (runs.result(run.id, step.action) for step in run.plan.steps if step.action.startswith("verify"))
    verified = [result.get("verified") for result in results if isinstance(result, dict)]
    if verified:
        return verified[-1] is not True
    waits = any(step.action.startswith("verify") for step in run.plan.steps)
    return waits and _changed(runs, run)


def _changed(runs: Runs, run: Run) -> bool:
    """Whether a run that ended before it was verified had changed something."""
    return any(runs.result(run.id, step) is not None for step in ("activate", "deploy", "push_secrets"))
