"""What the runbook of an environment says beside its configuration: read from the provider and the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.history.going_back import find_last_stable
from backout.model.drill import DrillAction, DrillEnd
from backout.model.incident.runbook import PastIncident, RunbookFacts
from backout.model.plan import Plan
from backout.model.steps.rollback import ActivateStep
from backout.plan.rollback import Request
from backout.runbook.incident.drills import list_drills
from backout.runbook.incident.records import tell_incident
from backout.runbook.rollback.rollback import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.drill import DrillRecord
    from backout.model.incident.incident import Incident
    from backout.model.incident.record import IncidentRecord
    from backout.runbook.incident.case import IncidentRecords
    from backout.runbook.toolbox import Toolbox

_SCENARIOS: Final = {"S1": "health", "S2": "build", "S3": "errors", "S4": "migrations", "S5": "secrets"}
"""The section of each scenario, by its first two characters."""
_RESTORES: Final = {"rows-corrupted": "database", "objects-lost": "objects"}
"""The section of drills of data; another one that recovers is of all together."""
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
        drills=_sort_drills(list_drills(tools.journal)),
        incidents=_sort_incidents(records, found),
        actions=tuple(action for each in found[:_WITH_ACTIONS] for action in each.actions),
    )


def _sort_drills(drills: tuple[DrillRecord, ...]) -> dict[str, DrillRecord]:
    """Return the newest drill of each section that came to an end."""
    ended = sorted((each for each in drills if each.end is not DrillEnd.INTERRUPTED), key=lambda each: each.at)
    return {section: each for each in ended for section in _list_sections_of_drill(each)}


def _list_sections_of_drill(drill: DrillRecord) -> Iterator[str]:
    result = drill.result
    if result is None:
        return
    if result.expected.action is DrillAction.RECOVER:
        yield _RESTORES.get(drill.name, "recover")
        return
    if result.expected.action is DrillAction.ROLLBACK:
        yield "quick"
    if (section := _SCENARIOS.get((result.expected.scenario or "")[:2])) is not None:
        yield section


def _sort_incidents(records: IncidentRecords, found: tuple[IncidentRecord, ...]) -> dict[str, PastIncident]:
    """Return the newest incident of each section, and of all as `after`."""
    newest: dict[str, PastIncident] = {}
    for each in reversed(found):
        told = tell_incident(records.journal, records.runs, each)
        title = each.title or (told.title if told is not None else "incident")
        paths = (records.reports.of_run(name) for name in (each.id, *each.runs))
        report = next((path.name for path in paths if path is not None), "")
        past = PastIncident(each.id, each.opened_at, title, str(each.state), report)
        newest |= dict.fromkeys(("after", *_list_sections_of_incident(each, told)), past)
    return newest


def _list_sections_of_incident(found: IncidentRecord, told: Incident | None) -> Iterator[str]:
    if found.is_of_data:
        yield "recover"
    if told is None:
        return
    if told.good_version and not told.forward:
        yield "quick"
    scenario = told.diagnosis.scenario if told.diagnosis is not None else None
    if scenario is not None and (section := _SCENARIOS.get(str(scenario)[:2])) is not None:
        yield section
