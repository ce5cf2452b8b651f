"""Several real processes on one environment, a stopped one, and signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from journal import toy
from source_trees import SOURCE

from backout.errors import Busy, Paused
from backout.model.incident.incident import RunState

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.journal.stored import StoredJournal

pytestmark = pytest.mark.usefixtures("engine")


@contextmanager
def process(directory: Path, plan: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Run the toy in a process of its own, which does not outlive the test."""
    command = [sys.executable, toy.__file__, str(directory), plan, *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def outcome(child: subprocess.Popen[str]) -> dict[str, object]:
    """Wait for the process and return what it told."""
    out, err = child.communicate(timeout=PATIENCE_S)
    assert out, err
    told: dict[str, object] = json.loads(out)
    return told


def state_of(journal: StoredJournal) -> RunState:
    return journal.runs()[0].state


def test_a_second_process_is_refused_and_told_who_holds_the_environment(tmp_path: Path) -> None:
    """One acts; the same plan and another plan from other processes both end Busy, naming the holder's pid."""
    with process(tmp_path, "waiting") as first:
        until((tmp_path / "inside").exists, what="the first is inside its step")
        for plan in ("waiting", "probed"):
            with process(tmp_path, plan) as second:
                told = outcome(second)
            assert told["exit"] == Busy.exit_code
            assert f"pid {first.pid} on " in str(told["error"])
            assert "at step 2 of 3: Do wait as number 1" in str(told["error"])
        journal = toy.journal_in(tmp_path)
        run = journal.runs()[0]
        assert run.state is RunState.RUNNING
        assert f"pid {first.pid}" in run.holder
        (tmp_path / "go").touch()
        assert outcome(first)["exit"] == 0
    assert state_of(journal) is RunState.DONE
    assert len(toy.World(tmp_path).effects) == 3
    journal.close()


def test_a_run_that_another_process_drives_pauses_at_its_next_boundary(tmp_path: Path) -> None:
    """Asked for from here while that is inside a step: the step ends, its process ends with 5, and a resume goes on."""
    with process(tmp_path, "waiting") as first:
        until((tmp_path / "inside").exists, what="the first is inside its step")
        journal = toy.journal_in(tmp_path)
        run = journal.runs()[0].id
        journal.ask(run, "pause", actor="me", reason="let me look")
        assert state_of(journal) is RunState.RUNNING
        (tmp_path / "go").touch()
        told = outcome(first)
    assert told["exit"] == Paused.exit_code == 5
    assert "a pause was asked for by me: let me look (at step 3 of 3" in str(told["error"])
    assert f"[backout runs resume {run}]" in str(told["error"])
    assert state_of(journal) is RunState.PAUSED
    assert len(toy.World(tmp_path).effects) == 2
    journal.ask(run, "resume", actor="me", reason="")
    assert journal.drive(run, toy.actions_in(toy.World(tmp_path)), actor="me").state is RunState.DONE
    assert len(toy.World(tmp_path).effects) == 3
    journal.close()


def test_many_processes_at_once_do_each_step_once(tmp_path: Path) -> None:
    """Processes that create, submit and drive in the same moment are one run, driven by one of them."""
    toy.journal_in(tmp_path).close()  # on a server its database, which none of them is to make
    with process(tmp_path, "probed") as a, process(tmp_path, "probed") as b, process(tmp_path, "probed") as c:
        told = [outcome(child) for child in (a, b, c)]
    ends = [each["exit"] for each in told]
    journal = toy.journal_in(tmp_path)
    assert set(ends) <= {0, Busy.exit_code}, told
    assert 0 in ends
    for run in journal.runs():  # one that came after the end of the run is a run of its own
        effects = [key for key in toy.World(tmp_path).effects if key.startswith(f"{run.id}:")]
        assert effects == [f"{run.id}:0", f"{run.id}:2"]
        assert run.state is RunState.DONE
    assert journal.verify_chain().is_whole
    journal.close()


def test_a_dead_holder_is_followed_at_once_on_its_own_host(tmp_path: Path) -> None:
    """The file lock tells that the holder is gone long before its lease runs out."""
    with process(tmp_path, "waiting", "--ttl", "3600") as first:
        until((tmp_path / "inside").exists, what="the first is inside its step")
        journal = toy.journal_in(tmp_path)
        first.kill()
        # Not waited for yet: a zombie of the process table is dead as well.
        until(lambda: state_of(journal) is RunState.INTERRUPTED, what="the first is seen to be dead")
        (tmp_path / "go").touch()
        run = journal.drive(journal.runs()[0].id, toy.actions_in(toy.World(tmp_path)), actor="me")
        assert run.state is RunState.DONE
    taken = list(journal.events(kind="run.driven"))[-1]
    assert f"pid {first.pid}" in str(taken.data["instead_of"])
    journal.close()


def test_a_frozen_process_that_wakes_after_a_takeover_can_write_nothing(tmp_path: Path) -> None:
    """Stopped past its lease, taken over from another host, then woken: every write is refused, its drive ends Busy."""
    with process(tmp_path, "zombie", "--host", "host-a", "--ttl", "0.5") as zombie:
        until((tmp_path / "inside").exists, what="the zombie is inside its step")
        zombie.send_signal(signal.SIGSTOP)
        journal = toy.journal_in(tmp_path, host="host-b")
        actions = toy.actions_in(toy.World(tmp_path)) | {"zombie": toy.Probed(toy.World(tmp_path))}
        run = journal.runs()[0].id

        def taken_over() -> bool:
            try:
                return journal.drive(run, actions, actor="b").state is RunState.DONE
            except Busy as busy:
                assert "host-a" in str(busy)  # noqa: PT017 the loop goes on until the lease has run out
                return False

        until(taken_over, what="the lease of the stopped process runs out")
        before = list(journal.events())
        (tmp_path / "go").touch()
        zombie.send_signal(signal.SIGCONT)
        told = outcome(zombie)
    assert told["exit"] == Busy.exit_code
    assert "taken over" in str(told["error"])
    assert json.loads((tmp_path / "told").read_text()) == dict.fromkeys(
        ("progress", "check", "mark", "checkpoint"), "Busy"
    )
    assert list(journal.events()) == before
    assert journal.load_checkpoint(run, "detector") is None
    journal.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_at_the_next_boundary(tmp_path: Path, number: signal.Signals) -> None:
    """The step in flight ends, the next does not begin, and the resume command is told."""
    with process(tmp_path, "waiting") as child:
        until((tmp_path / "inside").exists, what="the child is inside its step")
        child.send_signal(number)
        until((tmp_path / "stopping").exists, what="the child heard the signal")
        (tmp_path / "go").touch()
        told = outcome(child)
    journal = toy.journal_in(tmp_path)
    run = journal.runs()[0]
    assert told["exit"] == 130
    assert f"backout runs resume {run.id}" in str(told["error"])
    assert (run.state, run.steps_done) == (RunState.INTERRUPTED, 2)
    assert list(journal.events())[-1].kind == "run.interrupted"
    journal.close()


def test_the_second_signal_stops_now(tmp_path: Path) -> None:
    """The step stays open in the journal, and is probed by the resume."""
    with process(tmp_path, "waiting") as child:
        until((tmp_path / "inside").exists, what="the child is inside its step")
        child.send_signal(signal.SIGINT)
        until((tmp_path / "stopping").exists, what="the child heard the first signal")
        child.send_signal(signal.SIGINT)
        told = outcome(child)
    journal = toy.journal_in(tmp_path)
    assert told == {"exit": 130, "error": "KeyboardInterrupt", "points": told["points"]}
    assert list(journal.events())[-1].kind == "step.start"
    assert state_of(journal) is RunState.INTERRUPTED
    (tmp_path / "go").touch()
    assert journal.drive(journal.runs()[0].id, toy.actions_in(toy.World(tmp_path)), actor="me").state is RunState.DONE
    journal.close()


def test_an_abort_asked_of_a_live_holder_is_obeyed_at_its_next_boundary(tmp_path: Path) -> None:
    """The asker does not wait and ends nothing; the holder ends the run after the step in flight."""
    with process(tmp_path, "waiting") as child:
        until((tmp_path / "inside").exists, what="the child is inside its step")
        journal = toy.journal_in(tmp_path)
        run = journal.runs()[0].id
        journal.ask(run, "abort", actor="me", reason="a mistake")
        assert state_of(journal) is RunState.RUNNING
        (tmp_path / "go").touch()
        assert outcome(child)["exit"] == 0
    ended = journal.runs()[0]
    assert (ended.state, ended.steps_done) == (RunState.ABORTED, 2)
    assert len(toy.World(tmp_path).effects) == 2
    journal.close()


def test_the_heart_beats_through_a_silent_step(tmp_path: Path) -> None:
    """A step far longer than the lease keeps it: another host is refused long after the first expiry."""
    with process(tmp_path, "waiting", "--host", "host-a", "--ttl", "0.3") as child:
        until((tmp_path / "inside").exists, what="the child is inside its step")
        journal = toy.journal_in(tmp_path, host="host-b")
        query = "SELECT since, expires_at FROM lease"

        def lasted() -> float:
            since, expires_at = journal._store.rows(query)[0]
            return float(expires_at) - float(since)

        until(lambda: lasted() > 3 * 0.3, what="the lease is moved on")
        with pytest.raises(Busy, match="host-a"):
            journal.drive(journal.runs()[0].id, toy.actions_in(toy.World(tmp_path)), actor="b")
        (tmp_path / "go").touch()
        assert outcome(child)["exit"] == 0
    journal.close()


LOOK = """
import sys
from pathlib import Path
from journal import toy
from source_trees import SOURCE
print(len(list(toy.journal_in(Path(sys.argv[1])).events())))
"""


def test_no_commit_is_lost_where_one_process_opens_the_journal_twice(tmp_path: Path) -> None:
    """Another process looks meanwhile: it must not take itself for the last one, and the -wal file for left over."""
    first, second = toy.journal_in(tmp_path), toy.journal_in(tmp_path)
    first.note("production", "test.before", "1", {}, actor="me")
    second.note("production", "test.other", "2", {}, actor="me")
    second.close()
    argv = [sys.executable, "-c", LOOK, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    seen = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    first.note("production", "test.after", "3", {}, actor="me")
    again = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    first.close()
    assert (seen.stdout.strip(), again.stdout.strip()) == ("2", "3")


def test_a_file_is_opened_and_closed_at_once_only_to_make_it() -> None:
    """`create_database` says what it would cost a database that this process has open."""
    at_once = re.compile(r"os\.close\(\s*os\.open\(")
    found = {path.name for path in SOURCE.rglob("*.py") if at_once.search(path.read_text(encoding="utf-8"))}
    assert found == {"private.py"}
