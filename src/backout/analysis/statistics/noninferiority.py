"""What must be excluded before a version is healthy: the shares that are too high, and what is still missing.

"Healthy" needs evidence of its own: that no share which matters is reached, wrong with probability `BETA` at most.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from backout.analysis.detector.measures import Measure
from backout.analysis.detector.stream_set import LATENCY_ODDS, get_usual_share, multiply_odds
from backout.analysis.detector.wording import count, format_percent
from backout.analysis.statistics.limits import estimate_requests, log_e_below
from backout.analysis.statistics.rates import log_e_above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.analysis.detector.streams import Stream

BETA = 0.01
"""Probability of calling a version healthy whose share is at the limit."""
_SURE = -math.log(BETA)
_ERROR_ODDS = 2.0
"""Odds ratio of the share of errors that must be excluded before a version is called healthy."""


class Limit(NamedTuple):
    """A share that is too high: its stream, the usual share there, and the level from which it matters."""

    stream: Stream
    usual: float
    share: float


class NonInferiority:
    """The limits of one set of streams; the first one is that of the errors.

    Args:
        slo: the error rate that is too high by itself.
        has_baseline: whether the usual error rate was measured.
    """

    def __init__(self, streams: Sequence[Stream], slo: float, *, has_baseline: bool) -> None:
        self._slo = slo
        self._has_baseline = has_baseline
        self._limits = self._find_limits(streams)

    @property
    def error_rate(self) -> float:
        """The error rate that must be excluded."""
        return self._limits[0].share

    def _find_limits(self, streams: Sequence[Stream]) -> list[Limit]:
        limits: list[Limit] = []
        for stream in streams:
            if stream.route:
                continue
            usual = get_usual_share(stream)
            if stream.measure is Measure.ERRORS and not limits:
                # A version no worse than one that was not healthy is not healthy either: then the SLO is the limit.
                known = usual if self._has_baseline and usual < self._slo else self._slo / 4  # a guess
                limits.append(Limit(stream, known, max(self._slo, multiply_odds(known, _ERROR_ODDS))))
            elif stream.measure in LATENCY_ODDS:
                limits.append(Limit(stream, usual, multiply_odds(usual, LATENCY_ODDS[stream.measure])))
        return limits

    def find_shared_trouble(self, new: tuple[int, int], beside: tuple[int, int]) -> str | None:
        """Return that both versions fail too often for sure, or None; of each its (errors, requests)."""
        if any(errors <= self.error_rate * requests for errors, requests in (new, beside)):
            return None  # what is kept is no evidence of being above it
        if min(log_e_above(errors, requests, self.error_rate) for errors, requests in (new, beside)) < _SURE:
            return None
        errors, requests = beside
        return (
            f"not the deployment: the old version beside it fails as well ({errors:,} of {count(requests, 'request')})"
        )

    def above_slo(self) -> str | None:
        """Return that too many requests fail for sure, though no more than before, or None."""
        stream = self._limits[0].stream
        if stream.bad <= self._slo * stream.total or log_e_above(stream.bad, stream.total, self._slo) < _SURE:
            return None
        before = f" ({format_percent(get_usual_share(stream))} before)" if self._has_baseline else ""
        return (
            f"more than the {format_percent(self._slo)} that the SLO allows, but not shown to be worse than "
            f"before{before}"
        )

    def requests_missing(self) -> int:
        """Return about how many more requests would exclude every limit; 0 when all are excluded."""
        needed = 0
        for stream, usual, limit in self._limits:
            below = stream.below
            known = log_e_below(stream.bad, stream.total, usual, limit) if below is None else below.log_e()
            if known < _SURE:
                needed = max(needed, estimate_requests(known, usual, limit, BETA) or 1)
        return needed
