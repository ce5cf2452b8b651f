"""Lists the rows that a cluster has and an earlier copy of it has not, has otherwise, or has still: by table and key.

A physical copy keeps the id of the transaction that wrote each version of a row, so one key with two ids was written
since. Both sides are read in the order of their keys and merged: the memory does not grow with the tables. Keys are
written by `format('%L')`, which calls a type's own output and no cast of the application's.
Source: PostgreSQL 18, "System Columns" (raw xmin outlives freezing), "String Functions" (format), COPY.
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from backout.model.database.written_since import WrittenTable
from backout.model.value import Value
from backout.providers.postgres.comparison.copies import session_with
from backout.providers.postgres.comparison.parts import run_beside
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.server.owner_session import make_inside_dsn
from backout.providers.postgres.server.pinned import parse_copied_row
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

MOST: Final = 1000
_STRETCHES: Final = 256
"""Into so many stretches a large table is divided, at most; each has at least so many pages:"""
_PAGES: Final = 256
_ALL_PAGES: Final = "true"
_INSERTS, _UPDATES, _DELETES = range(3)
_TABLES: Final = """
SELECT pg_relation_filenode(c.oid)::bigint, format('%I.%I', n.nspname, c.relname), coalesce(k.columns, '{}'),
  pg_relation_size(c.oid) / current_setting('block_size')::bigint FROM pg_class AS c
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


_SUMS: Final = """
SELECT count(*), coalesce(sum(hashtidextended(t.ctid, age(t.xmin)::bigint - (SELECT age('%s'::xid)))), 0)::text
FROM ONLY %s AS t WHERE %s
"""
_XID: Final = "SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295)::bigint"


class _Table(Value, frozen=True):
    """A table; `node`: the number of its file; `pages`: of that file."""

    node: int
    name: str
    key: tuple[str, ...]
    pages: int


class _Side:
    """A session with one of the two clusters.

    Args:
        deadline: of `time.monotonic`; no statement lasts longer.
    """

    def __init__(self, session: Any, deadline: float) -> None:
        self._session = session
        self._deadline = deadline

    def ask(self, query: str) -> list[Any]:
        """Return the rows of a query. Raises psycopg.Error: also that the time is over."""
        rows: list[Any] = self._limit().execute(query.encode()).fetchall()
        return rows

    def copy(self, query: str) -> Iterator[bytes]:
        """Yield the lines of a query's rows, as COPY writes them. Raises as `ask`."""
        with self._limit().cursor().copy(f"COPY ({query}) TO STDOUT".encode()) as copy:
            rest = b""
            for data in copy:
                *lines, rest = (rest + bytes(data)).split(b"\n")
                yield from lines

    def _limit(self) -> Any:
        left_ms = max(1, int((self._deadline - time.monotonic()) * 1000))
        self._session.execute(b"SELECT set_config('statement_timeout', %s, false)", (str(left_ms),))
        return self._session


def list_written_rows(
    later: str,
    earlier: str,
    database: str,
    *,
    tables: Collection[str] | None = None,
    most: int = MOST,
    within_s: float = 24 * 3600.0,
) -> tuple[WrittenTable, ...]:
    """Return what was written to each table since; those that nothing was written to are left out.

    Args:
        later, earlier: connection strings: of the cluster, as it was at the fence; of the copy, as it was at the moment
            that it was brought back to, and before anyone writes to it.
        tables: look at these alone, named as `WrittenTable.table` is; None for all.
        most: so many keys of each kind are listed.
        within_s: it is given up then.

    Raises:
        AuthError, ProviderUnavailable: one of them cannot be read, or not within that time.
    """
    import psycopg

    url, deadline = later, time.monotonic() + within_s
    try:
        with session_with(make_inside_dsn(later), database) as old:
            url = earlier
            with session_with(make_inside_dsn(earlier), database) as new:
                return tuple(_compare(_Side(old, deadline), _Side(new, deadline), tables, most))
    except (psycopg.Error, UnicodeError) as error:
        raise make_connection_error(error, url, "what was written since") from None


def _compare(old: _Side, new: _Side, tables: Collection[str] | None, most: int) -> Iterator[WrittenTable]:
    there, here = _list_tables(old), _list_tables(new)
    ((xid,),) = new.ask(_XID)
    for name in sorted(there.keys() | here.keys()):
        if tables is not None and name not in tables:
            continue
        was, now = there.get(name), here.get(name)
        known = was or now
        assert known is not None
        stretches = [_ALL_PAGES]
        if was is not None and now is not None and was.node == now.node:
            stretches = _find_changed(old, new, name, max(was.pages, now.pages), xid)
            if not stretches:
                continue
        has_key = bool(known.key) and (was is None or now is None or was.key == now.key)
        if has_key:
            found = _merge(name, known.key, _read(old, was, stretches), _read(new, now, stretches), most)
        else:
            found = _count(name, _read_ids(old, was, stretches), _read_ids(new, now, stretches))
        if found.inserts or found.updates or found.deletes:
            yield replace(found, is_new=now is None, is_gone=was is None)


def _list_tables(side: _Side) -> dict[str, _Table]:
    rows = side.ask(_TABLES)
    return {str(name): _Table(int(node), str(name), tuple(map(str, key)), int(size)) for node, name, key, size in rows}


def _find_changed(old: _Side, new: _Side, name: str, pages: int, xid: int) -> list[str]:
    """Return the conditions on `t` of the pages of a table in which something was written, or may have been.

    Args:
        xid: any id of the time, of which both sides tell ages.
    """
    step = max(_PAGES, -(-pages // _STRETCHES))
    stretches = [_write_pages(begin, begin + step) for begin in range(0, pages, step)]

    def sum_up(side: _Side) -> list[Any]:
        return [side.ask(_SUMS % (xid, name, stretch)) for stretch in stretches]

    was, now = run_beside([lambda: sum_up(old), lambda: sum_up(new)])
    return [stretch for stretch, one, other in zip(stretches, was, now, strict=True) if one != other]


def _write_pages(begin: int, end: int) -> str:
    return f"t.ctid >= '({begin},0)' AND t.ctid < '({end},0)'"


def _read(side: _Side, table: _Table | None, stretches: Sequence[str]) -> Iterator[tuple[bytes, str]]:
    """Yield (key, id of the transaction that wrote the row) in the order of the keys."""
    if table is None:
        return
    holes = ", ".join(["%L"] * len(table.key))
    columns = ", ".join(f"t.{quote_identifier(each)}" for each in table.key)
    rows = f"SELECT pg_catalog.format('{holes}', {columns}) AS key, t.xmin FROM ONLY {table.name} AS t WHERE "
    parts = " UNION ALL ".join(f"{rows}{each}" for each in stretches)
    for line in side.copy(f"SELECT r.key, r.xmin FROM ({parts}) AS r ORDER BY pg_catalog.convert_to(r.key, 'UTF8')"):
        key, xmin = parse_copied_row(line)
        yield (key or "").encode(), xmin or ""


def _read_ids(side: _Side, table: _Table | None, stretches: Sequence[str]) -> dict[str, int]:
    """Return how many rows of a table without a key each transaction has written."""
    if table is None:
        return {}
    rows = f"SELECT t.xmin FROM ONLY {table.name} AS t WHERE "
    parts = " UNION ALL ".join(f"{rows}{each}" for each in stretches)
    query = f"SELECT r.xmin::pg_catalog.text, pg_catalog.count(*) FROM ({parts}) AS r GROUP BY r.xmin::text"
    return {str(xmin): int(rows) for xmin, rows in side.ask(query)}


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
