"""Side branches at a vendor: a copy of the database at an earlier moment, beside the live one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BranchTarget:
    """The moment that a side branch shows; at most one is set, and none of them means the newest there is.

    Args:
        at: Unix seconds. lsn: a position in the WAL. snapshot: the vendor's id of a snapshot.
    """

    at: float | None = None
    lsn: int | None = None
    snapshot: str | None = None


@dataclass(frozen=True, slots=True)
class SideBranch:
    """A branch at the vendor.

    Args:
        live: whether it is the one that the application uses. ready: whether it can be connected to.
        at, lsn: the moment that it was made from, as far as the vendor tells. source: the branch or snapshot it is of.
        from_snapshot: made from a snapshot, so that the vendor's own finalising applies.
    """

    id: str
    name: str
    ready: bool
    created_at: float
    live: bool = False
    source: str = ""
    at: float | None = None
    lsn: int | None = None
    from_snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Finalized:
    """What the vendor shows after a side branch took the live one's place.

    Args:
        live: the branch that the application's endpoint leads to now. kept: what was live, under its new name.
    """

    live: SideBranch
    kept: SideBranch
