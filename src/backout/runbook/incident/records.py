"""The incidents of an environment, read from its journal: what each run means, and what people wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.history.incidents import trace_incidents
from backout.decoding import Undecodable, decode_values
from backout.errors import UsageError
from backout.model.guard.verdict import Cause, Decision
from backout.model.incident.incident import RunState
from backout.model.incident.record import IncidentRecord, RunFacts
from backout.model.plan import PlanKind
from backout.report.database.comparison import SECOND_CHECKS
from backout.report.incident.timeline import tell
from backout.runbook.incident.ends import read_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.incident.incident import Incident, Run
    from backout.model.plan import Json
    from backout.ports import Journal, Runs

_MENDING: Final = (PlanKind.ROLLBACK, PlanKind.FORWARD, PlanKind.RECOVER, PlanKind.SECRETS)
_CHANGES: Final = (
    *("activate", "deploy", "push_secrets", "restore_objects"),
    *("db_rescue", "db_undo_rescue", "db_exchange", "db_branch_rescue", "db_branch_finalize"),
)
"""The steps that change what is live."""
_UNDOES: Final = frozenset({"undo_objects", "db_undo_rescue"})
_COMPARED: Final = (
    "db_rescue_check",
    "db_read_back",
    "compare_objects",
    *(step.action for step in SECOND_CHECKS),
)
"""The steps that show that a restore is as it was meant to be."""
_LANES: Final = ("", "/objects")
"""Runs on objects keep an environment of their own, so that they block nothing."""


def list_incidents(journal: Journal, runs: Runs, environment: str) -> tuple[IncidentRecord, ...]:
    """Return the incidents of an environment, newest first. Raises BackoutError: the journal cannot be read."""
    known = [run for lane in _LANES for run in runs.runs(environment + lane)]
    by_id = {run.id: run for run in known}
    facts = [_judge(journal, runs, run, by_id) for run in known if run.plan.kind in (PlanKind.GUARD, *_MENDING)]
    events = journal.events(environment=environment, kind="incident.*")
    return tuple(reversed(trace_incidents(environment, facts, events)))


def choose_incident(found: Sequence[IncidentRecord], name: str | None, environment: str) -> IncidentRecord:
    """Return the incident with this id or beginning of one; without a name the newest open one, or the newest.

    Raises:
        UsageError: there is none, or the name fits several.
    """
    hint = f"backout incident list -e {environment}"
    if name is None:
        first = next((each for each in found if each.resolved_at is None), found[0] if found else None)
        if first is None:
            hint = f'backout incident open "WHAT IS WRONG" -e {environment}'
            raise UsageError(f"no incident is known in {environment}", hint=hint)
        return first
    exact = [each for each in found if each.id == name or name in each.runs]
    fitting = exact or [each for each in found if each.id.startswith(name)]
    if not fitting:
        raise UsageError(f"no incident of {environment} is called '{name}'", hint=hint)
    if len(fitting) > 1:
        names = ", ".join(each.id for each in fitting)
        raise UsageError(f"'{name}' fits several incidents: {names}", hint="type more of the id")
    return fitting[0]


def tell_incident(journal: Journal, runs: Runs, found: IncidentRecord) -> Incident | None:
    """Return what the journal tells of an incident's runs, None where it has none of them."""
    chain = [run for each in found.runs if (run := runs.find(each)) is not None]
    if not chain:
        return None
    return tell(chain, [event for run in chain for event in journal.events(run=run.id)])


def _judge(journal: Journal, runs: Runs, run: Run, known: dict[str, Run]) -> RunFacts:
    chain = _trace(run, known)
    if run.plan.kind is PlanKind.GUARD:
        return _judge_watch(journal, runs, run, chain)
    actions = {step.action for step in run.plan.steps}
    changed_at = _find_change(journal, run)
    has_begun = changed_at is not None or (not run.state.is_over and bool(actions & set(_CHANGES)))
    opens = has_begun and not actions & _UNDOES and (run.plan.kind is not PlanKind.SECRETS or bool(run.plan.cause))
    well = read_end(journal, runs, run).verified
    if well is None and run.plan.kind is PlanKind.RECOVER and run.state is RunState.DONE:
        checked = [step for step in _COMPARED if step in actions]
        well = bool(checked) and all(_is_as_meant(runs.result(run.id, step)) for step in checked)
    well_at = (run.ended_at or run.started_at) if well else None
    by = "guard" if chain[0] != run.id else run.actor or "unknown"
    is_of_data = run.plan.kind is PlanKind.RECOVER
    began_at = run.started_at if has_begun else None
    return RunFacts(run.id, chain, began_at, opens, well_at, by, started_at=run.started_at, is_of_data=is_of_data)


def _is_as_meant(compared: Json) -> bool:
    """Whether a step that compares found what the restore was to bring, by its result; it may end without that."""
    if not isinstance(compared, dict):
        return False
    objects = compared.get("compared")
    if isinstance(objects, dict):
        return objects.get("verified") is True
    return not any(compared.get(name) for name in ("failed", "differs", "behind", "left"))


def _judge_watch(journal: Journal, runs: Runs, run: Run, chain: tuple[str, ...]) -> RunFacts:
    end = read_end(journal, runs, run)
    watched = runs.result(run.id, "watch")
    decision = _read_decision(watched.get("decision") if isinstance(watched, dict) else None)
    ended_at = run.ended_at or run.started_at
    is_settled = end.verdict == "healthy" or (end.settled and end.verdict != "void")
    well_at = ended_at if is_settled and run.state is RunState.DONE else None
    if end.verdict != "regressed" or decision is None:
        facts = RunFacts(run.id, chain, None, opens=False, well_at=well_at, by="guard", ends_all=True)
        return replace(facts, started_at=run.started_at)
    is_grave = decision.cause in (Cause.HEALTH, Cause.CONNECTIONS)
    share = decision.errors / decision.requests if decision.requests else None
    return RunFacts(run.id, chain, decision.at, opens=True, well_at=None, by="guard", is_grave=is_grave, share=share)


def _read_decision(value: object) -> Decision | None:
    try:
        return decode_values(value, Decision)
    except Undecodable:  # another version of backout wrote it
        return None


def _find_change(journal: Journal, run: Run) -> float | None:
    """Return when a run first changed something, None: it did not."""
    for event in journal.events(run=run.id, kind="step.ok"):
        if event.step is not None and run.plan.steps[event.step].action in _CHANGES:
            return event.at
    return None


def _trace(run: Run, known: dict[str, Run]) -> tuple[str, ...]:
    chain = [run.id]
    before = known.get(run.plan.cause)
    while before is not None and before.id not in chain:
        chain.insert(0, before.id)
        before = known.get(before.plan.cause)
    return tuple(chain)
