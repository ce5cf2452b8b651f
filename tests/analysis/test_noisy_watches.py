"""Healthy watches that are noisy: a baseline that lay low, and failures that have one cause."""

from __future__ import annotations

from backout.analysis.detector.decision import Detector
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts
from backout.model.guard.verdict import Verdict

AT = 1_760_000_000


def judged(before: list[Counts], after: list[Counts], *, split: float = 1.0) -> set[Verdict]:
    """Return every verdict of a watch that is looked at each second for fifteen minutes, of a cut-over or a split."""
    judge = Detector(version="v2", old="v1", deployed_at=AT, split=split, baseline=before, policy=Policy(), watch_s=900)
    found = set()
    for row in after:
        judge.add([row])
        found.add(judge.decide(row.second + 1).verdict)
    return found


def rows(version: str, seconds: range, every: int, rate: int = 50) -> list[Counts]:
    """Return rows of a steady traffic of which one request fails every so many seconds."""
    return [Counts(version, AT + t, rate, int(t % every == 0), latency={100: rate}) for t in seconds]


def test_ten_minutes_that_lay_low_roll_nothing_back() -> None:
    """0.29 % of requests failed in the ten minutes before, 0.67 % do afterwards: as minutes may scatter."""
    found = judged(rows("v1", range(-600, 0), 7), rows("v2", range(900), 3))
    assert Verdict.REGRESSED not in found


def test_ten_times_as_many_failures_are_found_as_before() -> None:
    """0.29 % before, 4 % afterwards."""
    after = [Counts("v2", AT + t, 50, 2, latency={100: 50}) for t in range(60)]
    assert Verdict.REGRESSED in judged(rows("v1", range(-600, 0), 7), after)


def test_one_cause_that_fails_four_times_at_once_rolls_nothing_back() -> None:
    """A request in five seconds; the first one fails, is repeated three times within its second, and fails again."""
    before = [Counts("v1", AT - t, 1, 0, latency={100: 1}) for t in range(120, 0, -5)]
    after = [Counts("v2", AT + 3, 4, 4, latency={100: 4})]
    after += [Counts("v2", AT + t, 1, 0, latency={100: 1}) for t in range(8, 900, 5)]
    assert Verdict.REGRESSED not in judged(before, after)


def judged_beside(failing: set[int]) -> set[Verdict]:
    """Return every verdict of half of the traffic, where each version is asked every ten seconds.

    Args:
        failing: seconds in which the new version's request fails.
    """
    before = [Counts("v1", AT - t, 1, 0, latency={100: 1}) for t in range(3600, 0, -5)]
    after = [Counts("v2", AT + t, 1, int(t in failing), latency={100: 1}) for t in range(0, 900, 10)]
    after += [Counts("v1", AT + t, 1, 0, latency={100: 1}) for t in range(5, 900, 10)]
    return judged(before, sorted(after, key=lambda row: row.second), split=0.5)


def test_few_failures_that_chance_gave_to_the_new_version_roll_nothing_back() -> None:
    """Two minutes of an outage that both share: six requests failed, and all six were the new version's (1 in 64)."""
    assert Verdict.REGRESSED not in judged_beside({200, 220, 240, 260, 290, 310})


def test_a_few_more_are_found() -> None:
    """A version that fails with half of its few requests."""
    assert Verdict.REGRESSED in judged_beside(set(range(200, 400, 20)))
