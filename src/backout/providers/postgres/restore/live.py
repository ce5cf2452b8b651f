"""Port LiveDatabase: the catalog of the live database, and restore points in its WAL.

Source: PostgreSQL 18, "System Catalogs" (a dropped column's row of pg_attribute stays, with the dropping transaction as
its xmin, and without its name), "Backup Control Functions" (pg_create_restore_point: superusers, or roles with a grant
for it), "System Information Functions".
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from backout.errors import AuthError, BackoutError, ProviderUnavailable, Unmeasured
from backout.model.database.migrations import StoredNames
from backout.model.database.recovery import ClusterThings, DatabaseFacts, DropClue, MigrationClue, RestorePoint
from backout.model.database.sequences import PlacedSequence
from backout.model.database.wal import parse_lsn
from backout.model.value import Value
from backout.providers.postgres.schema.history import (
    ALEMBIC,
    DJANGO,
    DRIZZLE,
    HISTORIES,
    PRISMA,
    parse_applied,
    parse_place,
    write_place_query,
)
from backout.providers.postgres.server.copy_out import read_copy
from backout.providers.postgres.server.pinned import parse_copied_row
from backout.providers.postgres.server.plain import POWER, make_lock_statement, write_foreign_code
from backout.providers.postgres.server.session import LETS_IN, reading
from backout.providers.postgres.tls.dsn import make_connection_error, make_libpq_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_POLL_S: Final = 0.1
_FACTS: Final = """
SELECT (SELECT system_identifier::text FROM pg_control_system()), current_setting('server_version_num')::int,
  ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int, pg_current_wal_insert_lsn()::text,
  current_database(), (SELECT rolname FROM pg_roles WHERE oid = 10), pg_current_wal_flush_lsn()::text
"""
_DATABASES: Final = "SELECT oid::bigint, datname::text FROM pg_database ORDER BY 1"
_OTHER_DATABASES: Final = """
SELECT oid::bigint, datname::text FROM pg_database WHERE NOT datistemplate AND datname <> current_database() ORDER BY 2
"""
_SLOTS: Final = "SELECT slot_name::text FROM pg_replication_slots WHERE NOT temporary ORDER BY 1"
_UNLOGGED: Final = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 'u' AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0 ORDER BY 1
"""
_SHARED: Final = """
SELECT pg_relation_filenode(oid)::bigint, relname::text FROM pg_class WHERE relisshared AND relkind = 'r' ORDER BY 1
"""
_SEQUENCES: Final = """
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), pg_relation_filepath(c.oid)::text FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND c.relpersistence <> 't' ORDER BY 1
"""
_MAY_SEE_FILES: Final = """
SELECT has_table_privilege('pg_catalog.pg_file_settings', 'SELECT')
  AND has_function_privilege('pg_catalog.pg_show_all_file_settings()', 'EXECUTE')
"""
_ALTERED: Final = """
SELECT DISTINCT name FROM pg_file_settings WHERE sourcefile LIKE '%postgresql.auto.conf' AND name IS NOT NULL ORDER BY 1
"""
_POSITION: Final = """
SELECT {lsn}::text, ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int,
  (pg_snapshot_xmax(pg_current_snapshot())::text::numeric %% 4294967296)::bigint,
  extract(epoch FROM clock_timestamp())::float8
"""


class _Row(Value, frozen=True):
    """How to find the row of a migration: the SQL of its name and of its times; newest first."""

    name: str
    newest: str
    times: str = "NULL::float8, NULL::float8"


_ROWS: Final = {
    PRISMA.name: _Row(
        "m.migration_name",
        "m.started_at DESC",
        "extract(epoch FROM m.started_at)::float8, extract(epoch FROM m.finished_at)::float8",
    ),
    DJANGO.name: _Row("m.app || '.' || m.name", "m.id DESC"),
    ALEMBIC.name: _Row("m.version_num", "m.version_num DESC"),
    DRIZZLE.name: _Row(DRIZZLE.dated_by, "m.id DESC"),
}


COMMIT_TIME: Final = (
    "SELECT CASE WHEN current_setting('track_commit_timestamp')::bool "
    "THEN extract(epoch FROM pg_xact_commit_timestamp({xid}::xid)) END::float8"
)
_TEMPORARY: Final = "SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_(toast_)?temp_'"
_OF_TEMPORARY: Final = f"SELECT oid FROM pg_catalog.pg_class WHERE relnamespace IN ({_TEMPORARY})"  # noqa: S608 - our own words
CATALOG_XIDS: Final = " UNION ".join(
    f"SELECT xmin::text AS xid FROM pg_catalog.{table} WHERE xmin::text::bigint > 2 AND {column} NOT IN ({which})"  # noqa: S608 - same
    for table, column, which in (
        ("pg_class", "relnamespace", _TEMPORARY),
        ("pg_type", "typnamespace", _TEMPORARY),
        ("pg_proc", "pronamespace", _TEMPORARY),
        ("pg_attribute", "attrelid", _OF_TEMPORARY),
        ("pg_attrdef", "adrelid", _OF_TEMPORARY),
        ("pg_constraint", "conrelid", _OF_TEMPORARY),
        ("pg_index", "indrelid", _OF_TEMPORARY),
        ("pg_trigger", "tgrelid", _OF_TEMPORARY),
    )
)
"""The ids that the catalog's rows carry, those of temporary tables left out; the first two belong to no transaction."""

_MIGRATED: Final = """
SELECT m.xmin::text::bigint,
  concat_ws('/', coalesce(nullif(c.reltablespace, 0), d.dattablespace), d.oid, pg_relation_filenode(c.oid)), {times}
FROM ONLY {table} m JOIN pg_class c ON c.oid = m.tableoid JOIN pg_database d ON d.datname = current_database()
WHERE {name} = %s ORDER BY {newest} LIMIT 1
"""
_RELATION: Final = """
WITH asked AS (SELECT parse_ident(%s) AS parts)
SELECT c.oid::bigint FROM asked CROSS JOIN unnest(CASE WHEN cardinality(parts) > 1
  THEN ARRAY[parts[cardinality(parts) - 1]]
  ELSE string_to_array(current_setting('backout.schemas', true), E'\\x01') END)
  WITH ORDINALITY AS s(name, place)
JOIN pg_namespace n ON n.nspname = s.name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = parts[cardinality(parts)] ORDER BY s.place LIMIT 1
"""


class PostgresLive:
    """The live database.

    Args:
        url: returns the connection string of an administrator; it is never shown.
        names: returns the names of migrations whose history table holds none.
    """

    def __init__(
        self,
        url: Callable[[], str],
        *,
        connect_timeout_s: float = 5.0,
        names: Callable[[], StoredNames] = StoredNames,
    ) -> None:
        self._url = url
        self._names = names
        self._connect_timeout_s = connect_timeout_s

    def facts(self, *, within_s: float = 0.0) -> DatabaseFacts:
        """Return its identity and WAL position; a server that does not answer is asked again for that long.

        Raises:
            AuthError: it refuses the user.
            ProviderUnavailable: it does not answer.
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
            identifier, version, timeline, lsn, database, superuser, flushed = row
            others = connection.execute(_DATABASES).fetchall()
            return DatabaseFacts(
                identifier,
                version,
                timeline,
                parse_lsn(lsn),
                database,
                superuser,
                self._head(connection),
                tuple((int(oid), str(name)) for oid, name in others),
                parse_lsn(flushed),
            )

    def cluster(self) -> ClusterThings:
        """Return what the cluster has beside the application's logged rows. Raises AuthError, ProviderUnavailable."""
        with self._asking("the cluster") as connection:
            others = connection.execute(_OTHER_DATABASES).fetchall()
            slots = connection.execute(_SLOTS).fetchall()
            unlogged = connection.execute(_UNLOGGED).fetchall()
            (may_see,) = connection.execute(_MAY_SEE_FILES).fetchone()
            altered = connection.execute(_ALTERED).fetchall() if may_see else None
            shared = connection.execute(_SHARED).fetchall()
        tables, unread = [str(name) for (name,) in unlogged], []
        for _, database in others:
            rows = self._elsewhere(str(database), _UNLOGGED)
            tables += [f"{database}.{name}" for (name,) in rows or ()]
            unread += [str(database)] if rows is None else []
        return ClusterThings(
            tuple((int(oid), str(name)) for oid, name in others),
            tuple(str(name) for (name,) in slots),
            tuple(tables),
            None if altered is None else tuple(str(name) for (name,) in altered),
            tuple(unread),
            tuple((int(node), str(name)) for node, name in shared),
        )

    def sequences(self) -> dict[str, tuple[PlacedSequence, ...]]:
        """Return the sequences of each database that the role is let into."""
        with self._asking("the databases") as connection:
            names = [str(name) for (name,) in connection.execute(LETS_IN).fetchall()]
        found = {name: self._elsewhere(name, _SEQUENCES) for name in names}
        return {
            name: tuple(PlacedSequence(int(oid), str(sequence), str(path)) for oid, sequence, path in rows if path)
            for name, rows in found.items()
            if rows is not None
        }

    def _elsewhere(self, database: str, query: str) -> list[Any] | None:
        """Return what a query says in another database of the cluster, None where the role is not let in."""
        try:
            with self._asking(f"database {database}", dbname=database) as connection:
                return list(connection.execute(query).fetchall())
        except (AuthError, Unmeasured):
            return None

    def mark(self, name: str) -> RestorePoint:
        """Write a restore point; where the role may not, its position alone is as exact."""
        import psycopg

        with self._asking("a restore point") as connection:
            head = self._head(connection)
            try:
                with connection.transaction():
                    row = connection.execute(
                        _POSITION.format(lsn="pg_create_restore_point(%s)"), (_shorten(name),)
                    ).fetchone()
            except psycopg.errors.InsufficientPrivilege:
                row = connection.execute(_POSITION.format(lsn="pg_current_wal_insert_lsn()"), ()).fetchone()
            lsn, timeline, xid, at = row
            return RestorePoint(name, parse_lsn(lsn), timeline, int(xid), at, why="", migration_head=head)

    def find_drop(self, relation: str) -> DropClue:
        """Return the transactions that dropped columns of a table, or every relation there is when it is gone."""
        columns = (
            "SELECT xmin::text::bigint FROM pg_attribute WHERE attrelid = %s::oid AND attisdropped AND attnum > 0 "
            "ORDER BY age(xmin) DESC"
        )
        with self._asking("the catalog") as connection:
            table = find_oid(connection, relation)
            if table is None:
                rows = connection.execute("SELECT oid::bigint FROM pg_class").fetchall()
                return DropClue(exists=False, present=frozenset(oid for (oid,) in rows))
            rows = connection.execute(columns, (table,)).fetchall()
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

    def relations(self) -> dict[tuple[int, int], str]:
        """Return every relation by (database, file node): `schema.table` for a table, "" for anything else."""
        query = (
            "SELECT CASE WHEN c.relisshared THEN 0 ELSE d.oid::bigint END, pg_relation_filenode(c.oid)::bigint, "
            "CASE WHEN n.nspname ~ '^pg_' OR n.nspname = 'information_schema' OR c.relkind NOT IN ('r', 'm') THEN '' "
            "ELSE n.nspname || '.' || c.relname END FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "JOIN pg_database d ON d.datname = current_database() WHERE c.relkind IN ('r', 'm', 't', 'i', 'S')"
        )
        with self._asking("the catalog") as connection:
            return {(database, node): name for database, node, name in connection.execute(query).fetchall() if node}

    def find_migration(self, name: str) -> MigrationClue | None:
        """Return which transaction last wrote the row of a migration, and where; None when there is none."""
        with self._asking("the migration history") as connection, connection.transaction(force_rollback=True):
            row = connection.execute(write_place_query(HISTORIES, self._schema())).fetchone()
            if row is None:
                return None
            place = parse_place(HISTORIES, row)
            place.check()
            _refuse_foreign_code(connection, place.table.name, place.oid)
            asked = _ROWS[place.table.name]
            query = _MIGRATED.format(table=place.table.name, name=asked.name, newest=asked.newest, times=asked.times)
            stored = self._names().get_stored(name)
            row = connection.execute(query, (stored,)).fetchone()
            if row is None:
                return None
            xid, relation, began_at, ended_at = row
            return MigrationClue(int(xid), relation, began_at, ended_at, stored)

    def find_commit_time(self, xid: int) -> float | None:
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
        return find_head(connection, self._schema())

    def _schema(self) -> str | None:
        return make_libpq_url(self._url())[1]

    @contextmanager
    def _asking(self, what: str, **more: Any) -> Iterator[Any]:
        import psycopg

        url = self._url()
        try:
            with reading(url, connect_timeout_s=self._connect_timeout_s, statement_timeout_s=30.0, **more) as made:
                yield made
        except psycopg.Error as error:
            raise make_connection_error(error, url, what) from None  # its text may quote the connection string
        except UnicodeError:
            raise BackoutError("the database answered what is no text", where="database") from None


def _shorten(name: str) -> str:
    """Return the part of a name that Postgres accepts for a restore point: 63 bytes; the journal has all of it."""
    return name.encode()[:63].decode(errors="ignore")


def find_head(connection: Any, schema: str | None = None) -> str:
    """Return the newest migration that was applied, "" when there is none, or no table that could be the history."""
    done = _list_applied(connection, schema)
    return done[-1] if done else ""


def is_applied(connection: Any, name: str) -> bool:
    """Whether a migration of that name was applied."""
    return name in _list_applied(connection, None)


def find_oid(connection: Any, relation: str) -> int | None:
    """Return the object id of a table as a person names it, looked for where the session would look; None: no such."""
    row = connection.execute(_RELATION, (relation,)).fetchone()
    return None if row is None else int(row[0])


def _list_applied(connection: Any, schema: str | None) -> list[str]:
    """Return the names of the migrations that are applied, oldest first, in a transaction of `session.reading`."""
    with connection.transaction(force_rollback=True):  # the role and the names go with it
        row = connection.execute(write_place_query(HISTORIES, schema)).fetchone()
        place = parse_place(HISTORIES, row) if row is not None else None
        if place is None or place.kind != "r" or not place.trusted:
            return []
        lines = b"".join(read_copy(connection, place.table.copy_needed)).splitlines()
    return [each.name for each in parse_applied(place.table, [parse_copied_row(line) for line in lines]) if each.stands]


def _refuse_foreign_code(connection: Any, name: str, oid: int) -> None:
    """Raise ProviderUnavailable where reading a history by a query would run code that is not the session's own."""
    import psycopg

    owner = "SELECT r.rolsuper FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE c.oid = %s"
    ((powerful,), (trusted,)) = (
        connection.execute(f"SELECT {POWER}").fetchone(),
        connection.execute(owner, (oid,)).fetchone(),
    )
    if trusted or not powerful:
        return
    try:
        connection.execute(make_lock_statement(name))
        (why,) = connection.execute(write_foreign_code(f"{oid}::oid")).fetchone()
    except (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.InsufficientPrivilege) as error:
        why = str(error).splitlines()[0]
    if why is not None:
        raise ProviderUnavailable(
            f"who wrote a migration cannot be read from {name}: to an administrator's query it runs {why}",
            where="database",
            hint="name the transaction or the time instead",
        )
