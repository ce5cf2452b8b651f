"""What a transaction wrote, as the WAL tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.model.recovery import Commit


@dataclass(frozen=True, slots=True)
class TableWrites:
    """What was written to one relation, in rows.

    Args:
        database, node: the object id of its database, and its file node. made_anew: it got a new file: it was created,
            emptied (TRUNCATE) or rewritten.
    """

    database: int
    node: int
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    made_anew: bool = False


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that was committed, and what it wrote, relation by relation."""

    commit: Commit
    writes: tuple[TableWrites, ...]
