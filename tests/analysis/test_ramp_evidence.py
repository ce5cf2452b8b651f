"""Evidence carried across the steps of a ramp: exact for labels, kept through a restart, no slower than anew."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace as altered

import pytest

from backout.analysis.detector.decision import Detector
from backout.analysis.statistics.rates import LabelTest
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts
from backout.model.guard.verdict import Verdict

from extent import by_extent
from traffic_sim import DEPLOYED_AT, Scenario, Traffic, always, detector, outage

RAMP = ((0, 0.1), (120, 0.5), (240, 1.0))
"""(second after the deployment, share)."""


def share_at(second: int) -> float:
    return next(share for begin, share in reversed(RAMP) if second >= begin)


def ramped(scenario: Scenario, seed: int) -> tuple[Detector, Traffic, dict[float, Traffic]]:
    """Return the detector of a ramp and the traffic of each of its shares."""
    first = Traffic(scenario, seed)
    judge = detector(scenario, first)
    for second, share in RAMP[1:]:
        judge.set_split(DEPLOYED_AT + second, share)
    parts = {share: Traffic(altered(scenario, split=share), seed + 1000) for _, share in RAMP}
    return judge, first, parts


def regressed_s(scenario: Scenario, seed: int, until_s: int = 900) -> int | None:
    judge, _, parts = ramped(scenario, seed)
    for t in range(until_s):
        judge.add(parts[share_at(t)].second(t))
        if judge.judge(DEPLOYED_AT + t + 1)[0] is Verdict.REGRESSED:
            return t + 1
    return None


def test_the_label_test_is_exact_across_steps() -> None:
    """Whatever the outcomes, the evidence averaged over all labels with the shares of their time is 1."""
    shares, outcomes = (0.1, 0.1, 0.5, 0.5, 0.9), (1, 0, 1, 1, 0)
    mean = 0.0
    for labels in itertools.product((True, False), repeat=len(shares)):
        test = LabelTest(0.01, shares[0])
        chance = 1.0
        for share, is_bad, is_new in zip(shares, outcomes, labels, strict=True):
            test.set_share(share)
            pair = (is_bad, 1 - is_bad)
            test.add(0, pair if is_new else (0, 0), (0, 0) if is_new else pair)
            chance *= share if is_new else 1 - share
        mean += chance * math.exp(test.log_e())
    assert mean == pytest.approx(1.0)


def test_a_step_to_the_same_share_changes_nothing() -> None:
    """Evidence is neither lost nor made by the step itself."""
    scenario = Scenario(rate=20, split=0.5, bad=always(error_rate=0.02))
    plain, stepped = (detector(scenario, Traffic(scenario, 3)) for _ in range(2))
    traffic = Traffic(scenario, 4)
    stepped.set_split(DEPLOYED_AT + 60, 0.5)
    for t in range(120):
        rows = traffic.second(t)
        plain.add(rows)
        stepped.add(rows)
    assert stepped.log_evidence() == pytest.approx(plain.log_evidence(), abs=1e-9)


def test_what_the_first_step_saw_counts_in_the_next() -> None:
    """Trouble that 10 % of the traffic made likely is sure soon after the step; who starts anew begins at nothing."""
    scenario = Scenario(rate=20, split=0.1, bad=always(error_rate=0.02))
    carried, fresh = [], []
    for seed in range(by_extent(4, 8)):
        judge, _, parts = ramped(scenario, seed)
        for t in range(150):
            judge.add(parts[share_at(t)].second(t))
        carried.append(judge.log_evidence())
        late = altered(scenario, split=0.5)
        anew = detector(late, Traffic(late, seed))
        later = Traffic(late, seed + 1000)
        for t in range(30):
            anew.add(later.second(t))
        fresh.append(anew.log_evidence())
    assert sum(carried) > sum(fresh)


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_version_is_found_within_the_ramp(seed: int) -> None:
    """Errors of 5 % at 20 requests/s never reach the last step."""
    found = regressed_s(Scenario(rate=20, split=0.1, bad=always(error_rate=0.05)), seed)
    assert found is not None
    assert found < RAMP[-1][0]


@pytest.mark.parametrize("seed", range(3))
def test_at_the_last_step_it_is_as_quick_as_a_cut_over(seed: int) -> None:
    """A version that breaks at 100 % (the cache is cold, the pool too small): nothing beside it, found in seconds."""

    def breaks(t: int, usual: object) -> object:
        return altered(usual, error_rate=0.5) if t >= 300 else usual  # type: ignore[type-var]

    found = regressed_s(Scenario(rate=20, split=0.1, bad=breaks), seed)  # type: ignore[arg-type]
    assert found is not None
    assert 300 < found <= 310


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(rate=20, split=0.1),
        Scenario(rate=20, split=0.1, clustered=True),
        Scenario(rate=20, split=0.1, both=outage(60, 180)),
        Scenario(rate=20, split=0.1, baseline_s=300),
    ],
    ids=["quiet", "clustered", "shared outage across a step", "short baseline"],
)
def test_a_healthy_version_is_left_alone_across_the_steps(scenario: Scenario) -> None:
    """No step is taken for a regression."""
    assert {regressed_s(scenario, seed, 600) for seed in range(by_extent(1, 3))} == {None}


@pytest.mark.parametrize("restart_s", [30, 119, 120, 200, 239, 260])
def test_a_restored_detector_knows_the_steps_to_come(restart_s: int) -> None:
    """A checkpoint anywhere on the ramp goes on with the same evidence and the same shares."""
    scenario = Scenario(rate=20, split=0.1, bad=always(error_rate=0.004))
    judge, _, parts = ramped(scenario, 5)
    other, _, _ = ramped(scenario, 5)
    for t in range(300):
        if t == restart_s:
            other = Detector.from_state(json.loads(json.dumps(other.state())), Policy())
        rows = parts[share_at(t)].second(t)
        judge.add(rows)
        other.add(rows)
    assert other.log_evidence() == pytest.approx(judge.log_evidence(), abs=1e-9)
    assert other.judge(DEPLOYED_AT + 300) == judge.judge(DEPLOYED_AT + 300)


def test_stragglers_of_the_old_version_after_the_last_step_are_passed_over() -> None:
    """What the old version still answers when it has no share any more says nothing about the new one."""
    scenario = Scenario(rate=20, split=0.1)
    judge, _, parts = ramped(scenario, 1)
    for t in range(300):
        judge.add(parts[share_at(t)].second(t))
    before = judge.log_evidence()
    judge.add([Counts("v1", DEPLOYED_AT + 299, 50, 50)])
    assert judge.log_evidence() == pytest.approx(before)
