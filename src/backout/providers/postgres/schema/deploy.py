"""Applies Prisma migrations as `prisma migrate deploy` does, on machines without Prisma.

The protocol: advisory lock 72707369 for the session, the table made when it is missing, then for each script its row,
the script itself, `finished_at` and one step; a row that was begun and neither ended nor declared rolled back stops
everything (P3009). Prisma's own CLI accepts the rows as its own. A script goes out as one simple query, which Postgres
runs as one transaction: where it fails, nothing of it stays. (Prisma's engine did so until 7.3; since 7.4 it sends
statement by statement, so that half a script may stay.) A statement that cannot run in a transaction, such as CREATE
INDEX CONCURRENTLY, needs a migration of its own; that one is then no transaction.

Source: prisma-engines, `schema-engine/connectors/sql-schema-connector/src/flavour/postgres.rs` (lock, table),
Prisma documentation, "Error message reference" (P3005, P3009), 2026-11.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Final, Self

import psycopg
from psycopg import sql

from backout.errors import BackoutError, Busy, ProviderUnavailable, Refused
from backout.providers.postgres.schema.history import PRISMA
from backout.providers.postgres.server.copy_out import read_copy
from backout.providers.postgres.server.migrating_role import refuse_code_of_others
from backout.providers.postgres.server.pinned import parse_copied_row
from backout.providers.postgres.server.session import open_application, refuse_pooler
from backout.providers.postgres.tls.dsn import drop_secrets, make_connection_error, make_libpq_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.database.compatibility import MigrationFile

LOCK_KEY: Final = 72707369
LOCK_TIMEOUT_S: Final = 10.0
_TABLE: Final = """
CREATE TABLE {table} (
    id                      VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum                VARCHAR(64) NOT NULL,
    finished_at             pg_catalog.TIMESTAMPTZ,
    migration_name          VARCHAR(255) NOT NULL,
    logs                    pg_catalog.TEXT,
    rolled_back_at          pg_catalog.TIMESTAMPTZ,
    started_at              pg_catalog.TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now(),
    applied_steps_count     INTEGER NOT NULL DEFAULT 0
)"""
_HOLDER: Final = b"""
SELECT a.pid, a.application_name, a.client_addr FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) l.pid
WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.granted
  AND l.classid OPERATOR(pg_catalog.=) 0 AND l.objid OPERATOR(pg_catalog.=) %s
  AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database
    WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
"""
_NOT_EMPTY: Final = b"""
SELECT c.relname FROM pg_catalog.pg_class c
WHERE c.relnamespace OPERATOR(pg_catalog.=) %s::pg_catalog.regnamespace
  AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f}'::pg_catalog."char"[])
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
      AND d.objid OPERATOR(pg_catalog.=) c.oid AND d.deptype OPERATOR(pg_catalog.=) 'e')
ORDER BY 1 LIMIT 1
"""


class PrismaDeploy:
    """Applies pending migrations.

    Args:
        url: returns the connection string, `?schema=` included; it is never shown.
        lock_timeout_s: how long to wait for another migration.
    """

    def __init__(
        self, url: Callable[[], str], *, lock_timeout_s: float = LOCK_TIMEOUT_S, connect_timeout_s: float = 5.0
    ) -> None:
        self._url = url
        self._lock_timeout_s = lock_timeout_s
        self._connect_timeout_s = connect_timeout_s

    def apply(
        self, files: Sequence[MigrationFile], *, applied: Callable[[str], None] = lambda _name: None
    ) -> tuple[str, ...]:
        """Apply those of `files` that are not applied yet, in their order, and return their names.

        `applied` hears each name when its row is finished.

        Raises:
            Busy: another migration holds the lock all the time.
            Refused: an earlier migration failed and is unresolved (P3009), the database has tables and no history
                (P3005), there is a transaction pooler in between, or a superuser would run another role's code.
            AuthError: a permission is missing.
            ProviderUnavailable: no connection, or it was lost on the way.
            BackoutError: a script failed; the database is as before that script.
        """
        url = self._url()
        try:
            with _Session(url, self._connect_timeout_s) as session:
                session.lock(self._lock_timeout_s)
                session.prepare()
                done = session.read_finished()
                pending = [file for file in files if file.name not in done]
                for file in pending:
                    session.apply(file)
                    applied(file.name)
        except psycopg.Error as error:
            raise make_connection_error(
                error, url, "the database"
            ) from None  # its text may quote the connection string
        return tuple(file.name for file in pending)


class _Session:
    """One connection, which holds the lock."""

    def __init__(self, url: str, connect_timeout_s: float) -> None:
        self._url = url
        _, self._schema = make_libpq_url(url)
        self._timeout_s = max(2, round(connect_timeout_s))
        self._connection = self._connect()
        self._table = sql.Identifier(PRISMA.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(psycopg.Error):
            self._connection.close()

    def _connect(self) -> psycopg.Connection:
        return open_application(self._url, connect_timeout_s=self._timeout_s)

    def lock(self, timeout_s: float) -> None:
        """Take Prisma's lock for as long as the connection lives."""
        refuse_pooler(self._connection, self._url, "Prisma's lock would not hold")
        self._connection.execute(f"SET lock_timeout = {max(1, int(timeout_s * 1000))}".encode())
        try:
            self._connection.execute(b"SELECT pg_catalog.pg_advisory_lock(%s)", (LOCK_KEY,))
        except psycopg.errors.LockNotAvailable:
            raise Busy(
                f"another migration is running{self._holder()}", where="Postgres", hint="wait for it, then try again"
            ) from None
        self._connection.execute(b"RESET lock_timeout")

    def _holder(self) -> str:
        found = self._connection.execute(_HOLDER, (LOCK_KEY,)).fetchone()
        if found is None:
            return ""
        pid, application, address = found
        return f": process {pid}{f' of {application}' if application else ''}{f' at {address}' if address else ''}"

    def prepare(self) -> None:
        """Make the schema that the connection string names, and the table of the history, where they are missing."""
        schema = self._schema
        if not schema:
            (schema,) = self._connection.execute(b"SELECT pg_catalog.current_schema()").fetchone() or (None,)
        if schema is None:
            raise Refused("no schema of the search path exists", where="Postgres", hint="CREATE SCHEMA public")
        refuse_code_of_others(self._connection, schema, PRISMA.name)
        if self._schema:
            name = sql.Identifier(self._schema)
            if self._connection.execute(b"SELECT pg_catalog.to_regnamespace(%s)", (name.as_string(),)).fetchone() == (
                None,
            ):
                self._connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
            self._connection.execute(sql.SQL("SET search_path = {}").format(name))
        # A script may change the search path of the session.
        self._table = sql.Identifier(schema, PRISMA.name)
        if self._connection.execute(b"SELECT pg_catalog.to_regclass(%s)", (self._table.as_string(),)).fetchone() == (
            None,
        ):
            self._refuse_unbaselined(schema)
            self._connection.execute(sql.SQL(_TABLE).format(table=self._table))

    def _refuse_unbaselined(self, schema: str) -> None:
        name = sql.Identifier(schema).as_string()
        if found := self._connection.execute(_NOT_EMPTY, (name,)).fetchone():
            raise Refused(
                f"the schema {schema} has tables ({found[0]}) and no history of migrations (Prisma's P3005)",
                where="Postgres",
                hint="baseline it: prisma migrate resolve --applied NAME, for each migration that is in it",
            )

    def read_finished(self) -> frozenset[str]:
        """Return what is applied; Refused when something failed."""
        query = sql.SQL("COPY {} (migration_name, finished_at, rolled_back_at) TO STDOUT").format(self._table)
        # Not by a query: COPY refuses a view, which may show anything.
        copied = read_copy(self._connection, query.as_string(self._connection))
        every = [parse_copied_row(line) for line in b"".join(copied).splitlines()]
        rows = [(name or "", finished) for name, finished, rolled_back in every if rolled_back is None]
        failed = sorted(name for name, finished in rows if finished is None)
        if failed:
            raise Refused(
                f"migration {failed[0]} failed before and is unresolved",
                where=PRISMA.name,
                hint=f"prisma migrate resolve --rolled-back {failed[0]}",
                options=(
                    "see how much of it was applied: `backout db migrations drift`",
                    f"nothing is: `prisma migrate resolve --rolled-back {failed[0]}`, then apply it again",
                    f"all of it is: `prisma migrate resolve --applied {failed[0]}`",
                ),
            )
        return frozenset(name for name, _ in rows)

    def apply(self, file: MigrationFile) -> None:
        """Apply one script between its two entries in the history."""
        row = str(uuid.uuid4())
        insert = sql.SQL("INSERT INTO {} (id, checksum, migration_name) VALUES (%s, %s, %s)").format(self._table)
        self._connection.execute(insert, (row, file.checksum, file.name))
        try:
            self._connection.execute(file.sql.encode())  # without parameters: one simple query
        except psycopg.Error as error:
            raise self._failure(file, row, error) from None
        done = sql.SQL(
            "UPDATE {} SET finished_at = pg_catalog.now(), applied_steps_count = 1 WHERE id OPERATOR(pg_catalog.=) %s"
        ).format(self._table)
        self._connection.execute(done, (row,))

    def _failure(self, file: MigrationFile, row: str, error: psycopg.Error) -> BackoutError:
        said = drop_secrets(self._url, str(error))
        first = next(iter(said.splitlines()), type(error).__name__)
        if self._connection.broken:
            return ProviderUnavailable(
                f"the connection was lost while {file.name} ran ({first}); whether it was applied is not known",
                where=file.name,
                hint="backout db migrations status, then backout db migrations drift",
            )
        self._connection.rollback()  # a script with its own BEGIN leaves its transaction open
        failed = sql.SQL("UPDATE {} SET logs = %s WHERE id OPERATOR(pg_catalog.=) %s").format(self._table)
        self._connection.execute(failed, (said, row))
        correct = "correct the script"
        if isinstance(error, psycopg.errors.ActiveSqlTransaction):
            correct = "give that statement a migration of its own"
        return BackoutError(
            f"migration {file.name} failed: {first}",
            where=file.name,
            hint=f"{correct}, then: prisma migrate resolve --rolled-back {file.name}",
        )
