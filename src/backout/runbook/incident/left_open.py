"""What waits for a person although nothing is broken: a run that no process drives any more, a watch that was held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.history.remarks import is_deciding
from backout.escaping import shorten
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.steps.guard import ConcludeAction, ConcludeStep, WatchStep
from backout.ports import find_result
from backout.runbook.guard.held import SHIFT_RULE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.deployment import Deployment
    from backout.model.incident.incident import Run
    from backout.runbook.toolbox import Toolbox

_HELD: Final = ("hold", "refused")
_LEFT: Final = (RunState.INTERRUPTED, RunState.BLOCKED, RunState.PAUSED, RunState.WAITING)
_SHOWN_S: Final = 86400.0
"""For how long it is shown that a run went on without the approval that it needed."""


def list_left_open(tools: Toolbox, runs: Sequence[Run], listed: Sequence[Deployment]) -> tuple[str, ...]:
    """Return what waits for a person, one sentence each.

    Args:
        runs: newest first.
        listed: the provider's list, newest first.
    """
    newest = next(iter(runs), None)
    guard = next((run for run in runs if run.plan.kind is PlanKind.GUARD), None)
    return (
        *_describe_stopped(newest),
        *_list_broken_glass(tools, runs),
        *(_list_held(tools, guard, listed) if guard is not None else ()),
    )


def _describe_stopped(run: Run | None) -> Iterator[str]:
    """Yield a sentence if the newest run was left unfinished."""
    if run is None or run.state not in _LEFT:
        return
    if run.state in (RunState.BLOCKED, RunState.WAITING):
        yield f"{run.id} waits for a person's {'decision' if run.state is RunState.BLOCKED else 'approval'}"
        return
    was = "was interrupted" if run.approval is None or run.steps_done else "was approved and not resumed"
    if run.pause is not None:
        was = f"was paused by {shorten(run.pause.by)} ({shorten(run.pause.why)})"
    watches = run.plan.kind in (PlanKind.GUARD, PlanKind.RAMP)
    yield f"{run.id} {was}, and {'the deployment is no longer watched' if watches else 'is not finished'}"


def _list_broken_glass(tools: Toolbox, runs: Sequence[Run]) -> Iterator[str]:
    """Yield a sentence for each run that went on without the approval that it needs."""
    for run in runs:
        if run.glass is not None and tools.clock.now() - run.glass.at < _SHOWN_S:
            by, why = shorten(run.glass.by), shorten(run.glass.why)
            yield f"{run.id} went on without the approval that it needs (break-glass by {by}: {why})"


def _list_held(tools: Toolbox, guard: Run, listed: Sequence[Deployment]) -> Iterator[str]:
    """Yield a sentence if a rule held the newest watch and what it watched is live; shifts have their own words."""
    ended = find_result(tools.runs, guard.id, ConcludeStep) if guard.state.is_over else None
    if ended is None or ended.action not in _HELD or ended.rule == SHIFT_RULE:
        return
    watch = guard.plan.arguments(WatchStep)
    if not (ended.rule or ended.options) or not listed:
        return  # it is not marked stable, and there is nothing to decide
    if is_deciding(listed, watch.deployment, watch.version):
        did = "changed nothing" if ended.action is ConcludeAction.HOLD else "was refused a rollback"
        yield f"{guard.id} {did}, and a person has to decide: {ended.why}"
