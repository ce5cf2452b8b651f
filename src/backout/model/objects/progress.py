"""How far a step that works through objects has come."""

from __future__ import annotations

from backout.model.value import Value


class ObjectProgress(Value, frozen=True):
    """How far it is.

    Args:
        what: "listing", "restoring".
        done: how many so far; `total`: of how many, 0 where that is not known.
        of: what is counted.
    """

    what: str
    done: int
    total: int = 0
    of: str = "objects"
