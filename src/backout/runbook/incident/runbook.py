"""What the runbook of an environment says beside its configuration: read from the provider and the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.history.going_back import find_last_stable
from backout.model.incident.runbook import PastIncident, RunbookFacts
from backout.model.plan import Plan
from backout.model.steps.rollback import ActivateStep
from backout.plan.rollback import Request
from backout.runbook.incident.drills import list_drills
from backout.runbook.incident.records import tell_incident
from backout.runbook.incident.sections import list_sections_of_incident, sort_drills
from backout.runbook.rollback.rollback import prepare

if TYPE_CHECKING:
    from backout.model.incident.record import IncidentRecord
    from backout.runbook.incident.case import IncidentRecords
    from backout.runbook.toolbox import Toolbox

_MOST: Final = 20
"""Of the newest incidents is told."""
_WITH_ACTIONS: Final = 3


def read_runbook(tools: Toolbox, records: IncidentRecords) -> RunbookFacts:
    """Return what the runbook says of this moment.

    Raises:
        BackoutError: as `observe` does, Refused for a wrong identity among it.
    """
    situation, outcome = prepare(tools, Request(message="", wait=False))
    stable = find_last_stable(situation.marks, situation.failed_proofs)
    schema = situation.schema
    found = records.list_records()[:_MOST]
    return RunbookFacts(
        stable=stable.version if stable is not None else "",
        stable_at=stable.at if stable is not None else None,
        target=outcome.arguments(ActivateStep).version if isinstance(outcome, Plan) else "",
        why_not="" if isinstance(outcome, Plan) else outcome.reason,
        head=(schema.state.head or "") if schema.state is not None else "",
        unread=schema.problem if schema.set_up and schema.state is None else "",
        drills=sort_drills(list_drills(tools.journal)),
        incidents=_sort_incidents(records, found),
        actions=tuple(action for each in found[:_WITH_ACTIONS] for action in each.actions),
    )


def _sort_incidents(records: IncidentRecords, found: tuple[IncidentRecord, ...]) -> dict[str, PastIncident]:
    """Return the newest incident of each section, and of all as `after`."""
    newest: dict[str, PastIncident] = {}
    for each in reversed(found):
        told = tell_incident(records.journal, records.runs, each)
        title = each.title or (told.title if told is not None else "incident")
        paths = (records.reports.of_run(name) for name in (each.id, *each.runs))
        report = next((path.name for path in paths if path is not None), "")
        past = PastIncident(each.id, each.opened_at, title, str(each.state), report)
        newest |= dict.fromkeys(("after", *list_sections_of_incident(each, told)), past)
    return newest
