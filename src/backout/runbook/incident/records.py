"""The incidents of an environment, read from its journal: what each run means, and what people wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.history.incidents import trace_incidents
from backout.decoding import Undecodable, decode_values
from backout.errors import UsageError
from backout.model.guard.shift import ACCEPTED
from backout.model.guard.verdict import Cause, Decision
from backout.model.incident.incident import RunState
from backout.model.incident.record import IncidentRecord, RunFacts
from backout.model.plan import PlanKind
from backout.report.database.comparison import SECOND_CHECKS
from backout.report.incident.timeline import tell
from backout.runbook.incident.ends import judge_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backout.model.incident.incident import Event, Incident, Run
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
_PROGRESS: Final = "step.progress"
_LANES: Final = ("", "/objects")
"""Runs on objects keep an environment of their own, so that they block nothing."""


def list_incidents(journal: Journal, runs: Runs, environment: str) -> tuple[IncidentRecord, ...]:
    """Return the incidents of an environment, newest first. Raises BackoutError: the journal cannot be read."""
    return IncidentHistory(journal, runs, environment).list_incidents()


class IncidentHistory:
    """What the runs of one environment mean, and what people wrote; of one thread.

    Args:
        journal, runs: read at once; what is recorded later is handed over.

    Raises:
        BackoutError: the journal cannot be read.
    """

    def __init__(self, journal: Journal, runs: Runs, environment: str) -> None:
        self._journal, self._runs, self._environment = journal, runs, environment
        self._causes: dict[str, str] = {}
        self._facts: dict[str, RunFacts] = {}
        self._listed: tuple[IncidentRecord, ...] | None = None
        self._lanes = frozenset(environment + lane for lane in _LANES)
        for lane in self._lanes:
            for run, results in runs.walk_history(lane):
                self._take_run(run, results.get)
        self._events = {event.seq: event for event in journal.events(environment=environment, kind="incident.*")}

    def take(self, event: Event) -> bool:
        """Take in what was recorded; return whether it can be: if not, the history has to be read anew.

        Raises:
            BackoutError: the journal cannot be read.
        """
        if event.environment not in self._lanes or event.kind == _PROGRESS:
            return True
        if event.kind.startswith("incident.") and event.environment == self._environment:
            self._events[event.seq] = event
        elif event.run:
            run = self._runs.find(event.run)
            if run is not None:
                self._take_run(run, lambda action: self._runs.result(event.run, action))
        self._listed = None
        return event.kind != ACCEPTED  # which says something of watches that are over

    def list_incidents(self) -> tuple[IncidentRecord, ...]:
        """Return the incidents, newest first."""
        if self._listed is None:
            facts = (_link(fact, self._causes) for fact in self._facts.values())
            self._listed = tuple(reversed(trace_incidents(self._environment, facts, self._events.values())))
        return self._listed

    def _take_run(self, run: Run, get_result: Callable[[str], Json]) -> None:
        self._causes[run.id] = run.plan.cause
        if run.plan.kind in (PlanKind.GUARD, *_MENDING):
            self._facts[run.id] = _judge(self._journal, run, get_result)


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


def _judge(journal: Journal, run: Run, get_result: Callable[[str], Json]) -> RunFacts:
    """Return what a run means by itself, see `_link`."""
    if run.plan.kind is PlanKind.GUARD:
        return _judge_watch(journal, run, get_result)
    actions = {step.action for step in run.plan.steps}
    changed_at = _find_change(journal, run)
    has_begun = changed_at is not None or (not run.state.is_over and bool(actions & set(_CHANGES)))
    opens = has_begun and not actions & _UNDOES and (run.plan.kind is not PlanKind.SECRETS or bool(run.plan.cause))
    well = judge_end(journal, run, get_result).verified
    if well is None and run.plan.kind is PlanKind.RECOVER and run.state is RunState.DONE:
        checked = [step for step in _COMPARED if step in actions]
        well = bool(checked) and all(_is_as_meant(get_result(step)) for step in checked)
    well_at = (run.ended_at or run.started_at) if well else None
    is_of_data = run.plan.kind is PlanKind.RECOVER
    began_at, by = run.started_at if has_begun else None, run.actor or "unknown"
    return RunFacts(run.id, (run.id,), began_at, opens, well_at, by, started_at=run.started_at, is_of_data=is_of_data)


def _link(fact: RunFacts, causes: Mapping[str, str]) -> RunFacts:
    """Return what a run means together with those that led to it."""
    chain = _trace(fact.run, causes)
    return fact if len(chain) == 1 else replace(fact, chain=chain, by="guard")


def _is_as_meant(compared: Json) -> bool:
    """Whether a step that compares found what the restore was to bring, by its result; it may end without that."""
    if not isinstance(compared, dict):
        return False
    objects = compared.get("compared")
    if isinstance(objects, dict):
        return objects.get("verified") is True
    return not any(compared.get(name) for name in ("failed", "differs", "behind", "left"))


def _judge_watch(journal: Journal, run: Run, get_result: Callable[[str], Json]) -> RunFacts:
    end, chain = judge_end(journal, run, get_result), (run.id,)
    watched = get_result("watch")
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


def _trace(run: str, causes: Mapping[str, str]) -> tuple[str, ...]:
    chain = [run]
    while (before := causes[chain[0]]) in causes and before not in chain:
        chain.insert(0, before)
    return tuple(chain)
