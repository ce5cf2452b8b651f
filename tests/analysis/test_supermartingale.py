"""The mean of the evidence under its null is at most 1: by exact sums over all outcomes, and by simulation."""

from __future__ import annotations

import math
import random
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.analysis.statistics.baseline import OUTAGE_A, OUTAGE_B, Law
from backout.analysis.statistics.beta import log_beta
from backout.analysis.statistics.limits import log_e_below
from backout.analysis.statistics.minute_law import OUTAGE_ALONE, OUTAGE_SHARED, MinuteLaw
from backout.analysis.statistics.rates import LabelTest, log_e_above, mix

from extent import examples

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Record

ROUNDING = 1e-9
laws = st.builds(
    lambda p0, phi: Law(0, 0, p0, phi), st.floats(5e-4, 0.9), st.floats(math.log(1e-5), math.log(0.5)).map(math.exp)
)


def log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def beta_law(a: float, b: float, hits: int, others: int) -> float:
    """Return the probability of one sequence of so many hits and others whose share is drawn from a Beta law."""
    return math.exp(log_beta(a + hits, b + others) - log_beta(a, b))


def usual(law: Law, hits: int, others: int) -> float:
    return beta_law(law.p0 * law.tau, (1 - law.p0) * law.tau, hits, others)


def usual_or_outage(law: Law, prior: float, hits: int, others: int) -> float:
    return (1 - prior) * usual(law, hits, others) + prior * beta_law(OUTAGE_A, OUTAGE_B, hits, others)


def evidence(law: Law, minutes: list[tuple[int, int, int, int]], *, concurrent: bool, clustered: bool) -> float:
    """Return E after minutes of (hits, others) of the new and of the old version."""
    test = MinuteLaw(law, concurrent=concurrent, points=8, clustered=clustered)
    for minute, (u, v, x, z) in enumerate(minutes):
        test.add(minute, (u, v), (x, z))
    return math.exp(test.log_e())


@examples(40)
@given(
    law=laws, sizes=st.tuples(st.integers(0, 12), st.integers(0, 12)), clustered=st.booleans(), outages=st.booleans()
)
def test_the_mean_of_the_minute_law_in_a_cut_over(
    law: Law, sizes: tuple[int, int], clustered: bool, outages: bool
) -> None:
    """Two minutes, each with its own share, drawn from the baseline's law, with the granted outages or without."""
    n, m = sizes
    prior = OUTAGE_ALONE if outages else 0.0
    mean = 0.0
    for u in range(n + 1):
        for w in range(m + 1):
            chance = math.exp(log_choose(n, u) + log_choose(m, w))
            chance *= usual_or_outage(law, prior, u, n - u) * usual_or_outage(law, prior, w, m - w)
            counts = [(u, n - u, 0, 0), (w, m - w, 0, 0)]
            mean += chance * evidence(law, counts, concurrent=False, clustered=clustered)
    assert mean <= 1 + ROUNDING


@examples(40)
@given(law=laws, sizes=st.tuples(st.integers(0, 10), st.integers(0, 10)), clustered=..., shared=...)
def test_the_mean_of_the_minute_law_beside_an_old_version(
    law: Law, sizes: tuple[int, int], clustered: bool, shared: bool
) -> None:
    """A minute in which both share what was drawn, outages included, or the new version draws its own usual share."""
    n, m = sizes
    mean = 0.0
    for u in range(n + 1):
        for x in range(m + 1):
            chance = math.exp(log_choose(n, u) + log_choose(m, x))
            if shared:
                chance *= usual_or_outage(law, OUTAGE_SHARED, u + x, n - u + m - x)
            else:
                chance *= usual(law, u, n - u) * usual_or_outage(law, OUTAGE_SHARED, x, m - x)
            mean += chance * evidence(law, [(u, n - u, x, m - x)], concurrent=True, clustered=clustered)
    assert mean <= 1 + ROUNDING


@examples(30)
@given(
    p0=st.floats(5e-4, 0.9),
    shares=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)),
    rates=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    late=st.booleans(),
)
def test_the_mean_of_the_label_test_whatever_the_shared_rate_does(
    p0: float, shares: tuple[float, float], rates: tuple[float, float], late: bool
) -> None:
    """Two minutes of three requests: any rate in each, and a ramp step between them."""
    kinds = [(is_new, hit) for is_new in (True, False) for hit in (True, False)]

    def chance(kind: tuple[bool, bool], minute: int) -> float:
        is_new, hit = kind
        label = shares[minute] if is_new else 1 - shares[minute]
        return label * (rates[minute] if hit else 1 - rates[minute])

    def counts(kind: tuple[bool, bool]) -> tuple[tuple[int, int], tuple[int, int]]:
        is_new, hit = kind
        pair = (int(hit), int(not hit))
        return (pair, (0, 0)) if is_new else ((0, 0), pair)

    mean = 0.0
    for first in kinds:
        for second in kinds:
            for third in kinds:
                test = LabelTest(p0, shares[0], late=late)
                test.add(0, *counts(first))
                test.add(0, *counts(second))
                test.set_share(shares[1])
                test.add(1, *counts(third))
                mean += chance(first, 0) * chance(second, 0) * chance(third, 1) * math.exp(test.log_e())
    assert mean <= 1 + ROUNDING


@given(limit=st.floats(1e-9, 0.5), below=st.floats(0, 1), n=st.integers(0, 40))
def test_the_mean_of_the_slo_test_at_any_rate_up_to_the_limit(limit: float, below: float, n: int) -> None:
    """All rates between none and the limit itself."""
    p = limit * below
    chances = [math.comb(n, y) * p**y * (1 - p) ** (n - y) for y in range(n + 1)]
    assert sum(c * math.exp(log_e_above(y, n, limit)) for y, c in enumerate(chances)) <= 1 + ROUNDING


@given(limit=st.floats(1e-6, 0.99), better=st.floats(1e-3, 0.99), above=st.floats(0, 1), n=st.integers(0, 40))
def test_the_mean_of_the_proof_of_health_at_any_rate_from_the_limit_on(
    limit: float, better: float, above: float, n: int
) -> None:
    """Health is never proven of a version that is too bad, more often than beta says."""
    p = limit + (1 - limit) * above
    chances = [math.comb(n, y) * p**y * (1 - p) ** (n - y) for y in range(n + 1)]
    assert sum(c * math.exp(log_e_below(y, n, limit * better, limit)) for y, c in enumerate(chances)) <= 1 + ROUNDING


def cut_over(rng: random.Random) -> float:
    """Return the mixed evidence of two streams after five minutes of a healthy cut-over, stopped at the first 4:1."""
    laws = (Law(0, 0, 0.02, 0.005), Law(0, 0, 0.05, 0.01))
    tests = [MinuteLaw(law, concurrent=False, points=8, clustered=True) for law in laws]
    log_e = 0.0
    for minute in range(5):
        for law, test in zip(laws, tests, strict=True):
            rate = rng.betavariate(law.p0 * law.tau, (1 - law.p0) * law.tau)
            hits = sum(rng.random() < rate for _ in range(20))
            test.add(minute, (hits, 20 - hits))
        log_e = mix([(0.5, test.log_e()) for test in tests])
        if log_e >= math.log(4):
            break
    return math.exp(log_e)


def beside(rng: random.Random) -> float:
    """The same beside an old version, every fifth minute an outage of both."""
    law = Law(0, 0, 0.02, 0.005)
    test = MinuteLaw(law, concurrent=True, points=8, clustered=True)
    for minute in range(5):
        is_outage = rng.random() < OUTAGE_SHARED
        rate = rng.betavariate(0.5, 1) if is_outage else rng.betavariate(law.p0 * law.tau, (1 - law.p0) * law.tau)
        new, old = (sum(rng.random() < rate for _ in range(20)) for _ in range(2))
        test.add(minute, (new, 20 - new), (old, 20 - old))
        if test.log_e() >= math.log(4):
            break
    return math.exp(test.log_e())


def labels(rng: random.Random) -> float:
    """The label test over a shared rate that jumps about."""
    test = LabelTest(0.02, 0.3, late=True)
    for minute in range(5):
        rate = rng.choice([0.0, 0.02, 0.5])
        counts = [[0, 0], [0, 0]]
        for _ in range(20):
            counts[rng.random() < 0.3][rng.random() >= rate] += 1
        test.add(minute, (counts[1][0], counts[1][1]), (counts[0][0], counts[0][1]))
        if test.log_e() >= math.log(4):
            break
    return math.exp(test.log_e())


@pytest.mark.proof
@pytest.mark.parametrize("run", [cut_over, beside, labels])
def test_the_mean_at_a_stopping_time_is_at_most_one(
    run: Callable[[random.Random], float], proof_runs: int, proof: Record
) -> None:
    """Stopped at the first evidence of 4:1, the worst moment to stop: the mean stays at most 1, within its error."""
    rng = random.Random(5)  # noqa: S311 a simulation
    number = proof_runs * 5
    found = [run(rng) for _ in range(number)]
    error = 3.5 * stdev(found) / math.sqrt(number)
    proof(
        f"the mean evidence of `{run.__name__}` under its null, stopped at the worst moment, is at most 1 within error",
        trials=1,
        failures=int(fmean(found) > 1 + error),
        allowed=None,
        note=f"tests/analysis/test_supermartingale.py; mean {fmean(found):.3f} of {number:,} runs, simulated",
    )
    assert fmean(found) <= 1 + error
