"""Port Schema on Postgres: the table in which a migration tool keeps its history, read in one read-only transaction."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from backout.errors import AuthError, ProviderUnavailable
from backout.model.schema import SchemaState
from backout.providers.clock import SystemClock
from backout.providers.postgres.history import (
    ALEMBIC,
    DJANGO,
    PRISMA,
    SESSION_SCHEMAS,
    HistoryTable,
    applied_of,
    place_of,
    place_query,
)
from backout.providers.postgres.plain import locked, refuse_foreign_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.schema import AppliedMigration
    from backout.ports import Clock
    from backout.providers.postgres import libpq

__all__ = ["ALEMBIC", "DJANGO", "PRISMA", "HistoryTable", "PostgresHistory", "libpq_url", "meant", "without_secrets"]
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
_PASSWORD: Final = re.compile(r"\bpassword\s*=\s*'?([^'\s]+)")


_NOW: Final = "SELECT extract(epoch FROM now())::float8"
_COMMITTED: Final = """
SELECT version_num, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM ONLY alembic_version
WHERE current_setting('track_commit_timestamp')::bool
"""


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
        try:
            with libpq.opened(
                dsn, connect_timeout_s=self._connect_timeout_s, statement_timeout_s=self._statement_timeout_s
            ) as asking:
                applied = self._read(asking, schema)
        except (libpq.LibpqError, UnicodeError) as error:
            raise meant(error, url, "the migration history") from None  # its text may quote the connection string
        heads = tuple(m.name for m in applied) if self._table.heads_only else ()
        return SchemaState(self._clock.now(), applied, heads)

    def _read(self, asking: libpq.Asking, schema: str | None) -> tuple[AppliedMigration, ...]:
        from backout.providers.postgres import libpq  # noqa: PLC0415 - same

        table, found = self._table, place_query((self._table,), schema)
        try:
            places, *rows = asking.read(found, table.copy, before=SESSION_SCHEMAS)
        except libpq.LibpqError as error:
            if error.sqlstate != libpq.UNDEFINED_TABLE or not error.answers:
                raise
            if error.answers[0]:  # something of that name is there, and none that may be read
                place_of((table,), error.answers[0][0]).check()
            return ()
        place_of((table,), places[0]).check()
        applied = applied_of(table, rows[0])
        return self._dated(asking, found, applied) if table.heads_only and applied else applied

    def _dated(
        self, asking: libpq.Asking, found: str, applied: tuple[AppliedMigration, ...]
    ) -> tuple[AppliedMigration, ...]:
        """Return heads with their times: of the transaction that wrote each, or else the latest that they can be.

        The transaction stands in no column that COPY knows, so a query is planned; without a lock where the session
        has no powers that the table's owner could borrow, and not at all where his code would run with them.
        """
        from backout.providers.postgres import libpq  # noqa: PLC0415 - same

        name = self._table.name
        ways = ((locked(name), refuse_foreign_code(name)), (refuse_foreign_code(name, only_weak=True),))
        times: dict[str | None, str | None] = {}
        for way in ways:
            try:
                *_, rows = asking.read(found, *way, _COMMITTED, before=SESSION_SCHEMAS)
            except libpq.LibpqError:
                continue
            times = dict(row for row in rows if len(row) == 2)  # noqa: PLR2004 name and time
            break
        now = float(asking.read(_NOW)[0][0][0] or 0)
        return tuple(
            replace(head, started_at=float(at or now), finished_at=float(at or now), dated=at is not None)
            for head in applied
            for at in (times.get(head.name),)
        )


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
