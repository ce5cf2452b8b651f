"""The expected counts of a version, without randomness: the input that a forecast feeds the detector; pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from backout.model.guard.signals import BUCKET_RATIO, BUCKETS, Counts

if TYPE_CHECKING:
    from collections.abc import Mapping

_EVENT_MEDIAN = 1 / 3
"""The k-th event of a Poisson process has its median after the time of k - 1/3 mean distances.

Source: Choi, "On the medians of gamma distributions", Proc. AMS 121 (1994): the median of Gamma(k) is k - 1/3 + O(1/k).
"""
_GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it fill (0, 1) evenly: the k-th row of one request takes that quantile of the latencies."""


class Stretch:
    """The expected counts of one version: no randomness, each event at the median of its time.

    Args:
        rate: requests/s.
        latency: {bucket: count} in any unit, {} for none.
    """

    def __init__(
        self, version: str, rate: float, error_rate: float, latency: Mapping[int, float], latency_factor: float = 1.0
    ) -> None:
        self._version = version
        self._rate = rate
        self._error_rate = error_rate
        self._edges = _accumulate(_slow_down(latency, latency_factor))
        self._rows = 0
        self.requests = self.errors = 0

    def until(self, elapsed_s: float, second: int) -> Counts | None:
        """Return what came since the last call, as the row of that Unix second; None when nothing did."""
        requests = math.floor(self._rate * elapsed_s + _EVENT_MEDIAN)
        number = requests - self.requests
        if not number:
            return None
        errors = min(requests, math.floor(self._error_rate * requests + _EVENT_MEDIAN))
        row = Counts(self._version, second, number, errors - self.errors, latency=self._latencies(number))
        self.requests, self.errors = requests, errors
        return row

    def _latencies(self, number: int) -> dict[int, int]:
        """Return a number of latencies, spread evenly over their distribution."""
        self._rows += 1
        offset = (self._rows * _GOLDEN) % 1.0
        found: dict[int, int] = {}
        before = 0
        for bucket, share in self._edges:
            upto = min(number, max(0, math.ceil(number * share - offset)))
            if upto > before:
                found[bucket] = upto - before
                before = upto
        return found


def _slow_down(latency: Mapping[int, float], factor: float) -> dict[int, float]:
    """Return the histogram with every latency multiplied; buckets are logarithmic, so it moves as a whole."""
    if factor == 1.0:
        return dict(latency)
    whole, part = divmod(math.log(factor) / math.log(BUCKET_RATIO), 1.0)
    moved: dict[int, float] = {}
    for bucket, number in latency.items():
        for more, share in ((int(whole), 1 - part), (int(whole) + 1, part)):
            to = min(bucket + more, BUCKETS - 1)
            moved[to] = moved.get(to, 0.0) + number * share
    return moved


def _accumulate(latency: Mapping[int, float]) -> list[tuple[int, float]]:
    """Return (bucket, share of latencies up to and with it), lowest first; the last share is above 1."""
    whole = sum(latency.values())
    seen, edges = 0.0, []
    for bucket in sorted(latency):
        seen += latency[bucket]
        edges.append((bucket, seen / whole))
    return [*edges[:-1], (edges[-1][0], 2.0)] if edges else []
