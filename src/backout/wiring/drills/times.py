"""When what happened in a drill, from the journal of its backout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.decoding import Undecodable, decode_values
from backout.model.incident.diagnosis import Diagnosis
from backout.model.steps.guard import WatchStep
from backout.model.value import Value
from backout.ports import find_result

if TYPE_CHECKING:
    from backout.model.incident.incident import Event, Run
    from backout.runbook.toolbox import Toolbox

_SWITCHES = ("activate", "push_secrets")


class Times(Value, frozen=True):
    """Unix seconds, None: it did not happen.

    Args:
        decided: the verdict.
        began: the beginning of the switch.
        switched: its end, as read back.
        verified: the end of the verification.
        scenario: the diagnosis, None: there is none.
    """

    decided: float | None = None
    began: float | None = None
    switched: float | None = None
    verified: float | None = None
    scenario: str | None = None


def find_times(tools: Toolbox, since: float = 0.0) -> Times:
    """Return the times of the newest watch, and of what followed from it.

    Args:
        since: no run that began earlier is looked at, Unix seconds.
    """
    runs = [run for run in tools.runs.runs(tools.environment) if run.started_at >= since]
    watch = next((run for run in runs if run.plan.has(WatchStep)), None)
    after = [run for run in runs if watch is None or run.started_at >= watch.started_at]
    decided = None
    if watch is not None:
        result = find_result(tools.runs, watch.id, WatchStep)
        decided = None if result is None else result.decision.at
    began = switched = verified = None
    scenario = None
    for run in reversed(after):
        for event in tools.journal.events(run=run.id):
            action = _find_action(run, event)
            if event.kind == "step.start" and action in _SWITCHES and began is None:
                began = event.at
            if event.kind == "step.ok" and action in _SWITCHES:
                switched = event.at
            if event.kind == "step.ok" and action in {"verify", "verify_health"}:
                verified = event.at
            scenario = scenario or _find_scenario(event)
    return Times(decided, began, switched, verified, scenario)


def _find_action(run: Run, event: Event) -> str:
    known = event.step is not None and event.step < len(run.plan.steps)
    return run.plan.steps[event.step].action if known and event.step is not None else ""


def _find_scenario(event: Event) -> str | None:
    if event.kind != "step.progress" or event.data.get("diagnosis") is None:
        return None
    try:
        found = decode_values(event.data["diagnosis"], Diagnosis)
    except Undecodable:
        return None
    return str(found.scenario) if found.scenario is not None else None
