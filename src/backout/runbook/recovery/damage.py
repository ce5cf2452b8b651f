"""What the damage is: the transaction ids that wrote it, and the relations, from its first record in the WAL on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.recovery.recovery import cut, find_stretches, find_wal_before
from backout.errors import Refused
from backout.model.database.wal import precedes, show_lsn
from backout.report.times import format_time
from backout.runbook.recovery.window import PREFLIGHT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from backout.model.database.recovery import Commit, DatabaseFacts
    from backout.model.database.wal import WalSpan
    from backout.runbook.recovery.target import Found
    from backout.runbook.recovery.tools import RestoreTools

    Touched = Mapping[tuple[int, int], Collection[str]]


_RECORD: Final = 32 << 20
"""A COMMIT record is shorter, however many savepoints it names."""


def find_spans(
    tools: RestoreTools, found: Found, commits: Sequence[Commit], *, with_last: bool = False
) -> tuple[WalSpan, ...]:
    """Return the WAL from the first record of these transactions to the COMMIT record of the last one.

    One may have begun before the base backup from which its commit is reached: what it wrote until then is in the WAL
    before that.

    Args:
        commits: in the order of the WAL.
        with_last: include that record itself, and some of what follows it.

    Raises:
        Refused: the kept WAL does not reach back to where the first one began.
    """
    last, oldest = commits[-1], commits[0]
    for each in commits:
        oldest = each if precedes(each.xid, oldest.xid) else oldest
    read: tuple[WalSpan, ...] = ()
    for piece in find_wal_before(found.archive, last.timeline, last.lsn):
        read = (*piece, *read)
        begin = tools.wal.began(piece, oldest.xid)
        if begin is not None and with_last:
            whole = find_stretches(found.archive, last.timeline, all_of_it=True)
            held = next(each for each in whole if each[0].begin_lsn < last.lsn < each[-1].end_lsn)
            return cut(found.archive, held, begin, last.lsn + _RECORD)
        if begin is not None:
            return cut(found.archive, read, begin, last.lsn)
    since = show_lsn(read[0].begin_lsn) if read else "nowhere"
    raise Refused(
        f"transaction {oldest.xid}, committed at {format_time(oldest.at)}, began before the WAL that is kept "
        "without a gap "
        f"(from {since} on): what it wrote until then is not known, so its damage would be brought back in part",
        where=tools.environment,
        rule=PREFLIGHT,
        options=(
            f"WAL from before it began would reach; what there is: `backout db backups list -e {tools.environment}`.",
            f"Look at the moment before it: `backout db restore {oldest.xid} --side -e {tools.environment}`.",
            f"Replace the whole: `backout db restore {oldest.xid} --swap -e {tools.environment}`.",
        ),
    )


def select_database(
    tools: RestoreTools, facts: DatabaseFacts, touched: Touched
) -> tuple[tuple[tuple[int, tuple[str, ...]], ...], tuple[str, ...]]:
    """Return what was written to the database of the configuration, by file node, and the names of other databases.

    Raises:
        Refused: all of it is in other databases.
    """
    oid = facts.oid_of(tools.database)
    here = {0, oid} if oid is not None else {database for database, _ in touched}
    names = dict(facts.databases)
    others = {database for database, _ in touched} - here
    shown = tuple(f"{names.get(each, 'which is gone')} (object id {each})" for each in sorted(others))
    if others and not any(database == oid for database, _ in touched):
        raise Refused(
            f"the damage is in another database than {tools.database}: {', '.join(shown)}",
            where=tools.environment,
            rule=PREFLIGHT,
            hint="name that database in the connection string of database.admin_url_env or url_env",
        )
    rows = {node: tuple(sorted(kinds)) for (database, node), kinds in touched.items() if database in here}
    return tuple(sorted(rows.items())), shown
