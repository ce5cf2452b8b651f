"""Failures of seconds that are over by themselves: told from those that go on, and from those that come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.analysis.detector.decision import Detector
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, RouteCounts
from backout.model.guard.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection

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


def test_failures_that_go_on_are_one_after_three_seconds() -> None:
    """In the third second they fill more time than a blip of two does."""
    found = judged(dict.fromkeys(range(8, LENGTH_S), 25))
    assert found.index(Verdict.REGRESSED) == 10


@pytest.mark.parametrize("rate", [5, 20])
def test_a_blip_of_few_requests_is_none(rate: int) -> None:
    """From the middle of a second to the middle of another: a fifth to all fail, and then none for a while."""
    whole = dict(zip((8, 9, 10), (rate // 2, rate, rate - rate // 2), strict=True))
    for share in (0.4, 1.0):
        found = judged({t: round(share * number) for t, number in whole.items()}, rate=rate)
        assert Verdict.REGRESSED not in found


def test_what_is_still_there_in_the_fourth_second_is_none() -> None:
    """A fifth of few requests: the seconds are too unlike to tell how much time they fill."""
    found = judged({t: 2 if t % 2 else 1 for t in range(8, LENGTH_S)}, rate=5)
    assert 10 <= found.index(Verdict.REGRESSED) <= 12


def test_a_source_of_few_rows_shows_in_the_next_one_whether_it_goes_on() -> None:
    """Rows of 15 seconds: two seconds of failures in one of them are over in the next, the others are a reason."""

    def judge_rows(failed: list[int]) -> list[Verdict]:
        before = [Counts("v1", AT + t, 750, 0) for t in range(-3600, 0, 15)]
        judge = Detector(version="v2", old="v1", deployed_at=AT, split=1.0, baseline=before, policy=Policy())
        found = []
        for t in range(15 * len(failed)):
            if t % 15 == 14:
                judge.add([Counts("v2", AT + t, 750, failed[t // 15])])
            judge.note_until(AT + t + 1)
            found.append(judge.put_off(judge.decide(AT + t + 1)).verdict)
        return found[14:]

    assert Verdict.REGRESSED not in judge_rows([0, 0, 0, 100, 0, 0])
    assert judge_rows([0, 0, 0, 400, 400, 400]).index(Verdict.REGRESSED) == 45
    assert judge_rows([0, 0, 0, 100, 100, 100]).index(Verdict.REGRESSED) == 60


def test_a_small_route_that_fails_after_a_blip_of_all_is_found() -> None:
    """One request in a hundred, and none of them works: too few to stand out among all of them."""
    names = {"GET /": 47, "GET /a": 2, "POST /pay": 1}

    def row(version: str, t: int, failing: dict[str, int]) -> Counts:
        routes = {name: RouteCounts(number, failing.get(name, 0), {100: number}) for name, number in names.items()}
        return Counts(version, AT + t, 50, sum(failing.values()), 0, {100: 50}, routes)

    before = [row("v1", t, {"GET /a": 1} if t % 4 == 0 else {}) for t in range(-1200, 0)]
    judge = Detector(version="v2", old="v1", deployed_at=AT, split=1.0, baseline=before, policy=Policy())
    blip = {"GET /": 23, "GET /a": 1}
    found = []
    for t in range(60):
        failing = blip if t in (8, 9) else {"POST /pay": 1} if t >= 30 else {"GET /a": 1} if t % 4 == 0 else {}
        judge.add([row("v2", t, failing)])
        found.append(judge.put_off(judge.decide(AT + t + 1)).verdict)
    assert Verdict.REGRESSED not in found[:30]
    assert Verdict.REGRESSED in found[30:45]


def test_a_blip_is_none_on_many_small_routes() -> None:
    """Twenty of them: of two each request of the three seconds fails that the blip touches."""
    names = [f"GET /{letter}" for letter in "abcdefghijklmnopqrst"]
    blip = {8: names[8:], 9: names, 10: names[:10]}

    def row(version: str, t: int, failing: Collection[str] = ()) -> Counts:
        routes = {name: RouteCounts(1, int(name in failing), {100: 1}) for name in names}
        return Counts(version, AT + t, 20, len(failing), 0, {100: 20}, routes)

    def watch(failing: dict[int, list[str]]) -> list[Verdict]:
        before = [row("v1", t) for t in range(-600, 0)]
        judge = Detector(version="v2", old="v1", deployed_at=AT, split=1.0, baseline=before, policy=Policy())
        found = []
        for t in range(40):
            judge.add([row("v2", t, failing.get(t, []))])
            found.append(judge.put_off(judge.decide(AT + t + 1)).verdict)
        return found

    assert Verdict.REGRESSED not in watch(blip)
    assert watch(dict.fromkeys(range(8, 40), names)).index(Verdict.REGRESSED) <= 11


@pytest.mark.parametrize("sooner", [3, 20])
@pytest.mark.parametrize("first", [1, 2, 10])
def test_a_lone_failure_makes_a_blip_no_older(sooner: int, first: int) -> None:
    """One request that failed by chance seconds ago, and then two seconds in which nearly all fail."""
    found = judged({40 - sooner: 1, 40: first, 41: 20, 42: 20 - first}, rate=20)
    assert Verdict.REGRESSED not in found


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
    judge.note_until(AT + 6)
    assert judge.put_off(judge.decide(AT + 6)).verdict is Verdict.REGRESSED


def test_a_bunch_that_heals_does_not_hide_failures_that_follow_one_by_one() -> None:
    """Three at once, and from the next minute on one request in a hundred."""
    found = judged({5: 3, **dict.fromkeys(range(60, LENGTH_S, 2), 1)})
    assert Verdict.REGRESSED in found
