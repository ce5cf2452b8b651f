"""Schedules and queues that fail since a deployment: held where they are declared, told where nothing declares them."""

from __future__ import annotations

import json

import pytest

from backout.analysis.shifts.triggers import TriggerRuns
from backout.model.shift import Outcome, ShiftKind
from backout.model.signals import Counts, TriggerCounts

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
