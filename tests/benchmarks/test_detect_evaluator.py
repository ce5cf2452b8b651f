"""The benchmark's vectorised evaluator is the live detector: same evidence and same decision in every second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared.detect_counts import DEPLOYED_AT, NEW, OLD, route_name
from shared.detect_evaluator import backout, live, log_evidence
from shared.detect_oracle import first
from shared.detect_scenarios import BADS, RATES, SPANS_S, SPLITS, Noise, Scenario
from shared.detect_traffic import Batch, as_in_production, simulate
from values import replace

from backout.model.guard.signals import Counts, RouteCounts
from backout.model.guard.verdict import Verdict

from extent import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from backout.analysis.detector.decision import Detector

SCENARIOS = st.builds(
    Scenario,
    rate=st.sampled_from((*RATES, 1.0)),
    split=st.sampled_from(SPLITS),
    base_errors=st.sampled_from((0.0, 0.0005, 0.005, 0.02)),
    baseline_s=st.sampled_from((*SPANS_S, 1800)),
    noise=st.sampled_from(list(Noise)),
    bad=st.sampled_from((None, *BADS)),
    watch_s=st.sampled_from((60, 200)),
    warm_up_s=st.sampled_from((0.0, 45.0)),
    slow_start_s=st.sampled_from((0.0, 60.0)),
)


def rows_of(batch: Batch, run: int, second: int) -> list[Counts]:
    """Return what both versions answered in one second, as the live detector takes it."""
    rows = []
    for version, side in ((NEW, batch.new), (OLD, batch.old)):
        requests = int(side.requests[run, second].sum()) if side is not None else 0
        if side is None or not requests:
            continue
        mine = side.cell == run * batch.scenario.watch_s + second
        found, route = side.bucket[mine], side.route[mine]
        routes = {
            route_name(k): RouteCounts(int(n), int(side.errors[run, second, k]), histogram(found[route == k]))
            for k, n in enumerate(side.requests[run, second])
            if n
        }
        errors = int(side.errors[run, second].sum())
        rows.append(Counts(version, DEPLOYED_AT + second, requests, errors, latency=histogram(found), routes=routes))
    return rows


def watch(batch: Batch, run: int) -> Iterator[tuple[int, Detector]]:
    """Yield the live detector after each second, with the second."""
    detector = live(batch, run)
    for second in range(batch.scenario.watch_s):
        detector.add(rows_of(batch, run, second))
        yield second, detector


def histogram(found: NDArray[np.uint8]) -> dict[int, int]:
    buckets, numbers = np.unique(found, return_counts=True)
    return {int(b): int(n) for b, n in zip(buckets, numbers, strict=True)}


@pytest.mark.long
@pytest.mark.rotating("simulations", 3)
@examples(25)
@given(scenario=SCENARIOS, seed=st.integers(0, 2**32), sampled=st.booleans())
def test_evidence_and_decision_are_those_of_the_live_detector(scenario: Scenario, seed: int, sampled: bool) -> None:
    """Within 1e-9 at every second, for any traffic, mode, baseline, noise and trouble; also of sampled counts."""
    rng = np.random.default_rng(seed)
    batch = simulate(scenario, 2, rng)
    if sampled:
        batch = as_in_production(batch, rng)
    evidence, fires = log_evidence(batch)
    for run in range(batch.runs):
        for second, detector in watch(batch, run):
            assert detector.log_evidence() == pytest.approx(evidence[run, second], abs=1e-9, rel=1e-9)
            verdict, _, _ = detector.judge(DEPLOYED_AT + second + 1)
            assert (verdict is Verdict.REGRESSED) == fires[run, second], second


@pytest.mark.parametrize("base_errors", [0.0, 0.02])
@pytest.mark.parametrize("split", [0.1, 1.0])
def test_a_quiet_watch_has_the_evidence_of_the_live_detector(split: float, base_errors: float) -> None:
    """Of few requests, on every day: what is changed in the detector and not here shows at once."""
    scenario = replace(Scenario(0.2, split, base_errors, 3600), watch_s=120, warm_up_s=0.0, slow_start_s=0.0)
    batch = simulate(scenario, 4, np.random.default_rng(0))
    evidence, _ = log_evidence(batch)
    for run in range(batch.runs):
        for second, detector in watch(batch, run):
            assert detector.log_evidence() == pytest.approx(evidence[run, second], abs=1e-9, rel=1e-9)


def test_delays_are_the_first_seconds_that_fire() -> None:
    """Leaving out runs that are already decided, and putting batches together, changes nothing for any run."""
    bad = next(kind for kind in BADS if kind.name == "errors 5 %")
    spans = [replace(Scenario(5.0, 0.5, 0.0005, span, bad=bad), watch_s=300) for span in (3600, 120)]
    batches = [simulate(scenario, 10, np.random.default_rng(1)) for scenario in spans]
    delays = backout(batches)
    for batch, delay in zip(batches, delays, strict=True):
        assert delay.tolist() == first(log_evidence(batch)[1]).tolist()
