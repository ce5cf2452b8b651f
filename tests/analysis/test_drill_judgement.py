"""Which requests of a drill were bad, what was missed, and which drill is due."""

from __future__ import annotations

import pytest

from backout.analysis.drills import BadAnswers, find_bad, judge_drill, list_due, summarize_drills
from backout.model.drill import (
    DrillAction,
    DrillPlace,
    DrillRecord,
    DrillResult,
    Expected,
    Limits,
    Loss,
    Measured,
    Visit,
)

DAY = 86_400.0


@pytest.mark.parametrize(
    ("visit", "bad"),
    [
        (Visit(1, 500, "bad", 5), True),
        (Visit(1, 503, "good", 5), True),  # whoever answered
        (Visit(1, None, None, 10_000), True),
        (Visit(1, 404, "bad", 5), True),
        (Visit(1, 404, "good", 5), False),  # a scanner's own
        (Visit(1, 200, "bad", 401), True),
        (Visit(1, 200, "good", 401), False),
        (Visit(1, 200, "bad", 400), False),
    ],
)
def test_bad_requests(visit: Visit, bad: bool) -> None:
    """A 5xx and silence always; what the drill names, of the deployed version alone."""
    assert (find_bad([visit], BadAnswers("bad", (404,), 400.0), 0, 2) == (1,)) is bad


def test_only_what_was_sent_in_the_time_counts() -> None:
    """From the deployment to the end, in order."""
    visits = [Visit(at, 500, "bad", 1.0) for at in (9, 3, 1, 5)]
    assert find_bad(visits, BadAnswers("bad"), 2, 6) == (3, 5)


@pytest.mark.parametrize(("scenario", "right"), [("S1", True), ("S3", True), ("S4", False), (None, False)])
def test_either_of_two_scenarios_may_be_right(scenario: str | None, right: bool) -> None:
    """Where a drill names two; none is not one of them."""
    expected = Expected(DrillAction.HOLD, "S1", "S3")
    assert (judge_drill(expected, Limits(), Measured(DrillAction.HOLD, scenario)) == ()) is right


EXPECTED = Expected(DrillAction.ROLLBACK, "S3_runtime_errors")
LIMITS = Limits(10.0, Loss(0, 0, 0.0), 100)


@pytest.mark.parametrize(
    ("measured", "missed"),
    [
        (Measured(DrillAction.ROLLBACK, "S3_runtime_errors", rto_s=9.9, rpo=Loss(0, 0, 0.0), bad_requests=100), []),
        (
            Measured(DrillAction.HOLD, None, rto_s=10.1, rpo=Loss(2, 0, 1.5), bad_requests=101),
            [
                "the action was hold, and rollback was right",
                "the scenario was none, and S3_runtime_errors was right",
                "the first and the last bad request were 10.1 s apart, at most 10 s",
                "101 bad requests, at most 100",
                "2 rows lost, at most 0",
                "1.5 seconds lost, at most 0",
            ],
        ),
        (
            Measured(DrillAction.ROLLBACK, "S3_runtime_errors"),  # not measured is not met
            [f"the loss in {what} was not measured" for what in ("rows", "objects", "seconds")],
        ),
    ],
)
def test_what_was_missed(measured: Measured, missed: list[str]) -> None:
    """Each expectation and limit, as a sentence."""
    assert list(judge_drill(EXPECTED, LIMITS, measured)) == missed


def ended(name: str, at: float, *, missed: tuple[str, ...] = (), rto_s: float = 3.0) -> DrillRecord:
    """Return a drill of the history that came to its end."""
    measured = Measured(DrillAction.ROLLBACK, rto_s=rto_s, bad_requests=10)
    result = DrillResult(name, DrillPlace.TWIN, EXPECTED, measured, missed, at, 30.0)
    return DrillRecord(f"{name}-{at}", name, DrillPlace.TWIN, at, result)


def test_a_summary_has_the_medians_of_what_passed() -> None:
    """A missed run counts as a run; the newest one is named."""
    runs = [ended("a", 1, rto_s=2), ended("a", 3, rto_s=9, missed=("late",)), ended("a", 2, rto_s=4)]
    (found,) = summarize_drills(runs)
    assert (found.runs, found.passed, found.rto_s, found.last.at, found.last_passed_at) == (3, 2, 3, 3, 2)


def test_drills_that_are_due() -> None:
    """Never run, missed, interrupted, or passed too long ago; the one that waits longest comes first."""
    history = [
        ended("fresh", 9 * DAY),
        ended("stale", 1 * DAY),
        ended("missed", 8 * DAY),
        ended("missed", 9 * DAY, missed=("late",)),
        ended("killed", 2 * DAY),
        DrillRecord("run", "killed", DrillPlace.TWIN, 9 * DAY),
    ]
    wanted = dict.fromkeys(("fresh", "stale", "missed", "killed", "never"), 5 * DAY)
    assert [(each.name, each.why) for each in list_due(wanted, history, 10 * DAY)] == [
        ("never", "it was never run"),
        ("stale", "it passed 9 d ago; that counts 5 d"),
        ("killed", "its newest run, 24 h ago, was interrupted"),
        ("missed", "its newest run, 24 h ago, missed"),
    ]
