"""Port Schema on Postgres: the table in which a migration tool keeps its history, read in one read-only transaction.

Sources: Prisma's schema engine, table `_prisma_migrations` (2026-11): `finished_at` is null while a migration runs or
after it failed; `rolled_back_at` is set by `prisma migrate resolve --rolled-back`, and such a row counts no more.
Alembic documentation, "Tutorial": `alembic_version` holds the heads and nothing else. Django, `MigrationRecorder`:
`django_migrations` has a row for each migration of each application, its own applications included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from backout.errors import AuthError, ProviderUnavailable
from backout.model.schema import AppliedMigration, SchemaState
from backout.providers.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import Clock

_LIBPQ: Final = (
    "ssl",
    "hostaddr",
    "application_name",
    "connect_timeout",
    "options",
    "channel_binding",
    "target_session_attrs",
)
_REFUSED: Final = ("authentication failed", "permission denied", "no pg_hba.conf entry")
_MOST_LOGS: Final = 4000
_PASSWORD: Final = re.compile(r"\bpassword\s*=\s*'?([^'\s]+)")


@dataclass(frozen=True, slots=True)
class HistoryTable:
    """How one tool keeps its history.

    Args:
        columns: SQL for name, start, end, rollback (Unix seconds), checksum, logs, steps, and whether it is dated.
        order: oldest first. heads_only: a row is a head, not a migration that was applied.
    """

    name: str
    columns: str
    order: str
    heads_only: bool = False


PRISMA: Final = HistoryTable(
    "_prisma_migrations",
    "migration_name, extract(epoch FROM started_at)::float8, extract(epoch FROM finished_at)::float8, "
    f"extract(epoch FROM rolled_back_at)::float8, checksum, left(logs, {_MOST_LOGS}), applied_steps_count, true",
    "started_at, migration_name",
)
_WRITTEN: Final = (
    "CASE WHEN current_setting('track_commit_timestamp')::bool THEN extract(epoch FROM pg_xact_commit_timestamp(xmin)) "
    "END::float8"
)
ALEMBIC: Final = HistoryTable(
    "alembic_version",
    f"version_num, coalesce({_WRITTEN}, extract(epoch FROM now())::float8), "
    f"coalesce({_WRITTEN}, extract(epoch FROM now())::float8), NULL, NULL, NULL, NULL, {_WRITTEN} IS NOT NULL",
    "version_num",
    heads_only=True,
)
DJANGO: Final = HistoryTable(
    "django_migrations",
    "app || '.' || name, extract(epoch FROM applied)::float8, extract(epoch FROM applied)::float8, "
    "NULL, NULL, NULL, NULL, true",
    "id",
)


class PostgresHistory:
    """Port Schema.

    Args:
        url: returns the connection string; Prisma's own parameters (`?schema=`, `?connection_limit=`) are understood.
            It is asked once per reading and never shown.
        table: whose history it is. statement_timeout_s: how long a lock on the table may hold the reading.
    """

    def __init__(
        self,
        url: Callable[[], str],
        table: HistoryTable = PRISMA,
        *,
        connect_timeout_s: float = 5.0,
        statement_timeout_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self._url = url
        self._table = table
        self._connect_timeout_s = connect_timeout_s
        self._statement_timeout_s = statement_timeout_s
        self._clock = clock or SystemClock()

    def read(self) -> SchemaState:
        """Return the migration history, oldest first; an empty one when the tool's table does not exist.

        Raises:
            AuthError: the database refuses the user. ProviderUnavailable: the history cannot be read.
        """
        from backout.providers.postgres import libpq  # noqa: PLC0415 - only a reading pays for it

        url = self._url()
        dsn, schema = libpq_url(url)
        table = f"{libpq.identifier(schema)}.{self._table.name}" if schema else self._table.name
        try:
            rows = libpq.read(
                dsn,
                f"SELECT {self._table.columns} FROM {table} ORDER BY {self._table.order}",  # noqa: S608 - our own words
                connect_timeout_s=self._connect_timeout_s,
                statement_timeout_s=self._statement_timeout_s,
            )
        except libpq.LibpqError as error:
            if error.sqlstate != libpq.UNDEFINED_TABLE:
                raise meant(error, url, "the migration history") from None  # its text may quote the connection string
            rows = []
        except UnicodeError as error:
            raise meant(error, url, "the migration history") from None
        applied = tuple(map(_applied, rows))
        heads = tuple(m.name for m in applied) if self._table.heads_only else ()
        return SchemaState(self._clock.now(), applied, heads)


def _applied(row: tuple[str | None, ...]) -> AppliedMigration:
    name, begun, ended, undone, checksum, logs, steps, dated = row
    return AppliedMigration(
        name or "",
        float(begun or 0),
        _seconds(ended),
        _seconds(undone),
        checksum or "",
        logs or "",
        None if steps is None else int(steps),
        dated == "t",
    )


def _seconds(text: str | None) -> float | None:
    return None if text is None else float(text)


def libpq_url(url: str) -> tuple[str, str | None]:
    """Return a connection string that libpq takes, and Prisma's schema when one is named.

    >>> libpq_url("postgresql://u@db/app?schema=shop&connection_limit=1&sslmode=require")
    ('postgresql://u@db/app?sslmode=require', 'shop')
    """
    if "://" not in url:
        return url, None
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, None
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in pairs if name.startswith(_LIBPQ)]
    schema = next((value for name, value in pairs if name == "schema" and value), None)
    return urlunsplit(parts._replace(query=urlencode(kept, quote_via=quote))), schema


def meant(error: Exception, url: str, what: str) -> AuthError | ProviderUnavailable:
    """Return the error for whoever wanted to read `what`; neither the connection string nor its password is in it."""
    text = without_secrets(url, " ".join(str(error).split()))[:300] or type(error).__name__
    hint = "check the database's connection string and that it can be reached from here"
    if any(words in text for words in _REFUSED):
        return AuthError(f"the database refuses the connection: {text}", where="database", hint=hint)
    return ProviderUnavailable(f"{what} cannot be read: {text}", where="database", hint=hint)


def without_secrets(url: str, text: str) -> str:
    """Return the text without the connection string and its password.

    Of a password that makes the string unreadable libpq quotes parts: then what is wrong is told in our own words.
    """
    if "://" not in url:
        if "connection info string" in text:
            return "the connection string cannot be read: a value with spaces stands in single quotes"
        password = next(iter(_PASSWORD.findall(url)), "")
    else:
        try:
            parts = urlsplit(url)
        except ValueError:
            return "the connection string is not a URL that can be read"
        signs = parts.netloc.count("@")
        if signs > 1 or (not signs and ":" in parts.netloc and "@" in url.partition("://")[2]):
            return "the connection string cannot be read: / ? # @ in a password are written %2F %3F %23 %40"
        password = parts.password or ""
    for secret in {url, password, unquote(password)} - {""}:
        text = text.replace(secret, "[redacted]")
    return text
