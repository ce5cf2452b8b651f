"""Runs that are read as they are asked for, newest first: the same as all of them, and no more than that."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import pytest
from journal import toy

from backout.journal.stored_runs import StoredRuns
from backout.model.incident.incident import RunState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backout.journal.store import Store
    from backout.journal.stored import StoredJournal
    from backout.ports.journal_link import Connection

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


class CountedStore:
    """A store that keeps how many runs each question was about."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def reading(self) -> Iterator[CountedConnection]:
        with self._store.reading() as connection:
            assert connection is not None
            yield CountedConnection(connection, self.asked)


class CountedConnection:
    """Its connection."""

    def __init__(self, connection: Connection, asked: list[int]) -> None:
        self._connection, self._asked = connection, asked

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        if "run IN" in statement:
            self._asked.append(len(values))
        return self._connection.execute(statement, values)


def test_no_more_is_read_than_was_asked_for(journal: StoredJournal) -> None:
    """Who wants the newest run, or a few, does not pay for a year of them."""
    store = CountedStore(journal._store)
    runs = StoredRuns(cast("Store", store), lease_ttl_s=30.0, host=None)
    newest = next(runs.walk_runs("staging"))
    assert (newest.state, store.asked) == (RunState.INTERRUPTED, [1])
    del store.asked[:]
    assert len(list(islice(runs.walk_runs("staging"), 5))) == 5
    assert len(store.asked) == 2


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
