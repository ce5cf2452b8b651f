"""Latency is judged by persistence: cold code, empty caches and a busy host are slow for a while, not regressed.

A watch is cut into stretches of time. The first one is a warm-up, whose latency says nothing, and of the others the two
that tell most are forgiven: evidence is what is left without them. So whatever happens in two stretches carries no
verdict, and what remains is no more than the evidence of the stretches that were not disturbed, which is an e-process:
the chance of a false alarm stays alpha. "Healthy" is a bet of which a slow stretch can take no more than a part.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, TypedDict

from backout.analysis.statistics.baseline import MINUTE_S
from backout.analysis.statistics.beta import log_add, log_sum
from backout.analysis.statistics.minute_law import MinuteLaw, MinuteLawState, start_mass
from backout.analysis.statistics.rates import LabelTest, LabelTestState, log_ratios_above
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.analysis.statistics.baseline import Law

FORGIVEN = 2
"""The number of stretches that may be slow."""
SLOW = math.log(1000)
"""Log evidence from which on a stretch is called slow by itself; it decides nothing but what is said of it."""
_BY_CHANCE = 3
"""The standard deviations above the usual that count as chance."""
_START_PARTS = 3
"""A slow start that is forgiven is as long as the warm-up and two stretches."""
_PARTS = 6
"""A short watch has shorter stretches, so that its second half can still tell."""
_FEW_MINUTES_S = 300
EXTREME = 10.0
"""The multiple of the median that is extreme where most answers take longer."""
TIME_OUT_MS = 30_000.0
"""What most clients do not wait for."""
MOST = 0.5
"""Share of the answers from which on "most" of them are."""


class Persistence(Value, frozen=True):
    """The stretches over which slowness has to persist.

    Args:
        stretch_s: the length of a stretch in whole seconds, from the deployment on.
        unit_s: so long answers share what the law of a healthy minute draws: a minute, or in a watch of few minutes a
            stretch, since there a change in the middle of a minute would be lost in it.
    """

    stretch_s: int
    unit_s: int

    @property
    def extreme_s(self) -> int:
        """The same for what is extreme, which has no warm-up."""
        return max(1, self.stretch_s * 3 // 4)


def make_persistence(watch_s: float, slow_start_s: float) -> Persistence | None:
    """Return how latency has to persist in a watch, None where it need not; stretches divide a minute.

    Args:
        watch_s: the length of the watch.
        slow_start_s: how long a start may be slow.

    >>> found = [make_persistence(watch_s, 60) for watch_s in (900, 90, 60, 1)]
    >>> [(each.stretch_s, each.unit_s) for each in found if each], make_persistence(900, 0)
    ([(20, 60), (15, 15), (10, 10), (1, 1)], None)
    """
    if not slow_start_s:
        return None
    longest = min(slow_start_s / _START_PARTS, watch_s / _PARTS)
    stretch_s = max((s for s in range(1, MINUTE_S + 1) if MINUTE_S % s == 0 and s <= longest), default=1)
    return Persistence(stretch_s, MINUTE_S if watch_s >= _FEW_MINUTES_S else stretch_s)


def get_stretch(persistence: Persistence | None) -> int:
    """Return the seconds of a stretch, 0 where latency need not persist."""
    return persistence.stretch_s if persistence is not None else 0


Levels = list[list[float]]
"""Per number of forgiven stretches, 0 to `FORGIVEN`, the log evidence of each alternative without them."""


def _add(scores: Sequence[float], gains: Sequence[float]) -> list[float]:
    return [score + gain for score, gain in zip(scores, gains, strict=True)]


def _list_least(parts: Iterable[Sequence[float]]) -> list[float]:
    return list(map(min, zip(*parts, strict=True)))


def _add_gains(levels: Levels, gains: Levels) -> Levels:
    """Return the levels after what came without 0, 1, ... of its own stretches brought `gains`."""
    return [
        _list_least(_add(levels[level - dropped], gains[dropped]) for dropped in range(level + 1))
        for level in range(len(levels))
    ]


def _add_stretch(levels: Levels, gains: Sequence[float]) -> Levels:
    """Return the levels after one stretch of a test whose evidence is the sum of that of its stretches."""
    return [_add(levels[0], gains)] + [
        _list_least((_add(levels[level], gains), levels[level - 1])) for level in range(1, len(levels))
    ]


class StretchLawState(TypedDict):
    """Checkpoint of a `StretchLaw`."""

    law: MinuteLawState
    unit_s: int
    levels: Levels
    parts: list[list[float]]


class StretchLaw:
    """`rates.MinuteLaw` for evidence that has to persist.

    The evidence of a minute is that of its counts together, since its stretches share the minute's share of hits.

    Args:
        law: the baseline's law of a healthy minute.
        concurrent: an old version serves beside the new one.
        points: number of alternatives.
        unit_s: seconds that share what the law draws.
    """

    def __init__(self, law: Law, *, concurrent: bool, points: int, unit_s: int = MINUTE_S) -> None:
        self.unit_s = unit_s
        self._test = MinuteLaw(law, concurrent=concurrent, points=points, clustered=False)
        self._minute = 0
        self._levels: Levels = [[math.log(start_mass(0, 0))] * points for _ in range(FORGIVEN + 1)]
        self._parts: list[list[float]] = [[0, 0, 0, 0]]
        self._closed: float | None = None
        self._known: float | None = None

    @property
    def law(self) -> Law:
        """The baseline's law of a healthy minute."""
        return self._test.law

    def add(self, minute: int, new: tuple[float, float], old: tuple[float, float] = (0, 0)) -> None:
        """Count (hits, others) of the new and the old version in a minute (a unit) after the deployment."""
        if minute > self._minute:
            start = math.log(start_mass(self._minute + 1, minute))
            self._levels = [[log_add(score, start) for score in level] for level in self._with_open()]
            self._minute = minute
            self._parts = [[0, 0, 0, 0]]
            self._closed = None
        counts = self._parts[-1]
        counts[0] += new[0]
        counts[1] += new[1]
        if self._test.concurrent:
            counts[2] += old[0]
            counts[3] += old[1]
        self._known = None

    def begin_stretch(self) -> None:
        """Count what follows as another stretch."""
        if any(self._parts[-1]):
            self._parts.append([0, 0, 0, 0])

    def set_concurrent(self, *, concurrent: bool) -> None:
        """Go on with an old version beside the new one, or without: the evidence so far stays as it is."""
        if concurrent is self._test.concurrent:
            return
        self._levels = self._with_open()
        self._parts = [[0, 0, 0, 0]]
        self._closed = None
        self._test.set_concurrent(concurrent=concurrent)
        self._known = None

    def log_e(self) -> float:
        """Return the natural logarithm of the evidence so far, the open minute included."""
        if self._known is None:
            self._known = self._test.mix(self._with_open()[-1])
        return self._known

    def most_log_e(self) -> float:
        """Return a number that `log_e` does not exceed, at a fraction of its cost: no open stretch is forgiven."""
        if self._known is not None:
            return self._known
        parts = self._parts
        whole = parts[0] if len(parts) == 1 else list(map(sum, zip(*parts, strict=True)))
        if not self._test.is_usual(whole):
            return self._test.mix(_add(self._levels[-1], self._test.ratios(whole)))
        if self._closed is None:
            self._closed = self._test.mix(self._levels[-1])
        return self._closed

    def stretch_log_e(self) -> float:
        """Return the log evidence of the open stretch by itself, under the alternative that fits it best.

        0 where it has no more hits than chance alone may bring.
        """
        hits, others, *_ = self._parts[-1]
        usual = self.law.p0 * (hits + others)
        is_usual = hits - usual <= _BY_CHANCE * math.sqrt(usual * (1 - self.law.p0))
        return 0.0 if is_usual else max(self._test.ratios(self._parts[-1]))

    def _with_open(self) -> Levels:
        places = range(len(self._parts))
        gains = [self._without(())]
        for dropped in range(1, len(self._levels)):
            found = (self._without(chosen) for chosen in combinations(places, dropped))
            gains.append(_list_least((gains[-1], *found)))
        return _add_gains(self._levels, gains)

    def _without(self, dropped: Sequence[int]) -> list[float]:
        """Return per alternative the log likelihood ratio of the open minute without some of its stretches."""
        kept = [part for place, part in enumerate(self._parts) if place not in dropped]
        return self._test.ratios([sum(column) for column in zip(*kept, strict=True)] if kept else [0, 0, 0, 0])

    def state(self) -> StretchLawState:
        """Return a checkpoint, plain JSON."""
        test = self._test.state()
        test["minute"] = self._minute
        return {
            "law": test,
            "unit_s": self.unit_s,
            "levels": [list(level) for level in self._levels],
            "parts": [list(p) for p in self._parts],
        }

    @classmethod
    def from_state(cls, state: StretchLawState) -> StretchLaw:
        """Return the test as it was when the checkpoint was taken."""
        test = MinuteLaw.from_state(state["law"])
        self = cls(test.law, concurrent=test.concurrent, points=state["law"]["points"], unit_s=state["unit_s"])
        self._minute = state["law"]["minute"]
        self._levels = [list(level) for level in state["levels"]]
        self._parts = [list(part) for part in state["parts"]]
        return self


class StretchLabelsState(TypedDict):
    """Checkpoint of a `StretchLabels`."""

    test: LabelTestState
    levels: Levels


class StretchLabels:
    """`rates.LabelTest` for evidence that has to persist.

    Args:
        p0: a nominal share of hits.
        share: assigned traffic share of the new version.
    """

    def __init__(self, p0: float, share: float) -> None:
        self._open = LabelTest(p0, share)
        self._p0 = p0
        self._share = share
        self._levels: Levels = [[0.0] * len(self._open.scores()) for _ in range(FORGIVEN + 1)]

    def add(self, minute: int, new: tuple[float, float], old: tuple[float, float] = (0, 0)) -> None:
        """Count (hits, others) of the new and the old version in a minute after the deployment."""
        self._open.add(minute, new, old)

    def begin_stretch(self) -> None:
        """Count what follows as another stretch."""
        self._levels = _add_stretch(self._levels, self._open.scores())
        self._open = LabelTest(self._p0, self._share)

    def set_share(self, share: float) -> None:
        """Go on with another assigned share."""
        self._open.set_share(share)
        self._share = share

    def log_e(self) -> float:
        """Return the natural logarithm of the evidence so far."""
        last = _add_stretch(self._levels, self._open.scores())[-1]
        return log_sum(last) - math.log(len(last))

    def stretch_log_e(self) -> float:
        """Return the log evidence of the open stretch by itself, under the alternative that fits it best."""
        return max(self._open.scores())

    def state(self) -> StretchLabelsState:
        """Return a checkpoint, plain JSON."""
        return {"test": self._open.state(), "levels": [list(level) for level in self._levels]}

    @classmethod
    def from_state(cls, state: StretchLabelsState) -> StretchLabels:
        """Return the test as it was when the checkpoint was taken."""
        self = cls(state["test"]["p0"], state["test"]["share"])
        self._open = LabelTest.from_state(state["test"])
        self._levels = [list(level) for level in state["levels"]]
        return self


class LimitTestState(TypedDict):
    """Checkpoint of a `LimitTest`."""

    limit: float
    begun: int
    counts: list[int]
    levels: Levels


class LimitTest:
    """Evidence against "the share is at most `limit`", see `rates.log_e_above`, for what may have to persist.

    It may begin to be above it with any stretch, with the prior of `rates.start_mass`.

    Args:
        forgives: whether two stretches are forgiven.
    """

    def __init__(self, limit: float, *, forgives: bool) -> None:
        self._limit = limit
        self._weights = log_ratios_above(limit)
        self._counts = [0, 0]
        self._begun = 0
        begin = math.log(start_mass(0, 0))
        self._levels: Levels = [[begin] * len(self._weights) for _ in range(FORGIVEN + 1 if forgives else 1)]
        self._closed: float | None = None

    def add(self, _minute: int, new: tuple[float, float], _old: tuple[float, float] = (0, 0)) -> None:
        """Count (hits, others) of the new version; the old one and minutes do not matter here."""
        self._counts[0] += int(new[0])
        self._counts[1] += int(new[1])

    def begin_stretch(self) -> None:
        """Count what follows as another stretch."""
        self._begun += 1
        start = math.log(start_mass(self._begun, self._begun))
        levels = _add_stretch(self._levels, self._gains())
        self._levels = [[log_add(score, start) for score in level] for level in levels]
        self._counts = [0, 0]
        self._closed = None

    def most_log_e(self) -> float:
        """Return a number that `log_e` does not exceed, quickly while hits are within the limit: then none gains."""
        hits, others = self._counts
        if hits > self._limit * (hits + others):
            return self.log_e()
        if self._closed is None:
            self._closed = log_sum(self._levels[-1]) - math.log(len(self._levels[-1]))
        return self._closed

    def log_e(self) -> float:
        """Return the natural logarithm of the evidence so far."""
        last = _add_stretch(self._levels, self._gains())[-1]
        return log_sum(last) - math.log(len(last))

    def _gains(self) -> list[float]:
        hits, others = self._counts
        return [hits * hit + others * other for hit, other in self._weights]

    def state(self) -> LimitTestState:
        """Return a checkpoint, plain JSON."""
        levels = [list(level) for level in self._levels]
        return {"limit": self._limit, "begun": self._begun, "counts": list(self._counts), "levels": levels}

    @classmethod
    def from_state(cls, state: LimitTestState) -> LimitTest:
        """Return the test as it was when the checkpoint was taken."""
        self = cls(state["limit"], forgives=len(state["levels"]) > 1)
        self._begun = state["begun"]
        self._counts = list(state["counts"])
        self._levels = [list(level) for level in state["levels"]]
        return self
