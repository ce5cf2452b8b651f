"""Failures of seconds that are over by themselves: told from those that go on, and from those that come back."""

from __future__ import annotations

import pytest

from backout.analysis.detector.decision import Detector
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts
from backout.model.guard.verdict import Verdict

AT = 1_760_000_000
LENGTH_S = 120


def judged(failing: dict[int, int], rate: int = 50, usual: int = 0) -> list[Verdict]:
    """Return the verdict of each second of a cut-over, as a watch takes it.

    Args:
        failing: failures by second.
        usual: of each tenth second of the baseline and of the watch.
    """
    before = [Counts("v1", AT + t, rate, usual * (t % 10 == 0), latency={100: rate}) for t in range(-600, 0)]
    judge = Detector(
        version="v2", old="v1", deployed_at=AT, split=1.0, baseline=before, policy=Policy(), watch_s=LENGTH_S
    )
    found = []
    for t in range(LENGTH_S):
        failed = failing.get(t, usual * (t % 10 == 0))
        judge.add([Counts("v2", AT + t, rate, failed, latency={100: rate})])
        found.append(judge.put_off(judge.decide(AT + t + 1)).verdict)
    return found


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("usual", [0, 1])
def test_two_seconds_that_heal_are_no_regression(share: float, usual: int) -> None:
    """Whatever their share, and where a request fails now and then anyway."""
    found = judged(dict.fromkeys((8, 9), int(50 * share)), usual=usual)
    assert Verdict.REGRESSED not in found
    assert Verdict.HEALTHY not in found[8:]


def test_failures_that_go_on_are_one_after_four_seconds() -> None:
    """In the fourth second they are no blip any more."""
    found = judged(dict.fromkeys(range(8, LENGTH_S), 25))
    assert found.index(Verdict.REGRESSED) == 11


def test_what_took_longer_to_be_sure_of_is_not_put_off() -> None:
    """Two of a hundred requests fail: the evidence is enough later than four seconds, and then at once."""
    failing = dict.fromkeys(range(8, LENGTH_S, 2), 1)
    before = [Counts("v1", AT + t, 50, 0, latency={100: 50}) for t in range(-600, 0)]
    judge = Detector(version="v2", old="v1", deployed_at=AT, split=1.0, baseline=before, policy=Policy())
    for t in range(LENGTH_S):
        judge.add([Counts("v2", AT + t, 50, failing.get(t, 0), latency={100: 50})])
        decision = judge.decide(AT + t + 1)
        assert judge.put_off(decision) == decision
    assert decision.verdict is Verdict.REGRESSED


def test_what_comes_back_is_one() -> None:
    """One blip is forgiven, not two."""
    found = judged(dict.fromkeys((8, 9, 60, 61), 25))
    assert Verdict.REGRESSED not in found[:60]
    assert Verdict.REGRESSED in found[60:]


def test_in_the_last_seconds_of_a_watch_nothing_is_waited_for() -> None:
    """Failures that began two seconds before the end: there is no later."""
    assert judged(dict.fromkeys((118, 119), 25))[-1] is Verdict.REGRESSED


def test_it_is_not_over_because_nobody_asks_any_more() -> None:
    """Four failures in two seconds, and then no request."""
    before = [Counts("v1", AT + t, 1, 0, latency={100: 1}) for t in range(-3600, 0, 5)]
    judge = Detector(version="v2", old="v1", deployed_at=AT, split=1.0, baseline=before, policy=Policy())
    judge.add([Counts("v2", AT + t, 2, 2, latency={100: 2}) for t in (0, 1)])
    waits = judge.put_off(judge.decide(AT + 2))
    assert waits.verdict is Verdict.INCONCLUSIVE
    assert "2 s more will tell" in waits.reason
    assert judge.put_off(judge.decide(AT + 6)).verdict is Verdict.REGRESSED


def test_a_bunch_that_heals_does_not_hide_failures_that_follow_one_by_one() -> None:
    """Three at once, and from the next minute on one request in a hundred."""
    found = judged({5: 3, **dict.fromkeys(range(60, LENGTH_S, 2), 1)})
    assert Verdict.REGRESSED in found
