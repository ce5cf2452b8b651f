"""Whether a vendor's own incident explains what was measured; then a rollback would change nothing (safety rule 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.model.guard.verdict import Decision
    from backout.model.incident.vendor import VendorIncident
    from backout.runbook.toolbox import Toolbox

KNOWN_FOR_S = 86_400.0
"""An incident open for longer than a day was there before this deployment, and explains nothing new."""
ANNOUNCED_LATE_S = 900.0
"""Vendors date an incident to when they noticed it: this long after our first bad request it may still be the cause."""


def find_vendor_incident(tools: Toolbox, decision: Decision) -> str:
    """Return which announced incident may be the cause, in one sentence with its address, or "".

    An incident counts that began within the last day, and not clearly after our first bad request. Whether it really is
    the cause cannot be known from here, and that is the point: a rollback into a vendor's outage helps nothing and may
    not even go through, so a person decides. Asked once, at the moment of the decision; a page that does not answer
    never holds a rollback up.
    """
    if tools.safety.vendors is None:
        return ""
    try:
        incidents = tools.safety.vendors.incidents()
    except BackoutError as error:
        tools.say(f"vendors' incidents: not measured ({error})")
        return ""
    began = decision.at if decision.first_bad_at is None else decision.first_bad_at
    earliest, latest = decision.at - KNOWN_FOR_S, began + ANNOUNCED_LATE_S
    found = next((incident for incident in incidents if earliest <= incident.started_at <= latest), None)
    return "" if found is None else _describe_incident(found)


def _describe_incident(incident: VendorIncident) -> str:
    parts = f", {', '.join(incident.components)}" if incident.components else ""
    return (
        f"not the deployment, as far as can be told: {incident.vendor} has an incident since "
        f"{format_time(incident.started_at)} ({incident.title}; {incident.impact}{parts}; {incident.url})"
    )
