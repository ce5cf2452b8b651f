"""Incidents announced by a vendor itself (safety rule 12)."""

from __future__ import annotations

from backout.model.value import Value


class VendorIncident(Value, frozen=True):
    """An unresolved incident: whose, what, how bad (none | minor | major | critical), since when, which parts."""

    vendor: str
    title: str
    impact: str
    started_at: float
    components: tuple[str, ...] = ()
    url: str = ""
