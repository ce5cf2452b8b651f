"""Tables that refer to each other in a circle: rows that need each other cannot come back one table after the other.

A foreign key is checked at the end of the statement, or where it is deferred at the end of the transaction, and a
rescue writes each table in transactions of its own. So such rows stay away, whole, and the report says with which
statements they come back: as the owner, who alone decides that a constraint of his is gone for a while.

Source: PostgreSQL 18, ALTER TABLE ("The addition of a foreign key constraint requires a SHARE ROW EXCLUSIVE lock",
existing rows are checked).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.providers.postgres.libpq import identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.providers.postgres.rescue_scope import Work

_KEYS: Final = (
    "SELECT conrelid::bigint, confrelid::bigint, conname::text, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE contype = 'f' AND conrelid = ANY(%s::oid[]) AND confrelid = ANY(%s::oid[]) AND conrelid <> confrelid "
    "ORDER BY conname"
)


def notes_of_circles(live: Any, works: Sequence[Work], *, written: bool) -> tuple[str, ...]:
    """Return for each circle of tables whose rows did not come back, or would not, which they are and what to type.

    Args:
        works: the tables, in the order in which they are written. written: whether rows were; else it was only counted.
    """
    oids = [work.table.oid for work in works]
    keys = live.execute(_KEYS, (oids, oids)).fetchall()
    notes = []
    for circle in _circles(works, {(child, parent) for child, parent, *_ in keys}):
        missing = [(work, work.orphans if written else work.report.inserted) for work in circle]
        named = [f"{work.table.shown} ({count:,})" for work, count in missing if count]
        if len(named) < 2:  # noqa: PLR2004 - one alone needs nobody who needs it
            continue
        place = {work.table.oid: number for number, work in enumerate(circle)}
        names = {work.table.oid: work.table.sql for work in circle}
        # Without those that lead forward in the circle, each table finds its parents before it.
        ours = [key for key in keys if key[0] in place and key[1] in place and place[key[0]] < place[key[1]]]
        drop = " ".join(f"ALTER TABLE {names[child]} DROP CONSTRAINT {identifier(name)};" for child, _, name, _ in ours)
        back = " ".join(
            f"ALTER TABLE {names[child]} ADD CONSTRAINT {identifier(name)} {text};" for child, _, name, text in ours
        )
        said = "did not come back, and nothing of them was written" if written else "do not come back"
        notes.append(
            f"foreign keys in a circle: rows that need each other {said}: {', '.join(named)}. "
            f"As the owner of the tables: {drop} Then the same rescue again, and: {back}"
        )
    return tuple(notes)


def _circles(works: Sequence[Work], edges: set[tuple[int, int]]) -> list[list[Work]]:
    """Return the tables that reach each other, each circle in the order of the tables."""
    parents: dict[int, set[int]] = {}
    for child, parent in edges:
        parents.setdefault(child, set()).add(parent)
    reached = {work.table.oid: _reached(parents, work.table.oid) for work in works}
    found, seen = [], set[int]()
    for work in works:
        mine = work.table.oid
        circle = [each for each in works if each.table.oid in reached[mine] and mine in reached[each.table.oid]]
        if mine not in seen and circle:
            found.append(circle)
            seen |= {each.table.oid for each in circle}
    return found


def _reached(parents: dict[int, set[int]], begin: int) -> set[int]:
    """Return the tables that a table refers to, however far."""
    found: set[int] = set()
    left = set(parents.get(begin, ()))
    while left:
        each = left.pop()
        found.add(each)
        left |= parents.get(each, set()) - found
    return found
