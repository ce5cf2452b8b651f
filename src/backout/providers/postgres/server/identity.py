"""The identity of a Postgres database: its cluster's system identifier, and its name.

Source: PostgreSQL 18, "System Information Functions": `pg_control_system()` may be called by every role unless
the right was revoked; a restored copy or a replica has the identifier of its origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import AuthError
from backout.model.value import Value
from backout.providers.clock import SystemClock
from backout.providers.postgres.tls.dsn import make_libpq_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import Clock

_SERVER: Final = "SELECT system_identifier::text FROM pg_control_system()"
_STARTED: Final = "SELECT pg_postmaster_start_time()::text || ' ' || current_setting('port')"
_QUERY: Final = "SELECT system_identifier::text || '/' || current_database() FROM pg_control_system()"
_STATEMENT_TIMEOUT_S: Final = 3.0
_REMEMBERED_S: Final = 30.0
"""An answer, and that there was none, holds this long: several mutations follow each other, and a database that hangs
must not make each of them wait for its time-out."""


class DatabaseIdentity:
    """Asks the database for its identity.

    Args:
        url: returns the connection string; it is never shown.
    """

    def __init__(self, url: Callable[[], str], *, connect_timeout_s: float = 5.0, clock: Clock | None = None) -> None:
        self._url = url
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock or SystemClock()
        self._known: str | None = None
        self._known_until = 0.0

    def read(self) -> str | None:
        """Return "IDENTIFIER/NAME", or None when the database does not answer or does not tell."""
        if self._clock.now() >= self._known_until:
            self._known = self._ask()
            self._known_until = self._clock.now() + _REMEMBERED_S
        return self._known

    def _ask(self) -> str | None:
        from backout.providers.postgres.server import libpq

        try:
            dsn, _ = make_libpq_url(self._url())
            rows = libpq.read(
                dsn,
                _QUERY,
                connect_timeout_s=self._connect_timeout_s,
                statement_timeout_s=_STATEMENT_TIMEOUT_S,
            )
        except (libpq.LibpqError, UnicodeError, AuthError):
            return None
        return rows[0][0] if rows else None


class ServerIdentity(Value, frozen=True):
    """A server: its cluster's system identifier, None where it does not tell, and when it was started.

    A role that may not ask for the identifier still sees the start, to the microsecond, with the port: of two servers
    they differ.
    """

    identifier: str | None
    started: str

    def is_same(self, other: ServerIdentity) -> bool:
        """Whether both are one cluster, or a copy of it."""
        if self.identifier is not None and other.identifier is not None:
            return self.identifier == other.identifier
        return self.started == other.started


def read_server(url: str, *, connect_timeout_s: float = 5.0) -> ServerIdentity | None:
    """Return which server a connection string leads to, or None when it does not answer."""
    from backout.providers.postgres.server import libpq

    dsn, _ = make_libpq_url(url)

    def ask(query: str) -> str | None:
        try:
            rows = libpq.read(dsn, query, connect_timeout_s=connect_timeout_s, statement_timeout_s=_STATEMENT_TIMEOUT_S)
        except (libpq.LibpqError, UnicodeError):
            return None
        return rows[0][0] if rows else None

    started = ask(_STARTED)
    return None if started is None else ServerIdentity(ask(_SERVER), started)
