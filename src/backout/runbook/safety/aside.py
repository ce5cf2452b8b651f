"""Standing aside: what has changed nothing gives way to what a person types; the request is recorded.

That is a watch, and a plan that waits for its approval.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from backout.errors import Refused
from backout.escaping import shorten
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.steps.jobs import MOVING

if TYPE_CHECKING:
    from backout.model.incident.incident import Run
    from backout.model.plan import Plan
    from backout.ports import Clock, Journal, Runs

_GAVE_WAY = "gave way to a person's "
ASIDE_S, POLL_S = 4.0, 0.1
"""How long to wait for a guard that is asked to stop: it looks for such a request every second."""


def find_keeper(runs: Runs, environment: str) -> Run | None:
    """Return the run that keeps an environment, or None when it is free."""
    newest = next(runs.walk_runs(environment), None)
    return None if newest is None or newest.state.is_over else newest


def gives_way(run: Run) -> bool:
    """Whether ending a run is harmless.

    It is for a watch, the step of a ramp, what waits for an approval, and where only job workers are left.
    """
    is_watch = run.plan.kind in (PlanKind.GUARD, PlanKind.RAMP)
    return is_watch or run.state is RunState.WAITING or is_left_with_jobs(run)


def is_left_with_jobs(run: Run) -> bool:
    """Whether all is done but the steps that have job workers follow the traffic: whatever comes next moves them."""
    left = run.plan.steps[run.steps_done :]
    return run.steps_done > 0 and bool(left) and all(step.action in MOVING for step in left)


def gave_way(journal: Journal, run: Run) -> bool:
    """Whether a watch was ended for what a person typed: if that changed nothing, its deployment is unwatched."""
    if run.state is not RunState.ABORTED or not gives_way(run) or is_left_with_jobs(run):
        return False
    asked = journal.events(run=run.id, kind="run.asked")
    return any(str(event.data.get("reason")).startswith(_GAVE_WAY) for event in asked)


_FOR: Final = {
    PlanKind.ROLLBACK: "this rollback",
    PlanKind.FORWARD: "this roll-forward",
    PlanKind.SECRETS: "setting secrets",
    PlanKind.RECOVER: "this restore",
}


def describe_keeper(run: Run, plan: Plan) -> str:
    """Return what happens to a watch that keeps the environment, in one sentence.

    Args:
        plan: what it gives way to; a person has confirmed it.
    """
    then = _FOR.get(plan.kind, f"this {plan.kind}")
    if run.state is RunState.WAITING:
        return f"{run.id} ({shorten(run.plan.why)}) waits for an approval, and has changed nothing: {then} ends it"
    if run.state is RunState.RUNNING:
        return f"{run.id} ({shorten(run.plan.why)}) is under way, driven by {run.holder}: {then} ends it"
    return f"{run.id} ({shorten(run.plan.why)}) was interrupted: {then} ends it"


def make_way(runs: Runs, clock: Clock, environment: str, *, actor: str, to: str) -> Run | None:
    """Have a watch that keeps the environment end for what a person typed; return what still keeps it, or None.

    Args:
        to: what it gives way to, and why: "rollback: 500s on /api".
    """
    keeper = find_keeper(runs, environment)
    if keeper is None or not gives_way(keeper):
        return keeper
    return end_run(runs, clock, keeper, actor=actor, reason=f"{_GAVE_WAY}{to}")


def end_run(runs: Runs, clock: Clock, keeper: Run, *, actor: str, reason: str) -> Run | None:
    """Have a run end at its next boundary, at once if no process drives it; return what still keeps the environment."""
    with contextlib.suppress(Refused):  # it ended by itself just now
        runs.ask(keeper.id, "abort", actor=actor, reason=reason)
    deadline = clock.now() + ASIDE_S
    while (left := find_keeper(runs, keeper.environment)) is not None and clock.now() < deadline:
        clock.sleep(POLL_S)
    return left
