"""How runs ended, according to the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.decoding import Undecodable, decode_values
from backout.model.guard.shift import ACCEPTED
from backout.model.guard.verdict import Decision
from backout.report.guard.acceptances import list_acceptances
from backout.report.guard.run_end import find_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.incident.incident import Run
    from backout.model.plan import Json
    from backout.ports import Journal, Runs
    from backout.report.guard.run_end import RunEnd


def read_end(journal: Journal, runs: Runs, run: Run) -> RunEnd:
    """Return how a run ended, see `judge_end`."""
    return judge_end(journal, run, lambda action: runs.result(run.id, action))


def judge_end(journal: Journal, run: Run, get_result: Callable[[str], Json]) -> RunEnd:
    """Return how a run ended, as far as it has; for a watch that was held, also what people accepted since.

    Args:
        get_result: returns what the run's (last) completed step of an action recorded, None: there is none.
    """
    actions = [step.action for step in run.plan.steps if step.action in ("watch", "conclude")]
    actions += [step.action for step in run.plan.steps if step.action.startswith("verify")]
    results = {action: get_result(action) for action in actions}
    end = find_end(run, results)
    holding = _list_holding(results.get("watch")) if end.action == "hold" else frozenset()
    if not holding:
        return end
    version = str(run.plan.step("watch").args.get("version") or "")
    noted = list_acceptances(journal.events(environment=run.environment, kind=ACCEPTED))
    found = tuple(each for each in noted if each.version == version and each.shift in holding)
    return replace(end, accepted=found, settled=holding <= {each.shift for each in found})


def _list_holding(watched: Json) -> frozenset[str]:
    """Return the names of the shifts that hold a watch; none where another version of backout wrote something else."""
    from backout.runbook.guard.held import list_holding_in

    if not isinstance(watched, dict):
        return frozenset()
    try:
        decision = decode_values(watched.get("decision"), Decision)
    except Undecodable:
        return frozenset()
    return frozenset(each.name for each in list_holding_in(decision))
