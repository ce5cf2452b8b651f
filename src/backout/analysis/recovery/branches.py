"""Finds the damage among the transactions committed between two branches; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.database.rescue import Written


def find_transaction(found: Sequence[Written], xid: int) -> tuple[frozenset[int], bool]:
    """Return the ids of a transaction, those of its savepoints included, and whether nothing else was committed.

    One transaction's ids are committed at the same moment, to the microsecond.

    >>> from backout.model.database.rescue import Written
    >>> ids, exact = find_transaction([Written(7, 1.5), Written(8, 1.5), Written(9, 1.25)], 8)
    >>> sorted(ids), exact
    ([7, 8], False)
    """
    named = next((each for each in found if each.xid == xid), None)
    if named is None:
        return frozenset(), False
    ids = frozenset({xid, *(each.xid for each in found if each.at is not None and each.at == named.at)})
    return ids, len(ids) == len(found)


def find_migration(found: Sequence[Written], ended: int | None) -> tuple[frozenset[int], bool]:
    """Return the ids of a migration's script, and whether nothing else was committed.

    They are those that changed the schema. Besides them the tool's own two entries are expected: the one that inserted
    the migration's row, which is certainly among them, and `ended`, which completed it.

    >>> from backout.model.database.rescue import Written
    >>> started, script, done = Written(7), Written(8, changes_schema=True), Written(9)
    >>> find_migration([started, script, done], 9)
    (frozenset({8}), True)
    >>> find_migration([started, script, done, Written(10)], 9)
    (frozenset({8}), False)

    Args:
        ended: the id that the completed row carries, None when only the script lies between the branches.
    """
    schema = [each for each in found if each.changes_schema and each.xid != ended]
    times = {each.at for each in schema if each.at is not None}
    ids = frozenset(each.xid for each in found if each in schema or (each.at in times and each.xid != ended))
    others = [each for each in found if each.xid not in ids and each.xid != ended]
    return ids, len(others) <= (0 if ended is None else 1)
