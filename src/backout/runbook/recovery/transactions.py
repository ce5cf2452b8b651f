"""The transactions in the archived WAL, with what each wrote: a DELETE leaves nothing else to find it by."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from backout.analysis.recovery.recovery import cut, find_stretches
from backout.errors import Refused, UsageError
from backout.model.database.wal import precedes
from backout.model.value import Value
from backout.plan.target import parse_time
from backout.runbook.recovery.facts import check_identity, find_timeline, read_archive, read_facts
from backout.runbook.recovery.window import PREFLIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.analysis.recovery.recovery import Archive
    from backout.model.database.recovery import Commit, DatabaseFacts
    from backout.model.database.transactions import TableWrites, Transaction
    from backout.model.database.wal import WalSpan
    from backout.runbook.recovery.tools import RestoreTools

DEFAULT_SINCE = "24 hours ago"
_IDS_ARE_GONE = "not there now"


class Wanted(Value, frozen=True):
    """The transactions to list.

    Args:
        since, until: Unix seconds by their own clock.
        table: as a person typed it, "" for any.
        limit: the newest ones.
    """

    since: float
    until: float
    table: str = ""
    limit: int = 100


class Wrote(Value, frozen=True):
    """What one of them wrote to a table; `table` is its name now, or says that it has none."""

    table: str
    rows: TableWrites


class Listed(Value, frozen=True):
    """A transaction of the list; `database` by its name, "" if it wrote to none of the tables shown."""

    commit: Commit
    database: str
    wrote: tuple[Wrote, ...]


class Listing(Value, frozen=True):
    """The list, newest first.

    Args:
        more: how many others match.
        begins_at, ends_at: the positions between which WAL was read.
        holes: how many gaps there are in between, in which it is not known what was committed.
        is_cut: whether one of them may have written before the available WAL begins, or in a gap, so that not all of
            its rows are counted.
    """

    transactions: tuple[Listed, ...]
    more: int
    begins_at: int
    ends_at: int
    holes: int
    is_cut: bool = False


def read_window(tools: RestoreTools, since: str | None, until: str | None) -> tuple[float, float]:
    """Return the time that was typed as Unix seconds. Raises UsageError when it is none."""
    now = tools.clock.now()
    found = []
    for text in (since or DEFAULT_SINCE, until or "now"):
        at = now if text == "now" else parse_time(text, now)
        if at is None:
            raise UsageError(f"{text!r} is no time", hint='such as "2026-11-25 14:03:00" or "2 hours ago"')
        found.append(at)
    if found[0] > found[1]:
        raise UsageError("--since is later than --until")
    return found[0], found[1]


def list_transactions(tools: RestoreTools, wanted: Wanted, progress: Callable[[int, int], None]) -> Listing:
    """Return them, newest first; the live server is asked for names only.

    Raises:
        Refused: there is no WAL.
        BackoutError: it cannot be read.
    """
    facts = read_facts(tools)
    check_identity(tools, facts)
    archive = read_archive(tools, facts)
    timeline = find_timeline(archive, facts)
    names = tools.live.relations() if facts is not None else {}
    for begin in _begins(archive, wanted.since):
        spans, holes = _find_spans(archive, timeline, begin)
        found: deque[Listed] = deque(maxlen=wanted.limit)
        count, oldest = 0, None
        for each in tools.wal.transactions(spans, progress) if spans else ():
            if wanted.since <= each.commit.at <= wanted.until:
                oldest = each.commit.xid if oldest is None or precedes(each.commit.xid, oldest) else oldest
                listed = _name_tables(each, tools.database, facts, names)
                if _is_wanted(listed, wanted.table):
                    found.append(listed)
                    count += 1
        # One may have written before this WAL begins, and committed since: then more of it is read.
        if oldest is None or not begin or tools.wal.began(spans, oldest) is not None:
            break
    if not spans:
        raise Refused("no WAL is archived", where=tools.environment, rule=PREFLIGHT, options=("backout db wal start",))
    is_cut = oldest is not None and (holes > 0 or tools.wal.began(spans, oldest) is None)
    return Listing(tuple(reversed(found)), count - len(found), spans[0].begin_lsn, spans[-1].end_lsn, holes, is_cut)


def _begins(archive: Archive, since: float) -> tuple[int, ...]:
    """Return where reading of WAL begins: at the newest base backup before that time, else at an older one."""
    return (*sorted({base.begin_lsn for base in archive.backups if base.ended_at <= since}, reverse=True), 0)


def _find_spans(archive: Archive, timeline: int, begin: int) -> tuple[tuple[WalSpan, ...], int]:
    """Return the WAL to read, and how many holes it has."""
    pieces = [cut(archive, each, begin, each[-1].end_lsn) for each in find_stretches(archive, timeline, all_of_it=True)]
    pieces = [each for each in pieces if each]
    return tuple(span for piece in pieces for span in piece), max(0, len(pieces) - 1)


def _name_tables(
    found: Transaction, database: str, facts: DatabaseFacts | None, names: Mapping[tuple[int, int], str]
) -> Listed:
    """Return it with names: Postgres' own tables are left out, and those of other databases have no names here."""
    databases = dict(facts.databases) if facts is not None else {}
    ours = facts.oid_of(database) if facts is not None else None
    where, wrote = "", []
    for each in found.writes:
        name = names.get((each.database, each.node))
        if each.database:
            where = databases.get(each.database, f"object id {each.database}")
        if name == "" or not each.database:
            continue
        if name is None and each.made_anew and not (each.inserted or each.updated or each.deleted):
            continue  # an earlier index, or storage that was replaced again since
        unknown = _IDS_ARE_GONE if each.database == ours else f"of {where}"
        wrote.append(Wrote(name or f"file node {each.node}, {unknown}", each))
    return Listed(found.commit, where, tuple(sorted(wrote, key=lambda each: each.table)))


def _is_wanted(found: Listed, table: str) -> bool:
    """Whether to show it: it wrote to that table, or, if none is named, to any or to the catalog."""
    if not table:
        return bool(found.wrote or found.commit.changes_schema or found.commit.dropped)
    return any(table in (each.table, each.table.partition(".")[2]) for each in found.wrote)
