"""What a swap takes back, or does not keep, besides the application's rows: a data directory holds a whole cluster."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.recovery.recovery import FOREVER, Archive, cut, find_stretches
from backout.errors import BackoutError, Unmeasured
from backout.escaping import shorten
from backout.model.database.also_back import AlsoBack, AlsoKind
from backout.model.database.wal import parse_lsn, show_lsn
from backout.model.steps.restore import ComesRecord
from backout.model.value import Value
from backout.plan.together import describe_lost_rows
from backout.runbook.recovery.facts import find_timeline, read_archive

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from backout.model.database.recovery import ClusterThings, DatabaseFacts
    from backout.runbook.recovery.tools import RestoreTools

ALSO = "goes back too: "
LOST = "is not kept: "
_SHARED = 0
_GATHERED = frozenset({2619, 2840, 2841, 3429, 3430, 3431})
"""File nodes of what ANALYZE gathers, which are not missed and which a server writes by itself."""
_FOLLOWS = frozenset({"pg_shdepend"})
"""Postgres' record of the owners of each object: it goes with the object."""
_MANY = 10
_TRIES, _PAUSE_S = 3, 1.0


class Comes(Value, frozen=True):
    """The cluster that would come in place of the live one.

    Args:
        way: its timelines, each with the position at which it is left.
        at: when its files were copied (Unix seconds).
        incoming: where it is, None while it is still to be made.
        is_undo: whether a swap is taken back.
    """

    way: tuple[tuple[int, int], ...]
    at: float = 0.0
    incoming: Path | None = None
    is_undo: bool = False

    def record(self) -> ComesRecord:
        """Return it as a plan keeps it."""
        way = tuple((timeline, show_lsn(until)) for timeline, until in self.way)
        return ComesRecord(way=way, copied_at=self.at, undo=self.is_undo)


def read_comes(record: ComesRecord, incoming: Path) -> Comes:
    """Return what `record` wrote, for a cluster that is there by now."""
    way = tuple((timeline, parse_lsn(until)) for timeline, until in record.way)
    return Comes(way, record.copied_at, incoming, is_undo=record.undo)


class Also(Value, frozen=True):
    """What else goes back: the things that need a yes, and everything as lines; `counted_to`: up to this position."""

    things: tuple[AlsoBack, ...]
    lines: tuple[str, ...]
    counted_to: int = 0


class Written(Value, frozen=True):
    """What was written since: rows by database, by relation, and the new databases; None: cannot be counted."""

    rows: Mapping[int, int]
    relations: Mapping[tuple[int, int], int]
    made: frozenset[int]


def look_at_cluster(tools: RestoreTools, facts: DatabaseFacts | None, comes: Comes) -> Also:
    """Return what else the exchange of data directories changes; the live server is only read."""
    if facts is None:
        server = tools.server
        if server is not None and not (server.data_directory / "global" / "pg_control").exists():
            return Also((), (f"{ALSO}the whole cluster; nothing of it lies in the data directory",))
        return _make_unknown("the live server does not answer, so what else it holds is not known")
    try:
        things = tools.live.cluster()
    except Unmeasured as error:
        return _make_unknown(f"what else it holds could not be read ({error.what})")
    try:
        written = read_written(tools, facts, comes)
    except BackoutError as error:  # the target itself does not need it, so this is no reason to refuse
        tools.say(f"rows of other databases are not counted: {error.what}")
        written = None
    asked, lines = _list_databases(things, written)
    own, own_lines = _list_own(tools, facts, written, comes)
    rest, rest_lines = _list_rest(tools, things, comes)
    counted_to = (facts.flushed_lsn or facts.lsn) if written is not None else 0
    return Also((*own, *asked, *rest), (*own_lines, *lines, *rest_lines), counted_to)


def read_written_last(tools: RestoreTools, since: int) -> Mapping[int, int]:
    """Return the row versions written by database between a position and the end of a server that is down by now.

    Raises:
        BackoutError: the WAL from there on does not all lie in the data directory, or cannot be read.
    """
    server = tools.server
    assert server is not None
    assert tools.wal_beside is not None
    timeline, end, _ = server.history_of(server.data_directory)
    segments, wal = tools.wal_beside(server.wal_here(timeline, end), alone=True)
    archive = Archive((), segments, wal.history())
    found = [each for each in find_stretches(archive, timeline, all_of_it=True) if each[-1].end_lsn > since]
    rows: Counter[int] = Counter()
    if since < end:
        if not found or found[-1][0].begin_lsn > since or found[-1][-1].end_lsn < end:
            raise BackoutError(f"the WAL from {show_lsn(since)} on is not in the data directory any more")
        spans = cut(archive, found[-1], since, end)
        for (database, node), many in wal.written(spans, apart_from=()).items():
            rows[database] += 0 if node in _GATHERED else many
    return rows


def explain_one_alone(tools: RestoreTools, text: str) -> str:
    """Return how the content of one database alone is taken back, or kept."""
    env = tools.environment
    if not text:
        return "one database alone: pg_dump of it from the live server before, or from the kept data directory"
    return (
        f"one database alone: `backout db restore {text!r} --side -e {env}`, then pg_dump of {tools.database} "
        f"there; or the damaged rows, `backout db restore TRANSACTION -e {env}`"
    )


def find_parting(ours: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> int:
    """Return the last position that two ways along timelines have in common.

    >>> find_parting([(1, 500), (2, 1 << 64)], [(1, 900)]), find_parting([(1, 1 << 64)], [(1, 500), (2, 700)])
    (500, 500)
    """
    common = 0
    for (timeline, until), (other, left) in zip(ours, others, strict=False):
        if timeline != other:
            break
        common = min(until, left)
        if until != left:
            break
    return common


def _make_unknown(why: str) -> Also:
    line = f"{ALSO}the whole cluster; {why}"
    return Also((AlsoBack(AlsoKind.UNKNOWN, text=line),), (line,))


def read_written(tools: RestoreTools, facts: DatabaseFacts, comes: Comes) -> Written | None:
    """Return what was written in the live cluster that the other one lacks; None: not all of its WAL is there.

    Raises:
        BackoutError: it cannot be read.
    """
    left = _TRIES
    while True:
        here, left = _list_here(tools, facts), left - 1
        try:
            return _read_written(tools, facts, comes)
        except BackoutError:
            if not left or here <= _list_here(tools, facts):
                raise
        tools.clock.sleep(_PAUSE_S)  # what the server recycled while it was read is in the archive by then


def _list_here(tools: RestoreTools, facts: DatabaseFacts) -> set[str]:
    """Return the names of the segments of WAL that lie in the data directory."""
    if tools.server is None:
        return set()
    return {each.name for each in tools.server.wal_here(facts.timeline, facts.flushed_lsn or facts.lsn)}


def _read_written(tools: RestoreTools, facts: DatabaseFacts, comes: Comes) -> Written | None:
    archive, wal, end = read_archive(tools, facts), tools.wal, facts.flushed_lsn or facts.lsn
    if tools.server is not None and tools.wal_beside is not None:
        segments, wal = tools.wal_beside(tools.server.wal_here(facts.timeline, end), alone=False)
        archive = replace(archive, wal=segments, history=wal.history())
    timeline = find_timeline(archive, facts)
    begin = find_parting([*archive.history.get(timeline, ()), (timeline, FOREVER)], comes.way)
    if begin >= end:
        return Written({}, {}, frozenset())
    found = [each for each in find_stretches(archive, timeline, all_of_it=True) if each[-1].end_lsn > begin]
    if len(found) != 1 or found[0][0].begin_lsn > begin or found[0][-1].end_lsn < end:
        return None
    spans = cut(archive, found[0], begin, found[0][-1].end_lsn)
    relations = {key: rows for key, rows in wal.written(spans, apart_from=()).items() if key[1] not in _GATHERED}
    rows: Counter[int] = Counter()
    for (database, _), many in relations.items():
        rows[database] += many
    return Written(rows, relations, wal.databases_made(spans))


def _list_databases(things: ClusterThings, written: Written | None) -> tuple[list[AlsoBack], list[str]]:
    asked, lines = [], []
    for oid, name in things.databases:
        if written is None:
            count, told = None, "; how many rows were written since is not known, for not all of its WAL is there"
        elif oid in written.made:
            count, told = None, ", all of it: it was made since"
        else:
            count = written.rows.get(oid, 0)
            told = f", with {count:,} row versions written since by the WAL"
        line = f"{ALSO}database {shorten(name)}{told}"
        lines.append(line)
        if count != 0:
            asked.append(AlsoBack(AlsoKind.DATABASE, name, count, line))
    names = dict(things.shared)
    shared: Counter[str] = Counter()
    for (database, node), many in (written.relations if written is not None else {}).items():
        if database == _SHARED and names.get(node) not in _FOLLOWS:
            shared[names.get(node, "other catalogs")] += many
    if shared or written is None:
        count = None if written is None else shared.total()
        rows = "rows" if count is None else f"{count:,} rows"
        where = f" ({', '.join(sorted(shared))})" if shared else ""
        line = f"{ALSO}{rows} of what all databases share: roles, passwords, grants, databases{where}"
        lines.append(line)
        asked.append(AlsoBack(AlsoKind.SHARED, count=count, text=line))
    return asked, lines


def _list_own(
    tools: RestoreTools, facts: DatabaseFacts, written: Written | None, comes: Comes
) -> tuple[list[AlsoBack], list[str]]:
    """Return what the application's own database loses: with a swap that was asked for, with its undo it was not.

    It is agreed to without a number: the application keeps writing until the stop.
    """
    since = "the swap was taken" if comes.is_undo else "the target"
    if written is None:
        line = (
            f"{LOST}what was written in {shorten(tools.database)} since {since}; not all of its WAL is there "
            "to count it"
        )
        thing = AlsoBack(AlsoKind.DATABASE, tools.database, None, line)
        return ([thing], [line]) if comes.is_undo else ([], [line])
    names, oid = tools.live.relations(), facts.oid_of(tools.database)
    rows: Counter[str] = Counter()
    for key, many in written.relations.items():
        if key[0] == oid:
            rows[names.get(key, "tables that are gone") or "its catalog"] += many
    if not rows:
        return [], []
    line = (
        f"{LOST}{describe_lost_rows(list(rows.items()), most=_MANY)} of {shorten(tools.database)}, written "
        f"since {since}"
    )
    thing = AlsoBack(AlsoKind.DATABASE, tools.database, None, line)
    return ([thing], [line]) if comes.is_undo else ([], [line])


def _list_rest(tools: RestoreTools, things: ClusterThings, comes: Comes) -> tuple[list[AlsoBack], list[str]]:
    asked, lines = [], [f"{ALSO}pg_hba.conf and the other files in the data directory"]
    if tools.server is not None:
        is_there = comes.incoming is not None and comes.incoming.is_dir()
        changed = (
            tools.server.settings_differ(comes.incoming)
            if is_there and comes.incoming is not None
            else tools.server.settings_changed(comes.at)
        )
        for name in changed:
            line = f"{ALSO}{name}, as it was then: it was changed since"
            lines.append(line)
            asked.append(AlsoBack(AlsoKind.FILE, name, text=line))
    if things.altered is None:
        lines.append(f"{ALSO}what ALTER SYSTEM set; this role may not read which settings that are")
    elif things.altered:
        lines.append(f"{ALSO}what ALTER SYSTEM set: {_name_some(things.altered)}")
    if things.slots:
        lines.append(f"{LOST}replication slots: {_name_some(things.slots)}")
    asked += [
        AlsoBack(AlsoKind.SLOT, name, text=f"{LOST}replication slot {shorten(name)}")
        for name in things.slots
        if name != tools.receiver  # which makes its own anew
    ]
    if things.unlogged or things.unread:
        told = [_name_some(things.unlogged)] if things.unlogged else []
        told += [f"those of {_name_some(things.unread)}, which this role may not look into"] if things.unread else []
        line = f"{LOST}rows of unlogged tables: {', and '.join(told)}"
        lines.append(line)
        asked.append(AlsoBack(AlsoKind.UNLOGGED, count=None if things.unread else len(things.unlogged), text=line))
    return asked, lines


def _name_some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(shorten(name) for name in names[:_MANY]) + more
