"""The normal state before a deployment, by counts per minute: shares, their scatter, the law of a healthy minute."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from msgspec import field

from backout.analysis.statistics.beta import beta_quantile, log_beta
from backout.analysis.statistics.retry_clustering import UNKNOWN
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backout.analysis.statistics.quantiles import RouteTimes, Thresholds

MINUTE_S = 60
FLOOR = 0.0005
"""No share is trusted to be lower than this: an error-free hour does not make one error an incident."""
CV_ERRORS = 0.36
CV_LATENCY = 0.05
"""Coefficients of variation, minute by minute, that a healthy system is always granted."""
CV_UNKNOWN = (0.12, 0.3, 0.3, 0.3)
"""The same for latency above p50, p95, p99 and 2*p99 when too few minutes were seen: what response times that move by
6 % from minute to minute make of each share."""
SURE = 0.9
"""How sure the baseline has to be that the mean share lies below p0. What is left over is bounded by simulation."""
_SURE_LASTING = 0.98
"""The same of the share of a whole watch that lies high, see `Law.p_lasting`."""
_BLOCK_MINUTES = 10
_FEWEST_BLOCKS = 4
"""So many blocks of so many minutes show whether minutes hang together."""
TELLING_MINUTES = 20
"""From this many minutes on a baseline shows how much its minutes scatter; fewer may all be alike by chance."""
_OUTAGE_MINUTES = 10
"""From this many on, which of them were an outage."""
OUTAGE_A, OUTAGE_B = 0.5, 1.0
"""The Beta law of a minute of outage."""
_OUTAGES = 0.01
"""Prior of a minute of outage before a deployment."""
FEW_LATENCIES = 100
"""Thresholds from fewer latencies than this are noise."""
MOST_ROUTES = 20
"""The most routes with streams of their own, beside the vital ones."""
_FEW_HITS = 3
_MOST_OUTAGES = 2
_MOST_ROUNDS = 12
_MAX_PHI = 0.5


class Law(Value, frozen=True):
    """A Beta law from which a healthy minute draws its share of hits.

    Args:
        hits, total: what the baseline counted, outages apart (0, 0: assumed).
        p0: bound of the mean share, in (0,1).
        phi: intra-minute correlation in (0, 1/2]; the law is Beta(p0 tau, (1-p0) tau) with tau = 1/phi - 1.
        p_lasting: bound of the mean share of a whole watch, whose minutes hang together as those of the baseline may
            have; 0 where nobody asked.
    """

    hits: float
    total: int
    p0: float
    phi: float
    p_lasting: float = 0.0

    @property
    def tau(self) -> float:
        """Concentration of the Beta law."""
        return 1.0 / self.phi - 1.0

    @property
    def share(self) -> float:
        """The share that was measured, or p0 when it was assumed."""
        return self.hits / self.total if self.total else self.p0


class RouteBaseline(Value, frozen=True):
    """The normal state of one route: errors, and latencies in buckets above `p95`."""

    name: str
    errors: Law
    p95: int
    slow: Law


class Baseline(Value, frozen=True):
    """One version's hour (or less) before a deployment.

    Args:
        span_s: from its first counted second to the deployment.
        edges: thresholds of all response times together, None where there were too few.
        latency: shares of the answers above the thresholds of their own route, one law each.
        per_cause: failures that one cause brings.
        routes: the busiest routes, at most 20, and the vital ones; none where there is only one.
        times: response times of every route, see `route_times`.
    """

    span_s: float
    errors: Law | None
    edges: Thresholds | None
    latency: tuple[Law, ...]
    per_cause: float = UNKNOWN
    routes: tuple[RouteBaseline, ...] = ()
    times: Mapping[str, RouteTimes] = field(default_factory=dict)

    @property
    def has_route_times(self) -> bool:
        """Whether response times are known by route."""
        return len(self.times) > 1

    @property
    def requests(self) -> int:
        """Requests counted."""
        return self.errors.total if self.errors else 0


def assume_law(p0: float, cv: float = CV_ERRORS) -> Law:
    """Return the law of a share that was not measured, from a limit such as the SLO."""
    p0 = min(max(p0, FLOOR), 1 - FLOOR)
    return Law(0, 0, p0, min(_MAX_PHI, cv * cv * p0 / (1 - p0)))


class Minute(NamedTuple):
    """One minute of a stream: hits and total; `repeats` is what the weighing took from the hits."""

    hits: float
    total: int
    repeats: float = 0.0


def estimate_law(
    minutes: Iterable[Minute], cv: float, unknown: float | None = None, *, lasting: bool = False
) -> Law | None:
    """Return the law of one stream from its (hits, total) per minute; None when there is nothing to learn from.

    Minutes of an outage, when they are few, are left out: they say nothing of a healthy minute.

    Args:
        cv: variation granted in any case, unless enough minutes were seen to know that it is less.
        unknown: variation granted when they are too few to know; None for `cv`.
        lasting: say as well how high the mean of a whole watch may lie.
    """
    known = [minute for minute in minutes if minute.total > 0]
    if not known:
        return None
    if unknown is not None and len(known) < TELLING_MINUTES:
        cv = unknown
    found = _fit_law(_drop_outages(known, cv), cv, lasting=lasting)
    return found if found.p0 <= 1 - FLOOR else None


def _fit_law(minutes: Sequence[Minute], cv: float, *, lasting: bool = False) -> Law:
    """Return the law of these minutes.

    p0 is the `SURE` quantile of what the mean may be (Jeffreys' prior, hits and requests divided by the design effect);
    its uncertainty joins the scatter between minutes, so that a short baseline is a wide law.
    """
    hits, total = sum(m.hits for m in minutes), sum(m.total for m in minutes)
    mean_n = total / len(minutes)
    least, most = _estimate_clustering(minutes, hits / total, mean_n)
    share = max(FLOOR, (hits + 0.5) / (total + 1))
    phi = min(_MAX_PHI, max(least, min(most, cv * cv * share / (1 - share))))
    deff = 1 + max(0.0, mean_n - 1) * phi
    p0 = max(FLOOR, beta_quantile(SURE, (hits / deff) + 0.5, (total - hits) / deff + 0.5))
    p_lasting = 0.0
    if lasting:
        # Minutes that hang together are worth fewer requests: all of their scatter where it is not known to pass.
        together = deff + total * min(phi, _estimate_correlation(minutes, hits / total))
        p_lasting = max(p0, beta_quantile(_SURE_LASTING, hits / together + 0.5, (total - hits) / together + 0.5))
    seen = hits + sum(m.repeats for m in minutes)
    return Law(seen, total, p0, min(_MAX_PHI, phi + 1 / (total / deff + 2)), p_lasting)


def _estimate_clustering(minutes: Sequence[Minute], p: float, mean_n: float) -> tuple[float, float]:
    """Return (estimate, upper limit) of the intra-minute correlation; (0, infinity) where the minutes cannot tell.

    The upper limit is the 95 % bound by the chi-square law of the minutes' scatter.
    """
    if len(minutes) < 2 or not 0 < p < 1 or mean_n <= 1:
        return 0.0, math.inf
    freedom = len(minutes) - 1
    scatter = sum((m.hits - m.total * p) ** 2 / (m.total * p * (1 - p)) for m in minutes)
    least = max(1.0, scatter / freedom)
    most = max(1.0, scatter / _low_chi_square(freedom)) if len(minutes) >= TELLING_MINUTES else math.inf
    return (least - 1) / (mean_n - 1), (most - 1) / (mean_n - 1)


def _estimate_correlation(minutes: Sequence[Minute], p: float) -> float:
    """Return the correlation of hits that lie minutes apart, by blocks of minutes; infinity where they cannot tell."""
    blocks = [minutes[k : k + _BLOCK_MINUTES] for k in range(0, len(minutes), _BLOCK_MINUTES)]
    whole = [block for block in blocks if len(block) == _BLOCK_MINUTES]
    if len(whole) < _FEWEST_BLOCKS or not 0 < p < 1:
        return math.inf
    sums = [(sum(m.hits for m in block), sum(m.total for m in block)) for block in whole]
    scatter = sum((hits - total * p) ** 2 / (total * p * (1 - p)) for hits, total in sums) / (len(sums) - 1)
    return max(0.0, scatter - 1) * len(sums) / sum(total for _, total in sums)


def _low_chi_square(freedom: int) -> float:
    """Return the 5 % quantile of the chi-square law, `freedom` >= 9.

    Source: Wilson and Hilferty, PNAS 17 (1931): the cube root is nearly normal.

    >>> round(_low_chi_square(59), 1)
    42.3
    """
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread - 1.645 * math.sqrt(spread)) ** 3)


def _drop_outages(minutes: Sequence[Minute], cv: float) -> Sequence[Minute]:
    """Return the minutes apart from those that an outage explains better than the law of the others does.

    Starts from the better half and grows to a fixed point. All count when they are too few to tell, and when there were
    more outages than two, or long ones: what happens so often is normal here.

    Args:
        minutes: in the order of time.
    """
    if len(minutes) < _OUTAGE_MINUTES or all(minute.hits < _FEW_HITS for minute in minutes):
        return minutes
    usual = _fit_law(sorted(minutes, key=lambda m: m.hits / m.total)[: (len(minutes) + 1) // 2], cv)
    kept: Sequence[Minute] = ()
    out = [False]
    for _ in range(_MOST_ROUNDS):
        out = [_is_outage(minute, usual) for minute in minutes]
        grown = [minute for minute, is_out in zip(minutes, out, strict=True) if not is_out]
        if len(grown) == len(kept):
            break
        kept = grown
        usual = _fit_law(kept, cv)
    episodes = sum(now and not before for before, now in pairwise([False, *out]))
    return kept if episodes <= _MOST_OUTAGES and sum(out) * 4 <= len(minutes) else minutes


def _is_outage(minute: Minute, usual: Law) -> bool:
    hits, total, _ = minute
    if hits < _FEW_HITS or hits / total <= usual.p0:
        return False
    a, b = usual.p0 * usual.tau, (1 - usual.p0) * usual.tau
    as_usual = log_beta(a + hits, b + total - hits) - log_beta(a, b)
    as_outage = log_beta(OUTAGE_A + hits, OUTAGE_B + total - hits) - log_beta(OUTAGE_A, OUTAGE_B)
    return as_usual < math.log(_OUTAGES) + as_outage
