"""The columns in which the numbers of a table stand: its key, and what refers to it by foreign keys, however far.

A table whose own key is such a reference passes the number on to what refers to it.

Source: PostgreSQL 18, "pg_constraint".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from backout.providers.postgres.rescue.scope import Session, Work

_REFERENCES: Final = """
SELECT c.conrelid::bigint, a.attname::text, c.confrelid::bigint, r.attname::text
FROM pg_constraint c, unnest(c.conkey, c.confkey) AS k(mine, theirs), pg_attribute a, pg_attribute r
WHERE c.contype = 'f' AND a.attrelid = c.conrelid AND a.attnum = k.mine AND r.attrelid = c.confrelid
  AND r.attnum = k.theirs AND a.atttypid = ANY('{int2,int4,int8}'::regtype[])
"""
Columns = dict[tuple[int, str], set[int]]
"""The tables, by object id, whose numbers stand in a column, by its own table and its name before the damage."""


def trace_numbers(session: Session, numbered: Mapping[int, Work], wanted: Collection[int]) -> Columns:
    """Return in which columns numbers of these tables stand, as the foreign keys of before the damage tell.

    A table that the damage dropped is not among them: it comes back whole, as it was.

    Args:
        numbered: tables by object id; of those whose key has several columns nothing is known.
        wanted: the object ids of those of them that count.
    """
    exists = {oid for (oid,) in session.after.execute("SELECT oid::bigint FROM pg_class").fetchall()}
    keys = [row for row in session.before.execute(_REFERENCES).fetchall() if row[0] in exists]
    found: Columns = {(oid, str(numbered[oid].key[0])): {oid} for oid in wanted if len(numbered[oid].key) == 1}
    grew = True
    while grew:
        grew = False
        for child, column, parent, referred in keys:
            more = found.get((parent, referred), set()) - found.get((child, column), set())
            if more:
                found.setdefault((child, column), set()).update(more)
                grew = True
    return found
