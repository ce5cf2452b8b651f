"""Slow answers of many runs at once, each held against its own route: `route_times` in arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from shared.detect_counts import route_name
from shared.detect_scenarios import ROUTES

from backout.analysis.detector.measures import EXTREMES, SLOWER
from backout.analysis.detector.stream_set import find_extremes
from backout.model.guard.signals import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from shared.detect_traffic import Side

    from backout.analysis.statistics.quantiles import RouteTimes

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_LEVELS = 1 + len(SLOWER)


class Limits:
    """What was usual of each run's routes, in arrays of (runs, routes)."""

    def __init__(self, usual: Sequence[Mapping[str, RouteTimes]]) -> None:
        shape = len(usual), len(ROUTES)
        self.known = np.zeros(shape, dtype=bool)
        self.edges = np.zeros((*shape, len(SLOWER)), dtype=np.int64)
        self.weights = np.zeros((*shape, len(SLOWER)))
        self.extremes = np.zeros((*shape, len(EXTREMES)), dtype=np.int64)
        for run, times in enumerate(usual):
            for route in range(len(ROUTES)):
                found = times.get(route_name(route))
                if found is not None:
                    self.known[run, route] = True
                    self.edges[run, route], self.weights[run, route] = found.edges, found.weights
                    self.extremes[run, route] = find_extremes(found.edges)


def count_slower(side: Side, limits: Limits, margin: int, first_s: Ints) -> tuple[Ints, Floats]:
    """Return answers above each threshold, (4, runs, seconds), and what they and the others weigh, (.., 2).

    Args:
        margin: buckets by which all thresholds but the last are raised.
        first_s: the first second that counts, of each run.
    """
    runs, seconds, routes = side.requests.shape
    raised = limits.edges + np.array([margin, margin, margin, 0])
    level = (np.arange(BUCKETS)[None, None, :, None] > raised[:, :, None, :]).sum(axis=3)
    known = limits.known[side.cell // seconds, side.route]
    cell, route = side.cell[known], side.route[known].astype(np.int64)
    place = (cell * routes + route) * _LEVELS + level[cell // seconds, route, side.bucket[known]]
    shape = (runs, seconds, routes, _LEVELS)
    cells = np.bincount(place, minlength=math.prod(shape)).reshape(shape)
    cells[np.arange(seconds)[None, :] < first_s[:, None]] = 0
    above = np.stack([cells[..., column:].sum(axis=3) for column in range(1, _LEVELS)])
    weighed = np.einsum("krsj,rjk->krs", above.transpose(0, 1, 2, 3), limits.weights)
    return above.sum(axis=3), np.stack([weighed, cells.sum(axis=(2, 3)) - weighed], axis=-1)


def count_extreme(side: Side, limits: Limits, first_s: Ints) -> Floats:
    """Return answers that are extreme for their route, and others: (2, runs, seconds, 2)."""
    seconds = side.requests.shape[1]
    judged = np.arange(seconds)[None, :] >= first_s[:, None]
    run = side.cell // seconds
    known = limits.known[run, side.route]
    every = side.count(known) * judged
    above = [
        side.count(known & (side.bucket > edges[run, side.route])) * judged
        for edges in limits.extremes.transpose(2, 0, 1)
    ]
    return np.stack([np.stack([hits, every - hits], axis=-1) for hits in above]).astype(np.float64)
