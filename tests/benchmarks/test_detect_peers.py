"""The peers' rules, ported: each gives the figures that an independent simulation of the same rule gave."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from shared.detect_kayenta import interval, is_high
from shared.detect_peers import PEERS, alarm, argo, burn_rate, flagger, growthbook, kayenta, runbook, z_test
from shared.detect_scenarios import Bad, Family, Scenario
from shared.detect_traffic import Batch, Side, simulate
from values import replace

from extent import by_extent

if TYPE_CHECKING:
    from shared.detect_peers import Rule

RUNS = by_extent(100, 200)
ARGO_DEFAULT: Rule = partial(argo, interval_s=60, window_s=60, success=0.99, limit=0)
NO_LATENCY = math.inf


@cache
def watched(rate: float, usual: float, errors: float = 0.0, split: float = 1.0, watch_s: int = 900) -> Batch:
    """Return simulated watches: usual share of errors, and the new version's where it is bad."""
    bad = Bad("errors", Family.ERRORS, errors=errors) if errors else None
    scenario = Scenario(rate, split, usual, bad=bad, watch_s=watch_s)
    return simulate(scenario, RUNS, np.random.default_rng(7))


def delays(rule: Rule, batch: Batch) -> np.ndarray:
    """Return the rule's delays."""
    found = rule(batch)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("rule", "rate", "usual", "expected"),
    [
        (runbook, 10, 0.002, 0.0),
        (runbook, 1, 0.002, 0.087),
        (runbook, 10, 0.008, 0.543),
        (PEERS["Argo Rollouts, documented"], 0.1, 0.002, 0.02),
        (PEERS["Argo Rollouts, documented"], 10, 0.008, 0.0),
        (ARGO_DEFAULT, 10, 0.002, 0.11),
        (ARGO_DEFAULT, 1, 0.002, 0.80),
        (partial(flagger, threshold=5, slowest_ms=NO_LATENCY), 10, 0.008, 0.25),
        (partial(flagger, threshold=1, slowest_ms=NO_LATENCY), 10, 0.002, 0.013),
        (partial(flagger, threshold=1, slowest_ms=NO_LATENCY), 1, 0.002, 0.77),
        (PEERS["CloudWatch, 1 of 1"], 1, 0.002, 0.83),
        (PEERS["CloudWatch, 3 of 3"], 1, 0.002, 0.027),
        (PEERS["CloudWatch, 3 of 3"], 10, 0.008, 0.20),
        (burn_rate, 10, 0.008, 0.0),
    ],
)
def test_false_rollbacks_are_those_of_the_rule(rule: Rule, rate: float, usual: float, expected: float) -> None:
    """Share of healthy watches rolled back in 15 minutes, within four standard errors of both simulations."""
    share = float(np.isfinite(delays(rule, watched(rate, usual))).mean())
    spread = math.sqrt(max(expected * (1 - expected), 0.01) * (1 / RUNS + 1 / 300))
    assert share == pytest.approx(expected, abs=4 * spread)


@pytest.mark.parametrize(
    ("rule", "rate", "errors", "expected_s"),
    [
        (runbook, 10, 0.02, 300),
        (runbook, 0.1, 0.5, 300),
        (PEERS["Argo Rollouts, documented"], 10, 0.5, math.inf),
        (ARGO_DEFAULT, 10, 0.05, 10),
        (ARGO_DEFAULT, 1, 0.05, 70),
        (partial(flagger, threshold=5, slowest_ms=NO_LATENCY), 10, 0.02, 420),
        (partial(flagger, threshold=1, slowest_ms=NO_LATENCY), 10, 0.02, 180),
        (PEERS["CloudWatch, 1 of 1"], 1, 0.05, 60),
        (PEERS["CloudWatch, 3 of 3"], 10, 0.05, 180),
        (burn_rate, 10, 0.02, math.inf),
        (burn_rate, 10, 0.5, 90),
        (burn_rate, 0.1, 0.5, 120),
        (z_test, 10, 0.5, 10),
    ],
)
def test_delays_are_those_of_the_rule(rule: Rule, rate: float, errors: float, expected_s: float) -> None:
    """Median seconds until a bad version is rolled back, to within one look of the slowest rule's step."""
    median = float(np.median(delays(rule, watched(rate, 0.002, errors))))
    assert median == expected_s or abs(median - expected_s) <= 30


def test_argo_documented_fails_for_the_fourth_time_after_the_watch() -> None:
    """Its first measurement finds no data and is repeated after 10 s, so the fourth failure is at 910 s."""
    found = delays(PEERS["Argo Rollouts, documented"], watched(10, 0.002, 0.5, watch_s=960))
    assert set(found) == {910.0}


def test_growthbook_looks_every_hour_unless_told_otherwise() -> None:
    """Looking every minute it sees 5 % errors at once; as shipped never within 15 minutes."""
    batch = watched(10, 0.002, 0.05, 0.5)
    assert np.median(delays(partial(growthbook, every_s=60), batch)) == 60
    assert np.isinf(delays(growthbook, batch)).all()
    assert growthbook(watched(10, 0.002)) is None


@pytest.mark.long
def test_kayenta_finds_large_errors_at_its_first_judgement_and_hardly_ever_a_healthy_version() -> None:
    """Error rate by the minute, judged after 15 minutes."""
    rule = partial(kayenta, interval_s=900, latency=False)
    assert np.median(delays(rule, watched(10, 0.002, 0.05, 0.5))) == 900
    assert np.isfinite(delays(rule, watched(10, 0.002, split=0.5))).mean() < 0.04


def test_mann_whitney_gives_the_figures_of_the_issue() -> None:
    """spinnaker/spinnaker#6278: seven of ten points a hundred times higher, and Kayenta passes it."""
    experiment, control = np.array([100.0] * 7 + [1.0] * 3), np.ones(10)
    low, high, estimate = interval(experiment, control)
    assert low == pytest.approx(6.825022991538e-05, rel=1e-12)
    assert (high, estimate) == (99.0, 98.99992904170193)
    assert not is_high(experiment, control)
    assert is_high(np.array([100.0] * 8 + [1.0] * 2), control)
    assert not is_high(np.ones(9), control)


def test_a_minute_without_requests_is_no_breach() -> None:
    """CloudWatch leaves missing data alone, Flagger counts it as failed, Argo Rollouts gives up after five."""
    empty = watched(10, 0.002)
    nothing = Side(0 * empty.new.requests, 0 * empty.new.errors, empty.new.log_ms[:0])
    silent = replace(empty, new=nothing)
    assert np.isinf(delays(partial(alarm, breaches=1, periods=1), silent)).all()
    assert set(delays(partial(flagger, threshold=1), silent)) == {180.0}
    assert set(delays(ARGO_DEFAULT, silent)) == {40.0}
