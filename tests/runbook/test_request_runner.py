"""Requests of the pages in a worker: taken once, in time, with an end in the journal whatever happens."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from backout.errors import BackoutError
from backout.journal.sqlite import SqliteJournal
from backout.model.action_request import EXPIRES_S, Act, ActionRequest, Requester, RequestState
from backout.runbook.serve.action_requests import find_request, make_request, take_request
from backout.runbook.worker.request_runner import MOST_AT_ONCE, RequestRunner, make_words

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ENV = "production"


@dataclass
class FakeClock:
    """The test's own time, in Unix seconds."""

    at: float = 1_800_000_000.0

    def now(self) -> float:
        return self.at


@dataclass
class Child:
    """A command that ends when the test says so, or when it is told to."""

    code: int = 0
    answer: Mapping[str, Any] = field(default_factory=lambda: {"schema": "backout.rollback/1"})
    ends: threading.Event = field(default_factory=threading.Event)
    told: list[str] = field(default_factory=list)

    def wait(self, seconds: float) -> int | None:
        return self.code if self.ends.wait(min(seconds, 0.01)) else None

    def terminate(self) -> None:
        self.told.append("terminate")
        self.ends.set()

    def kill(self) -> None:
        self.told.append("kill")

    def read_answer(self) -> Mapping[str, Any]:
        return self.answer


@dataclass
class Lab:
    """A journal in a file, and runners on it, each as a worker of its own."""

    journal: SqliteJournal
    clock: FakeClock
    started: list[ActionRequest] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)
    failure: BackoutError | None = None
    ends_at_once: bool = True
    code: int = 0
    answer: Mapping[str, Any] = field(default_factory=lambda: {"schema": "backout.rollback/1"})

    def runner(self, name: str = "one") -> RequestRunner:
        def start(request: ActionRequest) -> Child:
            if self.failure is not None:
                raise self.failure
            child = Child(self.code, self.answer)
            self.started.append(request)
            self.children.append(child)
            if self.ends_at_once:
                child.ends.set()
            return child

        return RequestRunner(self.journal, self.clock, start, lambda *_: None, self.woken.append, actor=name)

    def ask(self, act: Act = Act.ROLLBACK, key: str = "k", target: str = "v1") -> ActionRequest:
        return make_request(
            self.journal, ENV, act, key=key, by=Requester("ada"), target=target, why="it fails", actor="ada (by a page)"
        )

    def find(self, asked: ActionRequest) -> ActionRequest:
        found = find_request(self.journal, ENV, asked.id)
        assert found is not None
        return found

    def await_end(self, asked: ActionRequest) -> ActionRequest:
        until(lambda: self.find(asked).state.is_over, PATIENCE_S, "the request ends")
        return self.find(asked)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    clock = FakeClock()
    made = Lab(SqliteJournal(tmp_path / "journal.sqlite", clock), clock)
    yield made
    for each in made.children:
        each.ends.set()
    made.journal.close()


GO = threading.Event()
"""A worker that is not to stop."""


def test_a_request_is_done_once_and_its_answer_kept(lab: Lab) -> None:
    """However often and by how many workers it is looked at."""
    asked, first, second = lab.ask(), lab.runner("one"), lab.runner("two")
    for runner in (first, second, first):
        runner.look([ENV], GO)
    ended = lab.await_end(asked)
    assert (ended.state, ended.exit_code, ended.taken_by) == (RequestState.DONE, 0, "one")
    assert ended.answer == {"schema": "backout.rollback/1"}
    first.join()
    first.look([ENV], GO)
    second.look([ENV], GO)
    assert [each.id for each in lab.started] == [asked.id]
    assert not first.environments


def test_one_that_waited_too_long_is_never_begun(lab: Lab) -> None:
    """By the journal's own clock, also where the worker's is behind."""
    asked = lab.ask()
    lab.clock.at += EXPIRES_S + 1
    lab.runner().look([ENV], GO)
    assert lab.find(asked).state is RequestState.EXPIRED
    late = lab.ask(key="late")
    lab.clock.at += EXPIRES_S + 1
    behind = RequestRunner(
        lab.journal, FakeClock(late.at), lambda _request: pytest.fail("begun"), lambda *_: None, actor="behind"
    )
    behind.look([ENV], GO)
    assert lab.find(late).state is RequestState.EXPIRED
    assert lab.started == []


def test_one_whose_worker_is_gone_is_lost_and_not_begun_again(lab: Lab) -> None:
    """Nobody knows how far it came."""
    asked = lab.ask()
    assert take_request(lab.journal, asked, actor="a worker that was killed")
    lab.runner("successor").look([ENV], GO)
    assert lab.find(asked).state is RequestState.LOST
    assert lab.started == []


def test_a_command_that_is_at_work_keeps_its_environment(lab: Lab) -> None:
    """Until it ends: nobody else is given the environment; a worker that is to stop ends it, and records that."""
    lab.ends_at_once = False
    asked, runner, stop = lab.ask(), lab.runner(), threading.Event()
    runner.look([ENV], stop)
    until(lambda: lab.children, PATIENCE_S, "it is begun")
    assert list(runner.environments) == [ENV]
    runner.look([ENV], stop)
    assert lab.find(asked).state is RequestState.TAKEN
    lab.children[0].code = 5
    stop.set()
    runner.join()
    assert (lab.find(asked).state, lab.find(asked).exit_code) == (RequestState.FAILED, 5)
    assert lab.children[0].told == ["terminate", "kill"]
    assert not runner.environments


@pytest.mark.parametrize(
    ("act", "code", "cause", "state"),
    [
        (Act.DIAGNOSE, 1, "worker_script_error", RequestState.DONE),
        (Act.DIAGNOSE, 1, None, RequestState.FAILED),
        (Act.DIAGNOSE, 7, "worker_script_error", RequestState.FAILED),
        (Act.ROLLBACK, 1, "worker_script_error", RequestState.FAILED),
    ],
)
def test_a_diagnosis_that_finds_something_is_done(
    lab: Lab, act: Act, code: int, cause: str | None, state: RequestState
) -> None:
    """It ends with 1 then, as `status` does; nothing was refused."""
    lab.code, lab.answer = code, {"cause": cause}
    asked, runner = lab.ask(act), lab.runner()
    runner.look([ENV], GO)
    assert lab.await_end(asked).state is state
    runner.join()


def test_what_cannot_be_started_failed(lab: Lab) -> None:
    """With the reason where the page shows it."""
    lab.failure = BackoutError("that is no version", where="target")
    asked, runner = lab.ask(), lab.runner()
    runner.look([ENV], GO)
    ended = lab.await_end(asked)
    assert (ended.state, ended.answer["error"]) == (RequestState.FAILED, "not-started")
    assert "that is no version" in str(ended.answer["message"])


def test_a_look_needs_no_command(lab: Lab) -> None:
    """Whoever guards the environment is woken, and that is all."""
    asked = lab.ask(Act.WATCH, target="")
    lab.runner().look([ENV], GO)
    assert (lab.find(asked).state, lab.woken, lab.started) == (RequestState.DONE, [ENV], [])


def test_no_worker_takes_more_than_it_can_do(lab: Lab) -> None:
    """What it leaves another one can take; what is not its environment's is none of its."""
    lab.ends_at_once = False
    asked = [lab.ask(key=f"{number}") for number in range(MOST_AT_ONCE + 2)]
    runner = lab.runner()
    runner.look(["staging"], GO)
    assert all(lab.find(each).state is RequestState.WAITING for each in asked)
    runner.look([ENV], GO)
    states = [lab.find(each).state for each in asked]
    assert states.count(RequestState.TAKEN) == MOST_AT_ONCE
    lab.runner("two").look([ENV], threading.Event())


@pytest.mark.parametrize("act", list(Act))
def test_the_words_of_a_command(act: Act) -> None:
    """Who asked stands in the reason; a target can be no option; what is protected is confirmed."""
    made = ActionRequest(7, "k", ENV, act, "--help", "it fails", "ada", 0.0)
    words = make_words(made)
    if act.changes:
        assert "it fails (asked for by ada, request 7)" in words
    if "--help" in words and act is not Act.HOLD:
        assert words[words.index("--help") - 1] == "--"
    assert ("--confirm" in words) == (act in (Act.ROLLBACK, Act.UNDO))
