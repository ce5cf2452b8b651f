"""Who the live database is, and whether it is the pinned one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.recovery.recovery import (
    Archive,
    find_newest_timeline,
    keep_own_cluster,
)
from backout.errors import Refused, Unmeasured
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from backout.model.database.recovery import DatabaseFacts
    from backout.runbook.recovery.tools import RestoreTools


def read_archive(tools: RestoreTools, facts: DatabaseFacts | None) -> Archive:
    """Return the backups and WAL to restore this cluster from."""
    whole = Archive(tools.backups.backups(), tools.backups.wal(), tools.wal.history())
    return keep_own_cluster(whole, facts.system_identifier if facts else None)


def find_timeline(archive: Archive, facts: DatabaseFacts | None) -> int:
    """Return the timeline that leads to now.

    After the undo of a swap the live database is on the older timeline again, and the newest is the undone one.
    """
    known = {each.timeline for each in archive.wal} | {each.timeline for each in archive.backups}
    here = facts is not None and facts.timeline in known
    return facts.timeline if facts is not None and here else find_newest_timeline(archive)


def read_facts(tools: RestoreTools) -> DatabaseFacts | None:
    """Return who the live database is, None when it is down: then only what needs its catalog is refused."""
    try:
        return tools.live.facts()
    except Unmeasured as error:
        tools.say(f"the live database does not answer ({error.what}); going on from the archive alone")
        return None


def check_identity(tools: RestoreTools, facts: DatabaseFacts | None) -> None:
    """Raise Refused when a database other than the pinned one answers (safety rule 1)."""
    found = f"{facts.system_identifier}/{facts.database}" if facts is not None else None
    if tools.pinned is not None and found is not None and found != tools.pinned:
        raise Refused(
            f"database {found} answers, and {tools.pinned} is pinned", where=tools.environment, rule=SafetyRule.IDENTITY
        )
