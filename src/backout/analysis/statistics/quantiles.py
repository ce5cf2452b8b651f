"""Latency thresholds on bucket edges, and counts above them."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from backout.model.guard.signals import BUCKET_RATIO, BUCKETS, find_bucket, get_bucket_floor_ms
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TAILS = ("p50", "p95", "p99", "2*p99")
"""Names of the thresholds, lowest first."""

Thresholds = tuple[int, int, int, int]
"""Buckets; a latency is above a threshold when its bucket is greater."""

_NO_WEIGHTS = (1.0,) * len(TAILS)
UNNOTICED_MS = 25.0
"""No threshold lies lower: whether an answer takes 2 ms or 20, nobody notices, and where all take 2 ms, a neighbour on
the same machine is enough to double them."""
_UNNOTICED = find_bucket(UNNOTICED_MS)
NAMED = (0.5, 0.05, 0.01, 0.003)
"""The share of answers that may lie above each threshold: by its name, and few above twice the p99, where a slow tail
of a fast application shows: with 1 % there, 3 % that wait 100 ms were found after two minutes in place of one."""


class RouteTimes(Value, frozen=True):
    """What was usual of one route.

    Args:
        edges: its thresholds.
        weights: what an answer above each of them weighs in a test: less than 1 where the route's share may be higher
            than that of all of them, because few were measured or many took equally long.
    """

    edges: Thresholds
    weights: tuple[float, ...] = _NO_WEIGHTS


_in_buckets = math.log(BUCKET_RATIO).__rtruediv__


def make_histogram(latencies_ms: Sequence[float | None]) -> dict[int, int]:
    """Return {bucket: how many}, as `find_bucket` says of each one, and many times faster; None was not measured.

    >>> make_histogram([0.3, 81.0, 1e9, 81.5, None]) == {0: 1, 102: 2, 255: 1}
    True
    """
    try:
        found = Counter(map(int, map(_in_buckets, map(math.log, latencies_ms))))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # None, or no logarithm
        return make_histogram([max(latency, 1.0) for latency in latencies_ms if latency is not None])
    for bucket in [bucket for bucket in found if not 0 <= bucket < BUCKETS]:
        found[0 if bucket < 0 else BUCKETS - 1] += found.pop(bucket)
    return dict(found)


def find_quantile_bucket(latency: Mapping[int, int], q: float) -> int | None:
    """Return the bucket in which the quantile `q` in [0,1] lies, None when nothing was measured.

    >>> find_quantile_bucket({10: 98, 20: 2}, 0.95), find_quantile_bucket({10: 98, 20: 2}, 0.99)
    (10, 20)
    """
    rank = max(1, math.ceil(q * sum(latency.values())))
    seen = 0
    for bucket in sorted(latency):
        seen += latency[bucket]
        if seen >= rank:
            return bucket
    return None


def find_thresholds(latency: Mapping[int, int]) -> Thresholds | None:
    """Return the buckets of p50, p95, p99 and twice the p99, None when nothing was measured.

    None is below `UNNOTICED_MS`.

    >>> find_thresholds({30: 98, 99: 2}), find_thresholds({30: 9}), find_bucket(25.0)
    ((74, 74, 99, 116), (74, 74, 74, 91), 74)
    """
    p50, p95, p99 = (find_quantile_bucket(latency, q) for q in (0.5, 0.95, 0.99))
    if p50 is None or p95 is None or p99 is None:
        return None
    p50, p95, p99 = raise_threshold(p50), raise_threshold(p95), raise_threshold(p99)
    return p50, p95, p99, find_bucket(2 * get_bucket_floor_ms(p99 + 1))


def raise_threshold(bucket: int) -> int:
    """Return the bucket, or that of `UNNOTICED_MS` where it lies lower."""
    return max(bucket, _UNNOTICED)


def is_raised(edges: Thresholds, position: int) -> bool:
    """Whether a threshold is that of `UNNOTICED_MS`, or a multiple of it."""
    return edges[min(position, 2)] <= _UNNOTICED


def add_granted(above: Sequence[int], edges: Thresholds) -> tuple[float, ...]:
    """Return (all, above each threshold), where one was raised at least as many as it is named for.

    So the p95 of a version that answers within 2 ms may be `UNNOTICED_MS` in the next one.

    >>> add_granted((100, 2, 2, 2, 0), (74, 74, 99, 116))
    (100, 50.0, 5.0, 2, 0)
    """
    total, *hits = above
    granted = (
        max(number, named * total) if is_raised(edges, position) else number
        for position, (number, named) in enumerate(zip(hits, NAMED, strict=True))
    )
    return (total, *granted)


def count_above(latency: Mapping[int, int], edges: Thresholds, margin: int = 0) -> tuple[int, int, int, int, int]:
    """Return (all, above p50, above p95, above p99, above 2*p99), all but the last raised by `margin` buckets.

    The last is so far out that a drift by a bucket hardly moves the share above it.

    >>> count_above({10: 5, 12: 3, 40: 1}, (10, 11, 12, 30))
    (9, 4, 4, 1, 1)
    """
    (first, second, third), fourth = (edge + margin for edge in edges[:3]), edges[3]
    total = a = b = c = d = 0
    for bucket, number in latency.items():
        total += number
        if bucket > first:
            a += number
            if bucket > second:
                b += number
                if bucket > third:
                    c += number
                    if bucket > fourth:
                        d += number
    return total, a, b, c, d
