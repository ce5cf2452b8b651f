"""Anytime-valid tests on counts of hits: the label test, the SLO test; `minute_law` holds the minute law.

Each is an e-process: a number that starts at 1 and, while its null holds, ever exceeds 1/alpha with probability at
most alpha (Ville). So it may be looked at as often as one likes, and averages of them are e-processes too.
All state is a few floats; `state` and `from_state` survive a crash with the same decisions after it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, TypedDict

from backout.analysis.statistics.beta import log_add, log_sum
from backout.analysis.statistics.minute_law import FIRST_RATIO, compute_odds, compute_share, start_mass

if TYPE_CHECKING:
    from collections.abc import Sequence

ODDS_RATIOS = tuple(FIRST_RATIO * (500 / FIRST_RATIO) ** (k / 10) for k in range(11))


class LabelTestState(TypedDict):
    """Checkpoint of a `LabelTest`."""

    p0: float
    share: float
    late: bool
    minute: int
    counts: list[float]
    scores: list[float]


class LabelTest:
    """Evidence that the new version is worse than the old one beside it, whatever the shared rate does; exact.

    Given that a request was a hit, only its version's label is random: new with probability `share`. Other requests say
    nothing: a split that comes into force a moment late leaves the new version with fewer of them, and of hits.

    Args:
        p0: a nominal share of hits (only the power depends on it).
        share: assigned traffic share of the new version.
        late: a regression may start in any minute, with the prior of `start_mass`; else it starts with the deployment.

    Source: Lindon and Malek, arXiv:2011.03567, count data, with a mixture over 11 odds ratios.
    """

    def __init__(self, p0: float, share: float, *, late: bool = False) -> None:
        self._p0 = p0
        self._share_new = share
        self._late = late
        self._minute = 0
        self._counts: list[float] = [0, 0]
        self._scores = [math.log(start_mass(0, 0)) if late else 0.0] * len(ODDS_RATIOS)
        self._weights = [self._log_ratios(compute_share(compute_odds(p0) * ratio)) for ratio in ODDS_RATIOS]
        self._known: float | None = None

    def _log_ratios(self, p1: float) -> tuple[float, float]:
        w = self._share_new
        hits = w * p1 + (1 - w) * self._p0
        return math.log(p1 / hits), math.log(self._p0 / hits)

    def add(self, minute: int, new: tuple[float, float], old: tuple[float, float] = (0, 0)) -> None:
        """Count (hits, others) of the new and the old version in a minute after the deployment."""
        if self._late and minute > self._minute:
            start = math.log(start_mass(self._minute + 1, minute))
            self._scores = [log_add(score, start) for score in self.scores()]
            self._minute = minute
            self._counts = [0, 0]
        self._counts[0] += new[0]
        self._counts[1] += old[0]
        self._known = None

    def set_share(self, share: float) -> None:
        """Go on with another assigned share: the evidence so far stays, what follows has the new labels' odds.

        Exact across such steps, because the share is known before the requests that it assigns (Lindon and Malek).
        """
        self._scores = self.scores()
        self._counts = [0, 0]
        self._share_new = share
        self._weights = [self._log_ratios(compute_share(compute_odds(self._p0) * ratio)) for ratio in ODDS_RATIOS]

    def log_e(self) -> float:
        """Return the natural logarithm of the evidence so far."""
        if self._known is None:
            self._known = log_sum(self.scores()) - math.log(len(ODDS_RATIOS))
        return self._known

    def scores(self) -> list[float]:
        """Return the log evidence under each of the odds ratios."""
        new, old = self._counts
        return [score + new * a + old * b for score, (a, b) in zip(self._scores, self._weights, strict=True)]

    def state(self) -> LabelTestState:
        """Return a checkpoint, plain JSON."""
        return {
            "p0": self._p0,
            "share": self._share_new,
            "late": self._late,
            "minute": self._minute,
            "counts": list(self._counts),
            "scores": list(self._scores),
        }

    @classmethod
    def from_state(cls, state: LabelTestState) -> LabelTest:
        """Return the test as it was when the checkpoint was taken."""
        self = cls(state["p0"], state["share"], late=state["late"])
        self._minute = state["minute"]
        self._counts = list(state["counts"])
        self._scores = list(state["scores"])
        return self


def log_e_above(hits: int, total: int, limit: float) -> float:
    """Return the log evidence against "the share is at most `limit`", which may be looked at any time.

    Valid whenever each request fails with probability at most `limit` given the past: neither independence nor a
    constant rate is needed.
    Source: Wald's mixture of likelihood ratios over 11 odds ratios; Robbins (1970).

    >>> log_e_above(0, 100, 0.01) < 0 < log_e_above(20, 100, 0.01)
    True
    """
    others = total - hits
    terms = [hits * hit + others * other for hit, other in log_ratios_above(limit)]
    return log_sum(terms) - math.log(len(terms))


@lru_cache(maxsize=64)
def log_ratios_above(limit: float) -> tuple[tuple[float, float], ...]:
    """Return per odds ratio what a hit and what another request adds; a watch has a handful of limits."""
    shares = [compute_share(compute_odds(limit) * ratio) for ratio in ODDS_RATIOS]
    return tuple((math.log(p / limit), math.log((1 - p) / (1 - limit))) for p in shares)


def mix(parts: Sequence[tuple[float, float]]) -> float:
    """Return the log evidence of an average from (weight, log evidence); weight 0 does not count.

    >>> round(mix([(0.5, math.log(10)), (0.5, math.log(30))]), 9) == round(math.log(20), 9)
    True
    """
    return log_sum([math.log(weight) + log_e for weight, log_e in parts if weight > 0])
