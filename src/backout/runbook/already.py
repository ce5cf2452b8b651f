"""Whether a rollback to TARGET was done already: the same command typed again is the same rollback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.model.incident import RunState
from backout.model.plan import PlanKind
from backout.runbook.clock import target_version
from backout.runbook.prove import chosen

if TYPE_CHECKING:
    from backout.model.deployment import Deployment
    from backout.model.incident import Run
    from backout.model.situation import Situation
    from backout.runbook.toolbox import Toolbox


@dataclass(frozen=True, slots=True)
class There:
    """What a person wants to go back to is live at 100 %.

    Args:
        version: what TARGET means; the live one may be its code, uploaded again. run: the rollback that made it live,
            as far as this journal knows. read_at: Unix seconds.
    """

    version: str
    live: Deployment
    run: Run | None
    read_at: float


def already_there(tools: Toolbox, situation: Situation, target: str) -> There | None:
    """Return what is live when it is what TARGET means, else None. Raises UsageError over TARGET."""
    version, live = target_version(tools, target, situation), situation.live
    run = _made_by(tools, live, version) if live.sole is not None else None
    if run is None and live.sole != version:
        return None
    return There(version, live, run, situation.read_at)


def _made_by(tools: Toolbox, live: Deployment, version: str) -> Run | None:
    """Return the finished rollback to a version that made this deployment, or None."""
    remark = live.claim  # whoever doubts it: the journal has the run
    found = tools.runs.find(remark.run) if remark is not None and remark.run else None
    if found is None or found.plan.kind is not PlanKind.ROLLBACK or found.state is not RunState.DONE:
        return None
    args = found.plan.step("activate").args
    is_it = live.sole == chosen(tools, found.id, args) and version in (live.sole, str(args["version"]))
    return found if is_it else None
