"""The e-processes: against direct formulas, against their null, and across a crash."""

from __future__ import annotations

import json
import math
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.analysis.statistics.baseline import Law, assume_law
from backout.analysis.statistics.beta import log_beta
from backout.analysis.statistics.limits import estimate_requests, log_e_below
from backout.analysis.statistics.minute_law import MinuteLaw, start_mass
from backout.analysis.statistics.rates import ODDS_RATIOS, LabelTest, log_e_above, mix

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Record

ALPHA = 0.05
minutes = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 60), st.integers(0, 5), st.integers(0, 60)),
    max_size=12,
)


def minute_law(*, concurrent: bool = False) -> MinuteLaw:
    return MinuteLaw(assume_law(0.01), concurrent=concurrent, points=16, clustered=True)


def test_one_open_minute_in_a_cut_over_is_the_ratio_of_beta_binomials() -> None:
    """3 errors of 10: the mixture of alternatives over the null's marginal, with the prior 3/4 of minute 0."""
    test = minute_law()
    test.add(0, (3, 7))
    law = test.law
    a0, b0 = law.p0 * law.tau, (1 - law.p0) * law.tau
    usual = math.exp(log_beta(a0 + 3, b0 + 7) - log_beta(a0, b0))
    outage = math.exp(log_beta(3.5, 8) - log_beta(0.5, 1))
    null = max((1 - 1e-6) * usual + 1e-6 * outage, usual)
    low = 1.5 * law.p0 / (1 - law.p0)
    total = 0.0
    for j in range(16):
        odds = low * (50 / low) ** (j / 15)
        p = odds / (1 + odds)
        t = 8 / min(p, 1 - p)
        total += math.exp(log_beta(p * t + 3, (1 - p) * t + 7) - log_beta(p * t, (1 - p) * t)) / null
    assert test.log_e() == pytest.approx(math.log(0.75 * total / 16), rel=1e-9)


def test_the_prior_of_the_start_sums_to_one_minute_by_minute() -> None:
    """3/4, then 1/(2(i+1)(i+2)); a gap of empty minutes adds the same mass at once."""
    single = [start_mass(i, i) for i in range(2000)]
    assert single[:3] == pytest.approx([3 / 4, 1 / 12, 1 / 24])
    assert sum(single) == pytest.approx(1.0, abs=1e-3)
    assert start_mass(3, 40) == pytest.approx(sum(single[3:41]))


@given(st.integers(1, 10**12))
def test_a_long_silence_is_one_step_and_adds_no_evidence(minute: int) -> None:
    """An empty stretch of any length leaves the evidence at most 1."""
    test = minute_law()
    test.add(minute, (0, 0))
    assert test.log_e() <= 1e-9


@given(minutes, st.booleans())
def test_a_restored_test_goes_on_with_the_same_evidence(
    steps: list[tuple[int, int, int, int, int]], concurrent: bool
) -> None:
    """At every step: JSON of the state, restore, same evidence; and the same after more counts."""
    kept, restored = minute_law(concurrent=concurrent), minute_law(concurrent=concurrent)
    labels, labels_restored = LabelTest(0.01, 0.3), LabelTest(0.01, 0.3)
    minute = 0
    for skip, u, v, x, z in steps:
        minute += skip
        restored = MinuteLaw.from_state(json.loads(json.dumps(restored.state())))
        labels_restored = LabelTest.from_state(json.loads(json.dumps(labels_restored.state())))
        for test in (kept, restored, labels, labels_restored):
            test.add(minute, (u, v), (x, z))
        assert restored.log_e() == kept.log_e()
        assert labels_restored.log_e() == labels.log_e()


@given(minutes, st.booleans(), st.booleans(), st.floats(5e-4, 0.9))
def test_the_quick_bound_is_never_below_the_evidence(
    steps: list[tuple[int, int, int, int, int]], concurrent: bool, clustered: bool, p0: float
) -> None:
    """After any counts, weighed ones too: what is not evaluated could not have mattered."""
    test = MinuteLaw(assume_law(p0), concurrent=concurrent, points=16, clustered=clustered)
    minute = 0
    for skip, u, v, x, z in steps:
        minute += skip
        test.add(minute, (u / 2, v), (x / 2, z))
        bounds = (test.most_log_e(roughly=True), test.most_log_e())
        assert min(bounds) >= test.log_e() - 1e-9


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=8))
def test_looking_inside_a_minute_changes_nothing(parts: list[tuple[int, int]]) -> None:
    """Counts that come in pieces give the same evidence as all at once."""
    pieces, whole = minute_law(), minute_law()
    for part in parts:
        pieces.add(2, part)
        pieces.log_e()
    whole.add(2, (sum(u for u, _ in parts), sum(v for _, v in parts)))
    assert pieces.log_e() == pytest.approx(whole.log_e(), rel=1e-12)


def test_the_label_test_is_the_likelihood_ratio_of_the_labels() -> None:
    """One error on the new version at 50/50: an average over odds ratios of P(new | error) / 1/2."""
    test = LabelTest(0.01, 0.5)
    test.add(0, (1, 0), (0, 0))
    total = 0.0
    for ratio in ODDS_RATIOS:
        odds = 0.01 / 0.99 * ratio
        p1 = odds / (1 + odds)
        total += p1 / (0.5 * p1 + 0.5 * 0.01)
    assert test.log_e() == pytest.approx(math.log(total / len(ODDS_RATIOS)))


def ever_above(log_es: list[float]) -> bool:
    return max(log_es) >= -math.log(ALPHA)


def bound95(alpha: float, n: int) -> float:
    """Return what a share of `n` runs may be when each one fails with probability alpha (normal, one-sided 99.9 %)."""
    return alpha + 3.1 * math.sqrt(alpha * (1 - alpha) / n)


def label_run(seed: int) -> bool:
    """Return whether the label test ever fires on two equal versions whose shared error rate jumps about wildly."""
    rng = random.Random(seed)  # noqa: S311 a simulation
    test = LabelTest(0.01, 0.3)
    seen = []
    for second in range(300):
        rate = rng.choice([0.0, 0.01, 0.5, 1.0])
        counts = [[0, 0], [0, 0]]
        for _ in range(3):
            version, hit = rng.random() < 0.3, rng.random() < rate
            counts[version][not hit] += 1
        test.add(second // 60, (counts[1][0], counts[1][1]), (counts[0][0], counts[0][1]))
        seen.append(test.log_e())
    return ever_above(seen)


def slo_run(seed: int) -> bool:
    """Return whether the SLO test ever fires at the limit itself."""
    rng = random.Random(seed)  # noqa: S311 a simulation
    hits = 0
    for n in range(1, 1500):
        hits += rng.random() < 0.02
        if log_e_above(hits, n, 0.02) >= -math.log(ALPHA):
            return True
    return False


def healthy_run(seed: int) -> bool:
    """Return whether the proof of health ever succeeds on a version that is exactly too bad."""
    rng = random.Random(seed)  # noqa: S311 a simulation
    hits = 0
    for n in range(1, 1500):
        hits += rng.random() < 0.02
        if log_e_below(hits, n, 0.002, 0.02) >= -math.log(ALPHA):
            return True
    return False


def law_run(seed: int) -> bool:
    """Return whether the minute law ever fires on minutes drawn from it, in a cut-over, one look a second."""
    rng = random.Random(seed)  # noqa: S311 a simulation
    law = Law(0, 0, 0.02, 0.36**2 * 0.02 / 0.98)
    test = MinuteLaw(law, concurrent=False, points=16, clustered=True)
    seen = []
    for second in range(900):
        if second % 60 == 0:
            rate = rng.betavariate(law.p0 * law.tau, (1 - law.p0) * law.tau)
        hits = sum(rng.random() < rate for _ in range(4))
        test.add(second // 60, (hits, 4 - hits))
        seen.append(test.log_e())
    return ever_above(seen)


@pytest.mark.proof
@pytest.mark.parametrize("run", [label_run, slo_run, healthy_run, law_run])
def test_peeking_at_every_step_fires_at_most_alpha_of_the_time(
    run: Callable[[int], object], proof_runs: int, proof: Record
) -> None:
    """Ville's inequality under each test's own null, with a look after every single count."""
    fired = sum(bool(run(seed)) for seed in range(proof_runs))
    proof(
        f"e-process `{run.__name__.removesuffix('_run')}` fires under its own null, looked at after every count",
        trials=proof_runs,
        failures=fired,
        allowed=ALPHA,
        note="tests/analysis/test_rates.py, simulated",
    )
    assert fired <= bound95(ALPHA, proof_runs) * proof_runs


def test_health_takes_the_requests_that_the_theory_says() -> None:
    """0.05 % usual: 572 clean-as-usual requests exclude 1 %, 95 exclude 5 % (log(1/beta) / KL)."""
    assert estimate_requests(0.0, 0.0005, 0.01, 0.01) == pytest.approx(572, abs=2)
    assert estimate_requests(0.0, 0.0005, 0.05, 0.01) == pytest.approx(99, abs=5)
    assert estimate_requests(0.0, 0.0099, 0.01, 0.01) is not None
    assert estimate_requests(100.0, 0.0005, 0.01, 0.01) == 0


def test_an_average_of_evidence_is_dominated_by_its_best_part_at_the_price_of_its_weight() -> None:
    """1/8 of the weight costs log 8; parts without weight do not count."""
    assert mix([(1 / 8, 20.0), (7 / 8, -50.0)]) == pytest.approx(20 - math.log(8))
    assert mix([(1.0, 0.0), (0.0, 99.0)]) == 0.0
