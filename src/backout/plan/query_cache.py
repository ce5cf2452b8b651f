"""Hyperdrive's cache after the database went back: for a while the Worker is answered with rows from before; pure.

Source: Cloudflare's documentation, "Hyperdrive: query caching" (2026-12-01): reads are kept for `max_age` (60 seconds)
and served for `stale_while_revalidate` (15 seconds) more; writes, from wherever, invalidate nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.plan import Step
from backout.model.steps.branches import BranchRescueStep, FinalizeStep
from backout.model.steps.rescue import RescueStep, UndoRescueStep
from backout.model.steps.restore import SwappedStep
from backout.model.steps.verification import VerifyStep

if TYPE_CHECKING:
    from backout.model.plan import Plan

CACHE_S: Final = 75.0
CACHE_NOTE: Final = (
    f"Hyperdrive caches reads: for {CACHE_S:.0f} s after the database went back the Worker may be answered with rows "
    "from before; what is checked here is read from the database itself"
)
_WRITERS: Final = (RescueStep, UndoRescueStep, BranchRescueStep, FinalizeStep, SwappedStep)


def note_cache(plan: Plan) -> Plan:
    """Return a plan that says so, where it writes to the database behind the cache; where it does not, as it is."""
    if not any(plan.has(kind) for kind in _WRITERS):
        return plan
    return replace(plan, notes=(*plan.notes, CACHE_NOTE))


def add_delay(step: Step) -> Step:
    """Return a step that watches through the Worker so that it begins behind the cache; another one as it is."""
    if not step.does(VerifyStep):
        return step
    watch = replace(step.arguments(VerifyStep), cache_s=CACHE_S)
    return Step.of(f"{step.title}, {CACHE_S:.0f} s later: then Hyperdrive's cache is over", watch, step.equivalent)


def says_cached(plan: Plan) -> bool:
    """Whether a plan says so."""
    return CACHE_NOTE in plan.notes
