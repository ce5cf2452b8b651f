"""Side branches at a vendor: a copy of the database at an earlier moment, beside the live one."""

from __future__ import annotations

import hashlib
from typing import Final

from backout.model.value import Value

_ROUNDING_S: Final = 1.0
"""Vendors keep a branch's moment to the second."""

_POINT: Final = "backout-point-"
_NAME_LENGTH: Final = 60


def name_point_branch(point: str) -> str:
    """Return the name of the branch that keeps a restore point.

    >>> name_point_branch("before-migration-0003_split-1764547200.123")
    'backout-point-before-migration-0003-split-1764547200-123'
    """
    slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in point).strip("-")
    return _POINT + (
        slug if len(slug) <= _NAME_LENGTH else f"{slug[:40]}-{hashlib.sha256(point.encode()).hexdigest()[:12]}"
    )


class BranchTarget(Value, frozen=True):
    """The moment that a side branch shows; at most one field is set, and none means the newest moment.

    Args:
        at: Unix seconds.
        lsn: a position in the WAL.
        snapshot: the vendor's id of a snapshot, or of a branch that keeps one.
    """

    at: float | None = None
    lsn: int | None = None
    snapshot: str | None = None


class SideBranch(Value, frozen=True):
    """A branch at the vendor.

    Args:
        live: whether the application uses it.
        ready: whether it takes connections.
        at, lsn: the moment that it shows, as far as the vendor says.
        source: the branch or snapshot that it was made from.
        from_snapshot: made from a snapshot, so that the vendor's own finalising applies.
        hibernated: its compute is stopped, and starts when it is asked to; neither ready nor a fault.
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
    hibernated: bool = False

    @property
    def keeps_point(self) -> bool:
        """Whether it was made to keep a restore point."""
        return self.name.startswith(_POINT) and not self.live

    def shows_other_than(self, target: BranchTarget) -> bool:
        """Whether the vendor reports another moment than a target's; False where it reports none, or for the newest.

        >>> side = SideBranch(id="br-1", name="side", ready=True, created_at=0.0, lsn=255)
        >>> side.shows_other_than(BranchTarget(lsn=255)), side.shows_other_than(BranchTarget(lsn=254))
        (False, True)
        """
        if target.snapshot is not None:
            return not self.from_snapshot or self.source != target.snapshot
        if target.lsn is not None:
            return self.from_snapshot or (self.lsn is not None and self.lsn != target.lsn)
        if target.at is not None:
            return self.from_snapshot or (self.at is not None and abs(self.at - target.at) >= _ROUNDING_S)
        return False


class Finalized(Value, frozen=True):
    """The branches at the vendor after a side branch has replaced the live one.

    Args:
        live: the branch that the application's endpoint leads to now.
        kept: the former live branch, under its new name.
    """

    live: SideBranch
    kept: SideBranch
