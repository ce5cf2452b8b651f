"""The history of drills in the journal: what is kept, what a killed drill leaves, and who does not count it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.journal.sqlite import SqliteJournal
from backout.model.drill import (
    DrillAction,
    DrillEnd,
    DrillPlace,
    DrillResult,
    Expected,
    Loss,
    Measured,
)
from backout.providers.memory import START, WorldClock
from backout.runbook.incident.drills import (
    LeftBroken,
    find_last_drill,
    find_left_broken,
    list_drills,
    record_breaking,
    record_broken,
    record_end,
    record_failure,
    record_start,
)

from situations import deployment

if TYPE_CHECKING:
    from pathlib import Path

TWIN = DrillPlace.TWIN


@pytest.fixture
def clock() -> WorldClock:
    return WorldClock(START)


@pytest.fixture
def journal(quick_path: Path, clock: WorldClock) -> SqliteJournal:
    return SqliteJournal(quick_path / "journal.sqlite", clock)


def result(name: str, at: float, *missed: str, place: DrillPlace = TWIN) -> DrillResult:
    measured = Measured(DrillAction.ROLLBACK, "S3_runtime_errors", 1.5, 0.4, 0.1, 9.0, 2.0, Loss(0, 0, 0.0), 40, 600)
    return DrillResult(name, place, Expected(DrillAction.ROLLBACK, "S3_runtime_errors"), measured, missed, at, 30.5)


def perform(journal: SqliteJournal, run: str, ended: DrillResult) -> None:
    record_start(journal, run, ended.name, ended.environment, actor="ops@host")
    record_end(journal, run, ended, actor="ops@host")


def test_a_result_is_read_as_it_was_recorded(journal: SqliteJournal, clock: WorldClock) -> None:
    """Every figure of it, by another process too."""
    ended = result("throws", clock.now())
    perform(journal, "drill-1", ended)
    (found,) = list_drills(SqliteJournal(journal._store.path, clock))
    assert (found.run, found.name, found.result, found.end) == ("drill-1", "throws", ended, DrillEnd.PASSED)


def test_a_killed_drill_is_shown_as_interrupted(journal: SqliteJournal) -> None:
    """It began, and nothing more is known; one that failed says why."""
    record_start(journal, "drill-1", "throws", TWIN, actor="ops@host")
    record_start(journal, "drill-2", "slow-tail", TWIN, actor="ops@host")
    record_failure(journal, "drill-2", "slow-tail", TWIN, "no twin", actor="ops@host")
    assert [(each.name, each.end, each.why) for each in list_drills(journal)] == [
        ("throws", DrillEnd.INTERRUPTED, ""),
        ("slow-tail", DrillEnd.INTERRUPTED, "no twin"),
    ]
    assert find_last_drill(journal) is None


def test_what_a_stopped_drill_broke_is_told_as_long_as_it_is_live(journal: SqliteJournal, clock: WorldClock) -> None:
    """Not once another version is live, not in another environment, and not of a drill that came to its end."""
    staging = DrillPlace.STAGING
    record_start(journal, "drill-1", "ours", staging, actor="ops@host")
    record_breaking(journal, "drill-1", "ours", "stage", "v1", actor="ops@host")
    good, bad, fix = (deployment(f"d{number}", clock.now() + number - 2, (f"v{number}", 100.0)) for number in (1, 2, 3))
    assert find_left_broken(journal, "stage", (good,)) is None
    assert find_left_broken(journal, "stage", (bad, good)) == LeftBroken("ours", "v2", "v1")
    assert find_left_broken(journal, "other", (bad, good)) is None
    assert find_left_broken(journal, "stage", (fix, bad, good)) is None
    assert find_last_drill(journal, "staging") is None
    record_broken(journal, "drill-1", "ours", "v2", actor="ops@host")
    assert find_left_broken(journal, "stage", (bad, good)) == LeftBroken("ours", "v2", "v1")
    assert find_left_broken(journal, "stage", (fix, good)) is None
    record_end(journal, "drill-1", result("ours", clock.now(), "late", place=staging), actor="ops@host")
    assert find_left_broken(journal, "stage", (bad, good)) is None


def test_what_came_after_a_drill_that_broke_nothing_is_not_broken(journal: SqliteJournal, clock: WorldClock) -> None:
    """Its command failed, or what it deployed is not listed any more; days later somebody deploys as ever."""
    record_start(journal, "drill-1", "ours", DrillPlace.STAGING, actor="ops@host")
    record_breaking(journal, "drill-1", "ours", "stage", "v1", actor="ops@host")
    good, later = (deployment(f"d{n}", clock.now() + s, (f"v{n}", 100.0)) for n, s in ((1, -60), (3, 90_000)))
    assert find_left_broken(journal, "stage", (later, good)) is None
    record_failure(journal, "drill-1", "ours", DrillPlace.STAGING, "the command ended with 1", actor="ops@host")
    soon = deployment("d4", clock.now() + 600, ("v4", 100.0))
    assert find_left_broken(journal, "stage", (soon, good)) is None


def test_the_last_drill_is_the_newest_that_passed(journal: SqliteJournal, clock: WorldClock) -> None:
    """On the twin, or in the environment that is asked for."""
    perform(journal, "drill-1", result("throws", clock.now()))
    clock.sleep(60)
    perform(journal, "drill-2", result("slow-tail", clock.now(), "too late"))
    perform(journal, "drill-3", result("staging", clock.now(), place=DrillPlace.STAGING))
    assert (found := find_last_drill(journal)) is not None
    assert found.name == "throws"
    assert (found := find_last_drill(journal, "staging")) is not None
    assert found.name == "staging"


def test_drills_are_no_runs(journal: SqliteJournal, clock: WorldClock) -> None:
    """Whatever counts runs, watches or incidents does not see them."""
    perform(journal, "drill-1", result("throws", clock.now()))
    assert journal.runs() == ()
    assert [event.kind for event in journal.events(run="drill-1")] == []
    assert {event.environment for event in journal.events()} == {"twin"}
    assert journal.verify_chain().is_whole
