"""The test that excludes a limit: the share is below it."""

from __future__ import annotations

import math
from typing import TypedDict

from backout.analysis.statistics.beta import log_add
from backout.analysis.statistics.limits import log_e_below

_STAKE = 0.95
"""Share of the bet on "healthy" that is put on a stretch: 1/20 of it is left whatever happens."""


class BelowTestState(TypedDict):
    """Checkpoint of a `BelowTest`."""

    usual: float
    limit: float
    kept: float
    counts: list[int]


class BelowTest:
    """Evidence against "the share is at least `limit`", see `rates.log_e_below`; a stretch can cost no more than 20:1.

    Args:
        usual: the share that is expected, below `limit`.
    """

    def __init__(self, usual: float, limit: float) -> None:
        self.usual = usual
        self.limit = limit
        self._kept = 0.0
        self._counts = [0, 0]

    def add(self, hits: int, total: int) -> None:
        """Count hits out of a total."""
        self._counts[0] += hits
        self._counts[1] += total

    def begin_stretch(self) -> None:
        """Keep what the open stretch brought, and bet anew."""
        self._kept = self.log_e()
        self._counts = [0, 0]

    def log_e(self) -> float:
        """Return the natural logarithm of the evidence so far."""
        hits, total = self._counts
        if not total:
            return self._kept
        staked = math.log(_STAKE) + log_e_below(hits, total, self.usual, self.limit)
        return self._kept + log_add(staked, math.log(1 - _STAKE))

    def state(self) -> BelowTestState:
        """Return a checkpoint, plain JSON."""
        return {"usual": self.usual, "limit": self.limit, "kept": self._kept, "counts": list(self._counts)}

    @classmethod
    def from_state(cls, state: BelowTestState) -> BelowTest:
        """Return the bet as it was when the checkpoint was taken."""
        self = cls(state["usual"], state["limit"])
        self._kept = state["kept"]
        self._counts = list(state["counts"])
        return self
