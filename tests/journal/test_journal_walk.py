"""Runs that are read as they are asked for, newest first: the same as all of them, and no more than that."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest
from journal import toy

from backout.journal import stored_runs
from backout.model.incident.incident import RunState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.journal.stored import StoredJournal

MANY = 13


@pytest.fixture
def journal(engine: str, quick_path: Path) -> Iterator[StoredJournal]:
    """A journal with runs of two environments, one of which is not over."""
    made = toy.journal_in(quick_path)
    world = toy.World(quick_path)
    for number in range(MANY):
        for environment in ("staging", "production") if number % 3 else ("staging",):
            run = made.submit(toy.plan_named("after", environment), actor="toy", reason=f"run {number}")
            if number < MANY - 1:
                made.drive(run, toy.actions_in(world), actor="toy")
    yield made
    made.close()


@pytest.mark.parametrize("environment", ["staging", "production", None])
def test_what_is_walked_is_every_run(journal: StoredJournal, environment: str | None) -> None:
    """Newest first, as each is found by its id, with the results of its steps."""
    begun = list(journal.events(kind="run.submitted", environment=environment))
    expected = [journal.find(event.run) for event in reversed(begun)]
    assert len(expected) >= 8
    assert list(journal.walk_runs(environment)) == expected == list(journal.runs(environment))
    for run, results in journal.walk_history(environment):
        assert results == ({"probed": journal.result(run.id, "probed")} if run.state is RunState.DONE else {})
        assert (run.state is RunState.DONE) == bool(results)
    if environment is not None:
        assert journal.count_runs(environment) == len(expected)


def test_no_more_is_read_than_was_asked_for(journal: StoredJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants the newest run, or a few, does not pay for a year of them."""
    read: list[int] = []
    load_all = stored_runs.load_all
    monkeypatch.setattr(
        stored_runs, "load_all", lambda connection, runs: read.append(len(runs)) or load_all(connection, runs)
    )
    newest = next(journal.walk_runs("staging"))
    assert (newest.state, read) == (RunState.INTERRUPTED, [1])
    del read[:]
    assert len(list(islice(journal.walk_runs("staging"), 5))) == 5
    assert len(read) == 2


def test_a_run_that_is_submitted_meanwhile_shifts_nothing(journal: StoredJournal) -> None:
    """Each run is yielded once, and the new one is left out."""
    before, found = [run.id for run in journal.walk_runs("staging")], []
    for run in journal.walk_runs("staging"):
        found.append(run.id)
        if len(found) == 1:
            journal.ask(run.id, "abort", actor="toy", reason="the test")
            journal.submit(toy.plan_named("after"), actor="toy", reason="meanwhile")
    assert found == before


def test_a_journal_that_is_not_there_has_no_runs(engine: str, quick_path: Path) -> None:
    made = toy.journal_in(quick_path)
    assert (list(made.walk_runs()), made.runs("staging"), made.count_runs("staging")) == ([], (), 0)
    made.close()
