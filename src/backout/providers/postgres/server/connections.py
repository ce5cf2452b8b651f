"""Port Connections on Postgres: the sessions in pg_stat_activity compared with every limit on them.

Source: PostgreSQL 18, "Connections and Authentication" (max_connections, reserved_connections,
superuser_reserved_connections), "The Statistics Collector" (pg_stat_activity: a role without pg_read_all_stats sees of
foreign sessions only whose they are), CREATE DATABASE and CREATE ROLE (CONNECTION LIMIT). Cloudflare documentation,
"Hyperdrive, Tune connection pooling": `origin_connection_limit` is a soft limit; which application_name its connections
bear is not said there: a guess, to be configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import ProviderUnavailable
from backout.model.guard.connections import ConnectionUse
from backout.model.value import Value
from backout.providers.clock import SystemClock
from backout.providers.postgres.schema.quoting import quote_literal
from backout.providers.postgres.tls.dsn import drop_secrets, make_connection_error, make_libpq_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import Clock

_QUERY: Final = """
WITH sessions AS (
  SELECT datname, usename, application_name, wait_event_type, backend_type IS NULL AS hidden FROM pg_stat_activity
  WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend' AND pid <> pg_backend_pid()
), seen AS (
  SELECT count(*) AS all_of_them, count(*) FILTER (WHERE datname = current_database()) AS here,
    count(*) FILTER (WHERE usename = current_user) AS ours, count(*) FILTER (WHERE application_name = {pool}) AS pooled,
    count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting, coalesce(bool_or(hidden), false) AS hidden
  FROM sessions
)
SELECT all_of_them, current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0),
  here, (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
  ours, (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user), pooled, waiting, hidden
FROM seen
"""
_FULL: Final = (
    "too many clients already",
    "remaining connection slots are reserved",
    "too many connections for",
    "no more connections allowed",  # PgBouncer, at max_client_conn
)
"""The errors for one connection too many; before the login they are the only sign (libpq gives no SQLSTATE)."""


class Pool(Value, frozen=True):
    """A pooler between the application and Postgres: its maximum of connections, and their application_name."""

    limit: int
    application_name: str = "Cloudflare Hyperdrive"


class PostgresConnections:
    """Port Connections; each reading is a connection of its own, so that a full server is noticed.

    Args:
        url: returns the connection string of the role that the application has, or one with the same limits.
    """

    def __init__(
        self,
        url: Callable[[], str],
        pool: Pool | None = None,
        *,
        connect_timeout_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self._url = url
        self._pool = pool
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock or SystemClock()
        self._limit = 0

    def read(self) -> ConnectionUse:
        """Return the use of the limit that is nearest to being reached.

        Raises:
            AuthError: the database refuses the user.
            ProviderUnavailable: it cannot be asked.
        """
        from backout.providers.postgres.server import libpq

        url = self._url()
        dsn, _ = make_libpq_url(url)
        query = _QUERY.format(pool=quote_literal(self._pool.application_name if self._pool else ""))
        try:
            rows = libpq.read(dsn, query, connect_timeout_s=self._connect_timeout_s, statement_timeout_s=3.0)
        except (libpq.LibpqError, UnicodeError) as error:
            if any(words in str(error) for words in _FULL):
                said = drop_secrets(url, " ".join(str(error).split()))[:200]
                return ConnectionUse(self._clock.now(), self._limit, self._limit, refused=said)
            raise make_connection_error(
                error, url, "the use of connections"
            ) from None  # its text may quote the connection string
        if not rows:
            raise ProviderUnavailable("the use of connections cannot be read: no row", where="database")
        return self._tightest(rows[0])

    def _tightest(self, row: tuple[str | None, ...]) -> ConnectionUse:
        *numbers, hidden = row
        every, most, here, here_most, ours, ours_most, pooled, waiting = (int(number or 0) for number in numbers)
        pool = self._pool if hidden == "f" else None  # the names of foreign sessions are not seen
        limits = [("server", every, most), ("database", here, here_most), ("role", ours, ours_most)]
        limits += [("pool", pooled, pool.limit)] if pool else []
        now, seen = self._clock.now(), waiting if hidden == "f" else None
        uses = [ConnectionUse(now, used, limit, seen, scope) for scope, used, limit in limits if limit >= 0]
        found = max(uses, key=lambda use: use.share)  # -1 is "no limit"; of equal ones the widest
        self._limit = found.limit
        return found
