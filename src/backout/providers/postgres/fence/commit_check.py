"""Port CommitCheck: one transaction of the application's role, committed and read back, which changes no row."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.providers.postgres.server.session import open_application
from backout.providers.postgres.tls.dsn import drop_secrets, make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

_ATTEMPTS: Final = 3
"""A pooler may hold sessions that the fence, or the restart, has ended."""
_PAUSE_S: Final = 0.5
_WITHIN_MS: Final = 10_000
_WRITE: Final = (
    "SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text, "
    "pg_catalog.pg_logical_emit_message(true, 'backout', 'one write after a recovery')::pg_catalog.text, "
    "current_user::pg_catalog.text, pg_catalog.current_setting('transaction_read_only')"
)
_READ: Final = "SELECT pg_catalog.pg_xact_status(%s::pg_catalog.xid8)"


class PostgresCommitCheck:
    """Logs in as the application does.

    Args:
        url: returns the application's connection string; it is never shown.
    """

    def __init__(self, url: Callable[[], str], *, connect_timeout_s: float = 5.0) -> None:
        self._url = url
        self._connect_timeout_s = connect_timeout_s

    def commit_once(self) -> str:
        """Commit one transaction, which is in the WAL and changes no row, and ask another session for it.

        Returns:
            The role that it was.

        Raises:
            AuthError, ProviderUnavailable: the database does not let the role in, or does not answer.
            BackoutError: it refuses the write, its transactions are read-only, or the commit is not there.
        """
        import psycopg

        for left in reversed(range(_ATTEMPTS)):
            try:
                return self._commit()
            except psycopg.Error as error:
                if not left:
                    raise _explain(error, self._url()) from None
            time.sleep(_PAUSE_S)
        raise AssertionError

    def _commit(self) -> str:
        with open_application(self._url(), connect_timeout_s=self._connect_timeout_s) as session:
            session.execute(f"SET LOCAL statement_timeout = {_WITHIN_MS}".encode())
            row = session.execute(_WRITE.encode()).fetchone()
            assert row is not None
            xid, _, role, read_only = map(str, row)
            if read_only != "off":
                raise BackoutError(f"the transactions of role {role} are read-only", where="database")
            session.commit()
        with open_application(self._url(), connect_timeout_s=self._connect_timeout_s) as session:
            found = session.execute(_READ.encode(), (xid,)).fetchone()
        if found != ("committed",):
            what = f"role {role} committed a transaction, and the database says that it is not committed"
            raise BackoutError(what, where="database")
        return role


def _explain(error: psycopg.Error, url: str) -> BackoutError:
    """Return an error without the connection string: a refused statement is no refused login, whatever its words."""
    import psycopg

    if isinstance(error, psycopg.OperationalError):
        return make_connection_error(error, url, "the application's database")
    text = drop_secrets(url, " ".join(str(error).split()))[:300]
    return BackoutError(f"the database refuses a write that changes no row: {text}", where="database")
