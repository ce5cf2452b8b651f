"""Report: write the incident file from the journal ("Document Incident"): only what was recorded or read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.model.guard.shift import ACCEPTED
from backout.model.guard.signals import sum_counts
from backout.model.plan import PlanKind
from backout.model.steps.rollback import ReportResult, ReportStep
from backout.ports import Action
from backout.report.guard.acceptances import add_acceptance, list_acceptances
from backout.report.incident.incident import make_file_name, render
from backout.report.incident.timeline import tell
from backout.runbook.incident.diagnose import diagnose_once
from backout.runbook.incident.impact import keep_counts

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.guard.shift import Acceptance
    from backout.model.incident.incident import Incident, Run
    from backout.ports import Runs, StepContext
    from backout.runbook.toolbox import Toolbox


class WriteReport(Action[ReportStep, ReportResult]):
    """Step `report` {cause}: write this run's incident file; writing it again replaces the same file."""

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
    """Write the incident file of a run and of those that led to it, and return its path: one incident, one file."""
    incident = make_incident(tools, run, held)
    chain = trace_causes(tools.runs, run)
    first = next((each.id for each in chain if each.plan.kind is PlanKind.ROLLBACK), run)
    return tools.incident.reports.write(first, make_file_name(incident), render(incident))


def add_to_report(tools: Toolbox, found: Acceptance) -> Path | None:
    """Write a person's acceptance into the report of the watch that it is about, if there is one; return its path.

    What people wrote into it stays as it is.
    """
    return tools.incident.reports.amend(found.run, lambda page: add_acceptance(page, found))


def make_incident(tools: Toolbox, run: str, held: str = "") -> Incident:
    """Return the incident according to the journal."""
    chain = trace_causes(tools.runs, run)
    events = [event for each in chain for event in tools.journal.events(run=each.id)]
    accepted = list_acceptances(tools.journal.events(environment=tools.environment, kind=ACCEPTED))
    incident = tell(chain, events, held=held, accepted=accepted)
    return replace(incident, bad_requests=_count_bad_requests(tools, incident))


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


def _count_bad_requests(tools: Toolbox, incident: Incident) -> int | None:
    """Return how many answers of the bad version were errors, as the source counts them; None when it does not say.

    The counts are kept, for the incident's impact and its picture.
    """
    if not incident.bad_version:
        return None
    rows = keep_counts(tools, incident.id, incident.opened_at)
    if rows is None:
        return None
    since = int(incident.opened_at)
    return sum_counts(row for row in rows if row.version == incident.bad_version and row.second >= since)[1]
