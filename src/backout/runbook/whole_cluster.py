"""What a swap takes back, or does not keep, beside the application's rows: a data directory holds a whole cluster."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from backout.analysis.recovery import cut, stretches
from backout.errors import BackoutError, Unmeasured
from backout.escaping import brief
from backout.runbook.finding import archive_of, facts_of, timeline_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.recovery import ClusterThings, DatabaseFacts
    from backout.runbook.restore import RestoreTools

ALSO = "goes back too: "
LOST = "is not kept: "
_SHARED = 0


def goes_back_too(tools: RestoreTools, lsn: int | None, text: str) -> tuple[str, ...]:
    """Return what else the exchange of data directories changes, a line each; the live server is only read.

    Args:
        lsn: the target, from which on rows of other databases are counted in the archived WAL; None: they are not.
        text: the target as it was typed, for the way that takes one database alone.
    """
    facts = facts_of(tools)
    if facts is None:
        return (f"{ALSO}the whole cluster; the live server does not answer, so what else it holds is not known",)
    try:
        things = tools.live.cluster()
    except Unmeasured as error:
        return (f"{ALSO}the whole cluster; what else it holds could not be read ({error.what})",)
    try:
        written = _written(tools, facts, lsn) if lsn is not None else None
    except BackoutError as error:  # no reason to refuse what the target itself does not need
        tools.say(f"rows of other databases are not counted: {error.what}")
        written = None
    return (*_databases(tools, things, written, text), *_rest(things))


def _written(tools: RestoreTools, facts: DatabaseFacts, lsn: int) -> Mapping[int, int]:
    """Return how many row versions were written from a position on, by database; 0 is what all share."""
    archive = archive_of(tools, facts)
    found: Counter[int] = Counter()
    for each in stretches(archive, timeline_of(archive, facts), all_of_it=True):
        spans = cut(archive, each, lsn, each[-1].end_lsn) if each[-1].end_lsn > lsn else ()
        for (database, _), rows in (tools.wal.written(spans, apart_from=()) if spans else {}).items():
            found[database] += rows
    return found


def _databases(
    tools: RestoreTools, things: ClusterThings, written: Mapping[int, int] | None, text: str
) -> tuple[str, ...]:
    lines = []
    for oid, name in things.databases:
        rows = (
            "" if written is None else f", with {written.get(oid, 0):,} row versions written since by the archived WAL"
        )
        lines.append(f"{ALSO}database {brief(name)}{rows}")
    shared = 0 if written is None else written.get(_SHARED, 0)
    if shared:
        lines.append(f"{ALSO}{shared:,} rows of what all databases share: roles, passwords, grants, databases")
    if things.databases and text:
        env = tools.environment
        lines.append(
            f"one database alone: `backout db restore {text!r} --side -e {env}`, then pg_dump of {tools.database} "
            f"there; or the damaged rows, `backout db restore TRANSACTION -e {env}`"
        )
    return tuple(lines)


def _rest(things: ClusterThings) -> tuple[str, ...]:
    lines = [f"{ALSO}pg_hba.conf and the other files in the data directory"]
    if things.altered is None:
        lines.append(f"{ALSO}what ALTER SYSTEM set; this role may not read which settings that are")
    elif things.altered:
        lines.append(f"{ALSO}what ALTER SYSTEM set: {_some(things.altered)}")
    if things.slots:
        lines.append(f"{LOST}replication slots: {_some(things.slots)}")
    if things.unlogged:
        lines.append(f"{LOST}rows of unlogged tables: {_some(things.unlogged)}")
    return tuple(lines)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""  # noqa: PLR2004 - a line has an end
    return ", ".join(brief(name) for name in names[:10]) + more
