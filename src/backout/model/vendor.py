"""Incidents that a vendor has announced itself (safety rule 12)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VendorIncident:
    """An unresolved incident: whose, what, how bad (none | minor | major | critical), since when, which parts."""

    vendor: str
    title: str
    impact: str
    started_at: float
    components: tuple[str, ...] = ()
    url: str = ""
