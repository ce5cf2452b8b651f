"""The oracle: a detector that knows both distributions. No test with the same chance of a false alarm is faster.

It multiplies the likelihood ratio of every request of the new version and stops at 1/alpha. As in all published
bounds of this benchmark, the usual share of errors is assumed to be at least 0.05 %.
Source: Wald, Sequential Analysis (1947); Lorden, Annals of Mathematical Statistics 42 (1971).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from shared.detect_noise import bad_error_share, bad_log_factor
from shared.detect_traffic import BODY, SLOW, SLOW_SHARE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shared.detect_scenarios import Bad
    from shared.detect_traffic import Batch, Side

    Floats = NDArray[np.float64]

ALPHA = 1e-3
FLOOR = 0.0005


def first(hit: NDArray[np.bool_]) -> Floats:
    """Return for each row the first second, counted from 1, that is true; infinity where none is."""
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1.0, np.inf)


def oracle(batch: Batch) -> Floats:
    """Return after how many seconds each run of a bad deployment is found."""
    bad = batch.scenario.bad
    if bad is None:
        raise ValueError("an oracle for a healthy deployment knows that it is healthy")
    gain = _latencies(batch.new, bad) if bad.slow else _errors(batch)
    return first(np.cumsum(gain, axis=1) >= math.log(1 / ALPHA))


def _errors(batch: Batch) -> Floats:
    scenario, side = batch.scenario, batch.new
    seconds = np.arange(side.requests.shape[1], dtype=float)
    usual = np.full(side.requests.shape[1:], max(scenario.base_errors, FLOOR))
    share = np.minimum(bad_error_share(scenario.bad, usual, seconds), 1 - 1e-12)
    hits = side.errors * np.log(share / usual)
    return np.asarray((hits + (side.requests - side.errors) * np.log((1 - share) / (1 - usual))).sum(axis=2))


def _latencies(side: Side, bad: Bad) -> Floats:
    runs, length, _ = side.requests.shape
    shift = bad_log_factor(bad, np.arange(length, dtype=float))[side.cell % length]
    x = side.log_ms.astype(np.float64)
    gain = _log_density(x - shift, bad.tail) - _log_density(x, 1.0)
    return np.bincount(side.cell, weights=gain, minlength=runs * length).reshape(runs, length)


def _log_density(x: Floats, tail: float) -> Floats:
    slow, body = (x - SLOW[0] - math.log(tail)) / SLOW[1], (x - BODY[0]) / BODY[1]
    return np.logaddexp(
        math.log(SLOW_SHARE / SLOW[1]) - slow * slow / 2, math.log((1 - SLOW_SHARE) / BODY[1]) - body * body / 2
    )
