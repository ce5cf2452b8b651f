"""Whose a live row is: the transaction that wrote its version (`xmin`) says whether anybody has written it since.

Values do not say it. Somebody may have set a row to the very value that the damage had left, or made a row anew that
looks like one of the damage's; and both are good rows.

Source: PostgreSQL 18, "System Columns" (xmin), "Routine Vacuuming" (a frozen row keeps its xmin), CLUSTER and VACUUM
FULL (which keep it), ALTER TABLE (a rewrite gives every row the id of its own transaction).
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.providers.postgres.rescue_scope import key_constraint, xids_of
from backout.providers.postgres.rowsql import differ

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.providers.postgres.definitions import Column
    from backout.providers.postgres.rescue_scope import Session, Work

BY_VALUES: Final = "true"
_CLOCK: Final = re.compile(r"date|time|timestamp", re.IGNORECASE)
_COUNTER: Final = re.compile(r"(^|_)(version|revision|rev|etag)$", re.IGNORECASE)


def untouched(session: Session, work: Work) -> tuple[str, str]:
    """Return the condition that nobody has written the row `l` since the damage, and a sentence where xmin cannot tell.

    Rows that a rescue or its undo wrote are judged by their values, which they put back.
    """
    table, mine = work.table, f"l.xmin = ANY('{xids_of(session)}'::xid[])"
    if table.nodes[0] != work.after.nodes[0]:
        kept = f"SELECT EXISTS (SELECT FROM ONLY {table.sql} l WHERE {mine})"
        if not session.live.execute(kept).fetchone()[0]:
            why = f"{table.shown} was rewritten since the damage: which of its rows are newer is told by values alone"
            return BY_VALUES, why
    more = session.ours | work.witnesses
    ours = f" OR l.xmin = ANY('{_array(more)}'::xid[])" if more else ""
    return f"({mine}{ours})", ""


def explained(work: Work, name: str) -> str:
    """Return the condition that a row which was written since differs from the damage's in another column.

    Such a write was about that column. One that shows nowhere, or in times and version counters alone, set values that
    were there already: this column is as it was meant to be.
    """
    told = [each for each in work.table.columns if each.name in work.columns and each.name not in {name, *work.key}]
    told = [each for each in told if not _is_bookkeeping(each)]
    return " OR ".join(differ(each.name, "l", "d") for each in told) or "false"


def is_key_made_anew(session: Session, work: Work) -> bool:
    """Whether the primary key is another one than after the damage, so that a key may be another row's by now."""
    then = key_constraint(session.after, work.after.oid)
    return then is not None and then != key_constraint(session.live, work.table.oid)


def _is_bookkeeping(column: Column) -> bool:
    """Whether a column is one that every write changes."""
    return bool(_CLOCK.match(column.type) or _COUNTER.search(column.name))


def _array(xids: Collection[int]) -> str:
    return f"{{{','.join(map(str, sorted(xids)))}}}"
