"""How a rescue and its undo write rows: with user triggers disabled, and one by one where not all can be written.

Source: PostgreSQL 18, ALTER TABLE (DISABLE TRIGGER).
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.providers.postgres.rescue.scope import list_triggers
from backout.providers.postgres.schema.quoting import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS: Final = 10
ENABLE: Final = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
"""The words of ALTER TABLE that enable a trigger again, by how it was (pg_trigger.tgenabled)."""


def lock_table(live: Any, oid: int, table: str) -> None:
    """Take the lock that `write_quietly` needs, before any row is locked.

    Turning triggers off locks the table against writers. Taken behind row locks, that waits for a writer which may wait
    for one of those rows: a deadlock.
    """
    mode = "SHARE ROW EXCLUSIVE" if list_triggers(live, oid) else "ROW EXCLUSIVE"
    live.execute(f"LOCK TABLE {table} IN {mode} MODE")


def write_quietly(
    live: Any, oid: int, table: str, statement: str, rows: str, *, wrote: Callable[[Any], None] | None = None
) -> int:
    """Write with the user's triggers off, in a transaction that called `lock_table`; foreign keys are checked as ever.

    Args:
        rows: the temporary table that the statement writes from, with its alias, as it stands in there.
        wrote: told after each write, in the (sub)transaction that wrote.

    Returns:
        How many rows were written. Where one cannot be, each is tried alone, so that it does not stop the others.
    """
    from psycopg.errors import IntegrityError

    triggers = list_triggers(live, oid)
    for name, _ in triggers:
        live.execute(f"ALTER TABLE {table} DISABLE TRIGGER {quote_identifier(name)}")
    try:
        with live.transaction():
            written = int(live.execute(statement).rowcount)
            if wrote is not None:
                wrote(live)
    except IntegrityError:
        written = _write_each_alone(live, statement, rows, wrote)
    for name, how in triggers:
        live.execute(f"ALTER TABLE {table} {ENABLE[how]} TRIGGER {quote_identifier(name)}")
    return written


def _write_each_alone(live: Any, statement: str, rows: str, wrote: Callable[[Any], None] | None) -> int:
    """Write row by row, and those that fail again after the others: one may make room for another.

    Each round goes the other way than the one before: where values moved by one place, one of the two makes room.
    """
    from psycopg.errors import IntegrityError

    source, _, alias = rows.partition(" ")
    left = [place for (place,) in live.execute(f"SELECT ctid::text FROM {source}")]
    written, last_stuck = 0, False
    for _ in range(_ROUNDS):
        failed = []
        for place in left:
            one = f"(SELECT * FROM {source} WHERE ctid = '{place}') {alias}"
            try:
                with live.transaction():
                    written += int(live.execute(statement.replace(rows, one)).rowcount)
                    if wrote is not None:
                        wrote(live)
            except IntegrityError:
                failed.append(place)
        stuck, left = len(failed) == len(left), failed[::-1]
        if not left or (stuck and last_stuck):
            break
        last_stuck = stuck
    return written
