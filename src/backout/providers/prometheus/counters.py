"""What counters grew by, from the raw samples of their scrapes; pure, exact, nothing is extrapolated.

PromQL's own `increase` estimates: it stretches what it saw to the ends of its window, and takes a series' first value
for nothing. The first error of a process makes its series, so its first scrape would always be lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Target = tuple[str, str]
    Increments = dict[float, int]

_FEWEST_SCRAPES: Final = 3


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one set of labels, oldest first: (Unix seconds of the scrape, value)."""

    labels: Mapping[str, str]
    samples: Sequence[tuple[float, float]]

    @property
    def target(self) -> Target:
        """Which process was scraped: Prometheus' own labels; ("", "") for recorded sums."""
        return self.labels.get("job", ""), self.labels.get("instance", "")


@dataclass(frozen=True, slots=True)
class Scrapes:
    """When each target was scraped with success, oldest first."""

    by_target: Mapping[Target, Sequence[float]]

    @classmethod
    def of(cls, up: Iterable[Series], others: Iterable[Series]) -> Scrapes:
        """Return them: `up` is Prometheus' own series of each target (1: it answered), `others` whatever it gave."""
        found: dict[Target, set[float]] = {}
        for series in up:
            found.setdefault(series.target, set()).update(at for at, value in series.samples if value == 1)
        for series in others:
            found.setdefault(series.target, set()).update(at for at, _ in series.samples)
        return cls({target: sorted(times) for target, times in found.items() if times})

    @property
    def newest(self) -> float | None:
        """When any target was scraped last; None: never."""
        return max((times[-1] for times in self.by_target.values()), default=None)

    def first(self, target: Target) -> float:
        """Return when a target was scraped first, as far as is known; infinity for never."""
        return self.by_target.get(target, (math.inf,))[0]

    @property
    def spacing_s(self) -> float | None:
        """How far apart the scrapes of the slowest target lie; None before there are a few."""
        known = (times for times in self.by_target.values() if len(times) >= _FEWEST_SCRAPES)
        return max((_spacing(times) for times in known), default=None)


def _spacing(times: Sequence[float]) -> float:
    return round(median(later - earlier for earlier, later in pairwise(times)), 1)


def increments(series: Series, scrapes: Scrapes) -> Increments:
    """Return {time of a scrape: what the counter grew by since the scrape before}; zeros are left out.

    A value below the one before is a restart: it grew from zero. A series that begins while its target was scraped
    before begins at zero as well; the first value of a target that nobody knew says nothing of when it was counted.

    >>> seen = Scrapes({("app", "a:1"): [10.0, 20.0, 30.0, 40.0]})
    >>> labels = {"job": "app", "instance": "a:1"}
    >>> increments(Series(labels, [(20.0, 3.0), (30.0, 5.0), (40.0, 4.0)]), seen)
    {20.0: 3, 30.0: 2, 40.0: 4}
    >>> increments(Series(labels, [(10.0, 3.0), (20.0, 3.0)]), seen)
    {}
    """
    found: Increments = {}
    before: float | None = None
    for at, value in series.samples:
        if before is None:
            before = 0.0 if scrapes.first(series.target) < at else value
        grown = value - before if value >= before else value
        if round(grown) > 0:
            found[at] = round(grown)
        before = value
    return found


def slots(buckets: Iterable[Series], scrapes: Scrapes) -> Iterator[tuple[Mapping[str, str], float, float, int]]:
    """Yield (labels, time of the scrape, upper bound of the slot, requests in it) of a classic histogram.

    Args:
        buckets: series with the label `le`, each counting all requests up to that bound. The last bound is infinite.
    """
    histograms: dict[frozenset[tuple[str, str]], dict[float, Increments]] = {}
    for series in buckets:
        rest = {name: value for name, value in series.labels.items() if name != "le"}
        bounds = histograms.setdefault(frozenset(rest.items()), {})
        bounds[_bound(series.labels.get("le", ""))] = increments(series, scrapes)
    for labels, bounds in histograms.items():
        for at in sorted({at for grown in bounds.values() for at in grown}):
            below = 0
            for bound in sorted(bounds):
                here = bounds[bound].get(at, 0)
                if here > below:
                    yield dict(labels), at, bound, here - below
                    below = here


def _bound(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.inf
