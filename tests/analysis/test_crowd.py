"""Slower answers while far more people come: that a crowd alone makes answers slower is no regression."""

from __future__ import annotations

import pytest

from backout.analysis.detector.decision import Detector
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, RouteCounts, find_bucket
from backout.model.guard.verdict import Verdict

from answers_sim import AT, NEW, OLD

QUICK, SLOW = find_bucket(20), find_bucket(60)


def second(version: str, at: int, requests: int, slow: int) -> Counts:
    latency = {QUICK: requests - slow, SLOW: slow}
    return Counts(version, at, requests, 0, 0, latency, {"GET /": RouteCounts(requests, 0, latency)})


@pytest.mark.parametrize(("times", "rolled_back"), [(1.0, True), (1.3, True), (2.0, False)])
def test_slower_answers_in_a_crowd(times: float, rolled_back: bool) -> None:
    """A third of the answers take three times as long: a regression, unless twice as many people come."""
    requests = round(20 * times)
    before = [second(OLD, AT - 900 + t, 20, t % 2) for t in range(900)]
    detector = Detector(version=NEW, old=OLD, deployed_at=AT, split=1.0, baseline=before, policy=Policy())
    verdicts = []
    for t in range(240):
        detector.add([second(NEW, AT + t, requests, requests // 3 + t % 2)])
        detector.note_until(AT + t + 1)
        verdicts.append(detector.decide(AT + t + 1))
    assert any(each.verdict is Verdict.REGRESSED for each in verdicts) is rolled_back
    assert verdicts[-1].verdict is not Verdict.HEALTHY
    if not rolled_back:
        assert "2.0 times as many requests come as before" in verdicts[-1].reason


def test_as_many_people_as_ever_are_no_crowd_after_a_rollback() -> None:
    """In between, another version was live for a while, twice: as many come as when the old one answered them all."""
    live = (*range(-150, -110), *range(-75, -50), *range(-20, 0))
    before = [second(OLD, AT + t, 20, t % 2) for t in live]
    detector = Detector(version=NEW, old=OLD, deployed_at=AT, split=1.0, baseline=before, policy=Policy())
    decision = detector.decide(AT)
    for t in range(300):
        detector.add([second(NEW, AT + t, 20, 20 // 3 + t % 2)])
        detector.note_until(AT + t + 1)
        decision = detector.decide(AT + t + 1)
        if decision.verdict is Verdict.REGRESSED:
            break
    assert decision.verdict is Verdict.REGRESSED, decision.reason
