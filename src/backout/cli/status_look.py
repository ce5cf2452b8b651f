"""How `backout status` reads an environment, with a journal or without, and whom it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import BackoutError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.config import Config
    from backout.runbook.incident.status import Status
    from backout.runbook.toolbox import Toolbox


def read_status(tools: Toolbox) -> Status:
    """Return the status; without a usable journal, as far as the provider tells it."""
    from backout.journal.rows import JournalUnavailable
    from backout.runbook.incident import status as procedure
    from backout.runbook.incident.no_journal import replace_journal

    try:
        found = procedure.read_status(tools)
    except JournalUnavailable as error:
        return replace(procedure.read_status(replace_journal(tools, error)), journal=f"{error.what} ({error.where})")
    only_read = getattr(tools.runs, "only_read", None)
    return found if only_read is None else replace(found, journal=f"{only_read.what} ({only_read.where})")


def read_known_workers(config: Config) -> Mapping[str, str]:
    """Return which worker guards each environment; none is known where the journal cannot be read."""
    from backout.wiring.worker import read_workers

    try:
        return read_workers(config)
    except BackoutError:
        return {}


def tell_of_status(tools: Toolbox, found: Status) -> None:
    """Tell people, once each, of what status shows and no one may be looking at."""
    from backout.runbook.guard.watch_gap import tell_watch_gap
    from backout.runbook.safety.hold_notices import tell_of_holds

    if found.watch_gap_s is not None and not found.journal:
        tell_watch_gap(tools, found.situation, found.watch_gap_s)
    tell_of_holds(tools, found.situation.listed)
    if found.closed is not None:
        from backout.runbook.recover.deadline import tell_late

        tell_late(tools, found.closed)
