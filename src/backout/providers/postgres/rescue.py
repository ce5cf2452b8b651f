"""Port Rescuer: damaged rows come back from a side instance, newer good ones stay.

Three states of each row are compared by its primary key: before the damage and after it (two side instances), and live.
What the damage changed and nobody changed since is written back; what somebody changed again is a conflict, shown and
kept. Rows travel by COPY through this process, so that a live server needs neither an extension nor a route to the
side instance, and TLS is the client's.

Source: PostgreSQL 18, "System Columns" (xmin, xmax), "Composite Type Comparison" (images can be compared for
every type; the operators `*=` and `*<>` are the functions record_image_eq and record_image_ne).
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError
from backout.model.recovery import RescueReport, TableRescue
from backout.providers.postgres.definitions import Catalog, Column, Other, Table, add_column, catalog, create, drop
from backout.providers.postgres.libpq import identifier
from backout.providers.postgres.live import HISTORY_TABLES
from backout.providers.postgres.schema import libpq_url, meant, without_secrets
from backout.providers.postgres.template import run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backout.model.recovery import Damage
    from backout.providers.postgres.binaries import Binaries

_BATCH: Final = 50_000
_SHOWN: Final = 5
_QUEUE: Final = re.compile(r"outbox|inbox|queue|jobs?$", re.IGNORECASE)
_CHUNK: Final = 10_000
_CONTENT: Final = frozenset({"INSERT", "MULTI_INSERT", "UPDATE", "HOT_UPDATE", "DELETE"})


@dataclass
class _Work:
    """What is to be done with one table that is there in all three."""

    table: Table
    before: Table
    after: Table
    key: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    whole: bool = False
    deletes: bool = False
    lost: tuple[Column, ...] = ()
    report: TableRescue = field(default_factory=lambda: TableRescue(""))

    def name(self, what: str) -> str:
        return f"backout_{what}_{self.table.oid}"


@dataclass
class _Session:
    """The three connections of a rescue; `kept` is None in a dry run."""

    before: Any
    after: Any
    live: Any
    damage: Damage
    kept: _Kept | None
    progress: Callable[[str, int, int], None]


class _Kept:
    """The folder in which a rescue keeps what it replaced, a numbered entry at a time, each durable before its commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._next = 1 + max((int(path.stem) for path in folder.glob("*.json")), default=0)

    def write(self, entry: dict[str, Any], content: Sequence[bytes] = ()) -> None:
        number, self._next = self._next, self._next + 1
        _durable(self.folder / f"{number:06}.copy", b"".join(content))
        _durable(self.folder / f"{number:06}.json", json.dumps(entry).encode())

    def entries(self) -> list[tuple[dict[str, Any], bytes]]:
        found = sorted(self.folder.glob("*.json"), reverse=True)
        return [(json.loads(path.read_bytes()), path.with_suffix(".copy").read_bytes()) for path in found]

    def has(self, **wanted: object) -> bool:
        return any(all(entry.get(k) == v for k, v in wanted.items()) for entry, _ in self.entries())


class PostgresRescuer:
    """Rescues into one database of the live server.

    Args:
        url: returns the connection string of an administrator; it is never shown.
    """

    def __init__(self, url: Callable[[], str], binaries: Binaries, database: str) -> None:
        self._url = url
        self._binaries = binaries
        self._database = database

    def damage(self, damage: Damage, before: str, after: str) -> RescueReport:
        """Return what would be written, by table, without writing anything."""
        with self._session(damage, before, after, None, _silent) as session:
            return self._all(session, before)

    def rescue(
        self, damage: Damage, before: str, after: str, kept: Path, progress: Callable[[str, int, int], None]
    ) -> RescueReport:
        """Write it; doing it again finds nothing left to do.

        Raises:
            BackoutError: Postgres refused a statement, which is quoted; what was committed stays, and can be resumed.
        """
        with self._session(damage, before, after, _Kept(kept), progress) as session:
            return self._all(session, before)

    def undo(self, kept: Path, progress: Callable[[str, int, int], None]) -> RescueReport:
        """Put back what `kept` holds, newest first, where nobody has written since."""
        from backout.providers.postgres.unrescue import undo  # noqa: PLC0415 - few need it

        if not kept.is_dir():
            raise BackoutError("what the rescue replaced is not kept any more", where=str(kept))
        with self._live() as live:
            return undo(live, _Kept(kept).entries(), progress)

    # --- connections --------------------------------------------------------------------------------------------

    @contextmanager
    def _session(
        self, damage: Damage, before: str, after: str, kept: _Kept | None, progress: Callable[[str, int, int], None]
    ) -> Iterator[_Session]:
        import psycopg  # noqa: PLC0415 - costs 0.1 s

        with ExitStack() as stack:
            live = stack.enter_context(self._live())
            sides = [
                stack.enter_context(psycopg.connect(dsn, dbname=self._database, autocommit=True))
                for dsn in (before, after)
            ]
            for side in sides:  # definitions then name every schema
                side.execute("SET search_path = pg_catalog; SET lock_timeout = '10s'")
            yield _Session(sides[0], sides[1], live, damage, kept, progress)

    @contextmanager
    def _live(self) -> Iterator[Any]:
        import psycopg  # noqa: PLC0415 - costs 0.1 s

        url = self._url()
        dsn, _ = libpq_url(url)
        try:
            with psycopg.connect(dsn, autocommit=True, dbname=self._database, connect_timeout=5) as live:
                live.execute("SET lock_timeout = '2s'; SET client_min_messages = error; SET search_path = pg_catalog")
                yield live
        except psycopg.errors.LockNotAvailable as error:
            raise BackoutError(
                f"a lock was not to be had within 2 s, so nothing waits behind us: {meant(error, url, 'a table').what}",
                where="database",
                hint="resume it when the session that holds the lock is done",
            ) from None
        except psycopg.OperationalError as error:
            raise meant(error, url, "the damaged rows") from None  # its text may quote the connection string
        except psycopg.Error as error:
            said = without_secrets(url, " ".join(str(error).split()))[:400]
            raise BackoutError(f"Postgres refused a statement of the rescue: {said}", where="database") from None

    # --- all of it ----------------------------------------------------------------------------------------------

    def _all(self, session: _Session, before_dsn: str) -> RescueReport:
        before, after, live = (catalog(each) for each in (session.before, session.after, session.live))
        lost = [table for oid, table in before.tables.items() if oid not in after.tables]
        definitions: list[str] = []
        reports: list[TableRescue] = []
        for table in lost:
            reports.append(self._whole_table(session, table, live, before_dsn))
            definitions.append(f"CREATE TABLE {table.sql}")
        works = [work for work in _works(session, before, after, live) if not _left_alone(session, work, reports)]
        for work in works:
            definitions += self._columns(session, work)
        ordered = _parents_first(session.live, works)
        for work in ordered:
            self._load(session, work)
        for number, work in enumerate(reversed(ordered)):
            session.progress("removing rows that the damage made", number, len(ordered))
            _remove(session, work)
        for work in ordered:
            _insert(session, work)
        for work in ordered:
            _update(session, work)
        for work in ordered:
            _fill(session, work)
        definitions += _others(session, before, after, live)
        reports += [work.report for work in ordered]
        return RescueReport(tuple(definitions), tuple(sorted(reports, key=lambda each: each.table)))

    def _whole_table(self, session: _Session, table: Table, live: Catalog, before_dsn: str) -> TableRescue:
        """Make a dropped table again with all that belongs to it, in one transaction."""
        (count,) = session.before.execute(f"SELECT count(*) FROM {table.sql}").fetchone()
        report = TableRescue(table.shown, inserted=count)
        there = any((each.schema, each.name) == (table.schema, table.name) for each in live.tables.values())
        if there:
            ours = session.kept is not None and session.kept.has(op="table", table=table.shown)
            return replace(report, inserted=0, left="" if ours else "a table of that name is there again")
        if session.kept is None:
            return report
        parts = [
            run_tool(
                self._binaries,
                "pg_dump",
                f"--dbname={before_dsn} dbname={_quoted(self._database)}",
                "--schema-only",
                f"--section={section}",
                f"--table={table.sql}",
            )
            for section in ("pre-data", "post-data")
        ]
        scripts = ["\n".join(line for line in part.splitlines() if not line.startswith("\\")) for part in parts]
        columns = ", ".join(identifier(column.name) for column in table.columns if not column.generated)
        with session.live.transaction():
            path = session.live.execute("SHOW search_path").fetchone()[0]
            session.live.execute(scripts[0])
            if not table.partitioned:
                _pipe(
                    session.before,
                    f"COPY {table.sql} ({columns}) TO STDOUT",
                    session.live,
                    f"COPY {table.sql} ({columns}) FROM STDIN",
                )
            _sequences(session, table)
            session.live.execute(scripts[1])
            session.live.execute("SELECT set_config('search_path', %s, false)", (path,))
            (xid,) = session.live.execute("SELECT pg_current_xact_id()::text").fetchone()
            session.kept.write({"op": "table", "table": table.shown, "sql": table.sql, "xid": xid, "rows": count})
        return report

    def _columns(self, session: _Session, work: _Work) -> list[str]:
        """Add the columns that are lost again; their values follow in `_fill`."""
        there = {column.name for column in work.table.columns}
        made = []
        for column in work.lost:
            statement = add_column(work.table, column)
            made.append(statement)
            if column.name in there or session.kept is None:
                continue
            with session.live.transaction():
                session.kept.write(
                    {
                        "op": "column",
                        "sql": work.table.sql,
                        "table": work.table.shown,
                        "column": column.name,
                        "default": column.plain_default,
                    }
                )
                session.live.execute(statement)
        return made

    def _load(self, session: _Session, work: _Work) -> None:
        """Bring the rows of before and after into temporary tables of the live session."""
        names = _list(work.columns)
        for what, source, table, condition in (
            ("before", session.before, work.before, "xmax::text <> '0'"),
            (
                "after",
                session.after,
                work.after,
                f"xmin = ANY('{{{','.join(map(str, sorted(session.damage.xids)))}}}'::xid[])",
            ),
        ):
            temp = work.name(what)
            session.live.execute(f"DROP TABLE IF EXISTS {temp}")
            session.live.execute(f"CREATE TEMP TABLE {temp} AS SELECT {names} FROM ONLY {work.table.sql} WITH NO DATA")
            session.live.execute(f"ALTER TABLE {temp} ADD COLUMN backout_no bigserial")
            where = "" if work.whole else f" WHERE {condition}"
            query = f"COPY (SELECT {names} FROM ONLY {table.sql}{where}) TO STDOUT"
            _pipe(source, query, session.live, f"COPY {temp} ({names}) FROM STDIN")
            session.live.execute(f"CREATE UNIQUE INDEX ON {temp} ({_list(work.key)})")
            session.live.execute(f"ANALYZE {temp}")
        if not work.whole:
            _forget_locked(session, work)


def _works(session: _Session, before: Catalog, after: Catalog, live: Catalog) -> list[_Work]:
    """Return the tables that the damage wrote to, or that lost a column."""
    written = {node: set(kinds) for node, kinds in session.damage.written}
    found = []
    for oid, table in before.tables.items():
        then = after.tables.get(oid)
        if then is None:
            continue
        nodes = {*table.nodes, *then.nodes} - {0}
        kinds = set().union(*(written.get(node, set()) for node in nodes)) & _CONTENT
        lost = tuple(column for column in table.columns if all(column.number != each.number for each in then.columns))
        rewritten = table.nodes[0] != then.nodes[0]
        if not (kinds or lost or rewritten):
            continue
        now = live.tables.get(oid)
        work = _Work(now or table, table, then, whole=rewritten, deletes="DELETE" in kinds, lost=lost)
        work.report = TableRescue(work.table.shown, left="" if now else "the table is not there any more")
        found.append(work)
    return found


def _left_alone(session: _Session, work: _Work, reports: list[TableRescue]) -> bool:
    """Whether a table is not touched, with the reason in the report; else complete what is to be done with it."""
    table, left = work.table, work.report.left
    triggers = tuple(name for name, _ in _triggers(session.live, table.oid))
    if not left and table.partitioned:
        return True  # its partitions hold the rows
    if not left and table.shown in session.damage.skip:
        left = "as you asked"
    if not left and table.name in HISTORY_TABLES:
        left = "the migration history is left as it is: see `backout db migrations status`"
    if not left and _QUEUE.search(table.name) and not session.damage.queues:
        left = "it looks like a queue, and what is put back would be sent again; --queues takes it in"
    if not left:
        work.key = _key(session.live, table)
        if not work.key:
            left = "it has no primary key"
    shared: list[set[tuple[str, str]]] = [set(), set(), set()]
    for names, each in zip(shared, (work.before, work.after, table), strict=True):
        names |= {(column.name, column.type) for column in each.columns if not column.generated}
    both = set.intersection(*shared)
    work.columns = tuple(column.name for column in table.columns if (column.name, column.type) in both)
    if not left and not set(work.key) <= set(work.columns):
        left = "its primary key was changed by the damage"
    work.report = replace(work.report, left=left, triggers=triggers)
    if left:
        reports.append(work.report)
    return bool(left)


def _key(live: Any, table: Table) -> tuple[str, ...]:
    query = (
        "SELECT a.attname FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(number, place) "
        "JOIN pg_attribute a ON a.attnum = k.number WHERE a.attrelid = i.indrelid AND i.indrelid = %s "
        "AND i.indisprimary ORDER BY k.place"
    )
    return tuple(name for (name,) in live.execute(query, (table.oid,)))


def _triggers(live: Any, oid: int) -> list[tuple[str, str]]:
    """Return the user's triggers that fire, and how each is enabled."""
    query = (
        "SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = %s AND NOT tgisinternal AND tgenabled <> 'D'"
    )
    return [(name, how) for name, how in live.execute(query, (oid,))]


def _parents_first(live: Any, works: Sequence[_Work]) -> list[_Work]:
    """Return them so that a row's parent comes before it; in a circle the order is as it was."""
    query = (
        "SELECT conrelid::bigint, confrelid::bigint FROM pg_constraint WHERE contype = 'f' AND conrelid <> confrelid"
    )
    parents: dict[int, set[int]] = {}
    for child, parent in live.execute(query):
        parents.setdefault(child, set()).add(parent)
    left, ordered = list(works), []
    while left:
        oids = {work.table.oid for work in left}
        free = [work for work in left if not parents.get(work.table.oid, set()) & oids] or left
        ordered += free
        left = [work for work in left if work not in free]
    return ordered


def _forget_locked(session: _Session, work: _Work) -> None:
    """Of the rows that look deleted, forget those that are still there after the damage: they were only locked."""
    live, before, after = session.live, work.name("before"), work.name("after")
    if not work.deletes:
        live.execute(
            f"DELETE FROM {before} b WHERE NOT EXISTS (SELECT FROM {after} d WHERE {_same(work.key, 'b', 'd')})"
        )
        return
    texts = ", ".join(f"b.{identifier(name)}::text" for name in work.key)
    gone = live.execute(
        f"SELECT {texts} FROM {before} b WHERE NOT EXISTS (SELECT FROM {after} d WHERE {_same(work.key, 'b', 'd')})"
    ).fetchall()
    types = {column.name: column.type for column in work.table.columns}
    arrays = ", ".join(f"%s::text[]::{types[name]}[]" for name in work.key)
    keys = _list(work.key)
    for begin in range(0, len(gone), _CHUNK):
        lists = [list(values) for values in zip(*gone[begin : begin + _CHUNK], strict=True)]
        there = session.after.execute(
            f"SELECT {', '.join(f't.{identifier(name)}::text' for name in work.key)} FROM ONLY {work.after.sql} t "
            f"JOIN unnest({arrays}) AS k({keys}) ON {_same(work.key, 't', 'k')}",
            lists,
        ).fetchall()
        if there:
            live.execute(
                f"DELETE FROM {before} b USING unnest({arrays}) AS k({keys}) WHERE {_same(work.key, 'b', 'k')}",
                [list(values) for values in zip(*there, strict=True)],
            )


def _remove(session: _Session, work: _Work) -> None:
    """Rows that the damage made: gone again where nobody has touched or referred to them."""
    live, row = session.live, work.columns
    made = f"NOT EXISTS (SELECT FROM {work.name('before')} b WHERE {_same(work.key, 'b', 'd')})"
    same = _equal(row, "l", "d") if session.damage.conflicts == "live" else "true"
    free = " AND ".join(["true", *unreferenced(live, work.table.oid)])
    select = f"FROM {work.name('after')} d JOIN ONLY {work.table.sql} l ON {_same(work.key, 'l', 'd')} WHERE {made}"
    work.report = _conflicts(session, work, f"{select} AND NOT ({same} AND {free})", "l")
    old = ", ".join(f"l.{identifier(name)} AS {identifier('o_' + name)}" for name in row)
    apply = f"DELETE FROM ONLY {work.table.sql} l USING backout_todo t WHERE {_keyed(work.key, 'o_')}"
    count = _batches(session, work, "D", "after", f"SELECT {old} {select} AND {same} AND {free}", "d", apply)
    work.report = replace(work.report, deleted=count)


def _insert(session: _Session, work: _Work) -> None:
    """Rows that the damage deleted: there again where nobody has made them anew, and their parents are there."""
    row = work.columns
    gone = f"NOT EXISTS (SELECT FROM {work.name('after')} d WHERE {_same(work.key, 'b', 'd')})"
    free = f"NOT EXISTS (SELECT FROM ONLY {work.table.sql} l WHERE {_same(work.key, 'l', 'b')})"
    parents = " AND ".join(["true", *(_parented(session.live, work) if session.kept is not None else ())])
    other = f"FROM {work.name('before')} b JOIN ONLY {work.table.sql} l ON {_same(work.key, 'l', 'b')} WHERE {gone}"
    work.report = _conflicts(session, work, f"{other} AND NOT ({_equal(row, 'l', 'b')})", "b")
    orphans = f"FROM {work.name('before')} b WHERE {gone} AND {free} AND NOT ({parents})"
    work.report = _conflicts(session, work, orphans, "b")
    new = ", ".join(f"b.{identifier(name)} AS {identifier('n_' + name)}" for name in row)
    names = _list(row)
    values = ", ".join(f"t.{identifier('n_' + name)}" for name in row)
    apply = f"INSERT INTO {work.table.sql} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM backout_todo t ON CONFLICT DO NOTHING"
    select = f"SELECT {new} FROM {work.name('before')} b WHERE {gone} AND {free} AND {parents}"
    work.report = replace(work.report, inserted=_batches(session, work, "I", "before", select, "b", apply, lock=False))


def _update(session: _Session, work: _Work) -> None:
    """Columns that the damage changed: as they were where nobody has changed them since."""
    live = session.live
    pair = (
        f"FROM {work.name('before')} b JOIN {work.name('after')} d ON {_same(work.key, 'b', 'd')} "
        f"JOIN ONLY {work.table.sql} l ON {_same(work.key, 'l', 'b')}"
    )
    others = [name for name in work.columns if name not in work.key]
    if not others:
        return
    asked = ", ".join(f"coalesce(bool_or({_differ(name, 'b', 'd')}), false)" for name in others)
    told = live.execute(f"SELECT {asked} {pair}").fetchone()
    damaged = tuple(name for name, is_damaged in zip(others, told, strict=True) if is_damaged)
    if not damaged:
        return
    work.report = replace(work.report, columns=damaged)
    fix, conflict = {}, {}
    for name in damaged:
        harmed, ours = _differ(name, "b", "d"), _differ(name, "l", "b")
        again = f"{harmed} AND {_differ(name, 'l', 'd')} AND {ours}"
        conflict[name] = again
        fix[name] = f"{harmed} AND {ours}" + ("" if session.damage.conflicts == "side" else f" AND NOT ({again})")
    if session.damage.conflicts == "live":
        work.report = _conflicts(
            session, work, f"{pair} WHERE {' OR '.join(f'({each})' for each in conflict.values())}", "l"
        )
    parts = [f"l.{identifier(name)} AS {identifier('o_' + name)}" for name in (*work.key, *damaged)]
    parts += [
        f"CASE WHEN {fix[name]} THEN b.{identifier(name)} ELSE l.{identifier(name)} END AS {identifier('n_' + name)}"
        for name in damaged
    ]
    select = f"SELECT {', '.join(parts)} {pair} WHERE ({' OR '.join(f'({each})' for each in fix.values())})"
    assigned = ", ".join(f"{identifier(name)} = t.{identifier('n_' + name)}" for name in damaged)
    apply = f"UPDATE ONLY {work.table.sql} l SET {assigned} FROM backout_todo t WHERE {_keyed(work.key, 'o_')}"
    work.report = replace(work.report, updated=_batches(session, work, "U", "before", select, "b", apply))


def _fill(session: _Session, work: _Work) -> None:
    """Give the columns that were lost their values again, where they still have the default."""
    live = session.live
    for column in work.lost:
        if column.generated:
            continue
        names, temp = (*work.key, column.name), work.name("lost")
        keys = _list(work.key)
        work.report = replace(work.report, columns=(*work.report.columns, column.name))
        if session.kept is None:
            query = f"SELECT count(*) FROM ONLY {work.before.sql} WHERE {identifier(column.name)} IS NOT NULL"
            (count,) = session.before.execute(query).fetchone()
            work.report = replace(work.report, updated=max(work.report.updated, count))
            continue
        live.execute(f"DROP TABLE IF EXISTS {temp}")
        live.execute(f"CREATE TEMP TABLE {temp} AS SELECT {_list(names)} FROM ONLY {work.table.sql} WITH NO DATA")
        live.execute(f"ALTER TABLE {temp} ADD COLUMN backout_no bigserial")
        query = f"COPY (SELECT {_list(names)} FROM ONLY {work.before.sql}) TO STDOUT"
        _pipe(session.before, query, live, f"COPY {temp} ({_list(names)}) FROM STDIN")
        live.execute(f"CREATE UNIQUE INDEX ON {temp} ({keys})")
        live.execute(f"ANALYZE {temp}")
        default = f"{column.plain_default}" if column.plain_default is not None else f"NULL::{column.type}"
        value = identifier(column.name)
        pair = f"FROM {temp} b JOIN ONLY {work.table.sql} l ON {_same(work.key, 'l', 'b')}"
        untouched = f"record_image_eq(ROW(l.{value}), ROW(({default})::{column.type}))"
        differs = _differ(column.name, "l", "b")
        work.report = _conflicts(session, work, f"{pair} WHERE {differs} AND NOT ({untouched})", "l")
        if session.damage.conflicts == "side":
            untouched = "true"
        old = [f"l.{identifier(name)} AS {identifier('o_' + name)}" for name in names]
        select = f"SELECT {', '.join(old)}, b.{value} AS {identifier('n_' + column.name)} {pair} WHERE {differs} AND {untouched}"
        apply = (
            f"UPDATE ONLY {work.table.sql} l SET {value} = t.{identifier('n_' + column.name)} FROM backout_todo t "
            f"WHERE {_keyed(work.key, 'o_')}"
        )
        count = _batches(session, work, "U", "lost", select, "b", apply)
        work.report = replace(work.report, updated=max(work.report.updated, count))
        _finish_column(session, work, column)


def _finish_column(session: _Session, work: _Work, column: Column) -> None:
    """Its default when that is no constant, and NOT NULL when every row has a value."""
    value, live = identifier(column.name), session.live
    if column.default is not None and column.plain_default is None:
        live.execute(f"ALTER TABLE {work.table.sql} ALTER COLUMN {value} SET DEFAULT {column.default}")
    if column.not_null:
        (empty,) = live.execute(f"SELECT count(*) FROM {work.table.sql} WHERE {value} IS NULL").fetchone()
        if not empty:
            live.execute(f"ALTER TABLE {work.table.sql} ALTER COLUMN {value} SET NOT NULL")


def _others(session: _Session, before: Catalog, after: Catalog, live: Catalog) -> list[str]:
    """Make constraints, indexes, views and triggers again that went with something else."""
    made = []
    gone = [other for oid, other in before.others.items() if oid not in after.others]
    for other in sorted(gone, key=lambda each: (each.order, each.oid)):
        if other.table and other.table not in after.tables:
            continue  # it came with its table
        table = live.tables.get(other.table)
        if _is_there(session.live, other) or (other.table and table is None):
            continue
        statement = create(other, table)
        made.append(statement)
        if session.kept is not None:
            with session.live.transaction():
                session.kept.write({"op": "other", "table": other.name, "drop": drop(other, table)})
                session.live.execute(statement)
    return made


def _is_there(live: Any, other: Other) -> bool:
    catalogs = {
        "constraint": "SELECT 1 FROM pg_constraint WHERE conname = %s AND conrelid = %s",
        "trigger": "SELECT 1 FROM pg_trigger WHERE tgname = %s AND tgrelid = %s",
        "index": "SELECT 1 FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid WHERE relname = %s AND indrelid = %s",
    }
    if other.kind == "view":
        return live.execute("SELECT to_regclass(%s)", (other.name,)).fetchone()[0] is not None
    return live.execute(catalogs[other.kind], (other.name, other.table)).fetchone() is not None


def _batches(
    session: _Session, work: _Work, op: str, source: str, select: str, alias: str, apply: str, *, lock: bool = True
) -> int:
    """Do it in transactions of a bounded size: what is to be written is kept before it is. Return how many rows."""
    live = session.live
    if session.kept is None:
        return int(live.execute(f"SELECT count(*) FROM ({select}) AS rows").fetchone()[0])
    (last,) = live.execute(f"SELECT coalesce(max(backout_no), 0) FROM {work.name(source)}").fetchone()
    count = 0
    for begin in range(0, last, _BATCH):
        bounds = f" AND {alias}.backout_no > {begin} AND {alias}.backout_no <= {begin + _BATCH}"
        with live.transaction():
            live.execute("DROP TABLE IF EXISTS backout_todo")
            made = live.execute(
                f"CREATE TEMP TABLE backout_todo AS {select}{bounds}{' FOR UPDATE OF l' if lock else ''}"
            )
            if made.rowcount:
                with live.cursor().copy("COPY backout_todo TO STDOUT") as copy:
                    content = [bytes(chunk) for chunk in copy]
                names = [d.name for d in live.execute("SELECT * FROM backout_todo LIMIT 0").description]
                session.kept.write(
                    {
                        "op": op,
                        "sql": work.table.sql,
                        "table": work.table.shown,
                        "oid": work.table.oid,
                        "key": list(work.key),
                        "columns": names,
                    },
                    content,
                )
                quietly(live, work.table.oid, work.table.sql, apply)
                count += made.rowcount
        session.progress(f"rows of {work.table.shown}", min(begin + _BATCH, last), last)
    return count


def quietly(live: Any, oid: int, table: str, statement: str) -> None:
    """Run it with the user's triggers off, within the transaction; foreign keys are checked as ever."""
    triggers = _triggers(live, oid)
    for name, _ in triggers:
        live.execute(f"ALTER TABLE {table} DISABLE TRIGGER {identifier(name)}")
    live.execute(statement)
    words = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
    for name, how in triggers:
        live.execute(f"ALTER TABLE {table} {words[how]} TRIGGER {identifier(name)}")


def _conflicts(session: _Session, work: _Work, what: str, alias: str) -> TableRescue:
    (count,) = session.live.execute(f"SELECT count(*) {what}").fetchone()
    if not count:
        return work.report
    texts = " || ',' || ".join(f"{alias}.{identifier(name)}::text" for name in work.key)
    shown = [text for (text,) in session.live.execute(f"SELECT {texts} {what} LIMIT {_SHOWN}")]
    report = work.report
    return replace(report, conflicts=report.conflicts + count, examples=(*report.examples, *shown)[:_SHOWN])


def unreferenced(live: Any, oid: int) -> list[str]:
    """Return conditions that no row refers to `l`: deleting it might take newer good rows along."""
    query = (
        "SELECT conrelid::regclass::text, ARRAY(SELECT attname FROM unnest(conkey) k JOIN pg_attribute ON attrelid = "
        "conrelid AND attnum = k), ARRAY(SELECT attname FROM unnest(confkey) k JOIN pg_attribute ON attrelid = confrelid "
        "AND attnum = k) FROM pg_constraint WHERE contype = 'f' AND confrelid = %s AND conrelid <> confrelid"
    )
    return [
        f"NOT EXISTS (SELECT FROM {child} x WHERE "
        + " AND ".join(f"x.{identifier(a)} = l.{identifier(b)}" for a, b in zip(ours, theirs, strict=True))
        + ")"
        for child, ours, theirs in live.execute(query, (oid,)).fetchall()
    ]


def _parented(live: Any, work: _Work) -> list[str]:
    """Return conditions that the parents of `b` are there."""
    query = (
        "SELECT confrelid::regclass::text, ARRAY(SELECT attname FROM unnest(conkey) k JOIN pg_attribute ON attrelid = "
        "conrelid AND attnum = k), ARRAY(SELECT attname FROM unnest(confkey) k JOIN pg_attribute ON attrelid = confrelid "
        "AND attnum = k) FROM pg_constraint WHERE contype = 'f' AND conrelid = %s AND conrelid <> confrelid"
    )
    found = []
    for parent, ours, theirs in live.execute(query, (work.table.oid,)).fetchall():
        if set(ours) <= set(work.columns):
            empty = " OR ".join(f"b.{identifier(name)} IS NULL" for name in ours)
            same = " AND ".join(f"b.{identifier(a)} = x.{identifier(b)}" for a, b in zip(ours, theirs, strict=True))
            found.append(f"({empty} OR EXISTS (SELECT FROM {parent} x WHERE {same}))")
    return found


def _sequences(session: _Session, table: Table) -> None:
    """Let the sequences that belong to the table go on where they were."""
    query = (
        "SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_depend d JOIN pg_class c ON c.oid = d.objid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND d.refobjid = %s AND d.deptype IN ('a', 'i')"
    )
    for (name,) in session.before.execute(query, (table.oid,)).fetchall():
        last, called = session.before.execute(f"SELECT last_value, is_called FROM {name}").fetchone()
        session.live.execute("SELECT setval(%s, %s, %s)", (name, last, called))


def _pipe(source: Any, read: str, target: Any, write: str) -> None:
    with source.cursor().copy(read) as reading, target.cursor().copy(write) as writing:
        for chunk in reading:
            writing.write(chunk)


def _list(names: Sequence[str]) -> str:
    return ", ".join(identifier(name) for name in names)


def _same(key: Sequence[str], one: str, other: str) -> str:
    return " AND ".join(f"{one}.{identifier(name)} = {other}.{identifier(name)}" for name in key)


def _keyed(key: Sequence[str], prefix: str) -> str:
    return " AND ".join(f"l.{identifier(name)} = t.{identifier(prefix + name)}" for name in key)


def _equal(columns: Sequence[str], one: str, other: str) -> str:
    rows = (", ".join(f"{alias}.{identifier(name)}" for name in columns) for alias in (one, other))
    return "record_image_eq(ROW({}), ROW({}))".format(*rows)


def _differ(column: str, one: str, other: str) -> str:
    return f"record_image_ne(ROW({one}.{identifier(column)}), ROW({other}.{identifier(column)}))"


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _durable(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _silent(_doing: str, _done: int, _whole: int) -> None:
    """Progress that nobody watches."""
