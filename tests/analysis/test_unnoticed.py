"""An application that answers within 2 ms is not slower for anybody when it takes 4: no verdict comes of it."""

from __future__ import annotations

import pytest
from values import replace

from backout.analysis.statistics.summary import summarize
from backout.model.guard.signals import RouteCounts, get_bucket_floor_ms
from backout.model.guard.verdict import Cause, Verdict

from traffic_sim import DEPLOYED_AT, Behaviour, Scenario, Traffic, always, watch

UNNOTICED_MS = 25.0
FAST = Behaviour(latency_factor=1 / 40)
"""A median of 2 ms, and three answers in a hundred around 6 ms."""


@pytest.mark.parametrize("baseline_s", [60, 1500])
@pytest.mark.parametrize("split", [1.0, 0.5])
@pytest.mark.parametrize("times", [1.5, 3.0])
def test_what_nobody_notices_is_no_regression(times: float, split: float, baseline_s: int) -> None:
    """Three times as slow is still faster than anybody sees."""
    bad = always(latency_factor=times * FAST.latency_factor)
    scenario = Scenario(rate=50, split=split, baseline_s=baseline_s, watch_s=240, usual=FAST, bad=bad)
    assert watch(scenario, 5).regressed_s is None


@pytest.mark.parametrize("split", [1.0, 0.5])
def test_what_becomes_slow_is_found(split: float) -> None:
    """From 2 to 81 ms: nearly all answers lie above what nobody notices, and that is known soon."""
    scenario = Scenario(rate=50, split=split, baseline_s=1500, watch_s=240, usual=FAST, bad=always(latency_factor=1.0))
    outcome = watch(scenario, 5)
    assert outcome.decision.verdict is Verdict.REGRESSED
    assert outcome.decision.cause is Cause.LATENCY
    assert outcome.regressed_s is not None
    assert outcome.regressed_s <= 80


@pytest.mark.parametrize("tail_ms", [60.0, 400.0])
def test_a_slow_tail_of_a_fast_application_is_found(tail_ms: float) -> None:
    """Five answers in a hundred that take long are more than the one that may."""
    scenario = Scenario(rate=50, baseline_s=1500, watch_s=600, usual=FAST, bad=always(tail_factor=tail_ms * 40 / 250))
    assert watch(scenario, 5).decision.cause is Cause.LATENCY


def test_a_slow_tail_of_a_fast_application_is_found_soon() -> None:
    """Three in a hundred that wait 100 ms, as in the drill of that name, in the second minute at the latest."""
    bad = always(tail_factor=100 * 40 / 250)
    outcome = watch(Scenario(rate=60, baseline_s=1500, watch_s=300, usual=FAST, bad=bad), 2)
    assert outcome.regressed_s is not None
    assert outcome.regressed_s < 90


def test_no_threshold_lies_below() -> None:
    """Neither that of all answers nor that of one route; and each is granted the share that it is named for."""
    rows = Traffic(Scenario(rate=50, baseline_s=600, usual=FAST), 7).baseline()
    half = [
        replace(
            row,
            routes={
                "GET /a": RouteCounts(row.requests, 0, row.latency),
                "GET /b": RouteCounts(row.requests, 0, row.latency),
            },
        )
        for row in rows
    ]
    found = summarize(half, None, DEPLOYED_AT)
    assert found.edges is not None
    assert all(get_bucket_floor_ms(edge + 1) >= UNNOTICED_MS for edge in found.edges)
    assert [law.p0 >= named for law, named in zip(found.latency, (0.49, 0.049, 0.0099, 0.0029), strict=True)] == [
        True
    ] * 4
    assert all(get_bucket_floor_ms(route.p95 + 1) >= UNNOTICED_MS and route.slow.p0 >= 0.049 for route in found.routes)
    assert len(found.routes) == 2
