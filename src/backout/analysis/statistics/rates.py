"""Anytime-valid tests on counts of hits: the minute law, the label test, the SLO test, and the test that proves health.

Each is an e-process: a number that starts at 1 and, while its null holds, ever exceeds 1/alpha with probability at
most alpha (Ville). So it may be looked at as often as one likes, and averages of them are e-processes too.
All state is a few floats; `state` and `from_state` survive a crash with the same decisions after it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from math import lgamma
from typing import TYPE_CHECKING, NotRequired, TypedDict

from backout.analysis.statistics.baseline import OUTAGE_A, OUTAGE_B, Law
from backout.analysis.statistics.beta import log_add, log_beta, log_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTAGE_SHARED = 0.05
"""Prior of a minute of shared outage when a concurrent old version shows it."""
OUTAGE_ALONE = 1e-6
"""The same in a cut-over, where nothing tells an outage from a bad version: almost never assumed."""
TOP_ODDS = 50.0
ROOM = {True: 1000.0, False: 50.0}
"""The ratio of the alternatives' highest and lowest odds. For latency that is enough: what is slower still is found as
soon, and a finer grid finds more. For errors (clustered) it leads up to a total outage after a version that failed
often, and TOP_ODDS is reached in any case."""
FIRST_RATIO = 1.5
_TOTAL = (20.0, 1.0)
"""A minute in which nearly all are hits, however many: what a law that knows its share well does not reach."""
_LOG_BETA_OUTAGE = log_beta(OUTAGE_A, OUTAGE_B)
_FIRST_MASS = 0.75
ODDS_RATIOS = tuple(FIRST_RATIO * (500 / FIRST_RATIO) ** (k / 10) for k in range(11))


def _odds(p: float) -> float:
    return p / (1 - p)


def _share(odds: float) -> float:
    return odds / (1 + odds)


def start_mass(first: int, last: int) -> float:
    """Return the prior that a regression starts in minutes `first` to `last`: 3/4 for minute 0, then 1/(2(i+1)(i+2)).

    >>> start_mass(0, 0), round(start_mass(0, 10**9), 6)
    (0.75, 1.0)
    """
    rest = (1 / (max(first, 1) + 1) - 1 / (last + 2)) / 2 if last >= 1 else 0.0
    return rest + (_FIRST_MASS if first == 0 else 0.0)


def log_best(hits: float, others: float) -> float:
    """Return the log likelihood of these counts under the share that fits them best.

    >>> log_best(0, 5), round(log_best(1, 1), 6) == round(2 * math.log(0.5), 6)
    (0.0, True)
    """
    total = hits + others
    return sum(number * math.log(number / total) for number in (hits, others) if number)


class MinuteLawState(TypedDict):
    """Checkpoint of a `MinuteLaw`."""

    hits: float
    total: int
    p0: float
    phi: float
    concurrent: bool
    points: int
    clustered: bool
    minute: int
    open: list[float]
    scores: list[float]
    outages: NotRequired[float | None]
    least: NotRequired[float]


class MinuteLaw:
    """Evidence that the new version's hits are not drawn from the law of a healthy minute.

    Null, minute by minute: both versions share a share drawn from the baseline's law or from an outage law, or the new
    version draws its own from the baseline's law, or (clustered, whose alternatives scatter more than a well-known law
    does) has any share below p0: an improvement is never evidence. Alternatives: `points` Beta laws with odds from
    1.5 odds(p0) to 50.

    Args:
        law: the baseline's law of a healthy minute.
        concurrent: an old version serves beside the new one.
        points: number of alternatives.
        clustered: alternatives scatter like errors (CV 0.35), else like the law itself.
        outages: prior of a minute of outage, None for what is usual with or without an old version beside.
        least: no alternative has a lower share.
    """

    def __init__(
        self,
        law: Law,
        *,
        concurrent: bool,
        points: int,
        clustered: bool,
        outages: float | None = None,
        least: float = 0.0,
    ) -> None:
        self.law = law
        self._outages, self._least = outages, least
        self.concurrent = concurrent
        self._points = points
        self._clustered = clustered
        self._null = (law.p0 * law.tau, (1 - law.p0) * law.tau)
        self._log_beta_null = log_beta(*self._null)
        self._log_outage = self._outage_prior()
        self._log_usual = math.log1p(-math.exp(self._log_outage))
        others = list_alternatives(law, points, clustered=clustered, least=least)
        self._alternatives = [(a, b, log_beta(a, b)) for a, b in others]
        self._minute = 0
        self._open: list[float] = [0, 0, 0, 0]
        self._scores = [math.log(_FIRST_MASS)] * points
        self._closed: float | None = None
        self._known: float | None = None

    def _outage_prior(self) -> float:
        if self._outages is not None:
            return math.log(self._outages)
        return math.log(OUTAGE_SHARED if self.concurrent else OUTAGE_ALONE)

    def begin(self, first: int, last: int) -> None:
        """Begin in minute `last`, with regressions that start from minute `first` on: nothing was counted in between.

        Who begins with the first hit leaves the starts out before which there was none: less evidence, never more.
        """
        self._minute = last
        self._scores = [math.log(start_mass(first, last))] * self._points
        self._closed = self._known = None

    def add(self, minute: int, new: tuple[float, float], old: tuple[float, float] = (0, 0)) -> None:
        """Count (hits, others), hits possibly weighed, of the new and the old version in a minute after the deployment.

        Counts of a minute that is already closed join the open one.
        """
        if minute > self._minute:
            self._close(minute)
        counts = self._open
        counts[0] += new[0]
        counts[1] += new[1]
        if self.concurrent:
            counts[2] += old[0]
            counts[3] += old[1]
        self._known = None

    def set_concurrent(self, *, concurrent: bool) -> None:
        """Go on with an old version beside the new one, or without: the evidence so far stays as it is.

        Both are known before the counts that follow, so the product of the two parts is an e-process still.
        """
        if concurrent is self.concurrent:
            return
        self._scores = [m + g for m, g in zip(self._scores, self._gains(), strict=True)]
        self._open = [0, 0, 0, 0]
        self._closed = None
        self.concurrent = concurrent
        self._log_outage = self._outage_prior()
        self._log_usual = math.log1p(-math.exp(self._log_outage))
        self._known = None

    def log_e(self) -> float:
        """Return the natural logarithm of the evidence so far, the open minute included."""
        if self._known is None:
            gains = self._gains()
            self._known = log_sum([m + g for m, g in zip(self._scores, gains, strict=True)]) - math.log(self._points)
        return self._known

    def most_log_e(self) -> float:
        """Return a number that `log_e` does not exceed, at a fraction of its cost while hits are no more than usual.

        Then no alternative gains (the null is at least the best that any share explains), so what the closed minutes
        left is the most there can be.
        """
        u, v, _, _ = self._open
        if self._known is not None or not self._clustered or u > self.law.p0 * (u + v):
            return self.log_e()
        if self._closed is None:
            self._closed = log_sum(self._scores) - math.log(self._points)
        return self._closed

    def _close(self, minute: int) -> None:
        start = math.log(start_mass(self._minute + 1, minute))
        self._scores = [log_add(m + g, start) for m, g in zip(self._scores, self._gains(), strict=True)]
        self._minute = minute
        self._open = [0, 0, 0, 0]
        self._closed = None

    def _gains(self) -> list[float]:
        """Return per alternative the log likelihood ratio of the open minute."""
        return self.ratios(self._open)

    def ratios(self, counts: Sequence[float]) -> list[float]:
        """Return per alternative the log likelihood ratio of such counts of one minute."""
        u, v, x, z = counts
        alone = self._usual(u, v)
        if x or z:
            shared = self._or_outage(self._usual(u + x, v + z), u + x, v + z)
            null = max(shared - self._or_outage(self._usual(x, z), x, z), alone)
        else:
            null = max(self._or_outage(alone, u, v), alone)
        if self._clustered and u <= self.law.p0 * (u + v):
            null = max(null, log_best(u, v))
        # `log_beta` written out: this is most of what an evaluation costs.
        if not self._clustered:  # then a + b is tau for all of them
            null += lgamma(self.law.tau + u + v)
            return [lgamma(a + u) + lgamma(b + v) - known - null for a, b, known in self._alternatives]
        return [
            lgamma(a + u) + lgamma(b + v) - lgamma(a + b + u + v) - known - null for a, b, known in self._alternatives
        ]

    def _usual(self, hits: float, others: float) -> float:
        a0, b0 = self._null
        return log_beta(a0 + hits, b0 + others) - self._log_beta_null

    def _or_outage(self, usual: float, hits: float, others: float) -> float:
        outage = self._log_outage + log_beta(OUTAGE_A + hits, OUTAGE_B + others) - _LOG_BETA_OUTAGE
        return log_add(self._log_usual + usual, outage)

    def state(self) -> MinuteLawState:
        """Return a checkpoint, plain JSON."""
        return {
            "hits": self.law.hits,
            "total": self.law.total,
            "p0": self.law.p0,
            "phi": self.law.phi,
            "concurrent": self.concurrent,
            "points": self._points,
            "clustered": self._clustered,
            "minute": self._minute,
            "open": list(self._open),
            "scores": list(self._scores),
            "outages": self._outages,
            "least": self._least,
        }

    @classmethod
    def from_state(cls, state: MinuteLawState) -> MinuteLaw:
        """Return the test as it was when the checkpoint was taken."""
        self = cls(
            Law(state["hits"], state["total"], state["p0"], state["phi"]),
            concurrent=state["concurrent"],
            points=state["points"],
            clustered=state["clustered"],
            outages=state.get("outages"),
            least=state.get("least", 0.0),
        )
        self._minute = state["minute"]
        self._open = list(state["open"])
        self._scores = list(state["scores"])
        return self


def list_alternatives(law: Law, points: int, *, clustered: bool, least: float = 0.0) -> list[tuple[float, float]]:
    """Return Beta laws (a, b) that a worse version may draw its minutes from, see `MinuteLaw`; the mildest first."""
    low = max(FIRST_RATIO * _odds(law.p0), _odds(least))
    top = max(TOP_ODDS, ROOM[True] * low) if clustered else ROOM[False] * low
    step = (top / low) ** (1 / (points - 1))
    laws = []
    for j in range(points):
        p = _share(low * step**j)
        concentration = 8 / min(p, 1 - p) if clustered else law.tau
        laws.append((p * concentration, (1 - p) * concentration))
    if least:
        laws[-1] = _TOTAL
    return laws


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
        self._scores = [math.log(_FIRST_MASS) if late else 0.0] * len(ODDS_RATIOS)
        self._weights = [self._log_ratios(_share(_odds(p0) * ratio)) for ratio in ODDS_RATIOS]
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
        self._weights = [self._log_ratios(_share(_odds(self._p0) * ratio)) for ratio in ODDS_RATIOS]

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
    shares = [_share(_odds(limit) * ratio) for ratio in ODDS_RATIOS]
    return tuple((math.log(p / limit), math.log((1 - p) / (1 - limit))) for p in shares)


def mix(parts: Sequence[tuple[float, float]]) -> float:
    """Return the log evidence of an average from (weight, log evidence); weight 0 does not count.

    >>> round(mix([(0.5, math.log(10)), (0.5, math.log(30))]), 9) == round(math.log(20), 9)
    True
    """
    return log_sum([math.log(weight) + log_e for weight, log_e in parts if weight > 0])
