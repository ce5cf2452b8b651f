"""Report: write the incident file from the journal ("Document Incident"): only what was recorded or read back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.model.plan import PlanKind
from backout.model.shift import ACCEPTED
from backout.model.signals import total
from backout.ports import NotDone
from backout.report.acceptances import acceptances, with_acceptance
from backout.report.incident import file_name, render
from backout.report.timeline import tell
from backout.runbook.diagnose import recorded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from backout.model.incident import Incident, Run
    from backout.model.plan import Json
    from backout.model.shift import Acceptance
    from backout.ports import Probe, Runs, StepContext
    from backout.runbook.toolbox import Toolbox


class WriteReport:
    """Step `report` {cause}: write this run's incident file; writing it again replaces the same file."""

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {path}; where nobody has said yet what the cause is, that is looked for first."""
        incident = incident_of(self._tools, context.run)
        if incident.diagnosis is None and incident.bad_version:
            recorded(self._tools, context, incident.bad_version)
        return {"path": str(write_report(self._tools, context.run))}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """One run has one file, so writing it again is right."""
        return NotDone()


def write_report(tools: Toolbox, run: str, held: str = "") -> Path:
    """Write the incident file of a run and of those that led to it, and return its path: one incident, one file."""
    incident = incident_of(tools, run, held)
    chain = led_to(tools.runs, run)
    first = next((each.id for each in chain if each.plan.kind is PlanKind.ROLLBACK), run)
    return tools.reports.write(first, file_name(incident), render(incident))


def add_to_report(tools: Toolbox, found: Acceptance) -> Path | None:
    """Write a person's acceptance into the report of the watch that it is about, where there is one; return its path.

    What people wrote into it stays as it is.
    """
    return tools.reports.amend(found.run, lambda page: with_acceptance(page, found))


def incident_of(tools: Toolbox, run: str, held: str = "") -> Incident:
    """Return the incident as the journal tells it."""
    chain = led_to(tools.runs, run)
    events = [event for each in chain for event in tools.journal.events(run=each.id)]
    accepted = acceptances(tools.journal.events(environment=tools.environment, kind=ACCEPTED))
    incident = tell(chain, events, held=held, accepted=accepted)
    return replace(incident, bad_requests=_bad_requests(tools, incident.bad_version, incident.opened_at))


def led_to(runs: Runs, run: str) -> tuple[Run, ...]:
    """Return the run with the runs that led to it before it, the first cause in front; () for an unknown run."""
    chain: list[Run] = []
    found = runs.find(run)
    while found is not None and found not in chain:
        chain.insert(0, found)
        found = runs.find(found.plan.cause) if found.plan.cause else None
    return tuple(chain)


def watch_of(runs: Runs, run: str) -> Run | None:
    """Return the watch that a run is or came from: the last one, where a ramp had several; None for a person's run."""
    return next((each for each in reversed(led_to(runs, run)) if each.plan.kind is PlanKind.GUARD), None)


def _bad_requests(tools: Toolbox, version: str, since: float) -> int | None:
    """Return how many answers of the bad version were errors, as the source counts them; None when it does not say."""
    if tools.traffic is None or not version:
        return None
    try:
        page = tools.traffic.read(int(since), int(tools.clock.now()) + 1)
    except BackoutError:
        return None
    return total(row for row in page.counts if row.version == version)[1]
