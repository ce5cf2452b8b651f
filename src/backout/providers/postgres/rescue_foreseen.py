"""What will stop a definition from coming back, asked of the live rows before anything is written.

Rows that the damage wrote are about to be what they were, so only others count; nor does a row count as one without
its parent whose parent comes back.
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.providers.postgres.libpq import identifier
from backout.providers.postgres.rescue_scope import xids_of
from backout.providers.postgres.rowsql import differ, listed, same

if TYPE_CHECKING:
    from backout.providers.postgres.definitions import Catalog, Table
    from backout.providers.postgres.dump_toc import Definition
    from backout.providers.postgres.rescue_scope import Session, Work

_MOST: Final = 10_000
_NAMES: Final = (
    "ARRAY(SELECT attname::text FROM unnest({}) WITH ORDINALITY AS k(number, place) JOIN pg_attribute "
    "ON attrelid = {} AND attnum = number ORDER BY place)"
)
_CONSTRAINT: Final = f"""
SELECT contype::text, conrelid::bigint, confrelid::bigint, {_NAMES.format("conkey", "conrelid")},
  {_NAMES.format("confkey", "confrelid")} FROM pg_constraint WHERE oid = %s
"""
_UNIQUE: Final = f"""
SELECT {_NAMES.format("i.indkey[0 : i.indnkeyatts - 1]", "i.indrelid")} FROM pg_index i
WHERE i.indrelid = %s AND i.indisunique AND NOT i.indisprimary AND i.indpred IS NULL AND i.indexprs IS NULL
"""


def rows_in_the_way(session: Session, work: Work) -> int:
    """Return how many rows could not come back, since a newer row has a unique value of theirs.

    Args:
        session: of the owner. work: with the rows of before and after loaded.
    """
    import psycopg  # noqa: PLC0415 - costs 0.1 s

    live, table = session.live, work.table.sql
    before, after = work.name("before"), work.name("after")
    same_key = same(work.key, "l", "b")
    taken = []
    for (names,) in live.execute(_UNIQUE, (work.table.oid,)).fetchall():
        if set(names) <= set(work.columns):
            alike = " AND ".join(f"x.{identifier(name)} = b.{identifier(name)}" for name in names)
            apart = f"NOT ({same(work.key, 'x', 'b')}) AND x.xmin <> ALL('{xids_of(session)}'::xid[])"
            changed = " OR ".join(differ(name, "l", "b") for name in names)
            taken.append((f"EXISTS (SELECT FROM ONLY {table} x WHERE {alike} AND {apart})", changed))
    if not taken:
        return 0
    gone = f"NOT EXISTS (SELECT FROM {after} d WHERE {same(work.key, 'b', 'd')})"
    free = f"NOT EXISTS (SELECT FROM ONLY {table} l WHERE {same_key})"
    inserted = " OR ".join(held for held, _ in taken)
    updated = " OR ".join(f"{held} AND ({changed})" for held, changed in taken)
    pair = f"{before} b JOIN {after} d ON {same(work.key, 'b', 'd')} JOIN ONLY {table} l ON {same_key}"
    queries = (
        f"SELECT count(*) FROM {before} b WHERE {gone} AND {free} AND ({inserted})",
        f"SELECT count(*) FROM {pair} WHERE {work.standing} AND ({updated})",
    )
    try:
        return sum(int(live.execute(query).fetchone()[0]) for query in queries)
    except psycopg.OperationalError:
        raise
    except psycopg.Error:  # a type without an operator that is known here: only writing shows it
        return 0


def reason_against(session: Session, made: Definition, before: Catalog, live: Catalog) -> str:
    """Return why a constraint cannot come back, "" when nothing is known against it."""
    import psycopg  # noqa: PLC0415 - costs 0.1 s

    try:
        if made.kind in ("CONSTRAINT", "FK CONSTRAINT"):
            return _of_constraint(session, made, before, live)
        if made.kind in ("CHECK CONSTRAINT", "NOT NULL"):
            return _of_rows(session, made, live)
    except psycopg.OperationalError:
        raise
    except psycopg.Error:  # it needs what is missing as well: a column, a function, a type
        return ""
    return ""


def _of_rows(session: Session, made: Definition, live: Catalog) -> str:
    tables = [each for each in live.tables.values() if each.schema == made.schema]
    table = next((each for each in tables if made.name.startswith(f"{each.name} ")), None)
    if table is None:
        return ""
    name = made.name.removeprefix(f"{table.name} ")
    wrong = f"{identifier(name)} IS NULL"
    if made.kind == "CHECK CONSTRAINT":
        text = made.create.partition(" CHECK ")[2].rstrip(";")
        wrong = f"NOT {text.removesuffix(' NOT VALID').removesuffix(' NO INHERIT')}"
    count = _count(session, table, wrong)
    return f"{count:,} newer rows do not fit it" if count else ""


def _of_constraint(session: Session, made: Definition, before: Catalog, live: Catalog) -> str:
    row = session.before.execute(_CONSTRAINT, (made.oid,)).fetchone()
    if row is None or row[1] not in live.tables:
        return ""
    kind, child, parent, columns, referred = row
    table = live.tables[child]
    if kind in ("p", "u"):
        empty = " AND ".join(f"{identifier(name)} IS NOT NULL" for name in columns)
        rows = f"SELECT FROM {_only(table)} t WHERE {empty} AND {_not_ours(session)} GROUP BY {listed(columns)}"
        query = f"SELECT count(*) FROM ({rows} HAVING count(*) > 1) AS twice"
        (count,) = session.of(table.owner).live.execute(query).fetchone()
        return f"{count:,} values stand in several newer rows" if count else ""
    if kind != "f" or parent not in before.tables:
        return ""
    return _orphans(session, table, (before.tables[parent], live.tables.get(parent)), (columns, referred))


def _orphans(
    session: Session, table: Table, parents: tuple[Table, Table | None], names: tuple[list[str], list[str]]
) -> str:
    columns, referred = names
    was, now = parents
    full = " AND ".join(f"t.{identifier(name)} IS NOT NULL" for name in columns)
    missing = "true"
    if now is not None:
        pairs = " AND ".join(f"p.{identifier(r)} = t.{identifier(c)}" for c, r in zip(columns, referred, strict=True))
        missing = f"NOT EXISTS (SELECT FROM {now.sql} p WHERE {pairs})"
    texts = ", ".join(f"t.{identifier(name)}::text" for name in columns)
    query = f"SELECT {texts} FROM {_only(table)} t WHERE {full} AND {_not_ours(session)} AND {missing} LIMIT {_MOST}"
    found = session.of(table.owner).live.execute(query).fetchall()
    if not found:
        return ""
    arrays = ", ".join("%s::text[]" for _ in columns)
    pairs = " AND ".join(f"p.{identifier(name)}::text = k.c{number}" for number, name in enumerate(referred))
    listing = ", ".join(f"c{number}" for number, _ in enumerate(referred))
    missing = f"NOT EXISTS (SELECT FROM {was.sql} p WHERE {pairs})"
    there = f"SELECT count(*) FROM unnest({arrays}) AS k({listing}) WHERE {missing}"
    values: list[Any] = [list(each) for each in zip(*found, strict=True)]
    (count,) = session.of(was.owner).before.execute(there, values).fetchone()
    return f"{count:,} newer rows refer to rows of {was.shown} that are not there" if count else ""


def _count(session: Session, table: Table, wrong: str) -> int:
    query = f"SELECT count(*) FROM {_only(table)} t WHERE ({wrong}) AND {_not_ours(session)}"
    (count,) = session.of(table.owner).live.execute(query).fetchone()
    return int(count)


def _not_ours(session: Session) -> str:
    return f"t.xmin <> ALL('{xids_of(session)}'::xid[])"


def _only(table: Table) -> str:
    return table.sql if table.partitioned else f"ONLY {table.sql}"
