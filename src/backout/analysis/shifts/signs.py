"""Signs beside the classes of answers: requests that begin and do not end."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.signals import Counts

_TIMES, _MORE = 3, 10
"""So many times as many open requests as usual, and so many more, are hanging ones."""


class SignsState(TypedDict):
    """Checkpoint of `Signs`."""

    usual: float
    started: int
    ended: int


class Signs:
    """Open requests of the new version, where the source shows that a request begins.

    Args:
        baseline: counts of the old version before the deployment, with the requests that it begins.
    """

    def __init__(self, baseline: Sequence[Counts]) -> None:
        self._started = self._ended = 0
        self.usual = _usually_open(baseline)
        """How many are open at a time, usually."""

    def add(self, row: Counts) -> None:
        """Count a row of the new version."""
        self._started += row.started
        self._ended += row.requests + row.canceled

    @property
    def hanging(self) -> int:
        """How many requests are open beyond what is usual, 0 where that is no sign of trouble, or not seen."""
        if not self._started:
            return 0
        open_now = self._started - self._ended
        return round(open_now - self.usual) if open_now > _TIMES * self.usual + _MORE else 0

    @property
    def started(self) -> int:
        """How many requests began."""
        return self._started

    def state(self) -> SignsState:
        """Return a checkpoint, plain JSON."""
        return {"usual": self.usual, "started": self._started, "ended": self._ended}

    def restore(self, state: SignsState) -> None:
        """Go on from a checkpoint."""
        self.usual, self._started, self._ended = state["usual"], state["started"], state["ended"]


def _usually_open(baseline: Sequence[Counts]) -> float:
    """Return how many requests were open at the end of a second, on the average."""
    rows = sorted((row for row in baseline), key=lambda row: row.second)
    if not any(row.started for row in rows):
        return 0.0
    is_open, lowest, total = 0, 0, 0
    for row in rows:
        is_open += row.started - row.requests - row.canceled
        lowest = min(lowest, is_open)  # what began before the baseline ends in it
        total += is_open
    return total / len(rows) - lowest
