"""Schedules and queues that fail since a deployment: held where they are declared, told where nothing declares them."""

from __future__ import annotations

import json

import pytest

from backout.analysis.detector.decision import Detector
from backout.analysis.shifts.triggers import TriggerRuns
from backout.model.guard.policy import Policy
from backout.model.guard.shift import Outcome, ShiftKind
from backout.model.guard.signals import Counts, TriggerCounts
from backout.model.guard.verdict import Cause, Verdict

from traffic_sim import DEPLOYED_AT, NEW, OLD, Scenario, Traffic, detector

CRON = "cron */10 * * * *"


def rows(*runs: tuple[int, int], name: str = CRON) -> list[Counts]:
    """Return a second of counts for each (runs, failed)."""
    return [Counts("v", second, 0, 0, triggers={name: TriggerCounts(*each)}) for second, each in enumerate(runs)]


def watched(
    before: list[tuple[int, int]], after: list[tuple[int, int]], declared: set[str] | None = None
) -> TriggerRuns:
    found = TriggerRuns(rows(*before), declared)
    for row in rows(*after):
        found.add(row)
    return found


def test_a_declared_schedule_that_fails_is_held() -> None:
    """At its first failure, when it never failed in the hour before; the sentence has the numbers of both."""
    (shift,) = watched([(1, 0)] * 6, [(1, 1)], {CRON}).shifts()
    assert (shift.kind, shift.outcome, shift.stratum) == (ShiftKind.TRIGGER, Outcome.HOLD, CRON)
    assert (shift.bad, shift.total, shift.bad_before, shift.total_before) == (1, 1, 0, 6)
    assert shift.sentence == "cron */10 * * * *: 1 of 1 run failed, 0 of 6 before"
    assert " " not in shift.name


@pytest.mark.parametrize(("declared", "outcome"), [({CRON}, Outcome.HOLD), (None, Outcome.HOLD), (set(), Outcome.TOLD)])
def test_what_nothing_declares_is_told(declared: set[str] | None, outcome: Outcome) -> None:
    """Where nobody knows what is declared, all of it is."""
    (shift,) = watched([(1, 0)] * 6, [(1, 1)], declared).shifts()
    assert shift.outcome is outcome
    assert ("nothing declares it" in shift.sentence) is (outcome is Outcome.TOLD)


@pytest.mark.parametrize(
    ("before", "after", "is_found"),
    [
        ([], [(1, 1)], True),  # it never ran while it was watched, and fails at once
        ([(1, 0)] * 6, [(1, 0)] * 3, False),
        ([(1, 1)] * 6, [(1, 1)] * 6, False),  # it fails as before
        ([(6, 2)], [(1, 1)], False),  # a flaky one
        ([(600, 3)], [(60, 1)], False),  # a queue
        ([(600, 3)], [(60, 12)], True),
        ([(600, 0)], [(60, 0)], False),
    ],
)
def test_what_failed_before_as_well_is_no_shift(
    before: list[tuple[int, int]], after: list[tuple[int, int]], is_found: bool
) -> None:
    """The share before decides, and how much of it was seen."""
    assert bool(list(watched(before, after).shifts())) is is_found


def test_a_checkpoint_goes_on_where_it_was() -> None:
    """Through JSON."""
    found = watched([(1, 0)] * 6, [(1, 0)], {CRON})
    again = TriggerRuns.from_state(json.loads(json.dumps(found.state())))
    for each in (found, again):
        each.add(rows((2, 2))[0])
    assert list(found.shifts()) == list(again.shifts()) != []


@pytest.mark.parametrize(("declared", "verdict"), [(None, Verdict.INCONCLUSIVE), (set(), Verdict.HEALTHY)])
def test_a_version_on_which_a_schedule_fails(declared: set[str] | None, verdict: Verdict) -> None:
    """It is held, and never healthy, where the schedule is declared; what nothing declares is told alone."""
    scenario = Scenario(rate=20)
    traffic = Traffic(scenario, 1)
    judge = detector(scenario, traffic, declared=declared)
    for t in range(120):
        judge.add(traffic.second(t))
    assert judge.judge(DEPLOYED_AT + 120)[0] is Verdict.HEALTHY
    judge.add([Counts(NEW, DEPLOYED_AT + 120, 0, 0, triggers={CRON: TriggerCounts(2, 2)})])
    decision = judge.decide(DEPLOYED_AT + 121)
    assert decision.verdict is verdict
    (shift,) = decision.shifts
    assert shift.kind is ShiftKind.TRIGGER
    again = Detector.from_state(json.loads(json.dumps(judge.state())), Policy())
    assert again.decide(DEPLOYED_AT + 121) == decision
    if verdict is not Verdict.HEALTHY:
        assert decision.cause is Cause.ANSWERS
        assert decision.reason.startswith(f"{CRON}: 2 of 2 runs failed, none was seen before")
        judge.accept(shift.name)
        assert judge.judge(DEPLOYED_AT + 121)[0] is Verdict.HEALTHY


def test_a_version_that_nobody_visits_and_whose_schedule_fails_is_held() -> None:
    """Its runs are all that is seen of it, and enough to say that it is not well."""
    judge = Detector(version=NEW, old=OLD, deployed_at=DEPLOYED_AT, split=1.0, baseline=(), policy=Policy())
    assert judge.judge(DEPLOYED_AT + 60)[0] is Verdict.UNMEASURED
    judge.add([Counts(NEW, DEPLOYED_AT + 60, 0, 0, triggers={CRON: TriggerCounts(1, 1)})])
    assert judge.judge(DEPLOYED_AT + 61)[:2] == (Verdict.INCONCLUSIVE, Cause.ANSWERS)
