"""Signs beside the classes of answers: requests that begin but do not end, or whose client gives up."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict

from backout.analysis.statistics.beta import beta_tails
from backout.model.guard.shift import SITE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.guard.signals import Counts

_TIMES, _MORE = 3, 10
"""The factor over the usual open requests, and the number above it, that make hanging ones."""
_UNKNOWN = 0.5
"""Where nothing is known to be usual, so large a part of all that began must be open."""
_SLOWEST, _FEW = 0.999, 200
"""Who waited longer than that share of a route's answers took, of so many at least, gave up; earlier ones just left."""
_LEAST_LEFT, _GRANTED, _LEFT_SURE = 10, 0.003, 1e-4
"""So many that were given up, more than so large a share above three times the usual one, and no chance as large."""


class SignsState(TypedDict):
    """Checkpoint of `Signs`."""

    usual: float
    started: int
    ended: int
    left: NotRequired[int]
    usually_left: NotRequired[float]
    longest: NotRequired[dict[str, int]]
    untimed: NotRequired[int]


class Left(NamedTuple):
    """Requests whose client gave up before the answer, out of all that ended.

    Args:
        usual: their share before.
        is_timed: whether it is known of each that it had waited longer than nearly all answers of its route took.
    """

    number: int
    ended: int
    usual: float
    is_timed: bool


class Signs:
    """Open requests of the new version, where the source shows that a request begins.

    Args:
        baseline: counts of the old version before the deployment, with the requests that it begins.
    """

    def __init__(self, baseline: Sequence[Counts]) -> None:
        self._started = self._ended = self._left = self._untimed = 0
        self._longest = _find_longest(baseline)
        left = sum(sum(self._count_left(row)) for row in baseline)
        ended = sum(row.requests + row.canceled for row in baseline)
        self._usually_left = (left + 1) / (ended + 1)
        self._has_past = bool(ended)
        self.usual = _measure_usually_open(baseline)
        """How many are open at a time, usually; None where that was never seen."""

    def add(self, row: Counts) -> None:
        """Count a row of the new version."""
        self._started += row.started
        self._ended += row.requests + row.canceled
        late, untimed = self._count_left(row)
        self._left += late + untimed
        self._untimed += untimed

    def _count_left(self, row: Counts) -> tuple[int, int]:
        """Return how many gave up late, and how many did of whom it is not known how long they had waited."""
        timed = late = 0
        for name, waits in row.left.items():
            longest = self._longest.get(name, self._longest.get(SITE, -1))
            timed += sum(waits.values())
            late += sum(number for bucket, number in waits.items() if bucket > longest)
        return late, row.canceled - timed

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
        found = Left(self._left, self._ended, self._usually_left, is_timed=not self._untimed)
        return found if chance <= _LEFT_SURE else None

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
            "longest": self._longest,
            "untimed": self._untimed,
        }

    def restore(self, state: SignsState) -> None:
        """Go on from a checkpoint."""
        self.usual = state["usual"] if state["usual"] >= 0 else None
        self._started, self._ended = state["started"], state["ended"]
        self._left, usually = state.get("left", 0), state.get("usually_left", -1.0)
        self._usually_left, self._has_past = max(0.0, usually), usually >= 0
        self._longest, self._untimed = dict(state.get("longest", {})), state.get("untimed", self._left)


def _find_longest(baseline: Sequence[Counts]) -> dict[str, int]:
    """Return {route: bucket of the slowest answers but one in a thousand}, `SITE` for seldom asked routes."""
    latency: dict[str, dict[int, int]] = {SITE: {}}
    for row in baseline:
        for name, found in ((SITE, row.latency), *((name, route.latency) for name, route in row.routes.items())):
            whole = latency.setdefault(name, {})
            for bucket, number in found.items():
                whole[bucket] = whole.get(bucket, 0) + number
    return {name: _find_slowest(found) for name, found in latency.items() if sum(found.values()) >= _FEW}


def _find_slowest(latency: Mapping[int, int]) -> int:
    above = (1 - _SLOWEST) * sum(latency.values())
    for bucket in sorted(latency, reverse=True):
        above -= latency[bucket]
        if above < 0:
            return bucket
    return 0


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
