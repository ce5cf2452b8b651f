"""Summary of the time before a deployment: counts by second in, the laws of the baseline out."""

from __future__ import annotations

import math
from operator import add
from typing import TYPE_CHECKING

from backout.analysis.shifts.strata import get_stratum, is_much
from backout.analysis.statistics.baseline import (
    CV_ERRORS,
    CV_LATENCY,
    CV_UNKNOWN,
    FEW_LATENCIES,
    MINUTE_S,
    MOST_ROUTES,
    Baseline,
    Minute,
    RouteBaseline,
    estimate_law,
)
from backout.analysis.statistics.quantiles import (
    TAILS,
    add_granted,
    count_above,
    find_quantile_bucket,
    find_thresholds,
    raise_threshold,
)
from backout.analysis.statistics.retry_clustering import Bunch, estimate_failures_per_cause, weigh_failures
from backout.analysis.statistics.route_times import find_edges, list_latencies, weigh_routes
from backout.model.guard.routes import OTHER, select_nameless
from backout.model.guard.signals import merge_counts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from backout.analysis.statistics.baseline import Law
    from backout.analysis.statistics.quantiles import Thresholds
    from backout.model.guard.signals import Counts, RouteCounts


def summarize(
    counts: Iterable[Counts], version: str | None, deployed_at: float, vital: Collection[str] = ()
) -> Baseline:
    """Return what was normal of `version` (None: of all) in the seconds before `deployed_at`.

    Args:
        vital: routes that are followed however few requests they get.
    """
    start = math.floor(deployed_at)
    rows = [r for r in counts if r.second < start and (version is None or r.version == version) and r.requests > 0]
    if not rows:
        return Baseline(0.0, None, None, ())
    failures = _Failures(start)
    for row in rows:
        failures.add(row.second, row)
    minutes = _count_minutes(rows, start)
    latencies = {name: merge_counts(found.values()) for name, found in minutes.items()}
    edges_of = find_edges(latencies, nameless=_is_asked_by_visitors(rows))
    edges = find_thresholds(merge_counts(latencies[name] for name in edges_of))
    known = _estimate_slower(minutes, edges_of)
    if len(known) < len(TAILS):
        edges, known = None, ()
    times = weigh_routes(latencies, edges_of, [law.p0 for law in known]) if known else {}
    per_cause = failures.per_cause()
    return Baseline(
        span_s=deployed_at - min(row.second for row in rows),
        errors=estimate_law(failures.minutes(per_cause), CV_ERRORS, lasting=True),
        edges=edges,
        latency=known,
        per_cause=per_cause,
        routes=_summarize_routes(rows, start, per_cause, vital),
        times=times,
    )


def _is_asked_by_visitors(rows: Iterable[Counts]) -> bool:
    """Whether what has no route's name is so much, and so well answered, that it is no crawlers' guesses."""
    requests = others = well = 0
    for row in rows:
        requests += row.requests
        other = select_nameless(row) if row.routes else None
        if other is not None:
            others += other.requests
            well += other.requests - max(other.errors, sum(other.classes.values()))
    return is_much(others, well, requests)


def _count_minutes(rows: Iterable[Counts], start: int) -> dict[str, dict[int, dict[int, int]]]:
    """Return {route: {minute: {bucket: requests}}}."""
    parts: dict[str, list[tuple[int, Mapping[int, int]]]] = {}
    for row in rows:
        for name, latency in list_latencies(row).items():
            parts.setdefault(name, []).append((row.second, latency))
    return {name: _make_histograms(found, start) for name, found in parts.items()}


def _estimate_slower(
    minutes: Mapping[str, Mapping[int, Mapping[int, int]]], edges: Mapping[str, Thresholds]
) -> tuple[Law, ...]:
    """Return the laws of the shares above the thresholds of each answer's own route."""
    counted: dict[int, tuple[float, ...]] = {}
    for name, each in edges.items():
        for minute, latency in minutes[name].items():
            above = add_granted(count_above(latency, each), each)
            known = counted.get(minute)
            counted[minute] = tuple(map(add, known, above)) if known is not None else above
    laws = [
        estimate_law((Minute(m[k], int(m[0])) for _, m in sorted(counted.items())), CV_LATENCY, unknown)
        for k, unknown in enumerate(CV_UNKNOWN, start=1)
    ]
    return tuple(law for law in laws if law is not None)


class _Failures:
    """Requests and failures by second, before `start`."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._requests: dict[int, int] = {}
        self._failed: dict[int, int] = {}

    def add(self, second: int, part: Counts | RouteCounts) -> None:
        self._requests[second] = self._requests.get(second, 0) + part.requests
        if part.errors:
            self._failed[second] = self._failed.get(second, 0) + part.errors

    def per_cause(self) -> float:
        """Return how many failures one cause brings."""
        failed: dict[int, list[int]] = {}
        for second, number in self._failed.items():
            failed.setdefault(self._minute(second), []).append(number)
        requests: dict[int, list[int]] = {minute: [] for minute in failed}
        for second, number in self._requests.items() if failed else ():
            minute = self._minute(second)
            if minute in requests:
                requests[minute].append(number)
        return estimate_failures_per_cause(Bunch(failed[minute], requests[minute]) for minute in failed)

    def minutes(self, per_cause: float) -> list[Minute]:
        """Return the minutes in the order of time, repetitions weighed."""
        totals: dict[int, int] = {}
        hits: dict[int, float] = {}
        repeats: dict[int, float] = {}
        for second, number in self._requests.items():
            minute = self._minute(second)
            totals[minute] = totals.get(minute, 0) + number
        for second, number in self._failed.items():
            minute, weight = self._minute(second), weigh_failures(number, per_cause)
            hits[minute] = hits.get(minute, 0.0) + weight
            repeats[minute] = repeats.get(minute, 0.0) + number - weight
        return [Minute(hits.get(m, 0.0), totals[m], repeats.get(m, 0.0)) for m in sorted(totals)]

    def _minute(self, second: int) -> int:
        return (second - self._start) // MINUTE_S


def _summarize_routes(
    rows: Sequence[Counts], start: int, per_cause: float, vital: Collection[str]
) -> tuple[RouteBaseline, ...]:
    """Return what was normal of the busiest routes and the vital ones, the busiest first."""
    parts: dict[str, list[tuple[int, RouteCounts]]] = {}
    named: dict[str, list[tuple[int, RouteCounts]]] = {}  # the same lists, by name with its query's shape
    for row in rows:
        second = row.second
        for name, route in row.routes.items():
            found = named.get(name)
            if found is None:
                found = named[name] = parts.setdefault(get_stratum(name), [])
            found.append((second, route))
    requests = {name: sum(route.requests for _, route in found) for name, found in parts.items()}
    busiest = sorted((name for name in requests if requests[name] >= FEW_LATENCIES), key=lambda n: (-requests[n], n))
    if len(busiest) < 2:
        return ()
    chosen = [*busiest[:MOST_ROUTES], *(name for name in busiest[MOST_ROUTES:] if name in vital)]
    known = (_summarize_route(name, parts[name], start, per_cause) for name in chosen if name != OTHER)
    return tuple(route for route in known if route is not None)


def _summarize_route(
    name: str, parts: Sequence[tuple[int, RouteCounts]], start: int, per_cause: float
) -> RouteBaseline | None:
    histograms = _make_histograms(((second, part.latency) for second, part in parts), start)
    p95 = find_quantile_bucket(merge_counts(histograms.values()), 0.95)
    if p95 is None:
        return None
    p95 = raise_threshold(p95)
    failures = _Failures(start)
    for second, route in parts:
        failures.add(second, route)
    edges = (p95, p95, p95, p95)
    above = [add_granted(count_above(found, edges), edges) for _, found in sorted(histograms.items())]
    slow = [Minute(each[2], int(each[0])) for each in above]
    errors = estimate_law(failures.minutes(per_cause), CV_ERRORS, lasting=True)
    slower = estimate_law(slow, CV_LATENCY, CV_UNKNOWN[1])
    return RouteBaseline(name, errors, p95, slower) if errors and slower else None


def _make_histograms(parts: Iterable[tuple[int, Mapping[int, int]]], start: int) -> dict[int, dict[int, int]]:
    """Return {minute: {bucket: requests}}: the seconds of an hour are read once, what follows reads sixty minutes."""
    found: dict[int, dict[int, int]] = {}
    for second, latency in parts:
        if latency:
            minute = (second - start) // MINUTE_S
            table = found.get(minute)
            if table is None:
                table = found[minute] = {}
            for bucket, number in latency.items():
                table[bucket] = table.get(bucket, 0) + number
    return found
