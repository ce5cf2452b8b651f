"""The one place that opens our Postgres connections, except for libpq's single query and procrastinate's pool.

Five kinds, by the origin of their statements:

- `reading`: ours, in one read-only transaction that knows pg_catalog alone; a pooler may stand between.
- `open_working`: ours, several transactions, with what a session holds (temporary tables, roles): poolers are refused.
- `open_asking`: ours, each question in a transaction of its own, begun by the caller (`pinned`).
- `open_bounded`: as that, and no statement is waited for longer than a limit: of the journal.
- `open_application`: the application's own statements, in the names and with the role that it has itself.

None prepares statements by itself: code of the application that ran in a session could have left one of that name.
The server's certificate is verified as `access.verified` says.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from backout.errors import Refused
from backout.providers.postgres.schema.history import SESSION_SCHEMAS
from backout.providers.postgres.server.pinned import begin_reading, write_pins
from backout.providers.postgres.tls.access import add_verification
from backout.providers.postgres.tls.dsn import make_libpq_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import psycopg

CONNECT_S: Final = 5.0
LETS_IN: Final = (
    "SELECT datname::pg_catalog.text FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate "
    "AND datconnlimit OPERATOR(pg_catalog.<>) -2 ORDER BY 1"
)
"""The databases that sessions are let into: not those that a DROP DATABASE left half removed (datconnlimit -2).

Source: PostgreSQL 18, "DROP DATABASE"; DATCONNLIMIT_INVALID_DB in src/include/catalog/pg_database.h.
"""
_TRIES: Final = 16
_KEEPALIVES: Final = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""A server whose machine is gone is noticed within a minute, and by the server that of a session that works.

Else what that session has locked stays so until the kernel gives up, which takes two hours.
"""


@contextmanager
def reading(
    url: str,
    *,
    connect_timeout_s: float = CONNECT_S,
    statement_timeout_s: float,
    lock_timeout_s: float = 2.0,
    **more: Any,
) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection in a transaction that only reads, and names what is in pg_catalog alone.

    Raises:
        psycopg.Error: there is no connection; its text may quote the connection string.
    """
    with _open_connection(url, connect_timeout_s, **more) as connection:
        begin = begin_reading(
            round(statement_timeout_s * 1000), lock_timeout_ms=round(lock_timeout_s * 1000), before=SESSION_SCHEMAS
        )
        connection.execute(begin.encode())
        yield connection
        connection.execute(b"COMMIT")


def open_working(
    url: str,
    *,
    connect_timeout_s: float = CONNECT_S,
    statement_timeout_s: float = 0.0,
    lock_timeout_s: float = 0.0,
    settings: Mapping[str, str] | None = None,
    **more: Any,
) -> psycopg.Connection[Any]:
    """Return a session of its own, without a transaction; names are those of pg_catalog alone.

    Args:
        statement_timeout_s, lock_timeout_s: 0 for none.
        settings: of the session, besides.

    Raises:
        Refused: a pooler stands between, so that what the session holds would be the application's.
        psycopg.Error: there is no connection; its text may quote the connection string.
    """
    connection = _open_connection(url, connect_timeout_s, **more)
    try:
        refuse_pooler(connection, url, "settings of this session would reach the application's")
        limits = {
            "statement_timeout": f"{round(statement_timeout_s * 1000)}",
            "lock_timeout": f"{round(lock_timeout_s * 1000)}",
            **{f"tcp_{name}": f"{value}" for name, value in _KEEPALIVES.items()},
        }
        connection.execute(write_pins({**limits, **(settings or {})}, local=False).encode())
    except BaseException:
        connection.close()
        raise
    return connection


def open_asking(url: str, *, connect_timeout_s: float = CONNECT_S, **more: Any) -> psycopg.Connection[Any]:
    """Return a connection whose user begins every transaction with what `pinned` returns. Raises as `reading`."""
    return _open_connection(url, connect_timeout_s, **more)


def open_bounded(url: str, *, connect_timeout_s: float, limit_s: float, **more: Any) -> psycopg.Connection[Any]:
    """Return a connection as `open_asking` does, closed when a statement has no answer within `limit_s`."""
    from backout.providers.postgres.server.bounded import BoundedConnection

    connection = _open_connection(url, connect_timeout_s, opened_by=BoundedConnection, **more)
    assert isinstance(connection, BoundedConnection)
    connection.limit_s = limit_s
    return connection


def open_application(url: str, *, connect_timeout_s: float = CONNECT_S, **more: Any) -> psycopg.Connection[Any]:
    """Return a connection for the application's own statements, in the names that its sessions have.

    Nothing of ours goes through it that the application could not do itself. Raises as `reading`.
    """
    return _open_connection(url, connect_timeout_s, **more)


def refuse_pooler(connection: psycopg.Connection[Any], url: str, why: str) -> None:
    """Refuse where sessions share a server process: what one of them holds would be another's.

    A server's own session runs in the process that it named at the login. A pooler names one of its own; then two
    sessions that are open at the same time and report the same process, or one that changes it, prove that they share.
    Beside the application's sessions they may miss each other, so it is tried again and again.

    Raises:
        Refused: they do, or a pooler lets no second session in that would tell.
    """
    import psycopg

    first = get_process(connection)
    if first == connection.info.backend_pid:
        return
    try:
        with _open_connection(url, CONNECT_S) as other:
            if not _is_shared(connection, other, first):
                return
        what = "a transaction pooler stands"
    except psycopg.OperationalError:
        what = "something that lets no second session in, perhaps a transaction pooler, stands"
    raise Refused(
        f"{what} between here and Postgres, and {why}",
        where="Postgres",
        hint="use the direct connection string: its variable goes into database.url_env or admin_url_env",
    )


def _is_shared(connection: psycopg.Connection[Any], other: psycopg.Connection[Any], first: int) -> bool:
    """Whether two sessions share server processes, of which the first one was in `first`."""
    for _ in range(_TRIES):
        with other.transaction():
            # In this order: where both are in the only process there is, the next question would wait for it.
            if get_process(other) == first or get_process(connection) != first:
                return True
    return False


def get_process(connection: psycopg.Connection[Any]) -> int:
    """Return the server process that a statement runs in."""
    (pid,) = connection.execute(b"SELECT pg_catalog.pg_backend_pid()").fetchone() or (0,)
    return int(pid)


def _open_connection(
    url: str, connect_timeout_s: float, *, opened_by: type[psycopg.Connection[Any]] | None = None, **more: Any
) -> psycopg.Connection[Any]:
    import psycopg

    settings: dict[str, Any] = {
        "autocommit": True,
        "prepare_threshold": None,
        "connect_timeout": max(2, round(connect_timeout_s)),
        "client_encoding": "UTF8",  # of a database in SQL_ASCII everything would be bytes
        "fallback_application_name": "backout",
        **_KEEPALIVES,
        **more,
    }
    return (opened_by or psycopg.Connection).connect(make_libpq_url(add_verification(url))[0], **settings)
