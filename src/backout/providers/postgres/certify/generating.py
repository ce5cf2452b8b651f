"""Rows for empty tables, made up from the schema alone: types, keys, references, enumerations, the words of checks."""

from __future__ import annotations

import itertools
import re
import uuid
from typing import TYPE_CHECKING, Any, Final

from psycopg import errors, sql

from backout.model.value import Value
from backout.providers.postgres.certify.rows import list_tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg

ROWS: Final = 12
_TRIES: Final = 24
_COLUMNS: Final = """
SELECT a.attnum, a.attname, t.typcategory, t.typname, coalesce(b.typname, t.typname), a.attnotnull,
  a.attidentity <> '' OR a.attgenerated <> '', d.adbin IS NOT NULL,
  information_schema._pg_char_max_length(coalesce(nullif(t.typbasetype, 0), t.oid),
    CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END),
  (SELECT array_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
  (SELECT string_agg(pg_get_constraintdef(k.oid), ' ') FROM pg_constraint k
    WHERE k.contype = 'c' AND (k.conrelid = a.attrelid AND a.attnum = ANY (k.conkey) OR k.contypid = t.oid))
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = nullif(t.typbasetype, 0)
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_REFERENCES: Final = """
SELECT f.conkey, f.confrelid, f.confrelid::regclass::text,
  (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(f.confkey) WITH ORDINALITY k(num, n)
    JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.num)
FROM pg_constraint f WHERE f.conrelid = %s AND f.contype = 'f'
"""
_WORD: Final = re.compile(r"'((?:[^']|'')*)'")
_NUMBER: Final = re.compile(r"(?<![\w'])-?\d+(?:\.\d+)?(?![\w'])")
_BY_NAME: Final = {
    "json": "{}", "jsonb": "{}", "bytea": "\\x00", "xml": "<a/>", "time": "10:00", "timetz": "10:00+00",
    "inet": "127.0.0.1", "cidr": "127.0.0.0/8", "macaddr": "08:00:2b:01:02:03", "interval": "1 hour",
    "point": "(0,0)", "tsvector": "word", "bit": "0", "varbit": "0",
}  # fmt: skip
_BY_CATEGORY: Final = {"A": "{}", "R": "empty"}


class _Column(Value, frozen=True):
    number: int
    name: str
    category: str
    type: str
    base: str
    is_required: bool
    is_made: bool
    has_default: bool
    longest: int | None
    labels: tuple[str, ...]
    check: str


class _Reference(Value, frozen=True):
    numbers: tuple[int, ...]
    table: int
    name: str
    columns: tuple[str, ...]


def fill_tables(connection: psycopg.Connection[Any]) -> tuple[str, ...]:
    """Write rows into each empty table, referenced ones first; return the tables for which none could be made."""
    tables = dict(list_tables(connection))
    references = {oid: _read_references(connection, oid) for oid in tables}
    empty = []
    for oid in _sort_tables(tables, references):
        name = sql.SQL(tables[oid])
        if connection.execute(sql.SQL("SELECT EXISTS (SELECT FROM ") + name + sql.SQL(")")).fetchone() == (True,):
            continue
        columns = _read_columns(connection, oid)
        if not sum(_write_row(connection, name, columns, references[oid], number) for number in range(1, ROWS + 1)):
            empty.append(tables[oid])
    return tuple(empty)


def _sort_tables(tables: dict[int, str], references: dict[int, tuple[_Reference, ...]]) -> list[int]:
    """Return the tables, each after those that it refers to where there is no circle."""
    ordered: dict[int, None] = {}
    waiting = list(tables)
    while waiting:
        ready = [
            o
            for o in waiting
            if all(r.table in ordered or r.table == o or r.table not in tables for r in references[o])
        ]
        for oid in ready or waiting[:1]:
            ordered[oid] = None
        waiting = [oid for oid in waiting if oid not in ordered]
    return list(ordered)


def _write_row(
    connection: psycopg.Connection[Any],
    table: sql.SQL,
    columns: Sequence[_Column],
    references: Sequence[_Reference],
    number: int,
) -> bool:
    """Write one row; where a constraint refuses it, others are tried."""
    referred = _choose_referred(connection, references, number)
    if referred is None:
        return False
    own = [c for c in columns if c.number not in referred and not c.is_made and (not c.has_default or c.check)]
    choices = [list(itertools.islice(_list_values(column, number), _TRIES)) for column in own]
    names = [c.name for c in columns if c.number in referred] + [c.name for c in own]
    given = [referred[c.number] for c in columns if c.number in referred]
    for chosen in itertools.islice(_list_combinations(choices), _TRIES):
        if _insert(connection, table, names, [*given, *chosen]):
            return True
    return False


def _list_combinations(choices: Sequence[Sequence[str | None]]) -> Iterator[list[str | None]]:
    """Yield the first choices, then each column's other ones."""
    first = [values[0] for values in choices]
    yield first
    for at in range(1, max(map(len, choices), default=0)):
        yield [values[min(at, len(values) - 1)] for values in choices]
    for place, values in enumerate(choices):
        for value in values[1:]:
            yield [*first[:place], value, *first[place + 1 :]]


def _insert(
    connection: psycopg.Connection[Any], table: sql.SQL, names: Sequence[str], values: Sequence[str | None]
) -> bool:
    what: sql.Composable = sql.SQL(" DEFAULT VALUES")
    if names:
        into = sql.SQL(", ").join(map(sql.Identifier, names))
        what = sql.SQL(" ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
            into, sql.SQL(", ").join(map(sql.Literal, values))
        )
    try:
        with connection.transaction():
            connection.execute(sql.SQL("INSERT INTO ") + table + what)
    except errors.Error:
        if connection.broken:
            raise
        return False
    return True


def _choose_referred(
    connection: psycopg.Connection[Any], references: Sequence[_Reference], number: int
) -> dict[int, str | None] | None:
    """Return values for the columns that refer to other tables, taken from there; None where that is empty."""
    found: dict[int, str | None] = {}
    for reference in references:
        columns = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(c)) for c in reference.columns)
        query = sql.SQL("SELECT {} FROM ").format(columns) + sql.SQL(reference.name)
        rows = connection.execute(query + sql.SQL(f" ORDER BY 1 LIMIT {ROWS}")).fetchall()
        row = rows[number % len(rows)] if rows else (None,) * len(reference.columns)
        found.update(zip(reference.numbers, row, strict=True))
    return found


def _list_values(column: _Column, number: int) -> Iterator[str | None]:
    """Yield values for a column, the most natural first."""
    value = _make_value(column, number)
    words = [word.replace("''", "'") for word in _WORD.findall(column.check)]
    if words and column.category == "S":
        yield words[number % len(words)]
        yield from words
    if column.category == "N":
        for found in _NUMBER.findall(column.check):
            yield from (_add(found, number), _add(found, -number), found)
    yield value
    if not column.is_required:
        yield None


def _add(text: str, number: int) -> str:
    return str(float(text) + number).removesuffix(".0")


def _make_value(column: _Column, number: int) -> str | None:
    if column.labels:
        return column.labels[number % len(column.labels)]
    made = _BY_NAME.get(column.base) or _BY_CATEGORY.get(column.category)
    if made is not None:
        return made
    if column.base == "uuid":
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{column.name} {number}"))
    if column.category == "N":
        return str(number)
    if column.category == "B":
        return "true" if number % 2 else "false"
    if column.category == "D":
        return f"2026-01-{number:02d}"
    if column.category == "S" or column.base == "citext":
        text = f"{column.name}-{number}@example.com" if "mail" in column.name else f"{column.name} {number}"
        return text if column.longest is None or len(text) <= column.longest else f"{number} {text}"[: column.longest]
    return None


def _read_columns(connection: psycopg.Connection[Any], oid: int) -> list[_Column]:
    rows = connection.execute(_COLUMNS, [oid]).fetchall()
    return [_Column(*(*row[:9], tuple(row[9] or ()), row[10] or "")) for row in rows]


def _read_references(connection: psycopg.Connection[Any], oid: int) -> tuple[_Reference, ...]:
    rows = connection.execute(_REFERENCES, [oid]).fetchall()
    return tuple(_Reference(tuple(row[0]), row[1], row[2], tuple(row[3])) for row in rows)
