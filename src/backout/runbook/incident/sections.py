"""Which section of the runbook a drill or an incident is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.drill import DrillAction, DrillEnd

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backout.model.drill import DrillRecord
    from backout.model.incident.incident import Incident
    from backout.model.incident.record import IncidentRecord

_SCENARIOS: Final = {"S1": "health", "S2": "build", "S3": "errors", "S4": "migrations", "S5": "secrets"}
"""The section of each scenario, by its first two characters."""
_RESTORES: Final = {"rows-corrupted": "database", "objects-lost": "objects"}
"""The section of drills of data; another one that recovers is of all together."""


def sort_drills(drills: Iterable[DrillRecord]) -> dict[str, DrillRecord]:
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


def list_sections_of_incident(found: IncidentRecord, told: Incident | None) -> Iterator[str]:
    """Yield the sections that say what to do about an incident, the general ones first."""
    if found.is_of_data:
        yield "recover"
    if told is None:
        return
    if told.good_version and not told.forward:
        yield "quick"
    scenario = told.diagnosis.scenario if told.diagnosis is not None else None
    if scenario is not None and (section := _SCENARIOS.get(str(scenario)[:2])) is not None:
        yield section
