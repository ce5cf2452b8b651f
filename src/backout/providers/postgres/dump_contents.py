"""What a database holds, so that two can be compared: rows of every table, and a checksum over their text.

Every name is one of pg_catalog's, and a row's text is made by its types' own output functions: a cast or an operator of
the application is never asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.model.dump import TableContent

if TYPE_CHECKING:
    import psycopg

_PLAIN: Final = (  # so that a value reads the same on both sides
    "SET LOCAL search_path = pg_catalog, pg_temp; "
    "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres'; "
    "SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL row_security = off"
)
_TABLES: Final = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (
  SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
)
ORDER BY 1
"""
_FORCED: Final = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relforcerowsecurity AND c.relkind IN ('r', 'p') ORDER BY 1
"""
_CHECKSUM: Final = ", coalesce(sum(hashtextextended(textin(record_out(t.*)), 0)), 0)::text"


def contents(connection: psycopg.Connection[Any], *, checksums: bool) -> tuple[TableContent, ...]:
    """Return every table's rows in the connection's transaction."""
    from psycopg import sql  # noqa: PLC0415 costs 0.1 s, and only dumps come here

    connection.execute(_PLAIN)
    found = []
    content = _CHECKSUM if checksums else ", ''"
    for (name,) in connection.execute(_TABLES).fetchall():
        query = sql.SQL("SELECT count(*)") + sql.SQL(content) + sql.SQL(" FROM ONLY ") + sql.SQL(name)
        row = connection.execute(query + sql.SQL(" t")).fetchone()
        assert row is not None  # noqa: S101 a count has a row
        found.append(TableContent(str(name), int(row[0]), str(row[1])))
    return tuple(found)


def contents_of_copy(dsn: str, *, checksums: bool) -> tuple[TableContent, ...]:
    """Return what a copy holds, read by its owner: all rows, where policies are forced on him as well.

    Args:
        dsn: the owner's; nothing in the database is changed.
    """
    import psycopg  # noqa: PLC0415 see `contents`
    from psycopg import sql  # noqa: PLC0415 same

    with psycopg.connect(dsn, connect_timeout=10, client_encoding="UTF8") as copy:
        copy.execute(_PLAIN)
        for (name,) in copy.execute(_FORCED).fetchall():
            copy.execute(sql.SQL("ALTER TABLE ") + sql.SQL(name) + sql.SQL(" NO FORCE ROW LEVEL SECURITY"))
        found = contents(copy, checksums=checksums)
        copy.rollback()
    return found
