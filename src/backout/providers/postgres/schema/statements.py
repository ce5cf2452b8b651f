"""Port Statements: an application's statements, from `pg_stat_statements` or a log of the server.

Sources: PostgreSQL 18 documentation, F.30 pg_stat_statements (`stats_since` from 17 on), 19.8 Error Reporting and
Logging (`execute NAME: SQL`, then a DETAIL with the parameters; lines that go on start with a tab).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.decoding import Undecodable, decode_json
from backout.errors import UsageError
from backout.model.database.statements import Statement
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_QUERY: Final = """
SELECT query, sum(calls)::bigint, min({since}) FROM {schema}.pg_stat_statements s
JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
WHERE query NOT LIKE '%pg_stat_statements%' GROUP BY query ORDER BY 2 DESC, 1 LIMIT {limit}
"""
_SCHEMA: Final = """
SELECT n.nspname FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
WHERE x.extname = 'pg_stat_statements'
"""
_SINCE: Final = "extract(epoch FROM s.stats_since)::float8"
_MESSAGE = re.compile(r"LOG:\s+(?:duration: [0-9.]+ ms\s+)?(?:execute [^:]*|statement): (.*)", re.DOTALL)
_DETAIL = re.compile(r"DETAIL:\s+[Pp]arameters: (.*)", re.DOTALL)
_PARAMETER = re.compile(r"\$(\d+) = (NULL|'(?:[^']|'')*')")
_SEVERITY = re.compile(r"\b(?:LOG|DETAIL|STATEMENT|ERROR|HINT|CONTEXT|WARNING|NOTICE|FATAL):\s")


class StatementStatistics:
    """Port Statements on the extension pg_stat_statements.

    Args:
        url: returns the connection string.
        most: the maximum number of statements, most called first.
    """

    def __init__(self, url: Callable[[], str], *, most: int = 1000, timeout_s: float = 10.0) -> None:
        self._url = url
        self._most = most
        self._timeout_s = timeout_s

    def read(self) -> tuple[Statement, ...]:
        """Return the statements, most called first.

        Raises:
            UsageError: the extension is not there.
            AuthError, ProviderUnavailable: the database cannot be asked.
        """
        import psycopg

        url = self._url()
        try:
            try:
                rows = self._ask(url, _SINCE)
            except psycopg.errors.UndefinedColumn:  # before Postgres 17 nothing tells since when
                rows = self._ask(url, "NULL::float8")
        except psycopg.errors.ObjectNotInPrerequisiteState:
            raise _make_missing_error("pg_stat_statements is not in shared_preload_libraries") from None
        except (psycopg.Error, UnicodeError) as error:
            raise make_connection_error(error, url, "the statements that were sent") from None
        return tuple(Statement(sql, None, calls, since) for sql, calls, since in rows)

    def _ask(self, url: str, since: str) -> list[tuple[str, int, float | None]]:
        """Ask the view that belongs to the extension: another role could have made one of the same name."""
        from backout.providers.postgres.server.session import reading

        with reading(url, statement_timeout_s=self._timeout_s) as connection:
            found = connection.execute(_SCHEMA).fetchone()
            if found is None:
                raise _make_missing_error("the extension pg_stat_statements is not in this database")
            query = _QUERY.format(since=since, schema=quote_identifier(found[0]), limit=self._most)
            return connection.execute(query.encode()).fetchall()


def _make_missing_error(what: str) -> UsageError:
    hint = "add it, or name a log of what the old code sent: `backout db migrations prove --statements FILE`"
    return UsageError(what, where="database", hint=hint)


class StatementFile:
    """Port Statements on a file: a log of Postgres (`log_statement = 'all'`), JSON lines, or plain SQL.

    JSON lines are objects with `sql`, and `values` (a list of texts and nulls) where there are parameters.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[Statement, ...]:
        """Return the different statements, most frequent first; of the same statement the last values are kept.

        Raises:
            UsageError: the file is not there, or holds no statement.
        """
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"cannot be read: {error.strerror}", where=str(self._path)) from None
        found: dict[str, Statement] = {}
        for sql, values in _parse_statements(text):
            known = found.get(sql)
            found[sql] = Statement(sql, values if values is not None else None, (known.calls if known else 0) + 1)
        if not found:
            hint = "a log with log_statement = 'all', JSON lines with `sql` and `values`, or SQL with semicolons"
            raise UsageError("no statement was found in it", where=str(self._path), hint=hint)
        return tuple(sorted(found.values(), key=lambda statement: -statement.calls))


def _parse_statements(text: str) -> Iterator[tuple[str, tuple[str | None, ...] | None]]:
    if text.lstrip().startswith("{"):
        yield from _parse_json_lines(text)
    elif _SEVERITY.search(text):
        yield from _parse_log(text)
    else:
        import pglast

        for piece in pglast.split(text):
            yield piece, None


def _parse_json_lines(text: str) -> Iterator[tuple[str, tuple[str | None, ...] | None]]:
    for line in text.splitlines():
        try:
            row = decode_json(line)
        except Undecodable:
            continue
        if isinstance(row, dict) and isinstance(row.get("sql"), str):
            values = row.get("values")
            known = tuple(None if v is None else str(v) for v in values) if isinstance(values, list) else None
            yield row["sql"], known


def _parse_log(text: str) -> Iterator[tuple[str, tuple[str | None, ...] | None]]:
    waiting: str | None = None
    for entry in _list_entries(text):
        message, detail = _MESSAGE.search(entry), _DETAIL.search(entry)
        if detail and waiting is not None:
            values = {int(number): _find_value(value) for number, value in _PARAMETER.findall(detail[1])}
            yield waiting, tuple(values.get(k) for k in range(1, max(values, default=0) + 1))
            waiting = None
        elif message:
            if waiting is not None:
                yield waiting, None
            waiting = message[1].strip()
    if waiting is not None:
        yield waiting, None


def _list_entries(text: str) -> Iterator[str]:
    """Yield the entries of a log: a line, and the lines after it that only go on."""
    entry: list[str] = []
    for line in text.splitlines():
        if entry and not line.startswith("\t"):
            yield "\n".join(entry)
            entry = []
        entry.append(line.removeprefix("\t") if entry else line)
    if entry:
        yield "\n".join(entry)


def _find_value(text: str) -> str | None:
    return None if text == "NULL" else text[1:-1].replace("''", "'")
