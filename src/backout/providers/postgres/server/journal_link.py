"""Port JournalLink: the way to the journal's database.

A transaction begins with all that a session may have been given otherwise (`pinned`), names are looked up in pg_catalog
and then in the journal's own schema, and nothing is left in the session: a pooler may hand the next transaction to
another one. Whoever is cut off in the middle of a transaction gives the lock of the journal back within some seconds.

Source: PostgreSQL 18, "Client Connection Defaults" (`statement_timeout`, `idle_in_transaction_session_timeout`),
"Database Connection Control Functions" (`connect_timeout`, `tcp_user_timeout`), appendix "PostgreSQL Error Codes".
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, TypeVar

from backout.errors import AuthError
from backout.ports.journal_link import LinkError, Trouble
from backout.providers.postgres.server.pinned import write_pins
from backout.providers.postgres.server.session import CONNECT_S, open_bounded
from backout.providers.postgres.tls.access import parse_dsn
from backout.providers.postgres.tls.dsn import drop_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg

T = TypeVar("T")
_SEARCH_PATH: Final = "pg_catalog, backout, pg_temp"
_SILENT_S: Final = 5.0
"""How long a transaction may do nothing: its process was stopped, or the network between was cut."""
_GRACE_S: Final = 2.0
"""The server's own time-outs come first: they say what it waited for."""
_DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
)
_TROUBLES: Final = (
    ("28", Trouble.NOT_LET_IN),
    ("3D000", Trouble.NOT_LET_IN),
    ("53100", Trouble.FULL),
    ("53", Trouble.NOT_REACHED),  # too many connections, out of memory
    ("57014", Trouble.WAITED),
    ("55P03", Trouble.WAITED),
    ("40P01", Trouble.WAITED),
    ("25006", Trouble.ONLY_READ),
    ("25P0", Trouble.NOT_REACHED),  # the server ended a transaction that was silent
    ("42501", Trouble.DENIED),
    ("42P01", Trouble.ABSENT),
    ("3F000", Trouble.ABSENT),
    ("57P", Trouble.NOT_REACHED),  # it is shutting down, or starting
    ("08", Trouble.NOT_REACHED),
    ("58", Trouble.DAMAGED),  # an error of its disk
    ("XX", Trouble.DAMAGED),
    ("P0001", Trouble.DAMAGED),  # one of the journal's own triggers
    ("42", Trouble.DAMAGED),  # our statements never change: the tables are not as we made them
    ("2202", Trouble.DAMAGED),
    ("22", Trouble.NO_VALUE),
)
"""By the beginning of the SQLSTATE, the first that fits."""
_LET_IN: Final = ("authentication failed", "no pg_hba.conf entry", "does not exist", "certificate", "no password")
"""Words of errors before the login, which have no SQLSTATE."""


class PostgresLink:
    """One connection, opened at the first transaction.

    Args:
        url: returns the connection string, asked for whenever a connection is made; raises AuthError when this machine
            does not have it.
        patience_s: how long another writer is waited for, and a statement.
        connect_timeout_s: of each address that the name of the server has.
        search_path: where names are looked up.
    """

    def __init__(
        self,
        url: Callable[[], str],
        *,
        patience_s: float = 15.0,
        connect_timeout_s: float = CONNECT_S,
        search_path: str = _SEARCH_PATH,
    ) -> None:
        self._read_url = url
        self._connect_timeout_s = connect_timeout_s
        self._limit_s = patience_s + _GRACE_S
        self._connection: psycopg.Connection[Any] | None = None
        self._url = ""
        milliseconds = f"{round(patience_s * 1000)}"
        self._pins = write_pins(
            {
                "search_path": search_path,
                "lock_timeout": milliseconds,
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": f"{round(_SILENT_S * 1000)}",
            }
        )

    @property
    def place(self) -> str:
        """The server and its database, as far as they are known."""
        try:
            given = parse_dsn(self._read_url())
        except AuthError:
            return "journal.url_env"
        server = given.get("host") or given.get("hostaddr", "")
        port = f":{given['port']}" if "port" in given else ""
        return f"{server}{port}/{given.get('dbname') or given.get('user', '')}"

    def begin(self, question: str, *, snapshot: bool = False) -> Any:
        """Begin a transaction and ask, see `JournalLink.begin`."""
        level = "REPEATABLE READ READ ONLY" if snapshot else "READ COMMITTED"
        text = f"BEGIN ISOLATION LEVEL {level}; {self._pins}; {_DURABLE}; {question}"
        return self._ask(lambda connection: connection.execute(text.encode()).set_result(-1).fetchone())

    def read(self, question: str, statement: str, values: Sequence[Any] = (), /) -> tuple[Any, list[Any]]:
        """Ask and read in a single exchange, see `JournalLink.read`."""
        import psycopg

        begin = f"BEGIN ISOLATION LEVEL READ COMMITTED; {self._pins}; {_DURABLE}; {question}"

        def ask(connection: psycopg.Connection[Any]) -> tuple[Any, list[Any]]:
            asked = _translate(statement, values)
            if values:  # several statements at once take no values beside them
                asked = psycopg.ClientCursor(connection).mogrify(asked, values).encode()
            cursor = connection.execute(b"%s; %s; ROLLBACK" % (begin.encode(), asked))
            rows = cursor.set_result(-2).fetchall()
            return cursor.set_result(-3).fetchone(), rows

        return self._ask(ask)

    def _ask(self, ask: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Return what is asked for at the beginning of a transaction, on a new connection where the old one is cut."""
        was_open = self._connection is not None
        try:
            with self._explaining() as connection:
                return ask(connection)
        except LinkError as error:
            if not was_open or error.trouble is not Trouble.NOT_REACHED:
                raise
        self.close()  # it was cut while nothing was under way
        with self._explaining() as connection:
            return ask(connection)

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> psycopg.Cursor[Any]:
        """Run a statement in the transaction. Raises LinkError."""
        with self._explaining() as connection:
            return connection.execute(_translate(statement, values), values or None)

    def executemany(self, statement: str, values: Sequence[Sequence[Any]], /) -> None:
        """Run a statement for each row of values, in a single exchange. Raises LinkError.

        Not by psycopg's own `executemany`: its pipeline ends with a Flush behind the Sync, and a server that has read
        that does not end the transaction of a process that falls silent then.
        """
        import psycopg

        with self._explaining() as connection:
            writer, text = psycopg.ClientCursor(connection), _translate(statement, values)
            rows = [writer.mogrify(text, each).encode() for each in values]
            if rows:
                connection.execute(b"; ".join(rows))

    def lend(self) -> psycopg.Connection[Any]:
        """Return the connection, for another library's statements in the transaction that was begun here."""
        assert self._connection is not None
        return self._connection

    def commit(self) -> None:
        """Commit. Raises LinkError: NOT_REACHED when it is not known whether it was."""
        with self._explaining() as connection:
            said = connection.execute(b"COMMIT").statusmessage
        if said != "COMMIT":
            raise LinkError(Trouble.OTHER, "the server rolled the transaction back")

    def rollback(self) -> None:
        """End the transaction without any effect; a connection that does not do so is closed."""
        import psycopg

        connection = self._connection
        if connection is None or connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            return
        try:
            connection.execute(b"ROLLBACK")
        except psycopg.Error:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        self.close()

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend the connection. Raises LinkError for what psycopg raises."""
        import psycopg

        try:
            if self._connection is None or self._connection.closed:
                self._url = self._read_url()
                self._connection = self._open(self._url)
            yield self._connection
        except AuthError as error:
            raise LinkError(Trouble.NO_URL, error.what, error.hint or "") from None
        except (psycopg.Error, UnicodeError) as error:
            lost = self._connection is None or self._connection.closed
            if lost:
                self.close()
            raise _translate_error(error, self._url, lost=lost) from None  # its text may quote the connection string

    def _open(self, url: str) -> psycopg.Connection[Any]:
        return open_bounded(
            url,
            connect_timeout_s=self._connect_timeout_s,
            limit_s=self._limit_s,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=round(self._limit_s * 1000),
        )


def _translate(statement: str, values: Sequence[Any]) -> bytes:
    """Return a statement of the journal's as psycopg takes it; no text in it contains a question mark."""
    return (statement.replace("%", "%%").replace("?", "%s") if values else statement).encode()


def _translate_error(error: Exception, url: str, *, lost: bool) -> LinkError:
    diagnosis = getattr(error, "diag", None)
    primary = getattr(diagnosis, "message_primary", None)
    with contextlib.suppress(ValueError):
        said = drop_secrets(url, " ".join((primary or str(error)).split()))[:200]
        return LinkError(_find_trouble(error, said, lost=lost), said)
    return LinkError(Trouble.OTHER)


def _find_trouble(error: Exception, said: str, *, lost: bool) -> Trouble:
    import psycopg

    state = getattr(error, "sqlstate", None) or ""
    if state:
        return next((trouble for begins, trouble in _TROUBLES if state.startswith(begins)), Trouble.OTHER)
    if isinstance(error, (psycopg.DataError, UnicodeError)):
        return Trouble.NO_VALUE
    if isinstance(error, psycopg.ProgrammingError) or (lost and any(words in said for words in _LET_IN)):
        return Trouble.NOT_LET_IN
    return Trouble.NOT_REACHED if lost or isinstance(error, psycopg.OperationalError) else Trouble.OTHER
