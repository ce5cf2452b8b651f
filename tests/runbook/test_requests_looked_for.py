"""What a worker asks of the journal to see what people want: little while nothing is recorded, nothing is missed."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

from backout.journal.sqlite import SqliteJournal
from backout.model.action_request import Act, ActionRequest, Requester, RequestState
from backout.providers.clock import SystemClock
from backout.runbook.serve.action_requests import list_requests, make_request
from backout.runbook.worker.request_runner import RequestRunner

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from backout.model.incident.incident import Event
    from backout.model.plan import Json

HELD = tuple(f"app-{number}" for number in range(20))


class Counted(SqliteJournal):
    """A journal that counts how often events are asked for."""

    asked = 0

    def events(self, **which: Any) -> Iterator[Event]:
        self.asked += 1
        return super().events(**which)


class Command:
    """A command that has done what it was to do."""

    def wait(self, seconds: float) -> int | None:
        return 0

    def terminate(self) -> None:
        raise AssertionError

    def kill(self) -> None:
        """It has ended."""

    def read_answer(self) -> Mapping[str, Json]:
        return {"exit_code": 0}


def make_runner(journal: SqliteJournal) -> tuple[RequestRunner, list[str]]:
    """Return a runner, and where it started commands."""
    started: list[str] = []

    def start(request: ActionRequest) -> Command:
        started.append(request.environment)
        return Command()

    return RequestRunner(journal, SystemClock(), start, lambda *_: None, actor="the worker"), started


def ask(journal: SqliteJournal, environment: str, key: str) -> ActionRequest:
    return make_request(
        journal, environment, Act.HOLD, key=key, by=Requester("ada"), target="30m", why="so", actor="a page"
    )


def find_state(journal: SqliteJournal, made: ActionRequest) -> RequestState:
    return next(each.state for each in list_requests(journal, made.environment) if each.id == made.id)


def test_nothing_is_asked_for_each_environment_while_nothing_is_recorded(tmp_path: Path) -> None:
    """Of what else is recorded, a request's kinds are asked for once, for all of them."""
    with closing(Counted(tmp_path / "journal.sqlite", SystemClock())) as journal:
        ask(journal, "elsewhere", "0")
        runner, started = make_runner(journal)
        runner.look(HELD, threading.Event())
        journal.asked = 0
        for _ in range(10):
            runner.look(HELD, threading.Event())
        assert journal.asked == 0
        journal.note("app-3", "test.note", "1", {}, actor="somebody")
        runner.look(HELD, threading.Event())
        assert journal.asked == 1
        assert started == []


def test_each_request_is_taken_once_also_in_what_was_not_held_when_it_was_made(tmp_path: Path) -> None:
    with closing(SqliteJournal(tmp_path / "journal.sqlite", SystemClock())) as journal:
        runner, started = make_runner(journal)
        runner.look(HELD[:2], threading.Event())
        made = [ask(journal, name, "k") for name in ("app-1", "app-5")]
        runner.look(HELD[:2], threading.Event())
        assert started == ["app-1"]
        runner.look(HELD[4:6], threading.Event())
        made.append(ask(journal, "app-1", "again"))
        runner.look(HELD[4:6], threading.Event())
        runner.look(HELD[:2], threading.Event())
        until(lambda: len(started) == 3, PATIENCE_S, "each has begun")
        runner.join()
        for _ in range(3):
            runner.look(HELD, threading.Event())
        assert started == ["app-1", "app-5", "app-1"]
        assert [find_state(journal, each) for each in made] == [RequestState.DONE] * 3


def test_one_that_another_worker_left_is_lost_as_soon_as_its_environment_is_held(tmp_path: Path) -> None:
    with closing(SqliteJournal(tmp_path / "journal.sqlite", SystemClock())) as journal:
        runner, started = make_runner(journal)
        runner.look(HELD[:1], threading.Event())
        made = ask(journal, "app-1", "k")
        journal.note("app-1", "request.taken", str(made.id), {}, actor="another worker")
        runner.look(HELD[:1], threading.Event())
        assert find_state(journal, made) is RequestState.TAKEN
        runner.look(HELD[:2], threading.Event())
        assert find_state(journal, made) is RequestState.LOST
        assert started == []
