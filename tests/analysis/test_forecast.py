"""The forecast against simulated traffic, and the advice that follows from it."""

from __future__ import annotations

import functools
from statistics import median
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import replace

from backout.analysis.hindsight.expected import Stretch
from backout.analysis.hindsight.forecast import make_forecast
from backout.model.guard.forecast import FIVE_PERCENT, TROUBLES, Today
from backout.model.guard.policy import Criteria, GuardPolicy, Policy
from backout.model.guard.signals import Counts, quantile_ms, sum_counts
from backout.report.guard.forecast import format_text, make_record

from extent import by_extent, long, rotated
from traffic_sim import DEPLOYED_AT, Scenario, Traffic, always, watch

if TYPE_CHECKING:
    from backout.model.guard.forecast import Forecast

pytestmark = pytest.mark.rotating("simulations", 3)

FACTOR = 2.0
"""What the forecast promises: the median of what happens lies within this factor of what was said."""
ONE, FIVE, ALL, SLOW = TROUBLES
CHANGES = {
    ONE: {"error_rate": 0.01},
    FIVE: {"error_rate": 0.05},
    ALL: {"error_rate": 1.0},
    SLOW: {"latency_factor": 1.5},
}


def today(rate: float, seed: int = 1, *, baseline_s: int = 3600) -> Today:
    scenario = Scenario(rate=rate, baseline_s=baseline_s)
    return Today(DEPLOYED_AT, rate, tuple(Traffic(scenario, seed).baseline()), float(baseline_s))


@functools.cache
def usual(rate: float) -> Forecast:
    """Return the forecast for today's traffic with the usual policy, made once."""
    return make_forecast(today(rate), Policy())


def after_s(found: Forecast, way: str, trouble: object) -> float | None:
    outlook = next(outlook for outlook in found.outlooks if outlook.way.name == way)
    return next(each.after_s for each in outlook.detections if each.trouble == trouble)


@pytest.mark.long
@pytest.mark.proof
@pytest.mark.parametrize(
    ("rate", "way", "split", "trouble"),
    rotated(
        [
            (0.2, "cut-over", 1.0, ALL),
            (0.2, "split 50/50", 0.5, ALL),
            (0.2, "cut-over", 1.0, SLOW),
            (1.0, "cut-over", 1.0, FIVE),
            (5.0, "cut-over", 1.0, ONE),
            (5.0, "cut-over", 1.0, FIVE),
            (5.0, "cut-over", 1.0, SLOW),
            (5.0, "split 50/50", 0.5, FIVE),
            (5.0, "split 50/50", 0.5, SLOW),
            (5.0, "split 10/90", 0.1, ALL),
            (5.0, "split 10/90", 0.1, FIVE),
            (5.0, "split 10/90", 0.1, SLOW),
        ],
        4,
    ),
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_forecast_is_within_its_factor_of_the_median(rate: float, way: str, split: float, trouble: object) -> None:
    """What guard plan says is what happens: the median of simulated watches, each with a baseline of its own."""
    changes = CHANGES[trouble]  # type: ignore[index]
    scenario = Scenario(rate=rate, split=split, watch_s=3600, bad=always(**changes))
    happened = median(watch(scenario, seed).regressed_s or 99_999 for seed in range(by_extent(5, 5, proof=7)))
    said = after_s(usual(rate), way, trouble) or 99_999
    assert happened / FACTOR <= said <= happened * FACTOR, (said, happened)


@pytest.mark.long
def test_it_is_the_detector_that_answers() -> None:
    """A stricter alpha, more bad requests and a confirm time make the forecast later, as they make guard later."""
    guards = GuardPolicy(alpha=1e-6), GuardPolicy(min_bad=40), GuardPolicy(confirm_s=30)
    others = [make_forecast(today(5), Policy(guard=guard)) for guard in guards]
    times = [after_s(found, "cut-over", FIVE) for found in (usual(5), *others)]
    known = [time for time in times if time is not None]
    assert len(known) == 4
    assert known[0] < known[1] < known[2]
    assert known[3] == pytest.approx(known[0] + 30, abs=5)


def test_it_is_deterministic() -> None:
    """The same traffic gives the same forecast."""
    assert make_forecast(today(50), Policy()) == usual(50)


@given(
    rate=st.floats(0.01, 200),
    error_rate=st.floats(0, 1),
    looks=st.lists(st.integers(1, 90), min_size=1, max_size=30),
    latency=st.dictionaries(st.integers(0, 255), st.integers(1, 50), max_size=6),
    factor=st.floats(1.0, 4.0),
)
def test_expected_counts_are_counts(
    rate: float, error_rate: float, looks: list[int], latency: dict[int, int], factor: float
) -> None:
    """However it is cut into rows: never more errors than requests, one latency a request, sums as expected."""
    stretch = Stretch("v", rate, error_rate, latency, factor)
    rows, second = [], 0
    for step in looks:
        second += step
        row = stretch.until(second, second)
        rows += [row] if row else []
    for row in rows:
        assert 0 <= row.errors <= row.requests
        assert sum(row.latency.values()) == (row.requests if latency else 0)
        assert all(number > 0 and 0 <= bucket <= 255 for bucket, number in row.latency.items())
    requests, errors = sum_counts(rows)
    assert requests == pytest.approx(rate * second, abs=1)
    assert errors == pytest.approx(error_rate * requests, abs=1)


def test_expected_latencies_keep_their_distribution() -> None:
    """Cut into rows of one request, the quantiles are those of the histogram, moved by the factor."""
    latency = {100: 50, 110: 45, 140: 5}
    stretch = Stretch("v", 1.0, 0.0, latency, 2.0)
    merged: dict[int, int] = {}
    for second in range(1, 2001):
        row = stretch.until(second, second)
        for bucket, number in (row.latency if row else {}).items():
            merged[bucket] = merged.get(bucket, 0) + number
    for share in (0.3, 0.7, 0.97):
        assert quantile_ms(merged, share) == pytest.approx(2 * (quantile_ms(latency, share) or 0), rel=0.05)


def test_much_traffic_advises_a_split() -> None:
    """Where a split finds everything in the watch, it is the better way: it tells a shared outage apart."""
    found = usual(50)
    assert found.advised is not None
    assert found.advised.split < 1
    assert found.missing_requests == 0
    assert "as much as a cut-over" in found.why[0]


@pytest.mark.long
def test_some_traffic_advises_a_cut_over() -> None:
    """Where only a cut-over finds errors of 5 % in time, it is the way, with what it cannot tell."""
    needed_s = after_s(usual(1), "cut-over", FIVE)
    assert needed_s is not None
    found = make_forecast(today(1), Policy(criteria=Criteria(watch_s=needed_s)))
    assert found.advised is not None
    assert (found.advised.name, found.missing_requests) == ("cut-over", 0)
    assert "outage" in found.why[-1]


@pytest.mark.long
def test_little_traffic_says_how_many_requests_are_missing() -> None:
    """The missing number is what the detector needs minus what the watch brings; probes would find it."""
    found = usual(0.1)
    five = found.outlooks[0].of(FIVE_PERCENT)
    assert found.missing_requests == five.requests - 90
    assert found.advised is not None
    assert found.advised.synthetic_per_s == 1.0
    assert f"{found.missing_requests} more are needed" in found.why[0]
    assert "a synthetic request every 1 s (guard.synthetic)" in found.why[1]


def test_hardly_any_traffic_and_few_probes() -> None:
    """Nothing finds errors of 5 % in the watch: no way is advised."""
    found = make_forecast(today(0.002), Policy(criteria=Criteria(watch_s=60)), synthetic_per_s=0.01)
    assert found.advised is None
    assert found.missing_requests is None
    assert "more than a day brings" in found.why[0]


@pytest.mark.long
def test_what_is_bad_today_is_no_trouble_of_a_version() -> None:
    """With 8 % of today's requests failing, 5 % would be an improvement."""
    rows = tuple(Counts("v", DEPLOYED_AT - 600 + second, 100, 8) for second in range(600))
    found = make_forecast(Today(DEPLOYED_AT, 100.0, rows, 600.0), Policy())
    assert found.outlooks[0].of(FIVE_PERCENT).same_as_today
    assert "first find out why" in found.why[0]
    assert make_record("production", found, GuardPolicy())["ways"][0]["detections"][1]["same_as_today"]  # type: ignore[index]


@pytest.mark.long
def test_without_a_baseline_the_slo_is_tested() -> None:
    """A version nobody counted: errors are compared with the limit, response times with nothing."""
    found = make_forecast(Today(DEPLOYED_AT, 5.0, (), 0.0), Policy())
    assert after_s(found, "cut-over", ALL) is not None
    assert after_s(found, "cut-over", SLOW) is None
    assert make_record("production", found, GuardPolicy())["error_rate"] is None


@pytest.mark.parametrize("rate", [50, long(0.1), long(700)])
def test_the_page_fits_80_columns(rate: float) -> None:
    """Whatever the numbers."""
    found = make_forecast(replace(today(5), rate=rate), Policy()) if rate > 50 else usual(rate)
    lines = format_text("production", found, GuardPolicy(), width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "What guard would find on production"
    assert any(line.startswith("Advice: ") for line in lines)
