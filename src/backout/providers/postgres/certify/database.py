"""Port TrialDatabase on a Postgres that was made for the trial.

What the application sends is asked of the server, not of the application or a proxy.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from backout.errors import BackoutError
from backout.providers.postgres.certify import generating, reading, reread, rows
from backout.providers.postgres.certify.log import WHO
from backout.providers.postgres.server.session import open_application
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import psycopg

    from backout.model.database.certificate import HeardStatement, RowLoss, TableRows
    from backout.model.database.compatibility import MigrationFile
    from backout.providers.postgres.certify.reread import Answers

_WHICH: Final = f"""
SELECT /* {WHO} */ oid::pg_catalog.int8 FROM pg_catalog.pg_database
WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
"""  # noqa: S608 a constant


class Heard(Protocol):
    """What hears the application's statements."""

    def begin(self, open_session: Callable[[], AbstractContextManager[psycopg.Connection[Any]]]) -> None:
        """Make ready for it; a session in the database is opened by the function."""
        ...

    def read(self) -> tuple[HeardStatement, ...]:
        """Return what was sent since the last call."""
        ...


class CertifyDatabase:
    """Port TrialDatabase.

    Args:
        url: of its owner.
        heard: hears what the application sends.
        ask: sends the old code's requests that read, and returns their answers; None: by the statements alone, which
            needs their values, and a superuser.
        oid: of the database that was made for the trial; nothing is done in another one of its name. None: not checked.
    """

    def __init__(
        self, url: str, heard: Heard, *, ask: Callable[[], Answers] | None = None, oid: int | None = None
    ) -> None:
        self._url = url
        self._heard = heard
        self._ask = ask
        self._oid = oid

    def prepare(
        self, files: Sequence[MigrationFile], seed: str = "", *, copy: Callable[[str], None] | None = None
    ) -> tuple[str, ...]:
        """Have what the server hears be kept, build the schema, fill its tables; return the tables without a row.

        Args:
            files: the migrations that the old code runs with.
            seed: SQL with the application's own rows; what is empty after it is generated.
            copy: fills the database with this connection string with real rows instead; then none are generated.

        Raises:
            BackoutError: a migration or the seed fails.
        """
        self._heard.begin(self.open_session)
        refused = self.migrate(files)
        if refused:
            raise BackoutError(f"the schema of the old code cannot be built: {refused}", where="the migrations")
        with self.open_session() as connection:
            if seed:
                self._run(connection, seed, "the seed")
            if copy is not None:
                copy(self._url)
                return ()
            return generating.fill_tables(connection)

    def clear(self) -> None:
        """Take everything out of it again."""
        with self.open_session() as connection:
            connection.execute(rows.DROP_ALL)
            connection.execute("CREATE SCHEMA public")

    def read_rows(self) -> Mapping[str, TableRows]:
        """Return the rows of all tables of the application by table."""
        with self.open_session() as connection:
            return rows.read_rows(connection)

    def find_losses(self, before: Mapping[str, TableRows]) -> tuple[RowLoss, ...]:
        """Return what the database does not hold any more, or holds with another value."""
        with self.open_session() as connection:
            return rows.find_losses(connection, before)

    def take_statements(self) -> tuple[HeardStatement, ...]:
        """Return what the application sent since the last call."""
        return self._heard.read()

    def migrate(self, files: Sequence[MigrationFile]) -> str:
        """Apply migrations, each as one script in one transaction; return why one could not be, "" else."""
        with self.open_session() as connection:
            for file in files:
                try:
                    self._run(connection, file.sql, file.name)
                except BackoutError as error:
                    return f"{file.name}: {error.what}"
        return ""

    def count_read_again(
        self, rows: Mapping[str, Sequence[tuple[str | None, ...]]], statements: Sequence[HeardStatement]
    ) -> int:
        """Return how many of these rows at least one of the statements, or of the application's answers, depends on."""
        with self.open_session() as connection:
            if self._ask is not None:
                return reread.count_reread(connection, rows, self._ask)
            return reading.count_read_again(connection, rows, statements)

    @contextlib.contextmanager
    def open_session(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield a session.

        Raises:
            AuthError, ProviderUnavailable: there is none, or it was lost.
            BackoutError: it is in another database than the one that was made for the trial.
        """
        import psycopg

        try:
            with open_application(self._url, application_name=WHO) as connection:
                if self._oid is not None and connection.execute(_WHICH.encode()).fetchone() != (self._oid,):
                    raise BackoutError(
                        f"{connection.info.dbname} is not the database that was made for the trial any more",
                        where="the trial's database",
                    )
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
