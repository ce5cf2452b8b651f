"""The Beta distribution against closed forms, published values and exact rational sums."""

from __future__ import annotations

import math
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.analysis.statistics.beta import beta_tails, bound_share, log_add, log_beta, log_sum, upper_bound


def binomial_at_most(k: int, n: int, p: Fraction) -> Fraction:
    return sum((comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)), Fraction(0))


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 3), (7, 40), (300, 5)])
def test_log_beta_is_the_factorial_formula(a: int, b: int) -> None:
    """B(a, b) = (a-1)! (b-1)! / (a+b-1)! for whole numbers."""
    exact = Fraction(math.factorial(a - 1) * math.factorial(b - 1), math.factorial(a + b - 1))
    assert log_beta(a, b) == pytest.approx(math.log(exact.numerator) - math.log(exact.denominator), rel=1e-12)


@given(st.integers(0, 60), st.integers(1, 60), st.integers(1, 99))
def test_tails_are_exact_binomial_sums(k: int, more: int, percent: int) -> None:
    """1 - I_p(k+1, n-k) is P(Binomial(n, p) <= k), to 1e-10 of its own size, however small it is."""
    n, p = k + more, Fraction(percent, 100)
    lower, upper = beta_tails(float(p), k + 1, n - k)
    exact = binomial_at_most(k, n, p)
    assert lower == pytest.approx(float(1 - exact), rel=1e-10, abs=1e-300)
    assert upper == pytest.approx(float(exact), rel=1e-10, abs=1e-300)


@given(st.floats(0.01, 0.99), st.floats(0.1, 5000), st.floats(0.1, 5000))
def test_tails_are_mirrored_and_sum_to_one(x: float, a: float, b: float) -> None:
    """I_x(a, b) = 1 - I_{1-x}(b, a)."""
    lower, upper = beta_tails(x, a, b)
    assert lower + upper == pytest.approx(1.0, abs=1e-12)
    assert beta_tails(1 - x, b, a)[1] == pytest.approx(lower, rel=1e-6, abs=1e-14)


@pytest.mark.parametrize(
    ("hits", "total", "alpha", "bound"),
    [
        (0, 10, 0.025, 0.30850),  # Clopper and Pearson's own 95 % chart and every later table: 0 of 10
        (1, 10, 0.025, 0.44502),
        (5, 10, 0.025, 0.81291),
        (0, 100, 0.05, 0.02951),  # the "rule of three", exactly
        (10, 100, 0.025, 0.17622),
    ],
)
def test_the_upper_bound_is_the_published_one(hits: int, total: int, alpha: float, bound: float) -> None:
    """Clopper-Pearson limits as printed in tables."""
    assert upper_bound(hits, total, alpha) == pytest.approx(bound, abs=6e-6)


@given(st.integers(0, 40), st.integers(1, 400), st.sampled_from([1e-4, 1e-3, 0.05]))
def test_at_the_upper_bound_so_few_hits_have_probability_alpha(hits: int, more: int, alpha: float) -> None:
    """The bound's definition, by an exact sum at the returned share."""
    bound = upper_bound(hits, hits + more, alpha)
    assert float(binomial_at_most(hits, hits + more, Fraction(bound))) == pytest.approx(alpha, rel=1e-6)


def test_the_upper_bound_of_only_hits_is_one_and_large_counts_stay_exact() -> None:
    """A total of 1.8 million needs no more care than n = 10: the bound lies where the normal approximation says."""
    assert upper_bound(7, 7, 0.01) == 1.0
    n, k = 1_800_000, 900
    bound = upper_bound(k, n, 1e-4)
    assert bound == pytest.approx((k + 3.719 * math.sqrt(k) + 5) / n, rel=0.01)


def test_sums_in_logs_neither_overflow_nor_lose_the_small() -> None:
    """exp(1000) would overflow; the sums do not."""
    assert log_add(1000.0, 1000.0) == pytest.approx(1000 + math.log(2))
    assert log_add(-math.inf, 3.0) == 3.0
    assert log_sum([]) == -math.inf
    assert log_sum([-2000.0, -2000.0, -2000.0]) == pytest.approx(-2000 + math.log(3))


@given(st.integers(0, 80), st.integers(0, 80), st.integers(1, 99))
def test_the_interval_of_a_share_misses_it_as_rarely_as_it_says(n: int, hits: int, percent: int) -> None:
    """Over all outcomes of n draws, those whose interval is beside the true share have 1 % at most; exact sums."""
    p = Fraction(percent, 100)
    missed = Fraction(0)
    for k in range(n + 1):
        low, high = bound_share(k, n, 0.01)
        if not low - 1e-12 <= percent / 100 <= high + 1e-12:
            missed += comb(n, k) * p**k * (1 - p) ** (n - k)
    assert missed <= Fraction(1, 100)
    low, high = bound_share(min(hits, n), n, 0.01)
    assert 0 <= low <= high <= 1
