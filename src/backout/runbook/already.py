"""Whether a rollback was done already: the same command typed again is the same rollback, with TARGET or without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.analysis.remarks import borne_out
from backout.analysis.stability import quarantine
from backout.model.incident import RunState
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind
from backout.model.verdict import Verdict
from backout.runbook.clock import target_version
from backout.runbook.prove import chosen

if TYPE_CHECKING:
    from backout.model.deployment import Deployment
    from backout.model.incident import Run
    from backout.model.situation import Situation
    from backout.runbook.toolbox import Toolbox

AGAIN_S = 3_600.0
"""A rollback without TARGET that is younger than this is what the same command typed again means."""


@dataclass(frozen=True, slots=True)
class There:
    """What a person wants to go back to is live at 100 %.

    Args:
        version: what TARGET means; the live one may be its code, uploaded again. run: the rollback that made it live,
            as far as this journal knows. read_at: Unix seconds. further: where one more rollback would go, "" for
            nowhere; None where TARGET was typed.
    """

    version: str
    live: Deployment
    run: Run | None
    read_at: float
    further: str | None = None


def already_there(tools: Toolbox, situation: Situation, target: str) -> There | None:
    """Return what is live when it is what TARGET means, else None. Raises UsageError over TARGET."""
    version, live = target_version(tools, target, situation), situation.live
    run = _made_by(tools, live, version) if live.sole is not None else None
    if run is None and live.sole != version:
        return None
    return There(version, live, run, situation.read_at)


def went_back(tools: Toolbox, situation: Situation, further: str) -> There | None:
    """Return what is live when a rollback made it so lately, and nothing has spoken against it since, else None.

    Whoever types the command again, or after guard went back by itself, would else go one further back than anybody
    meant.

    Args:
        further: see `There`.
    """
    live = situation.live
    remark, age_s = borne_out(live), situation.read_at + (situation.clock_offset_s or 0.0) - live.created_at
    if remark is None or remark.kind is not RemarkKind.ROLLBACK or live.sole is None or age_s >= AGAIN_S:
        return None
    known = situation.version(live.sole)
    is_bad = quarantine(situation, live.sole, known.code_hash if known else None) is not None
    if is_bad or _found_bad(tools, live, live.sole):
        return None
    return There(live.sole, live, _made_by(tools, live, live.sole), situation.read_at, further)


def _found_bad(tools: Toolbox, live: Deployment, version: str) -> bool:
    """Whether a watch of what is live, since it is live, found it bad."""
    for run in tools.runs.runs(tools.environment):
        if run.started_at < live.created_at:
            break
        watched = tools.runs.result(run.id, "watch") if run.plan.kind is PlanKind.GUARD else None
        if isinstance(watched, dict) and str(run.plan.step("watch").args["version"]) == version:
            return watched.get("verdict") == Verdict.REGRESSED
    return False


def _made_by(tools: Toolbox, live: Deployment, version: str) -> Run | None:
    """Return the finished rollback to a version that made this deployment, or None."""
    remark = live.claim  # whoever doubts it: the journal has the run
    found = tools.runs.find(remark.run) if remark is not None and remark.run else None
    if found is None or found.plan.kind is not PlanKind.ROLLBACK or found.state is not RunState.DONE:
        return None
    args = found.plan.step("activate").args
    is_it = live.sole == chosen(tools, found.id, args) and version in (live.sole, str(args["version"]))
    return found if is_it else None
