"""Port Schema on Postgres: the table in which a migration tool keeps its history, read in one read-only transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import AuthError
from backout.model.database.migrations import StoredNames
from backout.model.database.schema import SchemaState
from backout.providers.clock import SystemClock
from backout.providers.postgres.schema.history import (
    PRISMA,
    SESSION_SCHEMAS,
    HistoryTable,
    parse_applied,
    parse_place,
    write_place_query,
)
from backout.providers.postgres.server.plain import make_lock_statement, refuse_foreign_code
from backout.providers.postgres.tls.dsn import make_connection_error, make_libpq_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.database.schema import AppliedMigration
    from backout.ports import Clock
    from backout.providers.postgres.server import libpq

_NOW: Final = "SELECT extract(epoch FROM now())::float8"
_COMMITTED: Final = """
SELECT {key}, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM ONLY {table}
WHERE current_setting('track_commit_timestamp')::bool
"""


class PostgresHistory:
    """Port Schema.

    Args:
        url: returns the connection string; Prisma's own parameters (`?schema=`, `?connection_limit=`) are understood.
            It is asked once per reading and never shown.
        table: whose history it is.
        names: returns the names of rows that hold none.
        statement_timeout_s: how long a lock on the table may block the reading.
    """

    def __init__(
        self,
        url: Callable[[], str],
        table: HistoryTable = PRISMA,
        *,
        connect_timeout_s: float = 5.0,
        statement_timeout_s: float = 5.0,
        clock: Clock | None = None,
        names: Callable[[], StoredNames] = StoredNames,
    ) -> None:
        self._url = url
        self._table = table
        self._connect_timeout_s = connect_timeout_s
        self._statement_timeout_s = statement_timeout_s
        self._clock = clock or SystemClock()
        self._names = names

    def read(self) -> SchemaState:
        """Return the migration history, oldest first; an empty one when the tool's table does not exist.

        Raises:
            AuthError: the database refuses the user.
            ProviderUnavailable: the history cannot be read.
        """
        from backout.providers.postgres.server import libpq

        url = self._url()
        dsn, schema = make_libpq_url(url)
        try:
            with libpq.open_connection(
                dsn, connect_timeout_s=self._connect_timeout_s, statement_timeout_s=self._statement_timeout_s
            ) as asking:
                applied = self._read(asking, schema)
        except (libpq.LibpqError, UnicodeError) as error:
            raise make_connection_error(
                error, url, "the migration history"
            ) from None  # its text may quote the connection string
        heads = tuple(m.name for m in applied) if self._table.heads_only else ()
        named = self._names() if applied else StoredNames()
        applied = tuple(replace(m, name=named.get_name(m.name, m.checksum)) for m in applied)
        return SchemaState(self._clock.now(), applied, heads)

    def _read(self, asking: libpq.Asking, schema: str | None) -> tuple[AppliedMigration, ...]:
        from backout.providers.postgres.server import libpq

        table, found = self._table, write_place_query((self._table,), schema)
        try:
            places, *rows = asking.read(found, table.copy, before=SESSION_SCHEMAS)
        except libpq.LibpqError as error:
            if error.sqlstate != libpq.UNDEFINED_TABLE or not error.answers:
                raise
            if error.answers[0]:  # something of that name is there, and none that may be read
                place = parse_place((table,), error.answers[0][0])
                place.check()
                raise AuthError(
                    f"the migration history cannot be read: permission denied for schema {place.schema}",
                    where="database",
                    hint=f"GRANT USAGE ON SCHEMA {place.schema} TO the role of the connection string",
                ) from None
            return ()
        parse_place((table,), places[0]).check()
        applied = parse_applied(table, rows[0])
        return self._date_rows(asking, found, applied) if table.dated_by and applied else applied

    def _date_rows(
        self, asking: libpq.Asking, found: str, applied: tuple[AppliedMigration, ...]
    ) -> tuple[AppliedMigration, ...]:
        """Return rows with their times: of the transaction that wrote each, or else the latest that they can be.

        The transaction stands in no column that COPY knows, so a query is planned; without a lock where the session
        has no powers that the table's owner could borrow, and not at all where his code would run with them.
        """
        from backout.providers.postgres.server import libpq

        name = self._table.name
        committed = _COMMITTED.format(key=self._table.dated_by, table=name)
        ways = ((make_lock_statement(name), refuse_foreign_code(name)), (refuse_foreign_code(name, only_weak=True),))
        times: dict[str | None, str | None] = {}
        for way in ways:
            try:
                *_, rows = asking.read(found, *way, committed, before=SESSION_SCHEMAS)
            except libpq.LibpqError:
                continue
            times = dict(each for each in rows if len(each) == 2)
            break
        now = float(asking.read(_NOW)[0][0][0] or 0)
        return tuple(
            replace(row, started_at=float(at or now), finished_at=float(at or now), dated=at is not None)
            for row in applied
            for at in (times.get(row.name),)
        )
