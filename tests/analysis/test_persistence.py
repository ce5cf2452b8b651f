"""Latency is judged by what persists: cold starts and busy spells are no regression, what stays slow is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.analysis.detector.decision import Detector
from backout.analysis.hindsight.forecast import make_forecast
from backout.model.guard.forecast import Today
from backout.model.guard.policy import Criteria, GuardPolicy, Policy
from backout.model.guard.verdict import Cause, Verdict
from backout.report.guard.forecast import format_text

from traffic_sim import DEPLOYED_AT, Behaviour, Scenario, Traffic, always, detector, watch

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[[int, Behaviour], Behaviour]

BASELINE_S = 1500


def cold_start(length_s: float, factor: float) -> Change:
    """Return a version whose first answers are so many times slower, less with each second."""

    def at(second: int, usual: Behaviour) -> Behaviour:
        left = max(0.0, 1 - second / length_s)
        return replace(usual, latency_factor=usual.latency_factor * factor**left)

    return at


def between(begin_s: int, end_s: int, factor: float) -> Change:
    return lambda t, b: replace(b, latency_factor=factor * b.latency_factor) if begin_s <= t < end_s else b


@pytest.mark.parametrize("split", [1.0, 0.5])
@pytest.mark.parametrize(("length_s", "factor"), [(1, 20), (5, 3), (20, 8), (60, 2), (60, 20)])
def test_a_cold_start_is_no_regression(length_s: float, factor: float, split: float) -> None:
    """However slow its first second to minute is, with nothing declared; and then it is called healthy."""
    scenario = Scenario(rate=10, split=split, baseline_s=BASELINE_S, watch_s=600, bad=cold_start(length_s, factor))
    outcome = watch(scenario, 3)
    assert outcome.regressed_s is None
    assert outcome.decision.verdict is Verdict.HEALTHY


@pytest.mark.parametrize(("begin_s", "length_s"), [(25, 20), (70, 15), (111, 20), (160, 40)])
def test_a_busy_spell_is_no_regression(begin_s: int, length_s: int) -> None:
    """A host that is busy for a while, whole stretches or parts of them, is slow and not broken."""
    bad = between(begin_s, begin_s + min(length_s, 40 - begin_s % 20), 4)
    outcome = watch(Scenario(rate=10, baseline_s=BASELINE_S, watch_s=400, bad=bad), 2)
    assert outcome.regressed_s is None
    assert outcome.decision.verdict is Verdict.HEALTHY


@pytest.mark.parametrize("split", [1.0, 0.5])
def test_what_stays_slow_is_found_in_the_third_stretch(split: float) -> None:
    """From the deployment on, or from later on: a minute of it is enough at 20 requests/s."""
    for begin_s in (0, 100):
        scenario = Scenario(rate=20, split=split, baseline_s=BASELINE_S, watch_s=300, bad=between(begin_s, 900, 2))
        found = watch(scenario, 1)
        assert found.decision.cause is Cause.LATENCY
        assert found.regressed_s is not None
        assert begin_s + 40 < found.regressed_s <= begin_s + 70


def test_what_is_extreme_has_no_warm_up() -> None:
    """Twenty times the median is acted on sooner than twice, and answers past a time-out at once."""
    extreme = watch(Scenario(rate=20, baseline_s=BASELINE_S, watch_s=90, bad=always(latency_factor=20.0)), 1)
    assert extreme.regressed_s in range(30, 36)
    assert "took longer than the 10*p50" in extreme.decision.reason
    hung = watch(Scenario(rate=20, baseline_s=BASELINE_S, watch_s=90, bad=always(latency_factor=600.0)), 1)
    assert hung.regressed_s in range(1, 5)
    assert "took longer than the time-out of 30" in hung.decision.reason


def test_what_becomes_extreme_is_found_whenever_it_begins() -> None:
    """After five minutes that were as usual: most answers past a time-out at once, ten times slower within a minute."""
    late = Scenario(rate=20, baseline_s=BASELINE_S, watch_s=400, bad=between(300, 400, 600))
    assert watch(late, 1).regressed_s in range(301, 308)
    extreme = watch(replace(late, bad=between(300, 400, 20)), 1)
    assert extreme.regressed_s in range(330, 350)
    assert "took longer than the 10*p50" in extreme.decision.reason


def test_in_a_short_watch_stretches_are_shorter() -> None:
    """A watch of a minute still finds what becomes slow in its middle, and forgives a cold start of half of it."""
    scenario = Scenario(rate=50, baseline_s=60, watch_s=60)

    def judged(bad: Change) -> int | None:
        traffic = Traffic(replace(scenario, bad=bad), 4)
        judge = Detector(
            version="v2",
            old="v1",
            deployed_at=DEPLOYED_AT,
            split=1.0,
            baseline=traffic.baseline(),
            policy=Policy(),
            watch_s=60,
        )
        for t in range(60):
            judge.add(traffic.second(t))
            if judge.judge(DEPLOYED_AT + t + 1)[0] is Verdict.REGRESSED:
                return t + 1
        return None

    assert judged(cold_start(28, 20)) is None
    assert judged(between(30, 60, 4)) in range(50, 60)


def test_it_is_said_what_is_slow_and_for_how_long() -> None:
    """First that response times do not count yet, then how much of what it takes was seen; never healthy meanwhile."""
    scenario = Scenario(rate=50, baseline_s=BASELINE_S, bad=always(latency_factor=2.0))
    traffic = Traffic(scenario, 1)
    judge = detector(scenario, traffic)
    said = {}
    for t in range(62):
        judge.add(traffic.second(t))
        decision = judge.decide(DEPLOYED_AT + t + 1)
        assert decision.verdict is not Verdict.HEALTHY
        said[t] = decision.reason
    assert "response times count from 20 s after the deployment on" in said[10]
    assert "slow in 1 of the 3 times 20 seconds that it takes to be a reason" in said[35]
    assert "slow in 2 of the 3 times 20 seconds" in said[55]
    assert "evidence" in said[61]


def test_a_checkpoint_of_a_version_that_forgave_nothing_is_read() -> None:
    """What it wrote lacks the stretches; the tests that it ran go on."""
    scenario = Scenario(rate=10, baseline_s=BASELINE_S)
    judge = detector(scenario, Traffic(scenario, 1))
    state = judge.state()
    for stream in state["streams"]:
        if stream.get("stretch_law"):
            stream["minute_law"] = stream["stretch_law"]["law"]  # type: ignore[index]
        for key in ("stretch_s", "stretch", "slow_stretches", "stretch_law", "stretch_labels", "limit", "below"):
            stream.pop(key, None)  # type: ignore[misc]
    restored = Detector.from_state(state, Policy())
    restored.add(Traffic(scenario, 2).second(30))
    assert restored.decide(DEPLOYED_AT + 31).verdict is Verdict.INCONCLUSIVE


def test_a_forecast_says_that_slow_answers_must_last() -> None:
    """The stretches are those of the watch that is planned."""
    rows = tuple(Traffic(Scenario(rate=5, baseline_s=600), 1).baseline())
    for watch_s, length in ((900.0, 20), (60.0, 10)):
        policy = Policy(criteria=Criteria(watch_s=watch_s))
        found = make_forecast(Today(DEPLOYED_AT, 5.0, rows, 600.0), policy)
        assert f"what 2 stretches of {length} s show is forgiven" in format_text(
            "production", found, GuardPolicy(), width=1000
        )
        slow = found.outlooks[0].detections[-1]
        assert slow.after_s is not None
        assert slow.after_s > 3 * length


@pytest.mark.parametrize("rate", [5, 50])
@pytest.mark.parametrize("factor", [2, 3, 4, 5, 6, 8, 9, 12, 40])
def test_what_stays_slow_is_found_however_slow_it_is(factor: int, rate: float) -> None:
    """Between twice and forty times as slow: all answers above every usual time are no outage that may pass."""
    scenario = Scenario(rate=rate, baseline_s=BASELINE_S, watch_s=400, bad=always(latency_factor=factor))
    outcome = watch(scenario, 5)
    assert outcome.decision.verdict is Verdict.REGRESSED
    assert outcome.decision.cause is Cause.LATENCY
    assert outcome.regressed_s is not None
    assert outcome.regressed_s <= 80
