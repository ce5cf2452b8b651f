"""Port TrialDatabase on a Postgres that was made for the trial, whose log is at hand.

What the application sends is read from the server's own log, not from the application or a proxy.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError
from backout.providers.postgres.certify import generating, reading, rows
from backout.providers.postgres.certify.log import PREFIX, WHO, ServerLog
from backout.providers.postgres.server.session import open_application
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import psycopg

    from backout.model.database.certificate import HeardStatement, RowLoss, TableRows
    from backout.model.database.compatibility import MigrationFile

_SETTINGS: Final = (
    ("log_statement", "all"),
    ("log_line_prefix", PREFIX),
    ("log_min_messages", "error"),
    ("log_parameter_max_length", "-1"),
)
_RELOADED_S: Final = 30.0
_POLL_S: Final = 0.02
_IN_NO_TRANSACTION: Final = "25001"


class CertifyDatabase:
    """Port TrialDatabase.

    Args:
        url: of its superuser.
        log: the server's log.
    """

    def __init__(self, url: str, log: Path) -> None:
        self._url = url
        self._log = ServerLog(log)

    def prepare(
        self, files: Sequence[MigrationFile], seed: str = "", *, copy: Callable[[str], None] | None = None
    ) -> tuple[str, ...]:
        """Have the server log what it hears, build the schema, fill its tables; return the tables without a row.

        Args:
            files: the migrations that the old code runs with.
            seed: SQL with the application's own rows; what is empty after it is generated.
            copy: fills the database with this connection string with real rows instead; then none are generated.

        Raises:
            BackoutError: a migration or the seed fails.
        """
        self._log_all()
        refused = self.migrate(files)
        if refused:
            raise BackoutError(f"the schema of the old code cannot be built: {refused}", where="the migrations")
        with self._open() as connection:
            if seed:
                self._run(connection, seed, "the seed")
            if copy is not None:
                copy(self._url)
                return ()
            return generating.fill_tables(connection)

    def clear(self) -> None:
        """Take everything out of it again."""
        with self._open() as connection:
            connection.execute(rows.DROP_ALL)
            connection.execute("CREATE SCHEMA public")

    def read_rows(self) -> Mapping[str, TableRows]:
        """Return the rows of all tables of the application by table."""
        with self._open() as connection:
            return rows.read_rows(connection)

    def find_losses(self, before: Mapping[str, TableRows]) -> tuple[RowLoss, ...]:
        """Return what the database does not hold any more, or holds with another value."""
        with self._open() as connection:
            return rows.find_losses(connection, before)

    def take_statements(self) -> tuple[HeardStatement, ...]:
        """Return what the application sent since the last call."""
        return self._log.read()

    def migrate(self, files: Sequence[MigrationFile]) -> str:
        """Apply migrations, each as one script in one transaction; return why one could not be, "" else."""
        with self._open() as connection:
            for file in files:
                try:
                    self._run(connection, file.sql, file.name)
                except BackoutError as error:
                    return f"{file.name}: {error.what}"
        return ""

    def count_read_again(
        self, rows: Mapping[str, Sequence[tuple[str | None, ...]]], statements: Sequence[HeardStatement]
    ) -> int:
        """Return how many of these rows at least one of the statements depends on."""
        with self._open() as connection:
            return reading.count_read_again(connection, rows, statements)

    @contextlib.contextmanager
    def _open(self) -> Iterator[psycopg.Connection[Any]]:
        import psycopg

        try:
            with open_application(self._url, application_name=WHO) as connection:
                yield connection
        except psycopg.Error as error:
            raise make_connection_error(error, self._url, "the trial's database") from None

    def _run(self, connection: psycopg.Connection[Any], script: str, name: str) -> None:
        """Run a script. Raises BackoutError: it fails, and nothing of it stays."""
        import psycopg

        try:
            try:
                connection.execute(script.encode())
            except psycopg.errors.ActiveSqlTransaction:
                self._run_apart(connection, script)
        except psycopg.Error as error:
            if connection.broken:
                raise
            connection.rollback()
            raise BackoutError(f"{str(error).splitlines()[0]} ({error.sqlstate})", where=name) from None

    def _run_apart(self, connection: psycopg.Connection[Any], script: str) -> None:
        """Run a script a statement at a time: CREATE INDEX CONCURRENTLY takes no transaction around it."""
        import pglast

        for statement in pglast.split(script):
            connection.execute(statement.encode())

    def _log_all(self) -> None:
        """Have it log every statement from now on, in every new session."""
        with self._open() as connection:
            for name, value in _SETTINGS:
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            connection.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + _RELOADED_S
        while time.monotonic() < deadline:
            with self._open() as connection:
                if connection.execute("SHOW log_statement").fetchone() == ("all",):
                    return
            time.sleep(_POLL_S)
        raise BackoutError("it does not take its settings", where="the trial's database")
