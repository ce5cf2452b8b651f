"""The test of a share against the law of a healthy minute: an e-process, see `rates`."""

from __future__ import annotations

import math
from math import lgamma
from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict

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
"""A minute in which nearly all are hits, however many: what no other alternative reaches. Without it a version nine
times as slow, all of whose answers are slow, would look more like an outage than like any bad version."""
_TOTAL_WEIGHT = 0.02
"""Its part of the average, without `clustered`: little, so that the others tell as soon as without it; where all are
slow, it has evidence enough at once."""
_LOG_BETA_OUTAGE = log_beta(OUTAGE_A, OUTAGE_B)
_FIRST_MASS = 0.75
_LASTING = 0.02
"""Prior that all minutes of a watch lie high together, see `Law.p_lasting`: little, so that a bad version is found as
soon, since it costs a fixed amount of evidence, which few hits of many outweigh."""
LOG_NOT_LASTING, LOG_LASTING = math.log1p(-_LASTING), math.log(_LASTING)


def compute_odds(p: float) -> float:
    """Return the odds of a share."""
    return p / (1 - p)


def compute_share(odds: float) -> float:
    """Return the share with these odds."""
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
    p_lasting: NotRequired[float]
    lasting: NotRequired[float]


class HealthyLaw(NamedTuple):
    """Beta(a, b), from which healthy minutes draw their share of hits, and the logarithm of the Beta function there."""

    a: float
    b: float
    known: float

    @classmethod
    def make(cls, mean: float, tau: float) -> HealthyLaw:
        """Return the law with that mean and concentration."""
        a, b = mean * tau, (1 - mean) * tau
        return cls(a, b, log_beta(a, b))

    def log_likelihood(self, hits: float, others: float) -> float:
        """Return the log likelihood of the counts of one minute, in that order."""
        return log_beta(self.a + hits, self.b + others) - self.known


class MinuteLaw:
    """Evidence that the new version's hits are not drawn from the law of a healthy minute.

    Null, minute by minute: both versions share a share drawn from the baseline's law or from an outage law, or the new
    version draws its own from the baseline's law, or (clustered, whose alternatives scatter more than a well-known law
    does) has any share below p0: an improvement is never evidence. Where the law says how high a whole watch may lie,
    the null is a mixture of two, of which the second has each minute drawn around that share: minutes that hang
    together, and a mean that was estimated too low, are one deviation and not one a minute. Alternatives: `points` Beta
    laws with odds from 1.5 odds(p0) to 50; without `clustered` the last one is that of nearly all.

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
        self._usual = HealthyLaw.make(law.p0, law.tau)
        self._log_outage = self._outage_prior()
        self._log_usual = math.log1p(-math.exp(self._log_outage))
        others = list_alternatives(law, points, clustered=clustered, least=least)
        self._alternatives = [(a, b, log_beta(a, b)) for a, b in others]
        self._shares = list_log_shares(points, clustered=clustered)
        self._high = HealthyLaw.make(law.p_lasting, law.tau) if law.p_lasting else None
        self._lasting = 0.0
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
        self._lasting = 0.0
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
        self._lasting += self._compare_lasting()
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
            self._known = self.mix([m + g for m, g in zip(self._scores, gains, strict=True)])
            if self._high is not None:
                self._known -= log_add(LOG_NOT_LASTING, LOG_LASTING + self._lasting + self._compare_lasting())
        return self._known

    def mix(self, scores: Sequence[float]) -> float:
        """Return the log evidence of all alternatives together, from that of each."""
        return log_sum([score + share for score, share in zip(scores, self._shares, strict=True)])

    def most_log_e(self, *, roughly: bool = False) -> float:
        """Return a number that `log_e` does not exceed, at a fraction of its cost while hits are no more than usual.

        Then no alternative gains (the null is at least the best that any share explains), so what the closed minutes
        left is the most there can be.

        Args:
            roughly: also where hits are more than usual, however far above `log_e` that may be: no alternative explains
                them better than the share that fits them best.
        """
        u, v, _, _ = self._open
        is_usual = u <= self.law.p0 * (u + v)
        if self._known is not None or not self._clustered or not (is_usual or roughly):
            return self.log_e()
        if self._closed is None:
            self._closed = self.mix(self._scores) - LOG_NOT_LASTING
        if is_usual:
            return self._closed
        return self._closed + max(0.0, log_best(u, v) - self._compute_null(self._usual, self._open))

    def _close(self, minute: int) -> None:
        start = math.log(start_mass(self._minute + 1, minute))
        self._scores = [log_add(m + g, start) for m, g in zip(self._scores, self._gains(), strict=True)]
        self._lasting += self._compare_lasting()
        self._minute = minute
        self._open = [0, 0, 0, 0]
        self._closed = None

    def is_usual(self, counts: Sequence[float]) -> bool:
        """Whether such counts of one minute are no evidence for any alternative (not clustered), as is quick to tell.

        With a + d and b - d in it the log likelihood ratio is at most d (psi(a+u) - psi(a) - psi(b+v) + psi(b)),
        since the steps of the digamma function psi fall; and its slope at y lies between 1/y and 1/y + 1/y^2.
        """
        u, v, _, _ = counts
        a, b, _ = self._usual
        return 1 / a - 1 / (a + u) + math.log((a + u) / a) <= math.log((b + v) / b)

    def _gains(self) -> list[float]:
        """Return per alternative the log likelihood ratio of the open minute."""
        return self.ratios(self._open)

    def ratios(self, counts: Sequence[float]) -> list[float]:
        """Return per alternative the log likelihood ratio of such counts of one minute."""
        u, v, _, _ = counts
        null = self._compute_null(self._usual, counts)
        if self._clustered and u <= self.law.p0 * (u + v):
            null = max(null, log_best(u, v))
        # `log_beta` written out: this is most of what an evaluation costs.
        if not self._clustered:  # then a + b is tau for all of them but the last
            *others, (a, b, known) = self._alternatives
            whole = lgamma(a + u) + lgamma(b + v) - lgamma(a + b + u + v) - known - null
            null += lgamma(self.law.tau + u + v)
            return [*(lgamma(a + u) + lgamma(b + v) - known - null for a, b, known in others), whole]
        return [
            lgamma(a + u) + lgamma(b + v) - lgamma(a + b + u + v) - known - null for a, b, known in self._alternatives
        ]

    def _compare_lasting(self) -> float:
        """Return the log likelihood ratio of the open minute, all minutes lying high against the usual law."""
        if self._high is None:
            return 0.0
        return self._compute_null(self._high, self._open) - self._compute_null(self._usual, self._open)

    def _compute_null(self, healthy: HealthyLaw, counts: Sequence[float]) -> float:
        u, v, x, z = counts
        alone = healthy.log_likelihood(u, v)
        if x or z:
            shared = self._or_outage(healthy.log_likelihood(u + x, v + z), u + x, v + z)
            return max(shared - self._or_outage(healthy.log_likelihood(x, z), x, z), alone)
        return max(self._or_outage(alone, u, v), alone)

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
            "p_lasting": self.law.p_lasting,
            "lasting": self._lasting,
        }

    @classmethod
    def from_state(cls, state: MinuteLawState) -> MinuteLaw:
        """Return the test as it was when the checkpoint was taken."""
        self = cls(
            Law(state["hits"], state["total"], state["p0"], state["phi"], state.get("p_lasting", 0.0)),
            concurrent=state["concurrent"],
            points=state["points"],
            clustered=state["clustered"],
            outages=state.get("outages"),
            least=state.get("least", 0.0),
        )
        self._lasting = state.get("lasting", 0.0)
        self._minute = state["minute"]
        self._open = list(state["open"])
        self._scores = list(state["scores"])
        return self


def list_log_shares(points: int, *, clustered: bool) -> list[float]:
    """Return the logarithm of each alternative's part of the average."""
    if clustered:
        return [-math.log(points)] * points
    graded = math.log1p(-_TOTAL_WEIGHT) - math.log(points - 1)
    return [*[graded] * (points - 1), math.log(_TOTAL_WEIGHT)]


def list_alternatives(law: Law, points: int, *, clustered: bool, least: float = 0.0) -> list[tuple[float, float]]:
    """Return Beta laws (a, b) that a worse version may draw its minutes from, see `MinuteLaw`; the mildest first."""
    low = max(FIRST_RATIO * compute_odds(law.p0), compute_odds(least))
    top = max(TOP_ODDS, ROOM[True] * low) if clustered else ROOM[False] * low
    graded = points if clustered else points - 1
    step = (top / low) ** (1 / (graded - 1))
    laws = []
    for j in range(graded):
        p = compute_share(low * step**j)
        concentration = 8 / min(p, 1 - p) if clustered else law.tau
        laws.append((p * concentration, (1 - p) * concentration))
    if least:
        laws.pop()
    if least or not clustered:
        laws.append(_TOTAL)
    return laws
