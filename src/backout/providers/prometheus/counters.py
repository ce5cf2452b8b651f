"""The growth of counters, from the raw samples of their scrapes; pure, exact, without extrapolation.

PromQL's own `increase` estimates: it extrapolates to the ends of its window, and ignores a series' first value.
A process's first error creates its series, so its first scrape would always be lost.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final

from backout.decoding import Undecodable, parse_number
from backout.model.guard.signals import BUCKETS, find_bucket
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Target = tuple[str, str]
    Increments = dict[float, int]

_FEWEST_SCRAPES: Final = 3


class Series(Value, frozen=True):
    """The samples of one set of labels, oldest first: (Unix seconds of the scrape, value)."""

    labels: Mapping[str, str]
    samples: Sequence[tuple[float, float]]

    @property
    def target(self) -> Target:
        """Which process was scraped: Prometheus' own labels; ("", "") for recorded sums."""
        return self.labels.get("job", ""), self.labels.get("instance", "")


class Scrapes(Value, frozen=True):
    """When each target was scraped with success, oldest first.

    Args:
        up: by Prometheus' own series of each target.
        seen: the same and, for recorded sums, which have no such series, the times of their samples.
        tried: also the scrapes that failed.
    """

    up: Mapping[Target, Sequence[float]]
    seen: Mapping[Target, Sequence[float]]
    tried: Mapping[Target, Sequence[float]]

    @classmethod
    def of(cls, up: Iterable[Series], counters: Iterable[Series]) -> Scrapes:
        """Return them; a sample of `up` is 1 when its target answered, and has the very time of what it answered."""
        tried: dict[Target, list[float]] = {}
        answered: dict[Target, list[float]] = {}
        for series in up:
            tried[series.target] = [at for at, _ in series.samples]
            answered[series.target] = [at for at, value in series.samples if value == 1]
        others: dict[Target, set[float]] = {}
        for series in counters:
            if series.target not in answered:
                others.setdefault(series.target, set()).update(at for at, _ in series.samples)
        recorded = {target: sorted(times) for target, times in others.items()}
        return cls(answered, answered | recorded, tried | recorded)

    @property
    def newest(self) -> float | None:
        """When any target was scraped last; None: never."""
        return max((times[-1] for times in self.seen.values() if times), default=None)

    @property
    def spacing_s(self) -> float | None:
        """How far apart the scrapes of the slowest target lie; None before there are a few."""
        known = (times for times in self.tried.values() if len(times) >= _FEWEST_SCRAPES)
        return max((_measure_spacing(times) for times in known), default=None)

    def without(self, series: Series) -> Sequence[float]:
        """Return when the target of a series was scraped, where a scrape without the series says that it was not there.

        Nothing where that is unknown: no `up`, or samples with the application's own timestamps.
        """
        times = self.up.get(series.target, ())
        return times if {at for at, _ in series.samples} <= set(times) else ()


def _measure_spacing(times: Sequence[float]) -> float:
    return round(median(later - earlier for earlier, later in pairwise(times)), 1)


def compute_increments(series: Series, scrapes: Scrapes) -> Increments:
    """Return {time of a scrape: what the counter grew by since the scrape before}; zeros are left out.

    A value below the one before is a restart: it grew from zero. So did a series that the scrape before did not have.
    The first value of a target that was never scraped before does not show when it was counted.

    >>> times = {("app", "a:1"): [10.0, 20.0, 30.0, 40.0, 50.0]}
    >>> labels = {"job": "app", "instance": "a:1"}
    >>> compute_increments(Series(labels, [(20.0, 3.0), (30.0, 4.0), (50.0, 9.0)]), Scrapes(times, times, times))
    {20.0: 3, 30.0: 1, 50.0: 9}
    >>> compute_increments(Series(labels, [(10.0, 3.0), (20.0, 5.0), (30.0, 2.0)]), Scrapes(times, times, times))
    {20.0: 2, 30.0: 2}
    """
    found: Increments = {}
    times = scrapes.without(series)
    last_at, last = -math.inf, math.nan
    for at, value in series.samples:
        if bisect_left(times, at) > bisect_right(times, last_at) or value < last:
            last = 0.0
        if not math.isnan(last) and round(value - last) > 0:
            found[at] = round(value - last)
        last_at, last = at, value
    return found


def list_slots(buckets: Iterable[Series], scrapes: Scrapes) -> Iterator[tuple[Mapping[str, str], float, float, int]]:
    """Yield (labels, time of the scrape, upper bound of the slot, requests in it) of a classic histogram.

    Args:
        buckets: series with the label `le`, each counting all requests up to that bound. The last bound is infinite.
    """
    histograms: dict[frozenset[tuple[str, str]], dict[float, Increments]] = {}
    for series in buckets:
        rest = {name: value for name, value in series.labels.items() if name != "le"}
        bounds = histograms.setdefault(frozenset(rest.items()), {})
        bounds[_parse_bound(series.labels.get("le", ""))] = compute_increments(series, scrapes)
    for labels, bounds in histograms.items():
        for at in sorted({at for grown in bounds.values() for at in grown}):
            below = 0
            for bound in sorted(bounds):
                here = bounds[bound].get(at, 0)
                if here > below:
                    yield dict(labels), at, bound, here - below
                    below = here


def list_latency(
    buckets: Iterable[Series], scrapes: Scrapes, seconds: float
) -> Iterator[tuple[Mapping[str, str], float, int, int]]:
    """Yield (labels, time of the scrape, bucket of `find_bucket`, requests in it) of a classic histogram.

    A request counts as slow as its slot's upper bound, so none seems faster than it was. What is beyond the last
    finite bound counts as just beyond it.

    Args:
        seconds: how many seconds a unit of the bounds is.
    """
    series = list(buckets)
    bounds = (_parse_bound(each.labels.get("le", "")) for each in series)
    last = max((bound for bound in bounds if math.isfinite(bound)), default=0.0)
    for labels, at, bound, number in list_slots(series, scrapes):
        bucket = find_bucket(min(bound, last) * seconds * 1000) + (1 if math.isinf(bound) else 0)
        yield labels, at, min(bucket, BUCKETS - 1), number


def _parse_bound(text: str) -> float:
    try:
        return parse_number(text)
    except Undecodable:  # the last one is infinite
        return math.inf
