"""Which rows a statement depends on: its result is another one where they are gone.

That counts what the statement was answered, not what it is thought to read: a row that a filter drops, or that is
scanned and left out, counts for nothing. Everything happens in transactions that are rolled back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg import errors, sql

from backout.errors import BackoutError
from backout.providers.postgres.certify.rows import read_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg

    from backout.model.database.certificate import HeardStatement

_MOST_STATEMENTS: Final = 500
_MOST_ROWS: Final = 200
_TIMEOUT_MS: Final = 10_000

Key = tuple[str | None, ...]
Row = tuple[str, Key]


def count_read_again(
    connection: psycopg.Connection[Any],
    rows: Mapping[str, Sequence[Key]],
    statements: Sequence[HeardStatement],
) -> int:
    """Return how many of these rows, of each table the first 200, at least one of the statements depends on."""
    keys = {name: found for name in rows if (found := read_columns(connection, name))}
    waiting = [(name, key) for name, listed in rows.items() if name in keys for key in listed[:_MOST_ROWS]]
    read: set[Row] = set()
    different = dict.fromkeys((statement.sql, statement.values) for statement in statements)
    connection.execute(f"SET statement_timeout = {_TIMEOUT_MS}")
    for text, values in list(different)[:_MOST_STATEMENTS]:
        open_rows = [row for row in waiting if row not in read]
        if not open_rows:
            break
        read.update(_find_read(connection, text, values, open_rows, keys))
    return len(read)


def _find_read(
    connection: psycopg.Connection[Any], text: str, values: Key, rows: list[Row], keys: Mapping[str, tuple[str, ...]]
) -> list[Row]:
    """Return those on which the result depends: all are taken away, then halves of what mattered."""
    found: list[Row] = []
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SET LOCAL session_replication_role = replica")  # references do not hold a row back
            connection.execute(f"PREPARE certify AS {text.rstrip().rstrip(';')}".encode())
            usual = _run(connection, values, [], keys)
            if usual is not None and usual == _run(connection, values, [], keys):  # else it differs by itself
                parts = [rows]
                while parts:
                    part = parts.pop()
                    if _run(connection, values, part, keys) == usual:
                        continue
                    if len(part) == 1:
                        found.append(part[0])
                    else:
                        parts += [part[: len(part) // 2], part[len(part) // 2 :]]
    except errors.Error:
        if connection.broken:
            raise BackoutError("the connection was lost", where="the trial's database") from None
    finally:
        if not connection.broken:
            connection.execute("DEALLOCATE ALL")
    return found


def _run(
    connection: psycopg.Connection[Any], values: Key, without: Sequence[Row], keys: Mapping[str, tuple[str, ...]]
) -> object:
    """Return the result of the prepared statement where some rows are gone; None if it fails."""
    try:
        with connection.transaction(force_rollback=True):
            for name, key in without:
                connection.execute(write_delete(name, keys[name], key))
            given = sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Literal, values))) if values else sql.SQL("")
            cursor = connection.execute(sql.SQL("EXECUTE certify") + given)
            return cursor.rowcount, repr(cursor.fetchall()) if cursor.description else ""
    except errors.Error:
        return None


def write_delete(name: str, columns: Sequence[str], key: Key) -> sql.Composed:
    """Return the statement that removes a row, which is found by these columns."""
    tests = (
        sql.SQL("{}::text IS NOT DISTINCT FROM {}").format(sql.Identifier(column), sql.Literal(value))
        for column, value in zip(columns, key, strict=False)
    )
    table = sql.SQL(name)
    return sql.SQL("DELETE FROM ") + table + sql.SQL(" WHERE ") + sql.SQL(" AND ").join(tests)
