"""What waits for a person although nothing is broken: a run that nobody drives any more, a watch that was held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.remarks import still_decides
from backout.model.incident import RunState
from backout.model.plan import PlanKind
from backout.runbook.held import SHIFT_RULE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.deployment import Deployment
    from backout.model.incident import Run
    from backout.runbook.toolbox import Toolbox

_HELD: Final = ("hold", "refused")


def left_open(tools: Toolbox, runs: Sequence[Run], listed: Sequence[Deployment]) -> tuple[str, ...]:
    """Return what waits for a person, one sentence each.

    Args:
        runs: newest first. listed: the provider's list, newest first.
    """
    newest = next(iter(runs), None)
    guard = next((run for run in runs if run.plan.kind is PlanKind.GUARD), None)
    return (*_stopped(newest), *(_held(tools, guard, listed) if guard is not None else ()))


def _stopped(run: Run | None) -> Iterator[str]:
    """Yield that the newest run was left in the middle."""
    if run is None or run.state not in (RunState.INTERRUPTED, RunState.BLOCKED):
        return
    if run.state is RunState.BLOCKED:
        yield f"{run.id} waits for a person's decision"
    elif run.plan.kind in (PlanKind.GUARD, PlanKind.RAMP):
        yield f"{run.id} was interrupted, and nobody watches the deployment any more"
    else:
        yield f"{run.id} was interrupted, and is not finished"


def _held(tools: Toolbox, guard: Run, listed: Sequence[Deployment]) -> Iterator[str]:
    """Yield that the newest watch was held by a rule, while what it watched is live; shifts have their own words."""
    ended = tools.runs.result(guard.id, "conclude") if guard.state.is_over else None
    if not isinstance(ended, dict) or ended.get("action") not in _HELD or ended.get("rule") == SHIFT_RULE:
        return
    args = guard.plan.step("watch").args
    if not (ended.get("rule") or ended.get("options")) or not listed:
        return  # it is not marked stable, and nobody has to decide anything
    if still_decides(listed, str(args["deployment"]), str(args["version"])):
        did = "was held" if ended["action"] == "hold" else "was refused a rollback"
        yield f"{guard.id} {did}, and a person has to decide: {ended['why']}"
