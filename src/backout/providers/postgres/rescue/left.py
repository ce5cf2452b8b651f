r"""Damage that is not repaired, with the reason and how to repair it by hand; and what cannot be determined.

Source: PostgreSQL 18, CREATE TABLE (UNLOGGED: "not written to the write-ahead log"), "pg_largeobject",
"Large Objects, Server-Side Functions" (lo_from_bytea), psql (\\lo_export).
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.model.database.rescue import LeftOut
from backout.providers.postgres.rescue.copying import write_copying, write_showing
from backout.providers.postgres.rescue.scope import format_xids
from backout.providers.postgres.schema.history import HISTORY_TABLES
from backout.providers.postgres.schema.rowsql import join_identifiers, match_keys, write_key_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.database.rescue import TableRescue
    from backout.providers.postgres.rescue.scope import Session, Work
    from backout.providers.postgres.schema.definitions import Catalog

_SHOWN: Final = 20
_UNLOGGED: Final = """
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname,
  pg_relation_filenode(c.oid)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 2
"""
_NODE: Final = "SELECT pg_relation_filenode('pg_catalog.pg_largeobject'::regclass)::bigint"
_BELONGINGS: Final = """
SELECT quote_ident(pg_get_userbyid(lomowner)), quote_literal(obj_description(oid, 'pg_largeobject')), ARRAY(
  SELECT ARRAY[a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
    || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END]
  FROM aclexplode(lomacl) AS a WHERE a.grantee <> lomowner)
FROM pg_largeobject_metadata WHERE oid = %s
"""
_MAY_READ_OBJECTS: Final = "SELECT has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')"
AS_YOU_ASKED: Final = "as you asked"


def list_tables_left_out(
    session: Session, reports: Sequence[TableRescue], before: Catalog, after: Catalog, live: Catalog
) -> Iterator[LeftOut]:
    """Yield the tables that are left alone, and the rows that could not be written."""
    tables = {table.shown: table for table in before.tables.values()}
    tables |= {now.shown: before.tables[oid] for oid, now in live.tables.items() if oid in before.tables}
    for each in reports:
        table = tables.get(each.table)
        name = each.table.rpartition(".")[2]
        if each.is_left_alone:
            by_hand = write_copying(session, table, after, live) if table is not None else ""
            asked = each.left == AS_YOU_ASKED or name in HISTORY_TABLES
            yield LeftOut(f"table {each.table}", each.left, by_hand, asked=asked)
        if each.unwritten:
            reason = "their unique values are taken by now, or what they refer to is missing or is another row"
            reason += ", or a constraint refuses them"
            by_hand = write_showing(session, table, after, live) if table is not None else ""
            yield LeftOut(f"{each.unwritten:,} rows of table {each.table}", reason, by_hand)


def list_unseen(session: Session) -> Iterator[LeftOut]:
    """Yield unlogged tables that the damage dropped, emptied or rewrote; and large objects that it wrote or removed."""
    skipped = session.damage.skip
    after = {oid: node for oid, _, _, node in session.after.execute(_UNLOGGED).fetchall()}
    for oid, sql, shown, node in session.before.execute(_UNLOGGED).fetchall():
        if after.get(oid) == node:
            continue
        did = "emptied or rewrote" if oid in after else "dropped"
        reason = f"the damage {did} it; it is unlogged: no WAL and no backup shows what was in it, so check it yourself"
        yield LeftOut(
            f"table {shown}", reason, f"SELECT count(*) FROM ONLY {sql};", seen=oid not in after, asked=shown in skipped
        )
    yield from _list_large_objects(session)


def describe_unlogged(session: Session) -> tuple[str, ...]:
    """Return a note that names the unlogged tables: whether single rows of theirs were damaged cannot be determined."""
    names = [shown for _, _, shown, _ in session.live.execute(_UNLOGGED).fetchall()]
    if not names:
        return ()
    return (f"not checked, because they are unlogged and no WAL shows who wrote to them: {', '.join(names)}",)


def list_copies(session: Session, works: Sequence[Work]) -> Iterator[LeftOut]:
    """Yield where a row may be there twice: it came back under its old key, and its new key was written to since.

    Such as a row that was moved to another partition: only a person can say which of the two is right.
    """
    by_root: dict[int, list[Work]] = {}
    query = "SELECT coalesce(pg_partition_root(%(oid)s), %(oid)s)::bigint"
    for work in (each for each in works if not each.refused):
        by_root.setdefault(session.live.execute(query, {"oid": work.table.oid}).fetchone()[0], []).append(work)
    for together in by_root.values():
        if any(work.report.inserted for work in together) and any(work.deletes for work in together):
            for work in together:
                yield from _find_under_new_keys(session.of(work.table.owner), work)


def _find_under_new_keys(session: Session, work: Work) -> Iterator[LeftOut]:
    live, table, after = session.live, work.table.sql, work.name("after")
    made = f"NOT EXISTS (SELECT FROM {work.name('before')} b WHERE {match_keys(work.key, 'b', 'd')})"
    rows = f"FROM {after} d JOIN ONLY {table} l ON {match_keys(work.key, 'l', 'd')} WHERE {made}"
    if session.kept is None:
        rows += f" AND NOT l.xmin = ANY('{format_xids(session)}'::xid[])"
    (count,) = live.execute(f"SELECT count(*) {rows}").fetchone()
    if not count:
        return
    shown = f"SELECT {write_key_text(work.key, 'l')} {rows} ORDER BY 1 LIMIT {_SHOWN}"
    some = [str(key) for (key,) in live.execute(shown)]
    reason = (
        "the damage made them and others have written to them since, so they stay; they may be the same as rows "
        f"that came back under their old keys: {', '.join(some)}"
    )
    query = f"SELECT * FROM ONLY {table} ORDER BY {join_identifiers(work.key)};"
    yield LeftOut(f"{count:,} rows of table {work.table.shown}", reason, query)


def _list_large_objects(session: Session) -> Iterator[LeftOut]:
    ends = session.before, session.after
    if session.damage.written is not None:
        written = {node for node, _ in session.damage.written}
        if not any(end.execute(_NODE).fetchone()[0] in written for end in ends):
            return
    if not all(end.execute(_MAY_READ_OBJECTS).fetchone()[0] for end in ends):
        if any(end.execute("SELECT EXISTS (SELECT FROM pg_largeobject_metadata)").fetchone()[0] for end in ends):
            yield LeftOut("large objects", "they may not be read here", seen=False)
        return
    gone = _list_objects(session.before, "xmax::text <> '0'")
    made = _list_objects(session.after, f"xmin = ANY('{format_xids(session)}'::xid[])")
    known = "SELECT oid::bigint FROM pg_largeobject_metadata WHERE oid = ANY(%s::oid[])"
    there = {oid for (oid,) in session.before.execute(known, (sorted(gone | made),)).fetchall()}
    for oid in sorted(there)[:_SHOWN]:
        by_hand = (
            f"-- psql of the side instance (backout db restore TARGET --side):\n\\lo_export {oid} 'object.{oid}'\n"
            f"-- psql of the live database:\n\\set content `xxd -p object.{oid} | tr -d '\\n'`\n"
            f"BEGIN; SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid = {oid};\n"
            f"SELECT lo_from_bytea({oid}, decode(:'content', 'hex')); {_write_belongings(session.before, oid)}COMMIT;"
        )
        yield LeftOut(f"large object {oid}", "the damage wrote it, and large objects are not brought back", by_hand)
    if len(there) > _SHOWN:
        yield LeftOut(f"{len(there) - _SHOWN:,} more large objects", "the damage wrote them, too")
    if extra := sorted(made - there):
        oids = ", ".join(map(str, extra))
        unlinked = f"SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid IN ({oids});"
        yield LeftOut(f"{len(extra):,} large objects", "the damage made them, and they stay", unlinked)


def _write_belongings(end: Any, oid: int) -> str:
    """Return the statements that give a large object its owner and its comment back, and its privileges."""
    owner, comment, granted = end.execute(_BELONGINGS, (oid,)).fetchone()
    found = [f"ALTER LARGE OBJECT {oid} OWNER TO {owner};"]
    found += [f"COMMENT ON LARGE OBJECT {oid} IS {comment};"] if comment else []
    found += [f"GRANT {what} ON LARGE OBJECT {oid} TO {role};" for what, role in granted]
    return "".join(f"{each} " for each in found)


def _list_objects(end: Any, condition: str) -> set[int]:
    rows = end.execute(f"SELECT DISTINCT loid::bigint FROM pg_largeobject WHERE {condition}").fetchall()
    return {int(oid) for (oid,) in rows}
