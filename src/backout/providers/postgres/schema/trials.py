"""Port Trials: one statement after another on a side database, each in a transaction that is rolled back.

Parameters without a known value get an existing one from the column they are used for, or else a made-up one of their
type: the trial shows whether the statement can run, not what it does.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from backout.model.database.statements import Answer
from backout.providers.postgres.server.session import open_application
from backout.providers.postgres.server.stand_in import sender
from backout.providers.postgres.tls.dsn import make_connection_error, make_libpq_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg
    from psycopg import sql

    from backout.model.database.statements import ParameterUse, Statement

_TYPES: Final = """
SELECT t.oid, t.typcategory, t.typelem, t.typname,
  (SELECT pg_catalog.min(enumlabel) FROM pg_catalog.pg_enum WHERE enumtypid OPERATOR(pg_catalog.=) t.oid)
FROM pg_catalog.unnest((SELECT parameter_types FROM pg_catalog.pg_prepared_statements
  WHERE name OPERATOR(pg_catalog.=) 'trial')::pg_catalog.oid[]) WITH ORDINALITY p(oid, n)
JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) p.oid ORDER BY p.n
"""
_INVENTED: Final = {
    "N": "1",
    "B": "true",
    "D": "2020-01-01",
    "T": "1 second",
    "I": "127.0.0.1",
    "A": "{}",
    "R": "empty",
}
_INVENTED_BY_NAME: Final = {
    "uuid": "00000000-0000-4000-8000-000000000000",
    "json": "{}",
    "jsonb": "{}",
    "bytea": "\\x00",
    "xml": "<a/>",
    "time": "00:00",
    "timetz": "00:00+00",
}


class PostgresTrials:
    """Port Trials.

    Args:
        url: returns the connection string of a database that is not otherwise used: a side branch of real data.
        role: returns the name of the application's own role, as which the statements run when that is a superuser's.
    """

    def __init__(
        self, url: Callable[[], str], *, role: Callable[[], str] = lambda: "", statement_timeout_s: float = 10.0
    ) -> None:
        self._url = url
        self._role = role
        self._open = ExitStack()
        self._complete = True
        self._statement_timeout_s = statement_timeout_s
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def run(self, statement: Statement, uses: Sequence[ParameterUse]) -> Answer:
        """Return what the database says to the statement; nothing of it stays.

        Raises:
            AuthError, ProviderUnavailable: the side database cannot be reached.
        """
        import psycopg

        connection = self._connect()
        invented = False
        try:
            with connection.transaction(force_rollback=True):
                limit_ms = round(self._statement_timeout_s * 1000)
                connection.execute(f"SET LOCAL statement_timeout = {limit_ms}")
                connection.execute(f"PREPARE trial AS {statement.sql.rstrip().rstrip(';')}".encode())
                values, invented = self._values(connection, statement, uses)
                connection.execute(_execute(values))
        except psycopg.errors.Error as error:
            if connection.broken:
                self._connection = None
                raise make_connection_error(error, self._url(), "the side database") from None
            said = " ".join(str(error).split("\n")[0].split())
            return Answer(error.sqlstate or "", said, invented, stood_in=not self._complete)
        finally:
            if not connection.broken:
                connection.execute("DEALLOCATE ALL")
        return Answer(invented=invented)

    def close(self) -> None:
        """End the connection."""
        self._connection = None
        self._open.close()

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        import psycopg

        if self._connection is None:
            url = self._url()
            _, schema = make_libpq_url(url)
            try:
                self._open.close()
                who = self._open.enter_context(sender(url, self._role()))
                self._connection = self._open.enter_context(open_application(who.url))
                self._complete = who.complete
                for name, value in (("role", who.role), ("search_path", schema or who.search_path)):
                    if value:
                        self._connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", [name, value])
            except (psycopg.Error, UnicodeError) as error:
                raise make_connection_error(error, url, "the side database") from None
        return self._connection

    def _values(
        self, connection: psycopg.Connection[tuple[object, ...]], statement: Statement, uses: Sequence[ParameterUse]
    ) -> tuple[list[str | None], bool]:
        """Return a value for each parameter, and whether one of them was made up."""
        types = connection.execute(_TYPES).fetchall()
        values: list[str | None] = []
        invented = False
        for index, (_, category, element, name, label) in enumerate(types):
            if statement.values is not None and index < len(statement.values):
                values.append(statement.values[index])
                continue
            use = uses[index] if index < len(uses) else None
            value = (
                _find_sample_value(connection, use, is_array=bool(element) and category == "A")
                if use is not None
                else None
            )
            if value is None:
                invented = True
                value = str(label or _INVENTED_BY_NAME.get(str(name)) or _INVENTED.get(str(category), "x"))
            values.append(value)
        return values, invented


def _find_sample_value(
    connection: psycopg.Connection[tuple[object, ...]], use: ParameterUse, *, is_array: bool
) -> str | None:
    """Return a value that a row has in that column, as text, or None."""
    import psycopg
    from psycopg import sql

    if not use.table or not use.column:
        return None
    column = sql.Identifier(use.column)
    wanted = sql.SQL("ARRAY[{}]").format(column) if is_array else column
    query = sql.SQL("SELECT {}::pg_catalog.text FROM {} WHERE {} IS NOT NULL LIMIT 1").format(
        wanted, sql.Identifier(*use.table.split(".")), column
    )
    try:
        with connection.transaction():
            row = connection.execute(query).fetchone()
    except psycopg.errors.Error:
        return None
    return None if row is None else str(row[0])


def _execute(values: Sequence[str | None]) -> sql.Composed:
    from psycopg import sql

    if not values:
        return sql.Composed([sql.SQL("EXECUTE trial")])
    return sql.SQL("EXECUTE trial ({})").format(sql.SQL(", ").join(sql.Literal(value) for value in values))
