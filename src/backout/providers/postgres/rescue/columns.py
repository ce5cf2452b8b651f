"""Columns that the damage dropped: added again, filled with their values, and then given their old definition.

An added column gets its default at once in every row, so it is added without a default that is not constant: old rows
keep their values, and never get the time of the rescue. Newer rows have no value of their own.

Source: PostgreSQL 18, ALTER TABLE (ADD COLUMN; "Adding a column with a volatile DEFAULT"), "pg_attribute".
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.model.database.rescue import LeftOut
from backout.providers.postgres.provenance.evidence import write_written_since
from backout.providers.postgres.rescue.conflicts import count_conflicts
from backout.providers.postgres.rescue.references import is_within
from backout.providers.postgres.rescue.renumbering import replace_numbers
from backout.providers.postgres.rescue.rows import PENDING, Writing, write_batches
from backout.providers.postgres.rescue.scope import format_xids
from backout.providers.postgres.schema.definitions import add_column, finish_column
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import (
    build_key_condition,
    copy_rows,
    differ,
    join_identifiers,
    match_keys,
    name_new,
    name_old,
)
from backout.providers.postgres.server.message import get_message, may_pass

if TYPE_CHECKING:
    from backout.providers.postgres.rescue.scope import Session, Work
    from backout.providers.postgres.schema.definitions import Column, Table


def add(session: Session, table: Table, lost: tuple[Column, ...]) -> list[str]:
    """Add the columns that are lost again, and return the statements; their values follow in `fill`.

    Those that come from a parent come with its.
    """
    import psycopg

    there = {column.name for column in table.columns}
    made = []
    for column in lost:
        if column.name in there or not column.local:
            continue
        statement = add_column(table, column)
        if session.kept is not None:
            live = session.of(table.owner).live
            try:
                with live.transaction():
                    live.execute(statement)
                    session.kept.note_writer(live)  # it may write every row anew
                    session.kept.write(
                        live,
                        {
                            "op": "column",
                            "sql": table.sql,
                            "table": table.shown,
                            "column": column.name,
                            "default": column.plain_default,
                        },
                    )
            except psycopg.Error as error:
                if may_pass(error):
                    raise
                what = f"column {table.shown}.{column.name}"
                session.left_out.append(LeftOut(what, get_message(error), f"{statement};"))
                continue
        made.append(statement)
    return made


def fill(session: Session, work: Work) -> None:
    """Give the columns that were lost their values again, where they still have the default.

    In a column that was added again by hand, the default may have been written by a person or the application.
    """
    live = session.live
    there = {each.name for each in work.table.columns}
    for column in work.lost:
        if column.generated:
            continue
        names, temp = (*work.key, column.name), work.name("lost")
        keys = join_identifiers(work.key)
        if session.kept is None and column.name not in there:
            work.report = replace(work.report, columns=(*work.report.columns, column.name))
            query = f"SELECT count(*) FROM ONLY {work.before.sql} WHERE {quote_identifier(column.name)} IS NOT NULL"
            (count,) = session.before.execute(query).fetchone()
            work.report = replace(work.report, updated=max(work.report.updated, count))
            if column.not_null and column.plain_default is None and (newer := _count_newer_rows(session, work)):
                session.left_out.append(_describe_without_value(work.table, column, newer))
            continue
        if not _is_there(session, work.table, column):
            continue  # it could not be added, which is said
        work.report = replace(work.report, columns=(*work.report.columns, column.name))
        live.execute(f"DROP TABLE IF EXISTS {temp}")
        live.execute(
            f"CREATE TEMP TABLE {temp} AS SELECT {join_identifiers(names)} FROM ONLY {work.table.sql} WITH NO DATA"
        )
        live.execute(f"ALTER TABLE {temp} ADD COLUMN backout_no bigserial")
        query = f"COPY (SELECT {join_identifiers(names)} FROM ONLY {work.before.sql}) TO STDOUT"
        copy_rows(session.before, query, live, f"COPY {temp} ({join_identifiers(names)}) FROM STDIN")
        moves = {str(name): work.moves.get(work.called[name]) for name in work.key}
        replace_numbers(live, temp, {name: numbers for name, numbers in moves.items() if numbers})
        if column.name in work.moves:
            work.followed += replace_numbers(live, temp, {column.name: work.moves[column.name]})
        live.execute(f"CREATE UNIQUE INDEX ON {temp} ({keys})")
        live.execute(f"ANALYZE {temp}")
        default = f"{column.plain_default}" if column.plain_default is not None else f"NULL::{column.type}"
        value = quote_identifier(column.name)
        pair = f"FROM {temp} b JOIN ONLY {work.table.sql} l ON {match_keys(work.key, 'l', 'b')}"
        untouched = f"record_image_eq(ROW(l.{value}), ROW(({default})::{column.type}))"
        if not _is_ours(session, work, column):
            untouched = f"({untouched} AND NOT {write_written_since(session)})"
        differs = differ(column.name, "l", "b")
        work.report = count_conflicts(session, work, f"{pair} WHERE {differs} AND NOT ({untouched})", "l")
        if not session.damage.keeps_newer:
            untouched = "true"
        held = [f"l.{quote_identifier(name)} AS {name_old(name)}" for name in names]
        values = f"b.{value} AS {name_new(column.name)}"
        select = f"SELECT {', '.join(held)}, {values} {pair} WHERE {differs} AND {untouched}"
        given = f"SET {value} = t.{name_new(column.name)}"
        apply = f"UPDATE ONLY {work.table.sql} l {given} FROM {PENDING} WHERE {build_key_condition(work.key, 'o_')}"
        count = write_batches(session, work, Writing("U", "lost", "b", select, apply))
        work.report = replace(work.report, updated=max(work.report.updated, count))


def _is_ours(session: Session, work: Work, column: Column) -> bool:
    """Whether this rescue added a column again, now or before it was interrupted."""
    if all(each.name != column.name for each in work.table.columns):
        return True
    if session.kept is None:
        return False
    live, table = session.live, work.table.sql
    made, _ = session.kept.entries(live)
    added = [str(each["sql"]) for each, _ in made if each["op"] == "column" and each["column"] == column.name]
    return any(is_within(live, table, parent) for parent in added)


def finish(session: Session, table: Table, lost: tuple[Column, ...]) -> None:
    """Make columns what they were when every row has its value: NOT NULL, the default, what the planner knows."""
    import psycopg

    live = session.of(table.owner).live
    for column in lost:
        if session.kept is None or not column.local or not _is_there(session.of(table.owner), table, column):
            continue
        for statement in finish_column(table, column):
            try:
                with live.transaction():
                    live.execute(statement)
            except psycopg.Error as error:
                if may_pass(error):
                    raise
                session.left_out.append(_make_left_out(live, table, column, statement, get_message(error)))


def _make_left_out(live: object, table: Table, column: Column, statement: str, said: str) -> LeftOut:
    """Return what could not be made again: mostly NOT NULL, for rows that are newer have no value."""
    what, sql = f"column {table.shown}.{column.name}: {statement}", f"{statement};"
    if "NOT NULL" not in statement:
        return LeftOut(what, said, sql)
    query = f"SELECT count(*) FROM {table.sql} WHERE {quote_identifier(column.name)} IS NULL"
    (empty,) = live.execute(query).fetchone()  # type: ignore[attr-defined]
    return _describe_without_value(table, column, empty)


def _describe_without_value(table: Table, column: Column, empty: int) -> LeftOut:
    name = quote_identifier(column.name)
    given = f"UPDATE {table.sql} SET {name} = DEFAULT WHERE {name} IS NULL; " if column.default else ""
    sql = f"{given}ALTER TABLE {table.sql} ALTER COLUMN {name} SET NOT NULL;"
    return LeftOut(f"NOT NULL of {table.shown}.{column.name}", f"{empty:,} newer rows have no value in it", sql)


def _count_newer_rows(session: Session, work: Work) -> int:
    """Return how many live rows did not exist before, by their keys; the damage's own do not count."""
    live, temp, keys = session.live, work.name("keys"), join_identifiers(work.key)
    live.execute(f"DROP TABLE IF EXISTS {temp}")
    live.execute(f"CREATE TEMP TABLE {temp} AS SELECT {keys} FROM ONLY {work.table.sql} WITH NO DATA")
    query = f"COPY (SELECT {keys} FROM ONLY {work.before.sql}) TO STDOUT"
    copy_rows(session.before, query, live, f"COPY {temp} ({keys}) FROM STDIN")
    live.execute(f"ANALYZE {temp}")
    newer = f"NOT EXISTS (SELECT FROM {temp} b WHERE {match_keys(work.key, 'l', 'b')})"
    others = f"l.xmin <> ALL('{format_xids(session)}'::xid[])"
    return int(live.execute(f"SELECT count(*) FROM ONLY {work.table.sql} l WHERE {newer} AND {others}").fetchone()[0])


def _is_there(session: Session, table: Table, column: Column) -> bool:
    query = "SELECT FROM pg_attribute WHERE attrelid = %s AND attname = %s AND NOT attisdropped"
    return session.live.execute(query, (table.oid, column.name)).fetchone() is not None
