"""Lists the rows that a cluster has and an earlier copy of it has not, has otherwise, or has still: by table and key.

A physical copy keeps the id of the transaction that wrote each version of a row, so one key with two ids was written
since. Both sides are read in the order of their keys and merged: the memory does not grow with the tables. Keys are
written by `format('%L')`, which calls a type's own output and no cast of the application's.
Source: PostgreSQL 18, "System Columns" (raw xmin outlives freezing), "String Functions" (format), COPY.
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from backout.model.database.written_since import WrittenTable
from backout.model.value import Value
from backout.providers.postgres.comparison.copies import session_with
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.server.owner_session import make_inside_dsn
from backout.providers.postgres.server.pinned import parse_copied_row
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MOST: Final = 1000
_INSERTS, _UPDATES, _DELETES = range(3)
_TABLES: Final = """
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), coalesce(k.columns, '{}') FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN LATERAL (
  SELECT array_agg(a.attname::text ORDER BY place) AS columns FROM (
    SELECT i.indkey, i.indnkeyatts FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid
      AND i.indpred IS NULL AND i.indexprs IS NULL AND (i.indisprimary OR NOT EXISTS (SELECT FROM pg_attribute AS b
        WHERE b.attrelid = c.oid AND b.attnum = ANY (i.indkey) AND NOT b.attnotnull))
    ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1
  ) AS i, unnest(i.indkey) WITH ORDINALITY AS u(number, place) JOIN pg_attribute AS a
    ON a.attrelid = c.oid AND a.attnum = u.number WHERE u.place <= i.indnkeyatts
) AS k ON true
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 2
"""


class _Table(Value, frozen=True):
    oid: int
    name: str
    key: tuple[str, ...]


def list_written_rows(
    later: str, earlier: str, database: str, *, tables: Collection[str] | None = None, most: int = MOST
) -> tuple[WrittenTable, ...]:
    """Return what was written to each table since; those that nothing was written to are left out.

    Args:
        later, earlier: connection strings: of the cluster, as it was at the fence; of the copy, as it was at the moment
            that it was brought back to, and before anyone writes to it.
        tables: look at these alone, named as `WrittenTable.table` is; None for all.
        most: so many keys of each kind are listed.

    Raises:
        AuthError, ProviderUnavailable: one of them cannot be read.
    """
    import psycopg

    url = later
    try:
        with session_with(make_inside_dsn(later), database) as old:
            url = earlier
            with session_with(make_inside_dsn(earlier), database) as new:
                return tuple(_compare(old, new, tables, most))
    except (psycopg.Error, UnicodeError) as error:
        raise make_connection_error(error, url, "what was written since") from None


def _compare(old: Any, new: Any, tables: Collection[str] | None, most: int) -> Iterator[WrittenTable]:
    there, here = _list_tables(old), _list_tables(new)
    for name in sorted(there.keys() | here.keys()):
        if tables is not None and name not in tables:
            continue
        was, now = there.get(name), here.get(name)
        known = was or now
        assert known is not None
        has_key = bool(known.key) and (was is None or now is None or was.key == now.key)
        if has_key:
            found = _merge(name, known.key, _read(old, was), _read(new, now), most)
        else:
            found = _count(name, _read_ids(old, was), _read_ids(new, now))
        if found.inserts or found.updates or found.deletes:
            yield replace(found, is_new=now is None, is_gone=was is None)


def _list_tables(session: Any) -> dict[str, _Table]:
    rows = session.execute(_TABLES.encode()).fetchall()
    return {str(name): _Table(int(oid), str(name), tuple(map(str, key))) for oid, name, key in rows}


def _read(session: Any, table: _Table | None) -> Iterator[tuple[bytes, str]]:
    """Yield (key, id of the transaction that wrote the row) in the order of the keys."""
    if table is None:
        return
    holes = ", ".join(["%L"] * len(table.key))
    columns = ", ".join(f"t.{quote_identifier(each)}" for each in table.key)
    rows = f"SELECT pg_catalog.format('{holes}', {columns}) AS key, t.xmin FROM ONLY {table.name} AS t"
    query = f"COPY (SELECT r.key, r.xmin FROM ({rows}) AS r ORDER BY pg_catalog.convert_to(r.key, 'UTF8')) TO STDOUT"
    with session.cursor().copy(query.encode()) as copy:
        for line in _split(copy):
            key, xmin = parse_copied_row(line)
            yield (key or "").encode(), xmin or ""


def _read_ids(session: Any, table: _Table | None) -> dict[str, int]:
    """Return how many rows of a table without a key each transaction has written."""
    if table is None:
        return {}
    query = f"SELECT t.xmin::pg_catalog.text, pg_catalog.count(*) FROM ONLY {table.name} AS t GROUP BY t.xmin::text"
    return {str(xmin): int(rows) for xmin, rows in session.execute(query.encode()).fetchall()}


def _split(copy: Any) -> Iterator[bytes]:
    rest = b""
    for data in copy:
        *lines, rest = (rest + bytes(data)).split(b"\n")
        yield from lines


def _merge(
    name: str,
    key: tuple[str, ...],
    old: Iterator[tuple[bytes, str]],
    new: Iterator[tuple[bytes, str]],
    most: int,
) -> WrittenTable:
    counts = [0, 0, 0]
    keys: tuple[list[str], list[str], list[str]] = ([], [], [])

    def add(kind: int, text: bytes) -> None:
        counts[kind] += 1
        if len(keys[kind]) < most:
            keys[kind].append(text.decode(errors="replace"))

    was, now = next(old, None), next(new, None)
    while was is not None or now is not None:
        if now is None or (was is not None and was[0] < now[0]):
            assert was is not None
            add(_INSERTS, was[0])
            was = next(old, None)
        elif was is None or now[0] < was[0]:
            add(_DELETES, now[0])
            now = next(new, None)
        else:
            if was[1] != now[1]:
                add(_UPDATES, was[0])
            was, now = next(old, None), next(new, None)
    inserts, updates, deletes = counts
    inserted, updated, deleted = (tuple(each) for each in keys)
    return WrittenTable(name, key, inserts, updates, deletes, inserted, updated, deleted)


def _count(name: str, old: dict[str, int], new: dict[str, int]) -> WrittenTable:
    """Return what was written to a table without a key: an update is an insert and a delete there."""
    inserts = sum(max(rows - new.get(xmin, 0), 0) for xmin, rows in old.items())
    deletes = sum(max(rows - old.get(xmin, 0), 0) for xmin, rows in new.items())
    return WrittenTable(name, (), inserts, 0, deletes)
