"""Report: write the incident file from the journal ("Document Incident"): only what was recorded or read back.

Writing it again replaces the facts in it, and nothing that people wrote.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import BackoutError
from backout.model.guard.shift import ACCEPTED
from backout.model.incident.impact import Exactness
from backout.model.incident.incident import Incident
from backout.model.incident.record import IncidentRecord
from backout.model.plan import PlanKind
from backout.model.steps.branches import BranchRescueStep, FinalizeStep
from backout.model.steps.objects import RestoreObjectsStep
from backout.model.steps.recovery import GoLiveStep, MaintenanceStep
from backout.model.steps.rescue import RescueStep, UndoRescueStep
from backout.model.steps.restore import ExchangeStep
from backout.model.steps.rollback import ActivateStep, ReportResult, ReportStep
from backout.ports import Action
from backout.report.guard.acceptances import list_acceptances
from backout.report.incident.facts import merge
from backout.report.incident.incident import list_facts, make_file_name, render
from backout.report.incident.picture import Mark, describe_picture, draw, make_picture
from backout.report.incident.post_mortem import Around
from backout.report.incident.timeline import tell
from backout.runbook.incident.case import IncidentRecords, list_lines
from backout.runbook.incident.diagnose import diagnose_once
from backout.runbook.incident.drills import list_drills
from backout.runbook.incident.ends import read_end
from backout.runbook.incident.impact import BEFORE_S, KEPT_S, is_counted, keep_counts, read_impact
from backout.runbook.incident.sections import list_sections_of_incident, sort_drills

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.model.drill import DrillRecord
    from backout.model.incident.incident import Run
    from backout.model.incident.vendor import VendorIncident
    from backout.model.plan import Json
    from backout.ports import Runs, StepContext
    from backout.report.incident.facts import Block
    from backout.report.incident.picture import Picture
    from backout.runbook.toolbox import Toolbox

_AFTER_S: Final = 30.0
"""How much of the time after an incident is in its picture."""
_RESTORED: Final = {
    MaintenanceStep.action: "closed",
    **dict.fromkeys((ExchangeStep.action, FinalizeStep.action), "database exchanged"),
    **dict.fromkeys((RescueStep.action, BranchRescueStep.action, UndoRescueStep.action), "rows restored"),
    RestoreObjectsStep.action: "objects restored",
    GoLiveStep.action: "open again",
}
"""What the steps of restores and recoveries did, by their actions."""


class WriteReport(Action[ReportStep, ReportResult]):
    """Step `report` {cause}: write this run's incident file; writing it again replaces the facts in it."""

    arguments = ReportStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: ReportStep, context: StepContext) -> ReportResult:
        """Return {path}; if the cause is not known yet, it is looked for first."""
        incident = make_incident(self._tools, context.run)
        if incident.diagnosis is None and incident.bad_version:
            diagnose_once(self._tools, context, incident.bad_version)
        return ReportResult(path=str(write_report(self._tools, context.run)))


def write_report(tools: Toolbox, run: str, held: str = "") -> Path:
    """Write the incident file of a run and of all that belongs to its incident, and return its path.

    Args:
        held: why nothing was done, when nothing was.
    """
    chain = trace_causes(tools.runs, run)
    told = tell(chain, [event for each in chain for event in tools.journal.events(run=each.id)])
    keep_counts(tools, tools.traffic, run, told.bad_version, told.opened_at, told.resolved_at)
    records = make_incident_records(tools)
    return write_page(records, find_record(records, run), held)


def refresh_report(tools: Toolbox, run: str) -> Path | None:
    """Write what is known now into the report of a run, if it has one, and return its path."""
    if tools.incident.reports.of_run(run) is None:
        return None
    records = make_incident_records(tools)
    return write_page(records, find_record(records, run))


def make_incident_records(tools: Toolbox) -> IncidentRecords:
    """Return what incidents are read with, of the tools of the whole environment.

    The vendors' pages are left out: a run asks them when it decides, and its report waits for nothing. A person's
    `incident report` asks.
    """
    parts = tools.incident
    return IncidentRecords(
        environment=tools.environment,
        actor=tools.actor,
        clock=tools.clock,
        journal=tools.journal,
        runs=tools.runs,
        counts=tools.counts,
        checkpoints=tools.checkpoints,
        reports=parts.reports,
        notifier=tools.notifier,
        helps=parts.helps,
        commit_url=parts.commit_url,
        redact=parts.redact,
    )


def write_page(records: IncidentRecords, found: IncidentRecord, held: str = "") -> Path:
    """Write the report of an incident, or what is known now into the one that is there; return its path.

    Raises:
        BackoutError: it cannot be read or written.
    """
    incident = read_incident(records, found, held)
    if _count_missing(records, found, incident):
        incident = read_incident(records, found, held)
    around = _look_around(records, found, incident)
    name = _find_name(records, found)
    path = records.reports.of_run(name)
    if path is None:
        path = records.reports.write(
            name, make_file_name(incident), render(incident, _list_facts(records, incident, around))
        )
    picture = read_picture(records, found, incident)
    if picture is not None:
        drawn = records.reports.write_picture(path, draw(picture))
        around = replace(around, picture=drawn.name, picture_text=describe_picture(picture))
    elif path.with_suffix(".svg").exists():  # of counts that are not kept any more
        around = replace(around, picture=path.with_suffix(".svg").name, picture_text="Failed requests and slow answers")
    blocks = _list_facts(records, incident, around)
    records.reports.amend(name, lambda page: merge(page, blocks))
    return path


def _count_missing(records: IncidentRecords, found: IncidentRecord, incident: Incident) -> bool:
    """Count the requests of an incident that none of its runs has counted, as a restore; return whether that was so."""
    if is_counted(records.checkpoints, found):
        return False
    with suppress(BackoutError):
        ended_at = incident.resolved_at or found.resolved_at
        traffic, run = records.open_traffic(), found.runs[-1]
        keep_counts(records, traffic, run, incident.bad_version, incident.opened_at, ended_at)
        return traffic is not None
    return False


def _find_name(records: IncidentRecords, found: IncidentRecord) -> str:
    """Return the run by which the report is found: one that has it, else the first rollback, else the incident's."""
    runs = [run for each in found.runs if (run := records.runs.find(each)) is not None]
    first = next((run.id for run in runs if run.plan.kind is PlanKind.ROLLBACK), found.id)
    names = dict.fromkeys((first, found.id, *found.runs))
    return next((name for name in names if records.reports.of_run(name) is not None), first)


def _list_facts(records: IncidentRecords, incident: Incident, around: Around) -> list[Block]:
    return [replace(block, text=records.redact(block.text)) for block in list_facts(incident, around)]


def read_picture(records: IncidentRecords, found: IncidentRecord, incident: Incident) -> Picture | None:
    """Return the picture of an incident's time from the counts that are kept, None where there are none."""
    end = incident.resolved_at or found.resolved_at or records.clock.now()
    since = max(incident.opened_at - BEFORE_S, end - KEPT_S)
    rows = records.counts.load_counts(records.environment, int(since), int(end + _AFTER_S))
    return make_picture(records.environment, rows, incident.bad_version, _list_marks(records, found, incident))


def _list_marks(records: IncidentRecords, found: IncidentRecord, incident: Incident) -> Iterator[Mark]:
    if incident.bad_version:
        yield Mark(incident.opened_at, "deployment")
    detected = incident.detected_at
    if detected is None and incident.decision is not None:
        detected = incident.decision.at
    if detected is not None:
        yield Mark(detected, "detected")
    for run in found.runs:
        switched = records.runs.result(run, ActivateStep.action)
        if isinstance(switched, dict) and isinstance(at := switched.get("at"), int | float):
            yield Mark(float(at), "switched")
        yield from _list_restored(records, run)
    if incident.resolved_at is not None:
        yield Mark(incident.resolved_at, "verified")


def _list_restored(records: IncidentRecords, run: str) -> Iterator[Mark]:
    """Yield when a run has restored something, and when it closed the application for that and opened it again."""
    found = records.runs.find(run)
    if found is None:
        return
    for event in records.journal.events(run=run, kind="step.ok"):
        word = _RESTORED.get(found.plan.steps[event.step].action) if event.step is not None else None
        if word is not None:
            yield Mark(event.at, word)


def make_incident(tools: Toolbox, run: str, held: str = "") -> Incident:
    """Return the incident of a run, and of those that led to it, according to the journal."""
    found = IncidentRecord(run, tools.environment, 0.0, "", runs=tuple(r.id for r in trace_causes(tools.runs, run)))
    return read_incident(make_incident_records(tools), found, held)


def trace_causes(runs: Runs, run: str) -> tuple[Run, ...]:
    """Return the run with the runs that led to it before it, the first cause in front; () for an unknown run."""
    chain: list[Run] = []
    found = runs.find(run)
    while found is not None and found not in chain:
        chain.insert(0, found)
        found = runs.find(found.plan.cause) if found.plan.cause else None
    return tuple(chain)


def find_watch(runs: Runs, run: str) -> Run | None:
    """Return the watch that a run is or came from: the last one if a ramp had several; None for a person's run."""
    return next((each for each in reversed(trace_causes(runs, run)) if each.plan.kind is PlanKind.GUARD), None)


def find_record(records: IncidentRecords, run: str) -> IncidentRecord:
    """Return the incident that a run belongs to, or one of its own: a hold for a shift opens none."""
    chain = trace_causes(records.runs, run)
    ids = tuple(each.id for each in chain)
    for found in records.list_records():
        if set(ids) & set(found.runs):
            return replace(found, runs=(*found.runs, *(each for each in ids if each not in found.runs)))
    return IncidentRecord(ids[-1], records.environment, chain[-1].started_at, chain[-1].actor, runs=ids)


def read_incident(records: IncidentRecords, found: IncidentRecord, held: str = "") -> Incident:
    """Return what the journal, and the people in it, tell of an incident; `held`: why nothing was done."""
    runs = [run for each in found.runs if (run := records.runs.find(each)) is not None]
    if not runs:
        return _make_bare(found)
    events = [event for run in runs for event in records.journal.events(run=run.id)]
    accepted = list_acceptances(records.journal.events(environment=records.environment, kind=ACCEPTED))
    incident = tell(runs, events, held=held or _find_held(records, runs[-1]), accepted=accepted)
    impact = read_impact(
        records.journal, records.runs, records.counts, records.checkpoints, found, incident, records.clock.now()
    )
    is_counted = bool(incident.bad_version) and impact.exactness.get("requests_failed") is Exactness.EXACT
    lines = list_lines(found, incident)
    return replace(
        incident,
        title=found.title or incident.title,
        bad_requests=impact.requests_failed if is_counted else None,
        timeline=tuple(sorted(lines, key=lambda line: line.at)),
    )


def _make_bare(found: IncidentRecord) -> Incident:
    """Return an incident that a person opened, and for which nothing was run."""
    return Incident(
        id=found.id,
        environment=found.environment,
        title=found.title,
        opened_at=found.opened_at,
        detected_at=None,
        acted_at=None,
        resolved_at=found.resolved_at,
        bad_version="",
        good_version="",
        decision=None,
        verification=None,
        timeline=tuple(sorted(list_lines(found, None), key=lambda line: line.at)),
    )


def _find_held(records: IncidentRecords, run: Run) -> str:
    """Return why a watch that has ended did nothing, "" where it did something."""
    if run.plan.kind is not PlanKind.GUARD:
        return ""
    end = read_end(records.journal, records.runs, run)
    return end.why if end.action in ("hold", "refused") else ""


def _look_around(records: IncidentRecords, found: IncidentRecord, incident: Incident) -> Around:
    impact = read_impact(
        records.journal, records.runs, records.counts, records.checkpoints, found, incident, records.clock.now()
    )
    return Around(
        impact=impact,
        actions=found.actions,
        helps=records.helps,
        vendors=_ask_vendors(records),
        runs=found.runs,
        commit_url=records.commit_url,
        commits=tuple(dict.fromkeys(_list_commits(records, found))),
        drills=_list_drills(records, found, incident),
    )


def _list_drills(records: IncidentRecords, found: IncidentRecord, incident: Incident) -> tuple[DrillRecord, ...]:
    """Return the newest drill of each section of the runbook that the incident is about."""
    newest = sort_drills(each for each in list_drills(records.journal) if each.at < incident.opened_at)
    practised = (newest.get(section) for section in list_sections_of_incident(found, incident))
    return tuple(dict.fromkeys(each for each in practised if each is not None))


def _ask_vendors(records: IncidentRecords) -> tuple[VendorIncident, ...] | None:
    if records.vendors is None:
        return None
    try:
        return records.vendors.incidents()
    except BackoutError:
        return None


def _list_commits(records: IncidentRecords, found: IncidentRecord) -> Iterator[tuple[str, str]]:
    """Yield (version, commit) as the plans of the runs name them."""
    for run in (records.runs.find(each) for each in found.runs):
        for step in run.plan.steps if run is not None else ():
            yield from _find_commits(dict(step.args))


def _find_commits(value: Json) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if value.get("git_sha") and value.get("version"):
            yield str(value["version"]), str(value["git_sha"])
        for each in value.values():
            yield from _find_commits(each)
    elif isinstance(value, list):
        for each in value:
            yield from _find_commits(each)
