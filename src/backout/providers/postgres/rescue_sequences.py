"""Sequences that the damage set back, as TRUNCATE ... RESTART IDENTITY does: they go on behind what they had given out.

Numbers given out since the damage may be those of rows that it removed. Which of the two keeps its number is for a
person to say, so that such rows are left out, with the SQL for either way.

Source: PostgreSQL 18, TRUNCATE, "Sequence Manipulation Functions", "pg_sequences".
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.model.rescue import LeftOut
from backout.providers.postgres.libpq import identifier
from backout.providers.postgres.rowsql import equal, same

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.providers.postgres.rescue_scope import Session, Work

_SEQUENCES: Final = """
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), s.seqincrement > 0, pg_get_userbyid(c.relowner)::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
WHERE c.relkind = 'S' AND n.nspname !~ '^pg_' AND c.relpersistence = 'p' ORDER BY 1
"""
_COLUMNS: Final = """
SELECT d.refobjid::bigint, a.attname FROM pg_depend d JOIN pg_attribute a
ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.objid = ANY(%s::oid[]) AND d.deptype IN ('a', 'i')
"""


def advance(session: Session) -> Iterator[str]:
    """Yield the statements that let sequences go on behind what they had given out; run them unless it is dry."""
    from psycopg.errors import InsufficientPrivilege  # noqa: PLC0415 - costs 0.1 s

    after = {oid: name for oid, name, *_ in session.after.execute(_SEQUENCES).fetchall()}
    live = {oid: (name, owner) for oid, name, _, owner in session.live.execute(_SEQUENCES).fetchall()}
    for oid, name, rises, _ in session.before.execute(_SEQUENCES).fetchall():
        if oid not in after or oid not in live:
            continue
        was, then = _last(session.before, name), _last(session.after, after[oid])
        if was is None or (then is not None and not _is_behind(then, was, rises=rises)):
            continue
        session.set_back.add(oid)
        here, owner = live[oid]
        mine = session.of(owner)
        try:
            now = _last(mine.live, here)
            if now is not None and not _is_behind(now, was, rises=rises):
                continue
            statement = f"SELECT setval('{here.replace(chr(39), chr(39) * 2)}', {was})"
            if session.kept is not None:
                mine.live.execute(statement.encode())
            yield statement
        except InsufficientPrivilege as error:
            by_hand = f"SELECT setval('{here}', {was});"
            session.left_out.append(LeftOut(f"sequence {here}", f"the damage set it back: {error}", by_hand))


def taken_numbers(session: Session, works: Sequence[Work]) -> Iterator[LeftOut]:
    """Yield the tables in which newer rows have the numbers of rows that the damage removed, with either way out."""
    if not session.set_back:
        return
    columns = dict(session.before.execute(_COLUMNS, (sorted(session.set_back),)).fetchall())
    for work in works:
        name = columns.get(work.before.oid)
        if name is None or work.refused or tuple(work.key) != (name,):
            continue
        live, key, before = session.of(work.table.owner).live, identifier(name), work.name("before")
        gone = f"NOT EXISTS (SELECT FROM {work.name('after')} d WHERE {same(work.key, 'b', 'd')})"
        newer = f"{same(work.key, 'l', 'b')} AND NOT {equal(work.columns, 'l', 'b')}"
        rows = f"FROM {before} b JOIN ONLY {work.table.sql} l ON {newer} WHERE {gone}"
        found = live.execute(f"SELECT b.{key}::text {rows} ORDER BY b.{key}").fetchall()
        numbers = [str(number) for (number,) in found]
        if not numbers:
            continue
        some = ", ".join(f"'{number}'" for number in numbers)
        others = ", ".join(identifier(each) for each in work.columns if each != name)
        by_hand = (
            f"-- The newer rows get new numbers; then the same rescue again brings the old ones back:\n"
            f"UPDATE {work.table.sql} SET {key} = DEFAULT WHERE {key} IN ({some});\n"
            f"-- Or the old ones get new numbers. In psql of a side instance (backout db restore TARGET --side):\n"
            f"\\copy (SELECT {others} FROM ONLY {work.before.sql} WHERE {key} IN ({some})) TO 'rows.before'\n"
            f"-- and in psql of the live database:\n\\copy {work.table.sql} ({others}) FROM 'rows.before'"
        )
        what = f"{len(numbers):,} rows of table {work.table.shown}"
        yield LeftOut(what, "their numbers were given to newer rows, after the sequence was set back", by_hand)


def _last(connection: Any, name: str) -> int | None:
    """Return the last number that was given out, None when none was."""
    last, called = connection.execute(f"SELECT last_value, is_called FROM {name}").fetchone()
    return int(last) if called else None


def _is_behind(one: int, other: int, *, rises: bool) -> bool:
    return one < other if rises else one > other
