"""Obstacles to restoring a definition, queried from the live rows before anything is written.

Rows that the damage wrote are about to be repaired, so only others count; nor does a row count as
an orphan if its parent comes back.
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.providers.postgres.rescue.scope import format_xids
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import differ, join_identifiers, match_keys, refers
from backout.providers.postgres.server.message import may_pass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.providers.postgres.backup.dump_toc import Definition
    from backout.providers.postgres.rescue.scope import Session, Work
    from backout.providers.postgres.schema.definitions import Catalog, Table

_MOST: Final = 10_000
_NAMES: Final = (
    "ARRAY(SELECT attname::text FROM unnest({}) WITH ORDINALITY AS k(number, place) JOIN pg_attribute "
    "ON attrelid = {} AND attnum = number ORDER BY place)"
)
_CONSTRAINT: Final = f"""
SELECT contype::text, conrelid::bigint, confrelid::bigint, {_NAMES.format("conkey", "conrelid")},
  {_NAMES.format("confkey", "confrelid")} FROM pg_constraint WHERE oid = %s
"""
_ONCE: Final = f"""
SELECT names, array_fill('='::text, ARRAY[cardinality(names)]) FROM (
  SELECT {_NAMES.format("i.indkey[0 : i.indnkeyatts - 1]", "i.indrelid")} AS names FROM pg_index i
  WHERE i.indrelid = %(oid)s AND i.indisunique AND NOT i.indisprimary AND i.indpred IS NULL AND i.indexprs IS NULL
) AS u
UNION ALL
SELECT {_NAMES.format("c.conkey", "c.conrelid")}, ARRAY(SELECT format('OPERATOR(%%I.%%s)', n.nspname, o.oprname)
  FROM unnest(c.conexclop) WITH ORDINALITY AS e(oid, place) JOIN pg_operator o ON o.oid = e.oid
  JOIN pg_namespace n ON n.oid = o.oprnamespace ORDER BY place)
FROM pg_constraint c JOIN pg_index i ON i.indexrelid = c.conindid
WHERE c.conrelid = %(oid)s AND c.contype = 'x' AND i.indpred IS NULL AND i.indexprs IS NULL
"""
_CHECKS: Final = "SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE conrelid = %s AND contype = 'c'"


def count_rows_in_way(session: Session, work: Work) -> int:
    """Return how many rows could not come back: a newer row has what must be once, or a constraint refuses them.

    Args:
        session: of the owner.
        work: with the rows before and after the damage loaded.
    """
    import psycopg

    for with_checks in (True, False):
        try:
            return _count_refused(session, work, with_checks=with_checks)
        except psycopg.Error as error:  # a type without an operator that is known here, or failing code of the owner's
            if may_pass(error):
                raise
    return 0


def _count_refused(session: Session, work: Work, *, with_checks: bool) -> int:
    live, table = session.live, work.table.sql
    before, after = work.name("before"), work.name("after")
    same_key = match_keys(work.key, "l", "b")
    taken = list(_build_taken_conditions(session, work))
    checks = list(_list_checks(live, work)) if with_checks else []
    inserted = " OR ".join([held for held, _ in taken] + [wrong.format(_build_inserted_row(work)) for wrong in checks])
    updated = " OR ".join(
        [f"{held} AND ({changed})" for held, changed in taken]
        + [wrong.format(_build_updated_row(work)) for wrong in checks]
    )
    if not inserted:
        return 0
    free = f"NOT EXISTS (SELECT FROM ONLY {table} l WHERE {same_key})"
    pair = f"{before} b JOIN {after} d ON {match_keys(work.key, 'b', 'd')} JOIN ONLY {table} l ON {same_key}"
    harmed = " OR ".join(differ(name, "b", "d") for name in work.columns)
    queries = (
        f"SELECT count(*) FROM {before} b WHERE {work.gone} AND {free} AND ({inserted})",
        f"SELECT count(*) FROM {pair} WHERE {work.standing} AND ({harmed}) AND ({updated})",
    )
    return sum(int(live.execute(query).fetchone()[0]) for query in queries)


def _build_taken_conditions(session: Session, work: Work) -> Iterator[tuple[str, str]]:
    """Yield conditions that a newer row has what may be there once, each with the one that the live row lacks it."""
    apart = f"NOT ({match_keys(work.key, 'x', 'b')}) AND x.xmin <> ALL('{format_xids(session)}'::xid[])"
    for names, operators in session.live.execute(_ONCE, {"oid": work.table.oid}).fetchall():
        if set(names) <= set(work.columns):
            alike = " AND ".join(
                f"x.{quote_identifier(name)} {operator} b.{quote_identifier(name)}"
                for name, operator in zip(names, operators, strict=True)
            )
            changed = " OR ".join(differ(name, "l", "b") for name in names)
            yield f"EXISTS (SELECT FROM ONLY {work.table.sql} x WHERE {alike} AND {apart})", changed


def _list_checks(live: Any, work: Work) -> Iterator[str]:
    """Yield conditions that a row is refused, each with a place for its columns."""
    for (expression,) in live.execute(_CHECKS, (work.table.oid,)).fetchall():
        text = str(expression).replace("{", "{{").replace("}", "}}")
        yield f"EXISTS (SELECT FROM (SELECT {{}}) AS r WHERE NOT ({text}))"


def _build_inserted_row(work: Work) -> str:
    values = {column.name: f"({column.plain_default or f'NULL::{column.type}'})" for column in work.table.columns}
    values |= {name: f"b.{quote_identifier(name)}" for name in work.columns}
    return ", ".join(f"{value} AS {quote_identifier(name)}" for name, value in values.items())


def _build_updated_row(work: Work) -> str:
    values = {column.name: f"l.{quote_identifier(column.name)}" for column in work.table.columns}
    for name in work.columns:
        one, other = (f"{alias}.{quote_identifier(name)}" for alias in "bl")
        values[name] = f"CASE WHEN {differ(name, 'b', 'd')} THEN {one} ELSE {other} END"
    return ", ".join(f"{value} AS {quote_identifier(name)}" for name, value in values.items())


def explain_obstacle(session: Session, made: Definition, before: Catalog, live: Catalog) -> str:
    """Return why a constraint cannot come back, "" when nothing is known against it."""
    import psycopg

    try:
        if made.kind in ("CONSTRAINT", "FK CONSTRAINT"):
            return _explain_constraint(session, made, before, live)
        if made.kind in ("CHECK CONSTRAINT", "NOT NULL"):
            return _explain_rows(session, made, live)
    except psycopg.Error as error:  # it needs what is missing as well: a column, a function, a type
        if may_pass(error):
            raise
    return ""


def _explain_rows(session: Session, made: Definition, live: Catalog) -> str:
    tables = [each for each in live.tables.values() if each.schema == made.schema]
    table = next((each for each in tables if made.name.startswith(f"{each.name} ")), None)
    if table is None:
        return ""
    name = made.name.removeprefix(f"{table.name} ")
    wrong, rows = f"{quote_identifier(name)} IS NULL", table.sql  # heirs get both, too
    if made.kind == "CHECK CONSTRAINT":
        text = made.create.partition(" CHECK ")[2].rstrip(";")
        whole = text.removesuffix(" NOT VALID")
        wrong = f"NOT {whole.removesuffix(' NO INHERIT')}"
        rows = _select_only(table) if whole.endswith(" NO INHERIT") else rows
    query = f"SELECT count(*) FROM {rows} t WHERE ({wrong}) AND {_exclude_ours(session)}"
    (count,) = session.of(table.owner).live.execute(query).fetchone()
    return f"{count:,} newer rows do not fit it" if count else ""


def _explain_constraint(session: Session, made: Definition, before: Catalog, live: Catalog) -> str:
    row = session.before.execute(_CONSTRAINT, (made.oid,)).fetchone()
    if row is None or row[1] not in live.tables:
        return ""
    kind, child, parent, columns, referred = row
    table = live.tables[child]
    if kind in ("p", "u"):
        empty = " AND ".join(f"{quote_identifier(name)} IS NOT NULL" for name in columns)
        rows = (
            f"SELECT FROM {_select_only(table)} t WHERE {empty} AND {_exclude_ours(session)} GROUP BY "
            f"{join_identifiers(columns)}"
        )
        query = f"SELECT count(*) FROM ({rows} HAVING count(*) > 1) AS twice"
        (count,) = session.of(table.owner).live.execute(query).fetchone()
        return f"{count:,} values stand in several newer rows" if count else ""
    if kind != "f" or parent not in before.tables:
        return ""
    return _count_orphans(session, table, (before.tables[parent], live.tables.get(parent)), (columns, referred))


def _count_orphans(
    session: Session, table: Table, parents: tuple[Table, Table | None], names: tuple[list[str], list[str]]
) -> str:
    columns, referred = names
    was, now = parents
    full = " AND ".join(f"t.{quote_identifier(name)} IS NOT NULL" for name in columns)
    missing = "true"
    if now is not None:
        missing = f"NOT EXISTS (SELECT FROM {_select_only(now)} p WHERE {refers(columns, referred, 't', 'p')})"
    texts = ", ".join(f"t.{quote_identifier(name)}::text" for name in columns)
    query = (
        f"SELECT {texts} FROM {_select_only(table)} t WHERE {full} AND {_exclude_ours(session)} AND "
        f"{missing} LIMIT {_MOST}"
    )
    found = session.of(table.owner).live.execute(query).fetchall()
    if not found:
        return ""
    arrays = ", ".join("%s::text[]" for _ in columns)
    pairs = " AND ".join(f"p.{quote_identifier(name)}::text = k.c{number}" for number, name in enumerate(referred))
    listing = ", ".join(f"c{number}" for number, _ in enumerate(referred))
    missing = f"NOT EXISTS (SELECT FROM {_select_only(was)} p WHERE {pairs})"
    there = f"SELECT count(*) FROM unnest({arrays}) AS k({listing}) WHERE {missing}"
    values: list[Any] = [list(each) for each in zip(*found, strict=True)]
    (count,) = session.of(was.owner).before.execute(there, values).fetchone()
    return f"{count:,} newer rows refer to rows of {was.shown} that are not there" if count else ""


def _exclude_ours(session: Session) -> str:
    return f"t.xmin <> ALL('{format_xids(session)}'::xid[])"


def _select_only(table: Table) -> str:
    return table.sql if table.partitioned else f"ONLY {table.sql}"
