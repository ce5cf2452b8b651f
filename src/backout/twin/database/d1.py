"""D1 on the twin: one SQLite file for each database, every batch one transaction.

Source: Cloudflare documentation, "D1: Limits", "SQL statements" (the pragmas) and "Debug D1" (read 2026-12-01).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from backout.model.value import Value
from backout.twin.faults import FaultKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backout.twin.faults import Faults

Cell = int | float | str | bytes | None

LONGEST_S: Final = 30.0
LONGEST_SQL: Final = 100_000
"""Characters of one statement."""
_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_REMARKS = re.compile(r"--[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_STEPS_PER_LOOK = 100_000
_FORBIDDEN = {sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH}
_PRAGMAS = frozenset(
    {
        *("table_list", "table_info", "table_xinfo", "index_list", "index_info", "index_xinfo", "page_count"),
        *("foreign_keys", "foreign_key_check", "foreign_key_list", "defer_foreign_keys", "quick_check", "optimize"),
        *("case_sensitive_like", "ignore_check_constraints", "legacy_alter_table", "recursive_triggers"),
        *("reverse_unordered_selects", "page_size"),
    }
)


class D1Error(Exception):
    """What a database answers in place of rows; the text is for the application."""


class Statement(Value, frozen=True):
    """One query: SQL, of one statement or several, and the values of its parameters."""

    sql: str
    params: tuple[Cell, ...] = ()


class Result(Value, frozen=True):
    """What one statement of SQL gave; `meta` as D1 names it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    meta: dict[str, object]


class D1Databases:
    """All databases of a twin. Any id is one: it begins empty.

    Args:
        directory: of their files.
        faults: while the service `database` is down, no query is answered.
        longest_s: queries that take longer are ended.
    """

    def __init__(self, directory: Path, faults: Faults, *, longest_s: float = LONGEST_S) -> None:
        self._directory = directory
        self._faults = faults
        self._longest_s = longest_s
        self._locks: dict[str, asyncio.Lock] = {}

    async def run(self, database: str, statements: Sequence[Statement]) -> tuple[tuple[Result, ...], ...]:
        """Run queries in one transaction, and return for each what its statements gave.

        Raises:
            D1Error: one failed, and none has changed anything; or the database cannot be reached.
        """
        if not _ID.fullmatch(database):
            raise D1Error(f"{database[:64]!r} is not the id of a database")
        if self._faults.active(FaultKind.SERVICE_DOWN, "database"):
            raise D1Error("Network connection lost.")
        async with self._locks.setdefault(database, asyncio.Lock()):
            return await asyncio.to_thread(self._run, database, statements)

    async def delete(self, database: str) -> None:
        """Forget a database with what is in it."""
        async with self._locks.setdefault(database, asyncio.Lock()):
            for file in self._directory.glob(f"{database}.sqlite*"):
                file.unlink()

    def _run(self, database: str, statements: Sequence[Statement]) -> tuple[tuple[Result, ...], ...]:
        try:
            with contextlib.closing(self._open(database)) as connection:  # a pragma lasts as long as the transaction
                deadline = time.monotonic() + self._longest_s
                connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_PER_LOOK)
                connection.execute("BEGIN IMMEDIATE")
                connection.set_authorizer(_check_action)
                found = tuple(tuple(_run_each(connection, each)) for each in statements)
                connection.set_authorizer(None)
                connection.execute("COMMIT")  # without it, closing rolls back
        except (sqlite3.Error, OverflowError) as error:
            raise D1Error(_describe(error)) from error
        return found

    def _open(self, database: str) -> sqlite3.Connection:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._directory / f"{database}.sqlite"
        file.touch(mode=0o600)
        connection = sqlite3.connect(file, isolation_level=None)
        connection.text_factory = lambda raw: raw.decode(errors="replace")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = OFF")  # it survives our end; the machine's is not worth the waiting
        return connection


def split_statements(sql: str) -> tuple[str, ...]:
    r"""Return the statements of a text, without those that are empty or a remark.

    >>> split_statements("SELECT ';'; -- a; b\nSELECT 2;")
    ("SELECT ';';", '-- a; b\nSELECT 2;')

    Raises:
        D1Error: one is too long.
    """
    found, begin = [], 0
    for end in (*(match.end() for match in re.finditer(";", sql)), len(sql)):
        if end - begin > LONGEST_SQL:
            raise D1Error("statement too long: SQLITE_TOOBIG")
        if end == len(sql) or sqlite3.complete_statement(sql[begin:end]):
            found.append(sql[begin:end].strip())
            begin = end
    return tuple(each for each in found if _REMARKS.sub("", each).strip(" \t\r\n;"))


def _run_each(connection: sqlite3.Connection, query: Statement) -> Iterator[Result]:
    statements = split_statements(query.sql)
    if not statements:
        raise sqlite3.OperationalError("No SQL statements detected.")
    for sql in statements:
        began, before = time.monotonic(), connection.total_changes
        cursor = connection.execute(sql, query.params)
        rows = tuple(cursor.fetchall())
        changes = connection.total_changes - before
        yield Result(
            columns=tuple(column[0] for column in cursor.description or ()),
            rows=rows,
            meta={
                "served_by": "twin",
                "served_by_primary": True,
                "duration": (time.monotonic() - began) * 1000,
                "changes": changes,
                "last_row_id": _ask(connection, "SELECT last_insert_rowid()"),
                "changed_db": changes > 0 or cursor.description is None,
                "size_after": _ask(connection, "PRAGMA page_count") * _ask(connection, "PRAGMA page_size"),
                "rows_read": len(rows),
                "rows_written": changes,
            },
        )


def _ask(connection: sqlite3.Connection, sql: str) -> int:
    return int(connection.execute(sql).fetchone()[0])


def _check_action(action: int, first: str | None, *_more: str | None) -> int:
    """Keep a query inside its own database and its transaction, as D1 does."""
    is_refused = action in _FORBIDDEN or (action == sqlite3.SQLITE_PRAGMA and (first or "").lower() not in _PRAGMAS)
    return sqlite3.SQLITE_DENY if is_refused else sqlite3.SQLITE_OK


def _describe(error: Exception) -> str:
    """Return the text of an error with SQLite's name for it, as D1 words it."""
    name = getattr(error, "sqlite_errorname", "")
    return f"{error}: {'_'.join(name.split('_')[:2])}" if name else str(error)
