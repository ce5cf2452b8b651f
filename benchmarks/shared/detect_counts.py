"""What the live detector is told of simulated watches: policy, baseline, and the counts of each second."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
from shared.values import replace

from backout.analysis.statistics.baseline import MINUTE_S
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, RouteCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shared.detect_traffic import Batch, Before

DEPLOYED_AT = 1_760_000_000
NEW, OLD = "v2", "v1"


def policy_of(batch: Batch) -> Policy:
    """Return the policy of a watch: the standard one, with the warm-up and the slow start of the scenario."""
    standard = Policy()
    scenario = batch.scenario
    guard = replace(standard.guard, warm_up_s=scenario.warm_up_s, slow_start_s=scenario.slow_start_s)
    return replace(standard, guard=guard)


def route_name(route: int) -> str:
    """Return the name of a simulated route."""
    return f"/{'abc'[route]}"


def counts_before(before: Before, run: int) -> list[Counts]:
    """Return the baseline of one run: a row for each second, a minute's latencies and routes with its first one.

    The errors of a route stand in the seconds in which they happened. A minute without errors is one row: its seconds
    tell nothing more.
    """
    counts = before.seconds[run]
    minutes, seconds, _ = counts.shape
    calm = ~counts[..., 1].any(axis=1)
    if calm.any():
        counts = counts.copy()
        counts[calm, 0, 0], counts[calm, 1:, 0] = counts[calm, :, 0].sum(axis=1), 0
    at = DEPLOYED_AT - MINUTE_S * (np.arange(minutes)[:, None] + 1) + np.arange(seconds)
    busy = np.flatnonzero(counts[..., 0])
    requests, errors = (counts[..., k].ravel()[busy].tolist() for k in (0, 1))
    rows = list(map(Counts, repeat(OLD), at.ravel()[busy].tolist(), requests, errors))
    minute_of = busy // seconds
    firsts = np.flatnonzero(np.diff(minute_of, prepend=-1)).tolist()
    told = {k: _minute_of_routes(before, run, int(minute_of[k])) for k in firsts}
    for k in sorted({*firsts, *(k for k, number in enumerate(errors) if number)}):
        whole, routes = told.get(k, ({}, {}))
        if errors[k]:
            routes = _with_errors(routes, before.failed[run, minute_of[k], :, busy[k] % seconds].tolist())
        rows[k] = replace(rows[k], latency=whole, routes=routes)
    return rows


def _with_errors(routes: dict[str, RouteCounts], failed: list[int]) -> dict[str, RouteCounts]:
    """Return the routes of a second with its errors."""
    more = dict(routes)
    for route, number in enumerate(failed):
        if number:
            known = more.get(route_name(route), RouteCounts(0, 0))
            more[route_name(route)] = RouteCounts(known.requests + number, number, known.latency)
    return more


def _minute_of_routes(before: Before, run: int, minute: int) -> tuple[dict[int, int], dict[str, RouteCounts]]:
    """Return latencies of all, and counts of each route without its errors."""
    histograms = before.latency[run, minute]
    whole = _as_dict(histograms.sum(axis=0))
    answered = before.requests[run, minute] - before.errors[run, minute]
    routes = {
        route_name(route): RouteCounts(int(answered[route]), 0, _as_dict(histograms[route]))
        for route in np.flatnonzero(before.requests[run, minute])
    }
    return whole, routes


def _as_dict(histogram: NDArray[np.int32]) -> dict[int, int]:
    buckets = np.flatnonzero(histogram)
    return dict(zip(buckets.tolist(), histogram[buckets].tolist(), strict=True))


def rows_of(batch: Batch, run: int, second: int) -> list[Counts]:
    """Return what both versions answered in one second, without response times."""
    rows = []
    for version, side in ((NEW, batch.new), (OLD, batch.old)):
        if side is None or not side.requests[run, second].any():
            continue
        requests, errors = side.requests[run, second].tolist(), side.errors[run, second].tolist()
        routes = {
            route_name(k): RouteCounts(number, failed)
            for k, (number, failed) in enumerate(zip(requests, errors, strict=True))
            if number
        }
        rows.append(Counts(version, DEPLOYED_AT + second, sum(requests), sum(errors), routes=routes))
    return rows
