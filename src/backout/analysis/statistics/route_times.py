"""Response times within routes: every answer is held against those of its own route.

So another mix of routes is not slower: with the same response times on each route the share of slow answers is what it
was, whatever is asked for. A route that was not seen before is compared with nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backout.analysis.shifts.strata import fold_by_stratum
from backout.analysis.statistics.beta import upper_bound
from backout.analysis.statistics.quantiles import TAILS, RouteTimes, Thresholds, count_above, find_thresholds
from backout.model.guard.routes import OTHER
from backout.model.guard.signals import Counts, merge_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Latency = Mapping[int, int]

NAMELESS = ""
"""The route of answers whose route the source does not tell."""
_FEW = 5
"""The fewest latencies of a route that is compared with itself."""
_SMALL, _UNSURE, _UNSURE_OF_LARGE = 0.03, 0.1, 0.5
"""Chance that a route's share is higher than its bound: of routes with less than 3 % of all latencies it is
shared out by these. Larger ones are known nearly as well as all together, whose bound is the law's."""


class Slower(NamedTuple):
    """How many answers were compared, how many took longer than each threshold of their route, and what these weigh."""

    total: int
    above: tuple[int, ...]
    weighed: tuple[float, ...]


def list_latencies(row: Counts) -> Mapping[str, Latency]:
    """Return {route: {bucket: answers}} of a row; what has no route's name is of `NAMELESS`."""
    routes = {name: each.latency for name, each in fold_by_stratum(row.routes).items() if each.latency}
    if not routes:
        return {NAMELESS: row.latency} if row.latency else routes
    if sum(each.requests for each in row.routes.values()) < row.requests:
        named = merge_counts(routes.values())
        rest = {bucket: number - named.get(bucket, 0) for bucket, number in row.latency.items()}
        rest = {bucket: number for bucket, number in rest.items() if number > 0}
        return {**routes, NAMELESS: rest} if rest else routes
    return routes


def find_edges(latencies: Mapping[str, Latency], *, nameless: bool = False) -> dict[str, Thresholds]:
    """Return the thresholds of each route of which enough was measured.

    Args:
        nameless: whether what has no route's name is compared beside what has: where visitors ask for it.

    >>> find_edges({"/a": {90: 9}, "other": {99: 9}}), find_edges({"other": {90: 9}})
    ({'/a': (90, 90, 90, 107)}, {'other': (90, 90, 90, 107)})
    """
    found: dict[str, Thresholds] = {}
    for name, latency in latencies.items():
        edges = find_thresholds(latency) if sum(latency.values()) >= _FEW else None
        if edges is not None:
            found[name] = edges
    named = {name: edges for name, edges in found.items() if name not in (NAMELESS, OTHER)}
    return found if nameless or not named else named


def weigh_routes(
    latencies: Mapping[str, Latency], edges: Mapping[str, Thresholds], shares: Sequence[float]
) -> dict[str, RouteTimes]:
    """Return what was usual of each route that has thresholds.

    Args:
        shares: the highest usual shares above the thresholds, of all routes together.
    """
    if len(edges) == 1:  # one route is what all of them together are
        return {name: RouteTimes(each) for name, each in edges.items()}
    whole = sum(sum(latencies[name].values()) for name in edges)
    found = {}
    for name, each in edges.items():
        total, *above = count_above(latencies[name], each)
        part = total / whole
        unsure = _UNSURE * part if part < _SMALL else _UNSURE_OF_LARGE
        weights = (min(1.0, p0 / upper_bound(hits, total, unsure)) for hits, p0 in zip(above, shares, strict=True))
        found[name] = RouteTimes(each, tuple(weights))
    return found


def add_latencies(into: dict[str, dict[int, int]], row: Counts) -> None:
    """Add a row's latencies to those of each route."""
    for name, latency in list_latencies(row).items():
        into[name] = merge_counts((into.get(name, {}), latency))


def count_slower(latencies: Iterable[tuple[str, Latency]], times: Mapping[str, RouteTimes], margin: int = 0) -> Slower:
    """Return how many answers took longer than the thresholds of their route, those raised by `margin` buckets.

    >>> times = {"/a": RouteTimes((10, 11, 12, 30)), "/b": RouteTimes((20, 21, 22, 40), (0.5, 1, 1, 1))}
    >>> count_slower([("/a", {10: 5, 12: 3}), ("/b", {12: 4, 21: 2}), ("/new", {99: 9})], times)
    Slower(total=14, above=(5, 3, 0, 0), weighed=(4.0, 3.0, 0.0, 0.0))
    """
    total, above, weighed = 0, [0] * len(TAILS), [0.0] * len(TAILS)
    for name, latency in latencies:
        route = times.get(name)
        if route is None:
            continue
        number, *found = count_above(latency, route.edges, margin)
        total += number
        for place, hits in enumerate(found):
            above[place] += hits
            weighed[place] += hits * route.weights[place]
    return Slower(total, tuple(above), tuple(weighed))
