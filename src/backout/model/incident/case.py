"""Everything that is known of one incident, for its page, its JSON and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.incident.impact import Impact
    from backout.model.incident.incident import Incident, TimelineEntry
    from backout.model.incident.record import IncidentRecord, Severity, Told


class Case(Value, frozen=True):
    """One incident.

    Args:
        record: what the journal has of it.
        severity: a person's word, or by policy.
        title: a person's, or what the runs say.
        incident: what the journal tells of its runs, None where it has none.
        timeline: oldest first.
        told: notices that arrived, oldest first.
        report: path of its report, "" without one; `picture` of the picture beside it.
    """

    record: IncidentRecord
    severity: Severity
    title: str
    incident: Incident | None
    impact: Impact
    timeline: tuple[TimelineEntry, ...]
    told: tuple[Told, ...] = ()
    report: str = ""
    picture: str = ""

    @property
    def began_at(self) -> float:
        """When the trouble began: the bad deployment, or when it was opened. Unix seconds."""
        return self.incident.opened_at if self.incident is not None else self.record.opened_at
