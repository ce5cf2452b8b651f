"""What the application of a trial sent, where the server's log is not at hand: by the counts of pg_stat_statements.

They show no statement that failed. Whether one that was sent before still can be is asked of the server by PREPARE.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from psycopg import errors

from backout.errors import BackoutError
from backout.model.database.certificate import HeardStatement
from backout.providers.postgres.certify.log import WHO
from backout.providers.postgres.schema.statements import StatementStatistics

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import psycopg

_MOST: Final = 5000
_EXTENSION: Final = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"
_PREPARE: Final = "PREPARE certify AS "
"""What was prepared by us first, and sent by the application then, is counted under this text (Postgres 18)."""
_STARTS: Final = ("select", "insert", "update", "delete", "merge", "with", "values", "table")


class CountedStatements:
    """The statements of a database by their counts; none at all where the extension is not to be had.

    Args:
        url: returns the connection string of the database.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._statistics = StatementStatistics(url, most=_MOST)
        self._counts: Counter[str] = Counter()
        self._prepared: set[str] = set()
        self._why_none = ""

    @property
    def gap(self) -> str:
        """Why no statement is known to have been sent, "" where they are."""
        return f"the statements that were sent: {self._why_none}" if self._why_none else ""

    def begin(self, open_session: Callable[[], AbstractContextManager[psycopg.Connection[Any]]]) -> None:
        """Have the extension in the database, where that can be."""
        self._open = open_session
        with open_session() as connection:
            try:
                connection.execute(_EXTENSION)
            except errors.Error as error:
                if connection.broken:
                    raise
                self._why_none = str(error).splitlines()[0]

    def read(self) -> tuple[HeardStatement, ...]:
        """Return what was sent since the last call, then what was sent before and fails now."""
        try:
            read = self._statistics.read()
        except BackoutError as error:
            self._why_none = self._why_none or error.what
            return ()
        counts: Counter[str] = Counter()
        for each in read:
            counts[each.sql.removeprefix(_PREPARE)] += each.calls
        sent = [sql for sql, calls in counts.items() if calls > self._counts[sql] and not _is_ours(sql)]
        is_first, self._counts = not self._counts, counts
        if is_first:
            return ()
        with self._open() as connection:
            tried = {sql: _prepare(connection, sql) for sql in (*sent, *self._prepared)}
        refused = {sql: found for sql, found in tried.items() if found is not None}
        failing = [found for sql, found in refused.items() if sql in self._prepared]
        self._prepared.update(sql for sql in sent if sql not in refused)
        return (*map(HeardStatement, sent), *failing)


def _is_ours(sql: str) -> bool:
    return WHO in sql or not sql.lstrip().lower().startswith(_STARTS)


def _prepare(connection: psycopg.Connection[Any], sql: str) -> HeardStatement | None:
    """Return the statement with its error where the server does not take it."""
    try:
        connection.execute(f"{_PREPARE}{sql.rstrip().rstrip(';')}".encode())
        connection.execute("DEALLOCATE certify")
    except errors.Error as error:
        if connection.broken:
            raise
        return HeardStatement(sql, (), error.sqlstate or "", " ".join(str(error).splitlines()[0].split()))
    return None
