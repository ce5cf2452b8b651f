"""Whose a live row is: the transaction that wrote its version (`xmin`) says whether it was written since.

Values do not show it. A row may have been set to the very value that the damage left, or made anew to look like one of
the damage's; and both are good rows.

Source: PostgreSQL 18, "System Columns" (xmin), "Routine Vacuuming" (a frozen row keeps its xmin), CLUSTER and VACUUM
FULL (which keep it), ALTER TABLE (a rewrite gives every row the id of its own transaction).
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from backout.model.database.rescue import LeftOut
from backout.providers.postgres.rescue.scope import find_key_constraint, format_xids
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import differ, match_keys, write_key_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from backout.providers.postgres.rescue.scope import Session, Work
    from backout.providers.postgres.schema.definitions import Column

BY_VALUES: Final = "true"
_ROUND: Final = 1 << 32
"""The number of ids; as stored in rows they wrap around."""
_NODE: Final = "SELECT pg_relation_filenode(%s::text::regclass)::bigint"
_SHOWN: Final = 5
_CLOCK: Final = re.compile(r"date|time|timestamp", re.IGNORECASE)
_COUNTER: Final = re.compile(r"(?i:(^|_)(version|revision|rev|etag))$|[a-z](Version|Revision|Rev|Etag|ETag)$")
_WHO: Final = re.compile(r"(updated|modified|changed|edited)_?by(_?id)?$", re.IGNORECASE)


def build_untouched_condition(session: Session, work: Work) -> tuple[str, str]:
    """Return the condition that the row `l` was not written since the damage, and a sentence where xmin cannot tell.

    Rows that a rescue or its undo wrote are judged by their values, which they put back.
    """
    table, mine = work.table, f"l.xmin = ANY('{format_xids(session)}'::xid[])"
    if table.nodes[0] != work.after.nodes[0]:
        kept = f"SELECT EXISTS (SELECT FROM ONLY {table.sql} l WHERE {mine})"
        if not session.live.execute(kept).fetchone()[0]:
            why = f"{table.shown} was rewritten since the damage: which of its rows are newer is known only by values"
            return BY_VALUES, why
    more = session.ours | work.witnesses
    ours = f" OR l.xmin = ANY('{format_array(more)}'::xid[])" if more else ""
    return f"({mine}{ours})", ""


def write_written_since(session: Session) -> str:
    """Return the condition that the row `l` was written since the damage began, by neither the damage nor a rescue."""
    damage = session.damage.xids
    known = frozenset(xid % _ROUND for xid in damage) | session.ours
    if session.kept is not None:
        known |= session.kept.writers
    recent = f"age(l.xmin) < age('{min(damage) % _ROUND}'::xid) AND " if damage else ""
    return f"({recent}NOT l.xmin = ANY('{format_array(known)}'::xid[]))"


def write_as_made(live: Any, entry: Mapping[str, Any], ours: Collection[int]) -> str:
    """Return the condition that the row `l` is one that a rescue made: it may have been made anew since.

    A table that was rewritten since, or an entry of an earlier version, leaves the values alone to tell.

    Args:
        entry: of the rows that it inserted.
        ours: the ids under which rescues and their undos wrote.
    """
    is_same = entry.get("node") == get_node(live, str(entry["sql"]))
    return f"l.xmin = ANY('{format_array(ours)}'::xid[])" if is_same else BY_VALUES


def get_node(live: Any, table: str) -> int:
    """Return the number of a table's file, which changes when the table is rewritten."""
    (node,) = live.execute(_NODE, (table,)).fetchone()
    return int(node)


def build_explained_condition(work: Work, name: str) -> str:
    """Return the condition that a row which was written since differs from the damage's in another column.

    Such a write was about that column. One that shows nowhere, or in times, version counters and who it was alone, set
    values that were there already: this column is as it was meant to be.
    """
    told = [each for each in work.table.columns if each.name in work.columns and each.name not in {name, *work.key}]
    told = [each for each in told if not _is_bookkeeping(each)]
    return " OR ".join(differ(each.name, "l", "d") for each in told) or "false"


def is_key_made_anew(session: Session, work: Work) -> bool:
    """Whether the primary key is another one than after the damage, so that a key may be another row's by now."""
    then = find_key_constraint(session.after, work.after.oid)
    return then is not None and then != find_key_constraint(session.live, work.table.oid)


def note_newer(session: Session, work: Work, rows: str) -> None:
    """Note which rows come back although they were written since; `rows` as FROM and WHERE."""
    some = f" LIMIT {_SHOWN}" if session.kept is None else ""
    query = f"SELECT {write_key_text(work.key, 'b')}, count(*) OVER () {rows} ORDER BY 1{some}"
    found = session.live.execute(query).fetchall()
    if not found:
        return
    count = int(found[0][1])
    keys = ", ".join(key for key, _ in found[:_SHOWN]) + (", ..." if count > _SHOWN else "")
    said = f"{work.table.shown}: {count:,} damaged rows were written since in other columns: those stay ({keys})"
    if session.kept is not None and count > _SHOWN:
        every = "".join(f"{key}\n" for key, _ in found)
        said += f"; all of them by key: {session.kept.list_keys(work.table.oid, every)}"
    work.notes.append(said)


def note_gone(session: Session, work: Work, there: int) -> None:
    """Note which damaged rows are not there any more, and leave out those that seem to have another key by now.

    Args:
        there: how many of them are.
    """
    pair = f"FROM {work.name('before')} b JOIN {work.name('after')} d ON {match_keys(work.key, 'b', 'd')}"
    live = session.live
    (every,) = live.execute(f"SELECT count(*) {pair}").fetchone()
    if every == there:
        return
    rows = f"{pair} WHERE NOT EXISTS (SELECT FROM ONLY {work.table.sql} l WHERE {match_keys(work.key, 'l', 'b')})"
    keys = _list_keys(session, work, rows, every - there)
    work.notes.append(f"{work.table.shown}: {every - there:,} damaged rows are gone since: they stay away ({keys})")
    others = [name for name in work.columns if name not in work.key]
    one, other = (
        f"hashtextextended(ROW({', '.join(f'{alias}.{quote_identifier(name)}' for name in others)})::text, 0)"
        for alias in ("d", "l")
    )
    moved = f"{rows} AND {one} IN (SELECT {other} FROM ONLY {work.table.sql} l WHERE NOT {work.standing})"
    (count,) = live.execute(f"SELECT count(*) {moved}").fetchone()
    if count:
        keys = _list_keys(session, work, moved, count)
        reason = f"{count:,} rows as the damage left them have another key by now (once {keys})"
        left = LeftOut(f"rows of {work.table.shown} whose key was changed since", reason)
        if left not in session.left_out:
            session.left_out.append(left)


def _list_keys(session: Session, work: Work, rows: str, count: int) -> str:
    keys = [
        key
        for (key,) in session.live.execute(f"SELECT {write_key_text(work.key, 'b')} {rows} ORDER BY 1 LIMIT {_SHOWN}")
    ]
    return ", ".join(keys) + (", ..." if count > len(keys) else "")


def _is_bookkeeping(column: Column) -> bool:
    """Whether a column is one that every write changes."""
    return bool(_CLOCK.match(column.type) or _COUNTER.search(column.name) or _WHO.search(column.name))


def format_array(xids: Collection[int]) -> str:
    """Return ids as an array that SQL reads."""
    return f"{{{','.join(map(str, sorted(xids)))}}}"
