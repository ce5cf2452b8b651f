"""What people ask for on the pages, done by a real worker: once, in time, and read back from the platform."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from fleet import fleet, load_config

from backout.model.action_request import Act, ActionRequest, Requester, RequestState
from backout.runbook.serve.action_requests import list_requests, make_request
from backout.runbook.serve.overviews import note_viewed, read_kept_status
from backout.wiring.records import open_holds, open_journal

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from pathlib import Path

    from fleet import Fleet

    from backout.journal.stored import StoredJournal

LONG_S = 4 * PATIENCE_S


def open_book(made: Fleet, name: str = "app-0") -> StoredJournal:
    return open_journal(load_config(made.folder, name, made.variables))


def ask(made: Fleet, act: Act, target: str = "", *, key: str = "k", name: str = "app-0") -> ActionRequest:
    book = open_book(made)
    try:
        return make_request(
            book, name, act, key=key, by=Requester("ada"), target=target, why="checkout fails", actor="a page"
        )
    finally:
        book.close()


def find(made: Fleet, asked: ActionRequest) -> ActionRequest:
    book = open_book(made)
    try:
        return next(each for each in list_requests(book, asked.environment) if each.id == asked.id)
    finally:
        book.close()


def await_end(made: Fleet, asked: ActionRequest) -> ActionRequest:
    until(lambda: find(made, asked).state.is_over, LONG_S, f"the end of the request to {asked.act}")
    return find(made, asked)


@pytest.mark.long
@pytest.mark.rotating("workers and requests", 2)
def test_a_plan_then_the_rollback_while_guard_watches(tmp_path: Path) -> None:
    """The plan changes nothing; the rollback goes where it said, ends guard's watch, and names who asked."""
    with fleet(tmp_path, 1, watch="600s") as made:
        worker = made.start_worker("--guard-only")
        until(lambda: made.read_guards() != {}, PATIENCE_S, "the worker guards", process=worker)
        made.deploy("app-0", "good-2")
        until(lambda: "watch" in made.read_log(0), LONG_S, "guard watches", process=worker)
        planned = await_end(made, ask(made, Act.PLAN, key="plan"))
        assert (planned.state, planned.exit_code) == (RequestState.DONE, 0), made.read_log(0)
        steps = planned.answer["plan"]["steps"]  # type: ignore[index,call-overload]
        assert [step["args"]["version"] for step in steps if step["action"] == "activate"] == ["good-1"]  # type: ignore[index,call-overload,union-attr]
        assert made.read_live("app-0") == "good-2"
        asked = ask(made, Act.ROLLBACK, "good-1", key="back")
        until(lambda: made.read_live("app-0") == "good-1", LONG_S, made.read_log(0), process=worker)
        ended = await_end(made, asked)
        assert ended.answer["live_version"] == "good-1"
        again = await_end(made, ask(made, Act.ROLLBACK, "good-1", key="back"))
        assert again.id == asked.id
        (back,) = [each for each in made.read_switches("app-0") if "checkout fails" in each["message"]]
        assert "ada" in back["message"]
        assert f"request {asked.id}" in back["message"]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(LONG_S) == 0


def test_a_hold_and_its_end(tmp_path: Path) -> None:
    """It is read back where guard reads it; what is no version never reaches a command."""
    with fleet(tmp_path, 1) as made:
        worker = made.start_worker("--guard-only")
        held = await_end(made, ask(made, Act.HOLD, "30m", key="hold"))
        assert held.state in (RequestState.DONE, RequestState.FAILED), made.read_log(0)
        config = load_config(made.folder, "app-0", made.variables)
        found = open_holds(config).read("app-0")
        assert found is not None
        assert "checkout fails" in found.why
        assert found.until > held.at + 1000
        lifted = await_end(made, ask(made, Act.UNHOLD, key="unhold"))
        after = open_holds(config).read("app-0")
        assert after is not None
        assert after.until < lifted.at
        refused = await_end(made, ask(made, Act.ROLLBACK, "--help", key="odd"))
        assert refused.state is RequestState.FAILED
        assert refused.answer["error"] == "not-started"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(LONG_S) == 0


def test_the_status_is_kept_fresh_for_who_looks(tmp_path: Path) -> None:
    """Not at all while nobody looks, again and again while somebody does."""
    with fleet(tmp_path, 1) as made:
        worker = made.start_worker("--guard-only")
        book = open_book(made)

        def read_at() -> float:
            kept = read_kept_status(book, "app-0")
            return 0.0 if kept is None else kept.read_at

        until(lambda: made.read_guards() != {}, LONG_S, "the worker guards", process=worker)
        assert read_at() == 0.0
        note_viewed(book, ["app-0"], time.time() + 3600)  # however slow this machine is
        until(read_at, LONG_S, "the status is read", process=worker)
        first = read_kept_status(book, "app-0")
        assert first is not None
        assert (first.record["schema"], first.record["live_version"]) == ("backout.status/1", "good-1")
        seen = read_at()

        until(lambda: read_at() > seen, LONG_S, "it is read again", process=worker)
        book.close()


@pytest.mark.long
@pytest.mark.rotating("workers and requests", 2)
def test_two_workers_take_each_request_once_and_one_is_killed(tmp_path: Path) -> None:
    """Of twelve environments, each asked for a hold, while a worker dies: none is acted on twice, all have an end."""
    with fleet(tmp_path, 12, rate=1.0) as made:
        first, second = made.start_worker("--guard-only"), made.start_worker("--guard-only")
        until(lambda: len(set(made.read_guards().values())) == 2, LONG_S, "both guard", process=second)
        asked = [ask(made, Act.HOLD, "30m", key=f"hold {name}", name=name) for name in made.names]
        until(lambda: any(find(made, each).taken_by for each in asked), LONG_S, "one is taken", process=second)
        first.kill()
        ended = [await_end(made, each) for each in asked]
        states = {each.state for each in ended}
        assert states <= {RequestState.DONE, RequestState.FAILED, RequestState.LOST, RequestState.EXPIRED}
        for each in ended:
            tellings = [
                line
                for number in (0, 1)
                for line in made.read_log(number).splitlines()
                if f"request {each.id} " in line and line.endswith("begins")
            ]
            assert len(tellings) <= 1, tellings
            if each.state in (RequestState.DONE, RequestState.FAILED):
                hold = open_holds(load_config(made.folder, each.environment, made.variables)).read(each.environment)
                assert hold is not None
