"""Port LiveDatabase: the catalog of the live database, and restore points in its WAL.

Source: PostgreSQL 18, "System Catalogs" (a dropped column's row of pg_attribute stays, with the dropping transaction as
its xmin, and without its name), "Backup Control Functions" (pg_create_restore_point: superusers, or whoever was granted
it), "System Information Functions".
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError, ProviderUnavailable
from backout.model.recovery import DatabaseFacts, DropClue, MigrationClue, RestorePoint, parse_lsn
from backout.providers.postgres.schema import ALEMBIC, DJANGO, PRISMA, libpq_url, meant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_POLL_S: Final = 0.1
_FACTS: Final = """
SELECT (SELECT system_identifier::text FROM pg_control_system()), current_setting('server_version_num')::int,
  ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int, pg_current_wal_insert_lsn()::text,
  current_database(), (SELECT rolname FROM pg_roles WHERE oid = 10)
"""
_POSITION: Final = """
SELECT {lsn}::text, ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int,
  (pg_snapshot_xmax(pg_current_snapshot())::text::numeric %% 4294967296)::bigint,
  extract(epoch FROM clock_timestamp())::float8
"""


@dataclass(frozen=True, slots=True)
class _History:
    """Where a tool notes its migrations: the column of their names, which rows count, and the newest first."""

    table: str
    column: str
    counts: str
    newest: str
    times: str = "NULL::float8, NULL::float8"


_HISTORIES: Final = (
    _History(
        PRISMA.name,
        "migration_name",
        "finished_at IS NOT NULL AND rolled_back_at IS NULL",
        "started_at DESC",
        "extract(epoch FROM m.started_at)::float8, extract(epoch FROM m.finished_at)::float8",
    ),
    _History(DJANGO.name, "app || '.' || name", "true", "id DESC"),
    _History(ALEMBIC.name, "version_num", "true", "version_num DESC"),
)
HISTORY_TABLES: Final = frozenset(each.table for each in _HISTORIES)


COMMIT_TIME: Final = (
    "SELECT CASE WHEN current_setting('track_commit_timestamp')::bool "
    "THEN extract(epoch FROM pg_xact_commit_timestamp({xid}::xid)) END::float8"
)
CATALOG_XIDS: Final = " UNION ".join(
    f"SELECT xmin::text AS xid FROM pg_catalog.{table} WHERE xmin::text::bigint > 2"  # noqa: S608 - our own words
    for table in (
        "pg_class",
        "pg_attribute",
        "pg_attrdef",
        "pg_constraint",
        "pg_index",
        "pg_type",
        "pg_proc",
        "pg_trigger",
    )
)
"""The ids that the catalog's rows carry; the first two are nobody's."""

_MIGRATED: Final = """
SELECT m.xmin::text::bigint,
  concat_ws('/', coalesce(nullif(c.reltablespace, 0), d.dattablespace), d.oid, pg_relation_filenode(c.oid)), {times}
FROM {table} m JOIN pg_class c ON c.oid = m.tableoid JOIN pg_database d ON d.datname = current_database()
WHERE {column} = %s ORDER BY m.{newest} LIMIT 1
"""


class PostgresLive:
    """The live database.

    Args:
        url: returns the connection string of an administrator; it is never shown.
    """

    def __init__(self, url: Callable[[], str], *, connect_timeout_s: float = 5.0) -> None:
        self._url = url
        self._connect_timeout_s = connect_timeout_s

    def facts(self, *, within_s: float = 0.0) -> DatabaseFacts:
        """Return who it is and where its WAL stands; one that does not answer is asked again for that long.

        Raises:
            AuthError: it refuses the user. ProviderUnavailable: it does not answer.
        """
        deadline = time.monotonic() + within_s
        while True:
            try:
                return self._facts()
            except ProviderUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)

    def _facts(self) -> DatabaseFacts:
        with self._asking("the database") as connection:
            row = connection.execute(_FACTS).fetchone()
            identifier, version, timeline, lsn, database, superuser = row
            return DatabaseFacts(
                identifier, version, timeline, parse_lsn(lsn), database, superuser, self._head(connection)
            )

    def mark(self, name: str) -> RestorePoint:
        """Write a restore point; where the role may not, its position alone is as exact."""
        import psycopg  # noqa: PLC0415 - costs 0.1 s

        with self._asking("a restore point") as connection:
            head = self._head(connection)
            try:
                row = connection.execute(
                    _POSITION.format(lsn="pg_create_restore_point(%s)"), (_short(name),)
                ).fetchone()
            except psycopg.errors.InsufficientPrivilege:
                row = connection.execute(_POSITION.format(lsn="pg_current_wal_insert_lsn()"), ()).fetchone()
            lsn, timeline, xid, at = row
            return RestorePoint(name, parse_lsn(lsn), timeline, int(xid), at, why="", migration_head=head)

    def dropped(self, relation: str) -> DropClue:
        """Return the transactions that dropped columns of a table, or every relation there is when it is gone."""
        columns = (
            "SELECT xmin::text::bigint FROM pg_attribute WHERE attrelid = %s::regclass AND attisdropped AND attnum > 0 "
            "ORDER BY age(xmin) DESC"
        )
        with self._asking("the catalog") as connection:
            if connection.execute("SELECT to_regclass(%s)", (relation,)).fetchone()[0] is None:
                rows = connection.execute("SELECT oid::bigint FROM pg_class").fetchall()
                return DropClue(exists=False, present=frozenset(oid for (oid,) in rows))
            rows = connection.execute(columns, (relation,)).fetchall()
            return DropClue(exists=True, xids=tuple(dict.fromkeys(int(xid) for (xid,) in rows)))

    def tables(self) -> dict[tuple[int, int], str]:
        """Return the names of the tables of this database by (database, file node), the catalog's left out."""
        query = (
            "SELECT d.oid::bigint, pg_relation_filenode(c.oid)::bigint, c.relname FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_database d ON d.datname = current_database() "
            "WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
        )
        with self._asking("the catalog") as connection:
            return {(database, node): name for database, node, name in connection.execute(query).fetchall()}

    def migrated(self, name: str) -> MigrationClue | None:
        """Return who last wrote the row of a migration, and where; None when there is none."""
        with self._asking("the migration history") as connection:
            found = _history_in(connection, self._schema())
            if found is None:
                return None
            table, history = found
            query = _MIGRATED.format(table=table, column=history.column, newest=history.newest, times=history.times)
            row = connection.execute(query, (name,)).fetchone()
            return MigrationClue(int(row[0]), *row[1:]) if row else None

    def committed(self, xid: int) -> float | None:
        """Return when a transaction was committed, None where the server does not record it or knows it no more."""
        with self._asking("when a transaction was committed") as connection:
            row = connection.execute(COMMIT_TIME.format(xid="%s::text"), (xid,)).fetchone()
            return None if row[0] is None else float(row[0])

    def schema_changes(self, since: float, until: float) -> tuple[float, ...]:
        """Return when transactions whose rows the catalog holds were committed, in order; () where it is not known."""
        query = (
            f"SELECT DISTINCT at FROM (SELECT ({COMMIT_TIME.format(xid='xid')}) AS at FROM ({CATALOG_XIDS}) AS w) AS t "  # noqa: S608 - our own words
            "WHERE at BETWEEN %s AND %s ORDER BY 1"
        )
        with self._asking("the catalog") as connection:
            return tuple(float(at) for (at,) in connection.execute(query, (since, until)).fetchall())

    def _head(self, connection: Any) -> str:
        return head_of(connection, self._schema())

    def _schema(self) -> str | None:
        return libpq_url(self._url())[1]

    @contextmanager
    def _asking(self, what: str) -> Iterator[Any]:
        import psycopg  # noqa: PLC0415 - costs 0.1 s

        url = self._url()
        dsn, _ = libpq_url(url)
        try:
            with psycopg.connect(dsn, autocommit=True, connect_timeout=max(2, round(self._connect_timeout_s))) as made:
                made.execute("SET lock_timeout = '2s'; SET statement_timeout = '30s'")
                yield made
        except psycopg.Error as error:
            raise meant(error, url, what) from None  # its text may quote the connection string
        except UnicodeError:
            raise BackoutError("the database answered what is no text", where="database") from None


def _history_in(connection: Any, schema: str | None) -> tuple[str, _History] | None:
    """Return the table of the migration history as SQL, None when there is none."""
    from backout.providers.postgres.libpq import identifier  # noqa: PLC0415 - as psycopg

    for history in _HISTORIES:
        table = f"{identifier(schema)}.{history.table}" if schema else history.table
        if connection.execute("SELECT to_regclass(%s)", (table,)).fetchone()[0] is not None:
            return table, history
    return None


def _short(name: str) -> str:
    """Return what of a name Postgres takes for a restore point: 63 bytes; the journal has all of it."""
    return name.encode()[:63].decode(errors="ignore")


def head_of(connection: Any, schema: str | None = None) -> str:
    """Return the newest migration that was applied, "" when there is none."""
    found = _history_in(connection, schema)
    if found is None:
        return ""
    table, history = found
    query = f"SELECT {history.column} FROM {table} WHERE {history.counts} ORDER BY {history.newest} LIMIT 1"  # noqa: S608 - our own words
    row = connection.execute(query).fetchone()
    return str(row[0]) if row else ""


def is_applied(connection: Any, name: str) -> bool:
    """Whether a migration of that name was applied."""
    found = _history_in(connection, None)
    if found is None:
        return False
    table, history = found
    query = f"SELECT 1 FROM {table} WHERE {history.column} = %s AND {history.counts}"  # noqa: S608 - our own words
    return connection.execute(query, (name,)).fetchone() is not None
