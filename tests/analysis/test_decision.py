"""The detector on simulated traffic: what it finds, how fast, what it leaves alone; a crash changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace as altered
from statistics import median
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import replace

from backout.analysis.detector.decision import Detector
from backout.model.guard.policy import Criteria, GuardPolicy, Policy
from backout.model.guard.signals import Counts
from backout.model.guard.verdict import Cause, Verdict

from extent import by_extent, examples, long
from traffic_sim import DEPLOYED_AT, NEW, OLD, Behaviour, Outcome, Scenario, Traffic, always, detector, outage, watch

if TYPE_CHECKING:
    from conftest import Record

SPLITS = (1.0, 0.5, 0.1)


def runs(scenario: Scenario, number: int) -> list[Outcome]:
    return [watch(scenario, seed) for seed in range(number)]


def delay_s(outcomes: list[Outcome]) -> float:
    """Return the median delay, a run without a verdict counting as the whole watch."""
    return median(10_000 if o.regressed_s is None else o.regressed_s for o in outcomes)


@pytest.mark.parametrize(
    ("scenario", "within_s"),
    [
        (Scenario(bad=always(error_rate=1.0)), 5),
        (Scenario(bad=always(error_rate=1.0), split=0.5), 5),
        (Scenario(bad=always(error_rate=1.0), rate=0.2), 21),
        (Scenario(bad=always(error_rate=1.0), rate=0.2, split=0.1), 200),
        (Scenario(bad=always(error_rate=1.0), baseline_s=0), 5),
        (Scenario(bad=always(error_rate=0.2)), 10),
        (Scenario(bad=always(error_rate=0.05)), 30),
        (Scenario(bad=always(error_rate=0.05), split=0.5), 110),
        (Scenario(bad=always(error_rate=0.01)), 300),
        (Scenario(bad=always(error_rate=0.05), split=0.5, baseline_s=300), 200),
        (Scenario(bad=always(latency_factor=2.0)), 68),
        (Scenario(bad=always(latency_factor=1.5)), 80),
        (Scenario(bad=always(latency_factor=1.5), split=0.1), 190),
        (Scenario(bad=always(latency_factor=1.5), split=0.5, baseline_s=0), 240),
        (Scenario(bad=always(tail_factor=3.0)), 260),
        (Scenario(bad=lambda t, b: altered(b, error_rate=b.error_rate + 0.05 * min(1, t / 600))), 330),
        (Scenario(bad=lambda t, b: altered(b, latency_factor=1 + min(1, t / 600))), 260),
    ],
    ids=lambda value: "" if isinstance(value, Scenario) else f"{value}s",
)
def test_a_bad_version_is_found_in_time(scenario: Scenario, within_s: float) -> None:
    """The median delay of seeded runs stays within the figure of the reference detector (or its order, where new).

    Latency is found a minute later than by a detector that forgives no cold start.
    """
    assert delay_s(runs(scenario, by_extent(3, 5, proof=9))) <= within_s


HEALTHY = {
    "quiet": Scenario(),
    "no errors": Scenario(usual=Behaviour(error_rate=0.0)),
    "clustered": Scenario(usual=Behaviour(error_rate=0.005), clustered=True),
    "improved": Scenario(bad=always(latency_factor=0.6)),
}
"""What must be left alone in every mode."""
HEALTHY_BESIDE = HEALTHY | {"shared outage": Scenario(both=outage())}
"""Beside an old version a shared outage too; in a cut-over nothing tells it from a bad version."""


@pytest.mark.proof
@pytest.mark.parametrize("baseline_s", [3600, long(600), 0])
@pytest.mark.parametrize(
    ("split", "name"), [*((1.0, name) for name in HEALTHY), *((s, name) for s in (0.5, 0.1) for name in HEALTHY_BESIDE)]
)
def test_a_healthy_version_is_left_alone(
    split: float, name: str, baseline_s: int, proof_runs: int, proof: Record
) -> None:
    """No more false rollbacks than alpha allows, looking once a second for 15 minutes."""
    number = max(by_extent(1, 1, proof=3), proof_runs // 20)
    outcomes = runs(altered(HEALTHY_BESIDE[name], split=split, baseline_s=baseline_s), number)
    fired = sum(outcome.regressed_s is not None for outcome in outcomes)
    proof(
        f"guard leaves a healthy deployment alone, looked at every second for 15 minutes ({name})",
        trials=number,
        failures=fired,
        allowed=Policy().guard.alpha,
        note="tests/analysis/test_decision.py, simulated; new version at 10, 50, 100 %; baseline of 60, 10, 0 minutes",
    )
    assert fired <= (0 if number < 20 else 1)  # of 100 runs two false ones have probability 0.5 % at alpha 1e-3


def test_one_error_after_an_error_free_hour_is_no_incident() -> None:
    """A million clean requests before, then one error among a thousand: no rollback, at any moment."""
    baseline = [Counts(OLD, DEPLOYED_AT - t, 300, 0) for t in range(1, 3601)]
    judge = Detector(version=NEW, old=OLD, deployed_at=DEPLOYED_AT, split=1.0, baseline=baseline, policy=Policy())
    judge.add([Counts(NEW, DEPLOYED_AT, 1, 1)])
    assert judge.decide(DEPLOYED_AT + 1).verdict is Verdict.INCONCLUSIVE
    for t in range(1, 10):
        judge.add([Counts(NEW, DEPLOYED_AT + t, 100, 0)])
        assert judge.decide(DEPLOYED_AT + t + 1).verdict is not Verdict.REGRESSED


def test_a_deployment_within_a_second_is_judged_from_its_first_request_on() -> None:
    """Deployments come at fractions of a second, counts by whole ones; without a warm-up nothing is left out."""
    baseline = [Counts(OLD, DEPLOYED_AT - t, 50, 0, latency={100: 50}) for t in range(1, 900)]
    at = DEPLOYED_AT + 0.25
    judge = Detector(version=NEW, old=OLD, deployed_at=at, split=1.0, baseline=baseline, policy=Policy())
    judge.add([Counts(NEW, DEPLOYED_AT, 50, 50, latency={100: 50})])
    assert judge.decide(at + 1).verdict is Verdict.REGRESSED


def test_evidence_on_two_bad_requests_waits_for_the_third() -> None:
    """Whatever the odds say, fewer than `min_bad` bad requests carry no rollback."""
    policy = Policy(guard=GuardPolicy(alpha=0.2, min_bad=3))
    baseline = [Counts(OLD, DEPLOYED_AT - t, 300, 0) for t in range(1, 3601)]
    judge = Detector(version=NEW, old=OLD, deployed_at=DEPLOYED_AT, split=1.0, baseline=baseline, policy=policy)
    judge.add([Counts(NEW, DEPLOYED_AT, 2, 2)])
    decision = judge.decide(DEPLOYED_AT + 1)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "1 more must be seen" in decision.reason
    judge.add([Counts(NEW, DEPLOYED_AT + 1, 1, 1)])
    assert judge.decide(DEPLOYED_AT + 2).verdict is Verdict.REGRESSED


def test_the_reason_gives_the_numbers() -> None:
    """One sentence: how many of how many, against what before, and the odds."""
    found = watch(Scenario(bad=always(error_rate=0.2)), 1).decision
    assert found.verdict is Verdict.REGRESSED
    assert found.cause is Cause.ERRORS
    assert f"{found.errors} of {found.requests} requests failed against 0." in found.reason
    assert found.reason.endswith(":1 against healthy")
    assert found.first_bad_at is not None
    assert {e.stream for e in found.evidence} >= {"errors", "errors vs SLO"}


def test_without_a_baseline_the_slo_is_the_null_and_says_so() -> None:
    """No request before the deployment: 1 % is what counts as healthy."""
    found = watch(Scenario(bad=always(error_rate=0.2), baseline_s=0), 1).decision
    assert found.verdict is Verdict.REGRESSED
    assert "against 1 % by the SLO (there is no baseline)" in found.reason


def test_healthy_needs_evidence_and_says_how_much_is_missing() -> None:
    """First "about N more requests would tell", then healthy once 1 % is excluded; never before about 460 requests."""
    scenario = Scenario(usual=Behaviour(error_rate=0.0))
    traffic = Traffic(scenario, 3)
    judge = detector(scenario, traffic)
    for t in range(22):
        judge.add(traffic.second(t))
    early = judge.decide(DEPLOYED_AT + 22)
    assert early.verdict is Verdict.INCONCLUSIVE
    assert "more requests would tell" in early.reason
    late = watch(scenario, 3)
    assert late.healthy_s is not None
    assert 90 <= late.healthy_s <= 400
    assert late.decision.verdict is Verdict.HEALTHY


def test_nothing_seen_is_unmeasured() -> None:
    """No request and no probe: neither good nor bad."""
    judge = Detector(version=NEW, old=None, deployed_at=DEPLOYED_AT, split=1.0, baseline=(), policy=Policy())
    judge.add([Counts("another", DEPLOYED_AT, 50, 50), Counts(NEW, DEPLOYED_AT - 5, 50, 50)])
    assert judge.decide(DEPLOYED_AT + 60).verdict is Verdict.UNMEASURED


def test_a_total_outage_right_after_a_version_that_failed_often_is_found() -> None:
    """Four seconds of a version that failed with a third of its requests are a thin baseline; all of them is worse."""
    baseline = [Counts(OLD, DEPLOYED_AT - t, 150, 52) for t in range(1, 5)]

    def judged(errors: int) -> Verdict:
        judge = Detector(version=NEW, old=OLD, deployed_at=DEPLOYED_AT, split=1.0, baseline=baseline, policy=Policy())
        for t in range(20):
            judge.add([Counts(NEW, DEPLOYED_AT + t, 150, errors)])
            if judge.decide(DEPLOYED_AT + t + 1).verdict is Verdict.REGRESSED:
                return Verdict.REGRESSED
        return Verdict.INCONCLUSIVE

    assert judged(150) is Verdict.REGRESSED
    assert judged(52) is Verdict.INCONCLUSIVE


def test_a_blip_shorter_than_the_confirm_time_is_forgiven_and_a_longer_one_is_not() -> None:
    """With `confirm_s` the evidence must hold; a 3-second blip in busy traffic does not outlive it."""
    policy = Policy(guard=GuardPolicy(confirm_s=60))
    blip = Scenario(rate=20, bad=lambda t, b: altered(b, error_rate=0.3 if t < 3 else b.error_rate), watch_s=120)
    real = Scenario(rate=20, bad=always(error_rate=0.3), watch_s=120)
    assert watch(blip, 5).regressed_s is not None
    assert watch(real, 5, policy).regressed_s in range(60, 70)
    assert watch(altered(blip, watch_s=600), 5, policy).regressed_s is None


def test_slow_first_requests_within_the_warm_up_are_not_judged() -> None:
    """A cold start of 90 s at three times the latency passes with a warm-up, a total outage does not."""
    cold = Scenario(bad=lambda t, b: altered(b, latency_factor=3.0 if t < 90 else 1.0), watch_s=300)
    assert watch(cold, 2).regressed_s is not None
    assert watch(cold, 2, Policy(guard=GuardPolicy(warm_up_s=60))).regressed_s is None
    broken = Scenario(bad=always(error_rate=1.0), watch_s=30)
    assert watch(broken, 2, Policy(guard=GuardPolicy(warm_up_s=30))).regressed_s is not None


@pytest.mark.parametrize(("share", "within_s"), [(0.1, 300), (0.15, 90), (0.3, 5)])
def test_a_limit_is_held_against_failures_as_they_are_counted(share: float, within_s: float) -> None:
    """Where many requests fail in the same second the SLO is what it says, whatever repetition is granted elsewhere."""
    policy = Policy(criteria=Criteria(error_rate_below=0.05))
    found = watch(Scenario(rate=143, baseline_s=0, bad=always(error_rate=share)), 3, policy).regressed_s
    assert found is not None
    assert found <= within_s


@pytest.mark.parametrize("baseline_s", [300, 0])
def test_a_split_that_comes_into_force_late_is_no_evidence(baseline_s: int) -> None:
    """The new version gets nothing for two seconds: both fail with 1 %, and none of them is rolled back."""
    scenario = Scenario(rate=100, split=0.5, usual=Behaviour(error_rate=0.01), baseline_s=baseline_s, watch_s=60)
    for seed in range(by_extent(5, 8, proof=20)):
        traffic = Traffic(scenario, seed)
        judge = detector(scenario, traffic)
        for t in range(60):
            rows = traffic.second(t)
            judge.add([replace(row, version=OLD) for row in rows] if t < 2 else rows)
            assert judge.judge(DEPLOYED_AT + t + 1)[0] is not Verdict.REGRESSED


def test_a_confirmation_goes_on_after_the_warm_up() -> None:
    """An outage that began in the warm-up is confirmed by what comes after it."""
    policy = Policy(guard=GuardPolicy(warm_up_s=30, confirm_s=60))
    found = watch(Scenario(rate=20, bad=always(error_rate=1.0), watch_s=300), 1, policy).regressed_s
    assert found is not None
    assert found <= 150


def test_one_failure_in_a_thin_past_leaves_the_slo_in_force() -> None:
    """1 of 60 requests is no proof that the SLO was broken before: 5 % are found as without that failure."""
    before = [Counts(OLD, DEPLOYED_AT - t, 5, int(t == 6)) for t in range(1, 13)]
    scenario = Scenario(rate=5, baseline_s=0, bad=always(error_rate=0.05))
    for seed in range(4):
        traffic = Traffic(scenario, seed)
        judge = Detector(version=NEW, old=OLD, deployed_at=DEPLOYED_AT, split=1.0, baseline=before, policy=Policy())
        looks = ((t, judge.add(traffic.second(t)), judge.judge(DEPLOYED_AT + t + 1)[0]) for t in range(600))
        assert any(verdict is Verdict.REGRESSED for _, _, verdict in looks)


@pytest.mark.parametrize(
    ("split", "warm_up_s", "watch_s"), [(1.0, 0, 900), (0.5, 0, 900), (0.5, 900, 900), (1.0, 60, 900), (0.5, 900, 120)]
)
def test_the_weights_sum_to_one(split: float, warm_up_s: float, watch_s: float) -> None:
    """Whatever is judged, nothing of the evidence is given away; a warm-up as long as this watch leaves latency out."""
    policy = Policy(guard=GuardPolicy(warm_up_s=warm_up_s))
    scenario = Scenario(split=split)
    judge = Detector(
        version=NEW,
        old=OLD,
        deployed_at=DEPLOYED_AT,
        split=split,
        baseline=Traffic(scenario, 1).baseline(),
        policy=policy,
        watch_s=watch_s,
    )
    assert sum(stream.weight for stream in judge._counted.streams) == pytest.approx(1)
    assert any(stream.cause is Cause.LATENCY for stream in judge._counted.streams) == (warm_up_s < watch_s)


@pytest.mark.parametrize("split", [long(0.1), 0.5, long(1.0)])
def test_a_warm_up_grants_some_errors_and_no_more(split: float) -> None:
    """5 % in the first 20 s pass once a minute is declared as warm-up; a tenth more than granted, or later, do not."""
    policy = Policy(guard=GuardPolicy(warm_up_s=60))
    cold = Scenario(rate=50, split=split, bad=lambda t, b: altered(b, error_rate=0.05 if t < 20 else b.error_rate))
    assert watch(cold, 2).regressed_s is not None
    for seed in range(by_extent(1, 2, proof=5)):
        assert watch(altered(cold, watch_s=200), seed, policy).regressed_s is None
    sick = watch(altered(cold, bad=always(error_rate=0.3)), 2, policy)
    assert sick.regressed_s is not None
    assert sick.regressed_s < 60
    assert "errors in the warm-up" in {each.stream for each in sick.decision.evidence if each.log_evidence > 6}
    late = watch(altered(cold, bad=always(error_rate=0.05)), 2, policy)
    assert late.regressed_s in range(61, 180)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_no_worse_than_a_sick_version_is_not_healthy(share: float) -> None:
    """What failed more than the SLO allows, before and after, is not the deployment's fault, and not healthy."""
    sick = Scenario(rate=20, usual=Behaviour(error_rate=share), bad=always(error_rate=share * 0.7), watch_s=300)
    outcome = watch(sick, 4)
    assert outcome.regressed_s is None
    assert outcome.healthy_s is None
    assert "more than the 1 % that the SLO allows" in outcome.decision.reason
    mended = watch(altered(sick, bad=always(error_rate=0.0)), 4)
    assert mended.healthy_s is not None


@pytest.mark.parametrize("split", [1.0, 0.5])
def test_a_warm_up_that_outlasts_the_watch_leaves_response_times_out(split: float) -> None:
    """They are neither a reason nor missing for "healthy", and it is said that they were not compared."""
    slow = Scenario(rate=20, split=split, bad=always(latency_factor=3.0), watch_s=300)
    outcome = watch(slow, 2, Policy(guard=GuardPolicy(warm_up_s=3600)))
    assert outcome.regressed_s is None
    assert outcome.healthy_s is not None
    assert "response times could not be compared" in outcome.decision.reason


@examples(12)
@given(
    seed=st.integers(0, 10_000),
    split=st.sampled_from(SPLITS),
    baseline_s=st.sampled_from([0, 200, 1000]),
    cuts=st.sets(st.integers(1, 119), max_size=6),
    bad=st.sampled_from([None, always(error_rate=0.1), always(latency_factor=1.4)]),
)
def test_a_restored_detector_decides_the_same(
    seed: int, split: float, baseline_s: int, cuts: set[int], bad: object
) -> None:
    """A crash at any second: JSON of the state, a new process, the same decision at every later second."""
    scenario = Scenario(split=split, baseline_s=baseline_s, bad=bad, rate=10, watch_s=120)  # type: ignore[arg-type]
    traffic = Traffic(scenario, seed)
    kept = detector(scenario, traffic)
    restored = Detector.from_state(json.loads(json.dumps(kept.state())), Policy())
    for t in range(120):
        rows = traffic.second(t)
        kept.add(rows)
        if t in cuts:
            restored = Detector.from_state(json.loads(json.dumps(restored.state())), Policy())
        restored.add(rows)
        assert restored.decide(DEPLOYED_AT + t + 1) == kept.decide(DEPLOYED_AT + t + 1)


@examples(10)
@given(seed=st.integers(0, 10_000), split=st.sampled_from(SPLITS), page_s=st.integers(2, 90))
def test_pages_of_any_size_and_order_give_the_same_evidence(seed: int, split: float, page_s: int) -> None:
    """Rows one second at a time, or shuffled in pages: the same evidence at the end."""
    scenario = Scenario(split=split, baseline_s=1200, rate=8)
    traffic = Traffic(scenario, seed)
    single = detector(scenario, traffic)
    paged = Detector.from_state(json.loads(json.dumps(single.state())), Policy())
    page: list[Counts] = []
    for t in range(page_s * 4):
        rows = traffic.second(t)
        single.add(rows)
        page.extend(rows)
        if t % page_s == page_s - 1:
            paged.add(sorted(page, key=lambda row: (row.version, -row.second)))
            page = []
    assert paged.log_evidence() == pytest.approx(single.log_evidence(), rel=1e-9, abs=1e-9)


@given(
    before=st.lists(st.tuples(st.integers(1, 200), st.floats(0, 1)), max_size=8),
    after=st.lists(st.tuples(st.integers(0, 200), st.floats(0, 1)), min_size=1, max_size=6),
)
def test_any_past_and_any_present_can_be_judged(
    before: list[tuple[int, float]], after: list[tuple[int, float]]
) -> None:
    """An old version that failed with every second request, or with every one, is a past like any other."""

    def rows(version: str, start: int, seconds: list[tuple[int, float]]) -> list[Counts]:
        return [
            Counts(version, start + index, requests, round(requests * share), latency={90: requests})
            for index, (requests, share) in enumerate(seconds)
        ]

    detector = Detector(
        version="new", old="old", deployed_at=1000.0, split=1.0, baseline=rows("old", 980, before), policy=Policy()
    )
    for row in rows("new", 1000, after):
        detector.add([row])
        assert detector.decide(row.second + 1.0).verdict in Verdict
