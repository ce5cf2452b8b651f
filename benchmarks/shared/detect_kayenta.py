"""Kayenta's judge, ported: Mann-Whitney on points per minute, its confidence interval found as R's `uniroot` finds it.

Source: spinnaker/kayenta, NetflixACAJudge (tolerance 0.25, confidence 0.98), MannWhitneyClassifier, WeightedSumScorer;
R, wilcox.test (asymptotic interval with continuity correction) and Brent's zeroin. The port gives the interval and the
estimate that spinnaker/spinnaker#6278 quotes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TOLERANCE = 0.25
CONFIDENCE = 0.98
_ROOT_TOLERANCE = 1e-4
_EPSILON = 2.220446049250313e-16
_MOST_STEPS = 1000
_Z = float(-ndtri((1 - CONFIDENCE) / 2))


class AllTied(ValueError):
    """Every point is the same: there is no interval, and Kayenta passes the metric."""


def statistic(experiment: Floats, control: Floats, shift: float) -> float:
    """Return the standardised rank sum of the experiment moved down by `shift`, continuity corrected."""
    n, m = len(experiment), len(control)
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([experiment - shift, control]))
    _, ties = np.unique(ranks, return_counts=True)
    excess = float(ranks[:n].sum()) - n * (n + 1) / 2 - n * m / 2
    tied = float((ties.astype(float) ** 3 - ties).sum())
    sigma = math.sqrt(n * m / 12 * ((n + m + 1) - tied / ((n + m) * (n + m - 1))))
    if sigma == 0:
        raise AllTied
    return (excess - 0.5 * float(np.sign(excess))) / sigma


def interval(experiment: Floats, control: Floats) -> tuple[float, float, float]:
    """Return (low, high, Hodges-Lehmann estimate) of how far the experiment lies above the control."""
    lowest, highest = float(experiment.min() - control.max()), float(experiment.max() - control.min())

    def root(z: float) -> float:
        at_low = statistic(experiment, control, lowest) - z
        at_high = statistic(experiment, control, highest) - z
        if at_low <= 0:
            return lowest
        if at_high >= 0:
            return highest
        return _zero(lambda mu: statistic(experiment, control, mu) - z, (lowest, at_low), (highest, at_high))

    return root(_Z), root(-_Z), root(0.0)


def _zero(f: Callable[[float], float], low: tuple[float, float], high: tuple[float, float]) -> float:
    """Brent's method, step by step as in R's zeroin.c, so that steps in the function are met at the same places."""
    (a, fa), (b, fb) = low, high
    c, fc = a, fa
    for _ in range(_MOST_STEPS):
        before = b - a
        if abs(fc) < abs(fb):
            a, b, c = b, c, b
            fa, fb, fc = fb, fc, fb
        tolerance = 2 * _EPSILON * abs(b) + _ROOT_TOLERANCE / 2
        step = (c - b) / 2
        if abs(step) <= tolerance or fb == 0:
            return b
        if abs(before) >= tolerance and abs(fa) > abs(fb):
            step = _interpolated((a, b, c), (fa, fb, fc), tolerance, before, step)
        if abs(step) < tolerance:
            step = tolerance if step > 0 else -tolerance
        a, fa = b, fb
        b += step
        fb = f(b)
        if (fb > 0) == (fc > 0) or ((fb < 0) == (fc < 0) and fb != 0):
            c, fc = a, fa
    return b


def _interpolated(
    x: tuple[float, float, float], y: tuple[float, float, float], tolerance: float, before: float, half: float
) -> float:
    (a, b, c), (fa, fb, fc) = x, y
    if a == c:
        t = fb / fa
        p, q = (c - b) * t, 1 - t
    else:
        q, t, r = fa / fc, fb / fc, fb / fa
        p = r * ((c - b) * q * (q - t) - (b - a) * (t - 1))
        q = (q - 1) * (t - 1) * (r - 1)
    if p > 0:
        q = -q
    else:
        p = -p
    if p < 0.75 * (c - b) * q - abs(tolerance * q) / 2 and p < abs(before * q / 2):
        return p / q
    return half


def is_high(experiment: Floats, control: Floats) -> bool:
    """Return whether the judge calls a metric High: the interval lies above a quarter of the estimate."""
    if not len(experiment) or not len(control) or np.array_equal(experiment, control):
        return False
    try:
        # Half a unit of slack: where even the unmoved experiment is far from the quantile, the root is below zero.
        if statistic(experiment, control, 0.0) < _Z - 0.5:
            return False
        low, _, estimate = interval(experiment, control)
    except AllTied:
        return False
    means = float(experiment.mean()), float(control.mean())
    return low > TOLERANCE * abs(estimate) and (0 in means or means[0] >= means[1])
