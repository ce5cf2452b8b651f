"""References to and from a row, as conditions in SQL."""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import refers

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.providers.postgres.rescue.scope import Work

_LOSING: Final = """
WITH RECURSIVE below AS (
  SELECT to_regclass(%(table)s)::oid AS oid UNION SELECT inhrelid FROM pg_inherits JOIN below ON inhparent = below.oid
), own AS (
  SELECT attrelid AS oid FROM pg_attribute JOIN below ON attrelid = below.oid
  WHERE attname = %(column)s AND NOT attisdropped AND attrelid <> to_regclass(%(table)s) AND (attislocal OR
    attinhcount > (SELECT count(*) FROM pg_inherits WHERE inhrelid = attrelid AND inhparent IN (TABLE below)))
  UNION SELECT inhrelid FROM pg_inherits JOIN own ON inhparent = own.oid
)
SELECT attrelid::bigint FROM pg_attribute JOIN below ON attrelid = below.oid
WHERE attname = %(column)s AND NOT attisdropped AND attrelid NOT IN (TABLE own)
"""


def write_rows_of(oid: str) -> str:
    """Return an expression, as SQL, for the rows by which a foreign key of a table goes: those of heirs do not count.

    Args:
        oid: an expression for its object id.
    """
    return f"(SELECT CASE relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || oid::regclass FROM pg_class WHERE oid = {oid})"


def list_unreferenced_conditions(live: Any, oid: int, which: str = "") -> list[str]:
    """Return conditions that no row refers to `l`: deleting it might take newer good rows along.

    Args:
        which: a condition on the referring rows `x` that count; "" for all.
    """
    found = []
    for child, parent, ours, theirs in (
        *_list_foreign_keys(live, "confrelid", oid),
        *_list_own_foreign_keys(live, oid),
    ):
        apart = " AND x.ctid <> l.ctid" if child == parent else ""
        found.append(f"NOT EXISTS (SELECT FROM {child} x WHERE {refers(ours, theirs, 'x', 'l')}{apart}{which})")
    return found


def refers_to_itself(live: Any, oid: int) -> bool:
    """Whether rows of a table refer to others of it."""
    return bool(_list_own_foreign_keys(live, oid))


def list_parent_conditions(live: Any, work: Work, apart_from: Collection[int] = ()) -> list[str]:
    """Return conditions that the parents of `b` are there; `apart_from`: object ids of tables that are not asked."""
    found = []
    query = f"SELECT {write_rows_of('skipped')} FROM unnest(%s::oid[]) AS skipped"
    skipped = {name for (name,) in live.execute(query, (sorted(apart_from),)).fetchall()}
    for _, parent, ours, theirs in _list_foreign_keys(live, "conrelid", work.table.oid):
        if parent not in skipped and set(ours) <= set(work.columns):
            empty = " OR ".join(f"b.{quote_identifier(name)} IS NULL" for name in ours)
            found.append(f"({empty} OR EXISTS (SELECT FROM {parent} x WHERE {refers(ours, theirs, 'b', 'x')}))")
    return found


def is_within(live: Any, table: str, parent: str) -> bool:
    """Whether a table is another, or one of its partitions or heirs, however far below; both as SQL."""
    query = (
        "WITH RECURSIVE below AS (SELECT to_regclass(%s)::oid AS oid UNION SELECT inhrelid FROM pg_inherits JOIN below "
        "ON inhparent = below.oid) SELECT to_regclass(%s)::oid IN (SELECT oid FROM below)"
    )
    return table == parent or bool(live.execute(query, (parent, table)).fetchone()[0])


def list_tables_losing(live: Any, table: str, column: str) -> list[int]:
    """Return the object ids of the tables from which a column goes when it is dropped from a table, given as SQL.

    An heir keeps one that is its own as well, or that it has from another parent, too; and so do those below that heir.
    """
    return [oid for (oid,) in live.execute(_LOSING, {"table": table, "column": column}).fetchall()]


def _list_own_foreign_keys(live: Any, oid: int) -> list[tuple[str, str, list[str], list[str]]]:
    return _list_foreign_keys(live, "confrelid", oid, "=")


def _list_foreign_keys(live: Any, end: str, oid: int, which: str = "<>") -> list[tuple[str, str, list[str], list[str]]]:
    """Return (referring rows, referred rows, its columns, the other's) of the foreign keys at one end of a table.

    Args:
        which: `<>` those to other tables, `=` those to itself.

    A key to a partitioned table has one more for each partition: a row has its parent in one of them.
    """
    once = "AND NOT EXISTS (SELECT FROM pg_constraint w WHERE w.oid = c.conparentid AND w.conrelid = c.conrelid)"
    columns = (
        "ARRAY(SELECT attname::text FROM unnest({}) WITH ORDINALITY AS k(number, place) JOIN pg_attribute "
        "ON attrelid = {} AND attnum = number ORDER BY place)"
    )
    query = (
        f"SELECT {write_rows_of('conrelid')}, {write_rows_of('confrelid')}, {columns.format('conkey', 'conrelid')}, "
        f"{columns.format('confkey', 'confrelid')} FROM pg_constraint c "
        f"WHERE contype = 'f' AND {end} = %s AND conrelid {which} confrelid {once if end == 'conrelid' else ''}"
    )
    found: list[tuple[str, str, list[str], list[str]]] = live.execute(query, (oid,)).fetchall()
    return found
