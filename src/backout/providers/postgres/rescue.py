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

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError
from backout.model.recovery import RescueReport, TableRescue
from backout.providers.child_environment import bare_environment
from backout.providers.postgres import rescue_columns
from backout.providers.postgres.definitions import Catalog, Other, Table, catalog, create, drop
from backout.providers.postgres.owner_session import OwnerSessions, SideSessions
from backout.providers.postgres.pinned import pins
from backout.providers.postgres.rescue_circles import notes_of_circles
from backout.providers.postgres.rescue_rows import insert, load, remove, update
from backout.providers.postgres.rescue_scope import (
    Kept,
    Session,
    is_left_alone,
    parents_first,
    strange_code,
    why_left,
    works_of,
)
from backout.providers.postgres.rowsql import listed, pipe
from backout.providers.postgres.schema import meant, without_secrets
from backout.providers.postgres.session import working
from backout.providers.postgres.template import run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backout.model.recovery import Damage, LeftOut
    from backout.providers.postgres.binaries import Binaries


_CONNECT_S: Final = 60.0
"""A branch's compute sleeps until it is asked."""
_LOCK_S: Final = 2.0


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
        with self._session(damage, before, after, Kept(kept), progress) as session:
            return self._all(session, before)

    def undo(self, kept: Path, progress: Callable[[str, int, int], None]) -> RescueReport:
        """Put back what `kept` holds, newest first, where nobody has written since."""
        from backout.providers.postgres.unrescue import undo  # noqa: PLC0415 - few need it

        if not kept.is_dir():
            raise BackoutError("what the rescue replaced is not kept any more", where=str(kept))
        with self._live() as live:
            return undo(live, Kept(kept).entries(), progress)

    # --- connections --------------------------------------------------------------------------------------------

    @contextmanager
    def _session(
        self, damage: Damage, before: str, after: str, kept: Kept | None, progress: Callable[[str, int, int], None]
    ) -> Iterator[Session]:
        with ExitStack() as stack:
            live = stack.enter_context(self._live())
            sides = [self._side(dsn, stack) for dsn in (before, after)]

            left_out: list[LeftOut] = []

            def of(owner: str) -> Session:
                ends = (sides[0].of(owner), sides[1].of(owner), live.of(owner))
                acting = "" if ends[2] is live.administrator else owner
                return Session(*ends, damage, kept, progress, of, strange, acting, left_out)

            def strange(table: Table, then: Table | None, now: Table | None) -> str:
                owner = (now or table).owner
                ends = (sides[0], table), (sides[1], then), (live, now)
                found = (strange_code(end, each, owner, written=end is live) for end, each in ends if each)
                return next(filter(None, found), "")

            main = (sides[0].main, sides[1].main, live.administrator)
            yield Session(*main, damage, kept, progress, of, strange, left_out=left_out)

    def _side(self, dsn: str, stack: ExitStack) -> SideSessions:
        import psycopg  # noqa: PLC0415 - costs 0.1 s

        def opened(user: str) -> Any:
            more: dict[str, Any] = {"user": user} if user else {}
            settings = {"default_transaction_read_only": "on"}
            made = working(
                dsn,
                connect_timeout_s=_CONNECT_S,
                lock_timeout_s=10.0,
                settings=settings,
                dbname=self._database,
                **more,
            )
            return stack.enter_context(made)

        try:
            return SideSessions(opened)
        except psycopg.OperationalError as error:
            raise meant(error, dsn, "the side instance") from None  # its text may quote the connection string

    @contextmanager
    def _live(self) -> Iterator[OwnerSessions]:
        import psycopg  # noqa: PLC0415 - costs 0.1 s

        url = self._url()
        try:
            with ExitStack() as stack:
                yield OwnerSessions(url, self._database, stack, lock_timeout_s=_LOCK_S)
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

    def _all(self, session: Session, before_dsn: str) -> RescueReport:
        before, after, live = (catalog(each) for each in (session.before, session.after, session.live))
        lost = [before.tables[oid] for oid in sorted(before.tables.keys() - after.tables.keys())]  # parents are older
        definitions: list[str] = []
        reports: list[TableRescue] = []
        names = {(each.schema, each.name) for each in live.tables.values()}
        made = [table for table in lost if (table.schema, table.name) not in names]
        reports += self._tables(session, made, before_dsn)
        definitions += [f"CREATE TABLE {table.sql}" for table in made]
        for table in lost:
            if table not in made:
                ours = session.kept is not None and session.kept.has(op="table", table=table.shown)
                reports.append(TableRescue(table.shown, left="" if ours else "a table of that name is there again"))
        found = works_of(session, before, after, live)
        works = [work for work in found if not is_left_alone(session, work, reports)]
        widened = [work for work in found if work in works or (work.table.partitioned and not why_left(session, work))]
        for work in widened:
            definitions += rescue_columns.add(session, work.table, work.lost)
        ordered = parents_first(session.live, works)
        for work in ordered:
            load(session.of(work.table.owner), work)
        for number, work in enumerate(reversed(ordered)):
            session.progress("removing rows that the damage made", number, len(ordered))
            remove(session.of(work.table.owner), work)
        for step in (insert, update, rescue_columns.fill):
            for work in ordered:
                step(session.of(work.table.owner), work)
        for work in widened:
            rescue_columns.finish(session, work.table, work.lost)
        definitions += _others(session, before, after, live)
        reports += [work.report for work in ordered]
        notes = notes_of_circles(session.live, ordered, written=session.kept is not None)
        by_name = tuple(sorted(reports, key=lambda each: each.table))
        return RescueReport(tuple(definitions), by_name, notes, tuple(session.left_out))

    def _tables(self, session: Session, tables: Sequence[Table], before_dsn: str) -> list[TableRescue]:
        """Make dropped tables again with their rows and all that belongs to them, in one transaction."""
        reports = []
        for owner in dict.fromkeys(table.owner for table in tables):
            reports += self._tables_of(session.of(owner), [each for each in tables if each.owner == owner], before_dsn)
        return reports

    def _tables_of(self, session: Session, tables: Sequence[Table], before_dsn: str) -> list[TableRescue]:
        """The same for those of one owner, in whose session they and their rows are made."""
        counts, reports = {}, []
        for table in tables:
            if strange := session.strange(table, None, None):
                reports.append(TableRescue(table.shown, left=strange))
                continue
            (counts[table.oid],) = session.before.execute(f"SELECT count(*) FROM ONLY {table.sql}").fetchone()
            reports.append(TableRescue(table.shown, inserted=counts[table.oid]))
        tables = [table for table in tables if table.oid in counts]
        if session.kept is None or not tables:
            return reports
        with session.live.transaction():
            session.live.execute(self._script("pre-data", tables, before_dsn))
            for table in tables:
                columns = listed([column.name for column in table.columns if not column.generated])
                if not table.partitioned:
                    read, write = (f"COPY {table.sql} ({columns}) {way}" for way in ("TO STDOUT", "FROM STDIN"))
                    pipe(session.before, read, session.live, write)
                _sequences(session, table)
            session.live.execute(self._script("post-data", tables, before_dsn))
            session.live.execute(pins({"lock_timeout": f"'{_LOCK_S}s'"}, local=False).encode())  # as before the scripts
            session.kept.note_writer(session.live)
            (xid,) = session.live.execute("SELECT pg_current_xact_id()::text").fetchone()
            for table in tables:
                entry = {"op": "table", "table": table.shown, "sql": table.sql, "xid": xid, "rows": counts[table.oid]}
                session.kept.write(entry)
        return reports

    def _script(self, section: str, tables: Sequence[Table], before_dsn: str) -> str:
        """Return the definitions of tables as pg_dump writes them, without psql's own commands.

        Nor may it end our time-out for locks: what refers to live tables locks them, and everybody would queue behind.
        The connection string is in the program's environment alone, and TLS is carried for it.
        """
        from backout.providers.postgres.tls_access import reached  # noqa: PLC0415 - few need it

        named = (f"--table={table.sql}" for table in tables)
        with reached(before_dsn, has_tls=self._binaries.has_tls()) as reaching:
            there = bare_environment({**reaching, "PGDATABASE": self._database})
            options = ("--schema-only", f"--section={section}", *named)
            told = run_tool(self._binaries, "pg_dump", *options, environment=there)
        return "\n".join(line for line in told.splitlines() if not line.startswith(("\\", "SET lock_timeout")))


def _others(session: Session, before: Catalog, after: Catalog, live: Catalog) -> list[str]:
    """Make constraints, indexes, views and triggers again that went with something else."""
    made = []
    gone = [other for oid, other in before.others.items() if oid not in after.others]
    for other in sorted(gone, key=lambda each: (each.order, each.oid)):
        if other.table and other.table not in after.tables:
            continue  # it came with its table
        table = live.tables.get(other.table)
        if _is_there(session.live, other) or (other.table and table is None):
            continue
        owner = table.owner if table else other.owner
        before_it = before.tables.get(other.table)
        if before_it is not None and session.strange(before_it, None, table):
            continue  # its table is left alone, and says why
        statement = create(other, table)
        if statement.startswith("CREATE MATERIALIZED") and not session.of(owner).owner and _has_foreign_code(session):
            statement = f"{statement.rstrip(';')} WITH NO DATA"  # its query could call a function of anybody's
        made.append(statement)
        if session.kept is not None:
            mine = session.of(owner).live
            with mine.transaction():
                session.kept.write({"op": "other", "table": other.name, "drop": drop(other, table), "owner": owner})
                mine.execute(statement)
    return made


def _has_foreign_code(session: Session) -> bool:
    """Whether a query of a superuser's could call a function that belongs to somebody who is none."""
    query = (
        "SELECT session_user IN (SELECT rolname FROM pg_roles WHERE rolsuper) AND EXISTS (SELECT FROM pg_proc p "
        "JOIN pg_roles r ON r.oid = p.proowner WHERE NOT r.rolsuper)"
    )
    return bool(session.live.execute(query).fetchone()[0])


def _is_there(live: Any, other: Other) -> bool:
    catalogs = {
        "constraint": "SELECT 1 FROM pg_constraint WHERE conname = %s AND conrelid = %s",
        "trigger": "SELECT 1 FROM pg_trigger WHERE tgname = %s AND tgrelid = %s",
        "index": "SELECT 1 FROM pg_class c JOIN pg_index ON indexrelid = c.oid WHERE relname = %s AND indrelid = %s",
    }
    if other.kind == "view":
        return live.execute("SELECT to_regclass(%s)", (other.name,)).fetchone()[0] is not None
    return live.execute(catalogs[other.kind], (other.name, other.table)).fetchone() is not None


def _sequences(session: Session, table: Table) -> None:
    """Let the sequences that belong to the table go on where they were."""
    query = (
        "SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_depend d JOIN pg_class c ON c.oid = d.objid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND d.refobjid = %s "
        "AND d.deptype IN ('a', 'i')"
    )
    for (name,) in session.before.execute(query, (table.oid,)).fetchall():
        last, called = session.before.execute(f"SELECT last_value, is_called FROM {name}").fetchone()
        session.live.execute("SELECT setval(%s, %s, %s)", (name, last, called))


def _silent(_doing: str, _done: int, _whole: int) -> None:
    """Progress that nobody watches."""
