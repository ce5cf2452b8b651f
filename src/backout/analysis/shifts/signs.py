"""Signs beside the classes of answers: requests that begin but do not end, or whose client gives up."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict

from backout.analysis.statistics.beta import beta_tails

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.guard.signals import Counts

_TIMES, _MORE = 3, 10
"""The factor over the usual open requests, and the number above it, that make hanging ones."""
_UNKNOWN = 0.5
"""Where nothing is known to be usual, so large a part of all that began must be open."""
_LEAST_LEFT, _GRANTED, _LEFT_SURE = 10, 0.003, 1e-4
"""So many that were given up, more than so large a share above three times the usual one, and no chance as large."""


class SignsState(TypedDict):
    """Checkpoint of `Signs`."""

    usual: float
    started: int
    ended: int
    left: NotRequired[int]
    usually_left: NotRequired[float]


class Left(NamedTuple):
    """Requests whose client gave up before the answer, out of all that ended; `usual` is their share before."""

    number: int
    ended: int
    usual: float


class Signs:
    """Open requests of the new version, where the source shows that a request begins.

    Args:
        baseline: counts of the old version before the deployment, with the requests that it begins.
    """

    def __init__(self, baseline: Sequence[Counts]) -> None:
        self._started = self._ended = self._left = 0
        left, ended = sum(row.canceled for row in baseline), sum(row.requests + row.canceled for row in baseline)
        self._usually_left = (left + 1) / (ended + 1)
        self._has_past = bool(ended)
        self.usual = _measure_usually_open(baseline)
        """How many are open at a time, usually; None where that was never seen."""

    def add(self, row: Counts) -> None:
        """Count a row of the new version."""
        self._started += row.started
        self._ended += row.requests + row.canceled
        self._left += row.canceled

    def hanging(self, crowd: float) -> int:
        """Return how many requests are open beyond what is usual, 0 where that is no sign of trouble, or not seen.

        Args:
            crowd: the factor of requests over before, each of them open as long as usual.
        """
        open_now = self._started - self._ended
        if not self._started or (self.usual is None and open_now <= _UNKNOWN * self._started):
            return 0
        usual = (self.usual or 0.0) * max(1.0, crowd)
        return round(open_now - usual) if open_now > _TIMES * usual + _MORE else 0

    @property
    def left(self) -> Left | None:
        """Requests that were given up, None where their number is no sign of trouble.

        People leave as they please; so a share has to be far above the usual one, and it is never evidence to act on.
        """
        granted = _TIMES * self._usually_left + _GRANTED
        if self._left < _LEAST_LEFT or not self._has_past or self._left <= granted * self._ended:
            return None
        chance = beta_tails(granted, float(self._left), self._ended - self._left + 1.0)[0]
        return Left(self._left, self._ended, self._usually_left) if chance <= _LEFT_SURE else None

    @property
    def started(self) -> int:
        """How many requests began."""
        return self._started

    def state(self) -> SignsState:
        """Return a checkpoint, plain JSON."""
        return {
            "usual": -1.0 if self.usual is None else self.usual,
            "started": self._started,
            "ended": self._ended,
            "left": self._left,
            "usually_left": self._usually_left if self._has_past else -1.0,
        }

    def restore(self, state: SignsState) -> None:
        """Go on from a checkpoint."""
        self.usual = state["usual"] if state["usual"] >= 0 else None
        self._started, self._ended = state["started"], state["ended"]
        self._left, usually = state.get("left", 0), state.get("usually_left", -1.0)
        self._usually_left, self._has_past = max(0.0, usually), usually >= 0


def _measure_usually_open(baseline: Sequence[Counts]) -> float | None:
    """Return how many requests were open at the end of a second, on the average; None where none was seen to begin."""
    rows = sorted((row for row in baseline), key=lambda row: row.second)
    if not any(row.started for row in rows):
        return None
    is_open, lowest, total = 0, 0, 0
    for row in rows:
        is_open += row.started - row.requests - row.canceled
        lowest = min(lowest, is_open)  # what began before the baseline ends in it
        total += is_open
    return total / len(rows) - lowest
