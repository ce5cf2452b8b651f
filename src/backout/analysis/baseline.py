"""What was normal before a deployment, by counts per minute: shares, their scatter, and the law of a healthy minute."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.analysis.beta import upper_bound
from backout.analysis.quantiles import TAILS, Thresholds, counts_above, thresholds
from backout.model.signals import merge_latency

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.signals import Counts

MINUTE_S = 60
FLOOR = 0.0005
"""No share is trusted to be lower than this: an error-free hour does not make one error an incident."""
CV_ERRORS = 0.36
CV_LATENCY = 0.05
"""Coefficients of variation, minute by minute, that a healthy system is always granted."""
_MAX_PHI = 0.5


@dataclass(frozen=True, slots=True)
class Law:
    """A Beta law from which a healthy minute draws its share of hits.

    Args:
        hits, total: what the baseline counted (0, 0: assumed). p0: upper bound of the mean share, in (0,1).
        phi: intra-minute correlation in (0, 1/2]; the law is Beta(p0 tau, (1-p0) tau) with tau = 1/phi - 1.
    """

    hits: int
    total: int
    p0: float
    phi: float

    @property
    def tau(self) -> float:
        """Concentration of the Beta law."""
        return 1.0 / self.phi - 1.0

    @property
    def share(self) -> float:
        """The share that was measured, or p0 when it was assumed."""
        return self.hits / self.total if self.total else self.p0


@dataclass(frozen=True, slots=True)
class Baseline:
    """One version's hour (or less) before a deployment; `span_s` from its first counted second to the deployment."""

    span_s: float
    errors: Law | None
    edges: Thresholds | None
    latency: tuple[Law, ...]

    @property
    def requests(self) -> int:
        """Requests counted."""
        return self.errors.total if self.errors else 0


def assumed(p0: float, cv: float = CV_ERRORS) -> Law:
    """Return the law of a share that nobody measured, from a limit such as the SLO."""
    p0 = min(max(p0, FLOOR), 1 - FLOOR)
    return Law(0, 0, p0, min(_MAX_PHI, cv * cv * p0 / (1 - p0)))


def law(minutes: Sequence[tuple[int, int]], cv: float, alpha: float) -> Law | None:
    """Return the law of one stream from its (hits, total) per minute; None when there is nothing to learn from.

    Args:
        cv: variation granted in any case. alpha: chance that the mean lies above p0.
    """
    minutes = [(hits, total) for hits, total in minutes if total > 0]
    hits, total = sum(y for y, _ in minutes), sum(n for _, n in minutes)
    if not total:
        return None
    deff = _design_effect(minutes, hits / total)
    p0 = max(FLOOR, upper_bound(hits / deff, total / deff, alpha))
    if p0 > 1 - FLOOR:
        return None
    mean_n = total / len(minutes)
    clustering = (deff - 1) / (mean_n - 1) if mean_n > 1 else 0.0
    return Law(hits, total, p0, min(_MAX_PHI, max(clustering, cv * cv * p0 / (1 - p0))))


def _design_effect(minutes: Sequence[tuple[int, int]], p: float) -> float:
    """Return how much more the minutes scatter than independent requests would, at least 1."""
    if len(minutes) < 2 or not 0 < p < 1:  # noqa: PLR2004 one minute has no scatter
        return 1.0
    scatter = sum((y - n * p) ** 2 / (n * p * (1 - p)) for y, n in minutes)
    return max(1.0, scatter / (len(minutes) - 1))


def summarise(counts: Iterable[Counts], version: str | None, deployed_at: float, alpha: float) -> Baseline:
    """Return what was normal of `version` (None: of all) in the seconds before `deployed_at`.

    Args:
        alpha: false-rollback budget of the watch; each bound fails with probability alpha / 10.
    """
    start = math.floor(deployed_at)
    rows = [r for r in counts if r.second < start and (version is None or r.version == version) and r.requests > 0]
    if not rows:
        return Baseline(0.0, None, None, ())
    edges = thresholds(merge_latency(rows))
    errors: dict[int, tuple[int, int]] = {}
    above: dict[int, list[int]] = {}
    for row in rows:
        minute = (row.second - start) // MINUTE_S
        y, n = errors.get(minute, (0, 0))
        errors[minute] = (y + row.errors, n + row.requests)
        if edges is not None and row.latency:
            sums = above.setdefault(minute, [0] * (1 + len(TAILS)))
            for index, number in enumerate(counts_above(row.latency, edges)):
                sums[index] += number
    laws = [law([(m[k], m[0]) for m in above.values()], CV_LATENCY, alpha / 10) for k in range(1, 1 + len(TAILS))]
    known = tuple(item for item in laws if item is not None)
    if len(known) < len(TAILS):
        edges, known = None, ()
    return Baseline(
        span_s=deployed_at - min(row.second for row in rows),
        errors=law(list(errors.values()), CV_ERRORS, alpha / 10),
        edges=edges,
        latency=known,
    )
