"""The Beta distribution in plain floats: log-Beta, both tails, and the Clopper-Pearson bound."""

from __future__ import annotations

import math
from math import exp, lgamma
from statistics import NormalDist

_TINY = 1e-300
_EPSILON = 1e-15
_MAX_TERMS = 100_000
_MOST_STEPS = 200
_LEAST_LOG_DENSITY = -600.0
_CLOSE = 1e-8
"""After a step so small, relative to x and to 1 - x, the error of Newton's is its square."""
_NORMAL = NormalDist()


def log_beta(a: float, b: float) -> float:
    """Return the natural logarithm of the Beta function, a > 0 and b > 0.

    >>> round(math.exp(log_beta(2, 3)) * 12, 12)
    1.0
    """
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def log_add(x: float, y: float) -> float:
    """Return log(exp(x) + exp(y)) without overflow; minus infinity is the neutral element.

    >>> round(log_add(math.log(2), math.log(3)), 12) == round(math.log(5), 12)
    True
    """
    if x < y:
        x, y = y, x
    return x if y == -math.inf else x + math.log1p(math.exp(y - x))


def log_sum(terms: list[float]) -> float:
    """Return log(sum(exp(term))); minus infinity for no terms."""
    top = max(terms, default=-math.inf)
    if top == -math.inf:
        return top
    return top + math.log(sum([exp(term - top) for term in terms]))


def beta_tails(x: float, a: float, b: float) -> tuple[float, float]:
    """Return (I_x(a, b), 1 - I_x(a, b)), each computed without subtracting the other where it is the small one.

    Args:
        x: in [0, 1].
        a, b: positive, need not be integers.

    Source: DLMF 8.17.22 (the continued fraction), evaluated by Lentz's method, and the symmetry 8.17.4.

    >>> tuple(round(tail, 12) for tail in beta_tails(0.25, 2, 1))
    (0.0625, 0.9375)
    """
    if x <= 0.0:
        return 0.0, 1.0
    if x >= 1.0:
        return 1.0, 0.0
    if x > (a + 1) / (a + b + 2):
        upper, lower = beta_tails(1.0 - x, b, a)
        return lower, upper
    log_front = a * math.log(x) + b * math.log1p(-x) - math.log(a) - log_beta(a, b)
    lower = min(1.0, math.exp(log_front) / _evaluate_fraction(x, a, b))
    return lower, 1.0 - lower


def _evaluate_fraction(x: float, a: float, b: float) -> float:
    value = 1.0
    c = 1.0
    d = 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > _TINY else _TINY)
    value = 1.0 / d
    for m in range(1, _MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 + term * d
            d = 1.0 / (d if abs(d) > _TINY else _TINY)
            c = 1.0 + term / c
            c = c if abs(c) > _TINY else _TINY
            step = c * d
            value /= step
        if abs(step - 1.0) < _EPSILON:
            break
    return value


def beta_quantile(q: float, a: float, b: float) -> float:
    """Return the x with I_x(a, b) = q, by Newton's steps where they stay in the bracket; q in (0, 1), a and b positive.

    >>> round(beta_quantile(0.9, 1, 1), 6), round(beta_quantile(0.25, 2, 1), 6)
    (0.9, 0.5)
    """
    low, high = 0.0, 1.0
    x = a / (a + b)
    guess = x + _NORMAL.inv_cdf(q) * math.sqrt(x * (1 - x) / (a + b + 1))
    if 0.0 < guess < 1.0 and min(a, b) > 1:
        x = guess
    log_front = log_beta(a, b)
    for _ in range(_MOST_STEPS):
        excess = beta_tails(x, a, b)[0] - q
        low, high = (low, x) if excess > 0 else (x, high)
        log_density = (a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - log_front
        step = excess * math.exp(-log_density) if log_density > _LEAST_LOG_DENSITY else math.inf
        middle = x - step if low < x - step < high else (low + high) / 2
        if abs(middle - x) <= _CLOSE * min(middle, 1 - middle):
            return middle
        x = middle
    return x


def upper_bound(hits: float, total: float, alpha: float) -> float:
    """Return the Clopper-Pearson upper bound of a share: the p with P(Binomial(total, p) <= hits) = alpha.

    Args:
        hits, total: counts, 0 <= hits <= total; fractions are allowed (counts divided by a design effect).
        alpha: chance that the true share lies above the bound, in (0, 1).

    Source: Clopper and Pearson, Biometrika 26 (1934): the 1 - alpha quantile of Beta(hits + 1, total - hits).

    >>> round(upper_bound(0, 100, 0.05), 6) == round(1 - 0.05 ** (1 / 100), 6)
    True
    """
    return 1.0 if hits >= total else beta_quantile(1 - alpha, hits + 1.0, total - hits)


def bound_share(hits: float, total: float, alpha: float) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a share, wrong with probability `alpha` at most; (0, 1) of nothing.

    >>> low, high = bound_share(0, 100, 0.01)
    >>> low, round(high, 4) == round(1 - 0.005 ** (1 / 100), 4)
    (0.0, True)
    """
    if not total:
        return 0.0, 1.0
    low = 0.0 if hits <= 0 else beta_quantile(alpha / 2, hits, total - hits + 1.0)
    return low, upper_bound(hits, total, alpha / 2)
