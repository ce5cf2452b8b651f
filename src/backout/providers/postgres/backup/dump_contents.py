"""The content of a database, for comparison: the rows of every table, and a checksum over their text.

A query on a table runs code of its owner: Postgres evaluates expressions of its indexes while it plans, and a cast or
an operator may be the owner's. So a role with more rights counts by COPY, which plans nothing and calls only the output
functions of types. A checksum includes its method, and the other side computes its own in the same way.

Source: PostgreSQL 18, COPY ("COPY count" is its command tag; one CopyData message a row), "Message Formats".
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from backout.model.database.dump import TableContent
from backout.providers.postgres.server.copy_out import read_copy
from backout.providers.postgres.server.session import open_asking

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

_PLAIN: Final = (  # so that a value reads the same on both sides
    "SET LOCAL search_path = pg_catalog, pg_temp; "
    "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres'; "
    "SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL row_security = off"
)
_TABLES: Final = """
SELECT format('%I.%I', n.nspname, c.relname), pg_has_role(session_user, c.relowner, 'USAGE') AND NOT r.rolsuper,
  r.rolsuper
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.rolname = session_user
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (
  SELECT 1 FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
  AND coalesce(e.extcondition[array_position(e.extconfig, c.oid)], 'none') <> ''
)
ORDER BY 1
"""
_SKIPPED: Final = """
SELECT CASE WHEN c.relkind = 'm' THEN format('materialized view %I.%I: its rows are its query''s', n.nspname, c.relname)
  WHEN c.oid = ANY(e.extconfig) THEN
    format('table %I.%I: extension %I has only some of its rows dumped', n.nspname, c.relname, e.extname)
  ELSE format('table %I.%I: it is extension %I''s, and none of its rows is dumped', n.nspname, c.relname, e.extname) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
LEFT JOIN pg_extension e ON e.oid = d.refobjid
WHERE c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND (c.relkind = 'm' OR (c.relkind IN ('r', 'p') AND e.oid IS NOT NULL
  AND coalesce(e.extcondition[array_position(e.extconfig, c.oid)], 'none') <> ''))
ORDER BY 1
"""
_FORCED: Final = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relforcerowsecurity AND c.relkind IN ('r', 'p') ORDER BY 1
"""
_CHECKSUM: Final = ", coalesce(sum(hashtextextended(textin(record_out(t.*)), 0)), 0)::text"
_COPIED: Final = "copy:"
"""The beginning of the checksum of a table that was read by COPY."""
_OUT: Final = " TO STDOUT (ENCODING 'SQL_ASCII')"
"""As it is stored: the other side has the same encoding."""
_NOWHERE: Final = " TO '/dev/null'"


def read_contents(connection: psycopg.Connection[Any], *, checksums: bool) -> tuple[TableContent, ...]:
    """Return every table's rows in the connection's transaction, whatever its role."""
    connection.execute(_PLAIN)
    found = []
    for name, is_owner, superuser in connection.execute(_TABLES).fetchall():
        if is_owner:
            found.append(_query_content(connection, str(name), checksums=checksums))
        elif superuser and not checksums and (rows := _count_on_server(connection, str(name))) is not None:
            found.append(TableContent(str(name), rows))
        else:
            found.append(_read_copy_content(connection, str(name), checksums=checksums))
    return tuple(found)


def list_not_compared(connection: psycopg.Connection[Any]) -> tuple[str, ...]:
    """Return in words what holds rows and is not compared: materialized views, and what extensions keep back."""
    return tuple(str(words) for (words,) in connection.execute(_SKIPPED).fetchall())


def read_copy_contents(dsn: str, wanted: Sequence[TableContent]) -> tuple[TableContent, ...]:
    """Return what a copy holds, read by its owner: all rows, where policies are forced on him as well.

    Args:
        dsn: the owner's; nothing in the database is changed.
        wanted: what the other side holds.
    """
    from psycopg import sql

    ways = {table.name: table.checksum for table in wanted}
    found = []
    with open_asking(dsn) as copy, copy.transaction(force_rollback=True):
        copy.execute(_PLAIN)
        for (name,) in copy.execute(_FORCED).fetchall():
            copy.execute(sql.SQL("ALTER TABLE ") + sql.SQL(name) + sql.SQL(" NO FORCE ROW LEVEL SECURITY"))
        for name, *_ in copy.execute(_TABLES).fetchall():
            way = ways.get(str(name), "")
            read = _read_copy_content if way.startswith(_COPIED) else _query_content
            found.append(read(copy, str(name), checksums=bool(way)))
    return tuple(found)


def _query_content(connection: psycopg.Connection[Any], name: str, *, checksums: bool) -> TableContent:
    from psycopg import sql

    content = _CHECKSUM if checksums else ", ''"
    query = sql.SQL("SELECT count(*)") + sql.SQL(content) + sql.SQL(" FROM ONLY ") + sql.SQL(name) + sql.SQL(" t")
    row = connection.execute(query).fetchone()
    assert row is not None
    return TableContent(name, int(row[0]), str(row[1]))


def _read_copy_content(connection: psycopg.Connection[Any], name: str, *, checksums: bool) -> TableContent:
    rows = total = 0
    digest, to_int = hashlib.blake2b, int.from_bytes
    for row in read_copy(connection, f"COPY {name}{_OUT}"):
        rows += 1
        if checksums:
            total += to_int(digest(row, digest_size=8).digest())
    return TableContent(name, rows, f"{_COPIED}{total % (1 << 64):016x}" if checksums else "")


def _count_on_server(connection: psycopg.Connection[Any], name: str) -> int | None:
    """Return the rows that a server counts without sending them, None where it cannot."""
    import psycopg

    try:
        with connection.transaction():
            return connection.execute(f"COPY {name}{_NOWHERE}".encode()).rowcount
    except psycopg.Error:
        return None
