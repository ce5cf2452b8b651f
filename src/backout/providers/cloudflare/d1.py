"""Port Schema on D1: wrangler's table `d1_migrations`, read through Cloudflare's query API.

Source: Cloudflare API reference, "Query D1 Database" (POST /accounts/{account_id}/d1/database/{database_id}/query, body
{sql, params}; D1 Read or D1 Write); wrangler 4, `src/d1/migrations/helpers.ts`: id, name (the file's), applied_at
(UTC, `YYYY-MM-DD HH:MM:SS`), one row for each file, written by the batch that applies it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, parse_moment
from backout.errors import ProviderRejected, ProviderUnavailable
from backout.model.database.schema import AppliedMigration, SchemaState
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.permissions import READ_D1
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from backout.ports import Clock
    from backout.providers.cloudflare.client import ApiClient

TABLE: Final = "d1_migrations"
_ROWS: Final = f"SELECT name, applied_at FROM {TABLE} ORDER BY id"  # noqa: S608 - our own words
_TABLES: Final = f"SELECT name, '' AS applied_at FROM sqlite_master WHERE type = 'table' AND name = '{TABLE}'"  # noqa: S608 - same


class _Row(msgspec.Struct):
    name: str | None = None
    applied_at: str = ""


class _Answer(msgspec.Struct):
    results: tuple[_Row, ...] | None = None
    success: bool = True


class D1History:
    """Port Schema of one D1 database.

    Args:
        database_id: its UUID, as `wrangler d1 list` shows it.
    """

    def __init__(self, client: ApiClient, account_id: str, database_id: str, *, clock: Clock | None = None) -> None:
        self._client = client
        self._path = f"accounts/{quote_segment(account_id)}/d1/database/{quote_segment(database_id)}/query"
        self._clock = clock or SystemClock()

    def read(self) -> SchemaState:
        """Return the migration history, oldest first; an empty one when wrangler never migrated this database.

        Raises:
            AuthError: the token lacks D1 Read.
            ProviderRejected: no such database.
            ProviderUnavailable: no answer.
        """
        try:
            rows = self._ask(_ROWS)
        except ProviderRejected:
            if self._ask(_TABLES):  # the table is there, so it was something else that the API did not like
                raise
            rows = ()
        return SchemaState(self._clock.now(), tuple(self._read_migration(row) for row in rows))

    def _ask(self, sql: str) -> tuple[_Row, ...]:
        answers = self._client.ask(self._path, {"sql": sql}, tuple[_Answer, ...], permission=READ_D1)
        if len(answers) != 1 or not answers[0].success or answers[0].results is None:
            raise ProviderUnavailable("one statement was sent, but not one result came back", where=self._path)
        return answers[0].results

    def _read_migration(self, row: _Row) -> AppliedMigration:
        try:
            at = parse_moment(row.applied_at)
        except Undecodable:
            raise ProviderUnavailable(f"no time: {row.applied_at[:40]!r} in {TABLE}", where=self._path) from None
        return AppliedMigration(row.name or "", at, at)
