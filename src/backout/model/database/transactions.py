"""The writes of a transaction, as read from the WAL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.database.recovery import Commit


class TableWrites(Value, frozen=True):
    """The writes to one relation, in rows.

    Args:
        database, node: the object id of its database, and its file node.
        made_anew: it got a new file: it was created, emptied (TRUNCATE) or rewritten.
    """

    database: int
    node: int
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    made_anew: bool = False


class Transaction(Value, frozen=True):
    """A committed transaction and its writes, relation by relation."""

    commit: Commit
    writes: tuple[TableWrites, ...]
