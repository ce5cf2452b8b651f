"""Port LiveDatabase: the catalog of the live database, and restore points in its WAL.

Source: PostgreSQL 18, "System Catalogs" (a dropped column's row of pg_attribute stays, with the dropping transaction as
its xmin, and without its name), "Backup Control Functions" (pg_create_restore_point: superusers, or whoever was granted
it), "System Information Functions".
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError, ProviderUnavailable
from backout.model.recovery import DatabaseFacts, DropClue, MigrationClue, RestorePoint, parse_lsn
from backout.providers.postgres.schema import TABLE, libpq_url, meant

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
_HEAD: Final = (
    "SELECT migration_name FROM {} WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL "
    "ORDER BY started_at DESC, migration_name DESC LIMIT 1"
)


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
                row = connection.execute(_POSITION.format(lsn="pg_create_restore_point(%s)"), (name,)).fetchone()
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
            table = self._history(connection)
            if table is None:
                return None
            query = (
                "SELECT m.xmin::text::bigint, concat_ws('/', coalesce(nullif(c.reltablespace, 0), d.dattablespace), "  # noqa: S608 - an identifier of ours
                f"d.oid, pg_relation_filenode(c.oid)) FROM {table} m JOIN pg_class c ON c.oid = m.tableoid "
                "JOIN pg_database d ON d.datname = current_database() WHERE migration_name = %s "
                "ORDER BY started_at DESC LIMIT 1"
            )
            row = connection.execute(query, (name,)).fetchone()
            return MigrationClue(int(row[0]), row[1]) if row else None

    def _head(self, connection: Any) -> str:
        table = self._history(connection)
        return head_of(connection, table) if table else ""

    def _history(self, connection: Any) -> str | None:
        _, schema = libpq_url(self._url())
        return history_in(connection, schema)

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


def history_in(connection: Any, schema: str | None) -> str | None:
    """Return the table of the migration history as SQL, None when there is none."""
    from backout.providers.postgres.libpq import identifier  # noqa: PLC0415 - as psycopg

    table = f"{identifier(schema)}.{TABLE}" if schema else TABLE
    found = connection.execute("SELECT to_regclass(%s)", (table,)).fetchone()
    return table if found and found[0] is not None else None


def head_of(connection: Any, table: str) -> str:
    """Return the newest migration that was applied, "" when there is none."""
    row = connection.execute(_HEAD.format(table)).fetchone()
    return str(row[0]) if row else ""
