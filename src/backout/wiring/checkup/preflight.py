"""The checks before a deployment, from a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import BackoutError
from backout.model.checkup import View
from backout.providers.clock import SystemClock
from backout.runbook.incident import preflight
from backout.wiring.checkup import list_lanes, run_checkup
from backout.wiring.records import find_actor, open_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from backout.config import Config
    from backout.model.checkup import Checkup


def run_preflight(
    config: Config, *, allowed: Collection[str], fixes: str, why: str, say: Callable[[str], None]
) -> Checkup:
    """Ask whether a deployment could be taken back.

    Args:
        allowed: names of checks whose gaps a person accepts.
        fixes: the incident that the deployment is to end, "" for none.
        why: the person's reason.
        say: told what could not be recorded.

    Raises:
        UsageError: no check has that name.
        BackoutError: what is allowed could not be recorded.
    """
    found, book = run_checkup(config, View.PREFLIGHT), open_journal(config)
    actor, clock = find_actor(), SystemClock()
    advice = preflight.find_advice(book, book, found, fixes=fixes)  # a gap that is allowed below is no reason for it
    if allowed:
        known = {question.name for lane in list_lanes(config, View.PREFLIGHT) for question in lane}
        found = preflight.accept_gaps(found, allowed, why, known=known, notes=book, actor=actor, clock=clock)
    found = replace(found, advice=advice)
    if fixes and not found.ready:
        try:
            preflight.record_fix(found, fixes, why, notes=book, actor=actor, clock=clock)
        except BackoutError as error:  # a fix is not stopped by that
            say(f"it is not recorded that this deployment fixes {fixes}: {error.what}")
    return found
