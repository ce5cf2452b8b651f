"""Drills on a twin of their own, by the real program: what each expects comes true, and a killed one leaves nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backout.model.drill import DrillGroup
from backout.providers.child import is_running
from backout.twin.home import Home
from backout.wiring.drills.catalogue import load_drills

from drillbook import ENV, PROGRAM
from extent import PROOF
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from conftest import Record

DRILLS = {drill.name: drill for drill in load_drills(Path(__file__).parent)}
OFTEN = ("throws", "health-down", "answers-404", "slow-leak", "leaking-connections", "posts-fail", "one-route")
KEYS = {
    *("name", "environment", "expected_scenario", "actual_scenario", "expected_action", "actual_action", "detect_s"),
    *("rto_s", "verify_s", "rpo", "bad_requests", "passed"),
}


def perform(folder: Path, *words: str, timeout_s: float = 6 * PATIENCE_S) -> tuple[int, dict[str, Any], str]:
    """Run `backout drill run` to its end; return exit code, answer, and talk."""
    argv = [str(PROGRAM), "drill", "run", *words, "--json"]
    done = subprocess.run(argv, cwd=folder, env=ENV, capture_output=True, text=True, check=False, timeout=timeout_s)
    (line,) = done.stdout.splitlines()
    answer: dict[str, Any] = json.loads(line)
    assert answer["schema"] == "backout.drills/1", done.stderr
    return done.returncode, answer, done.stderr


@pytest.mark.long
@pytest.mark.rotating("drills", len(OFTEN))
@pytest.mark.parametrize("name", OFTEN)
def test_a_drill(tmp_path: Path, name: str) -> None:
    """As it was expected, with every key of the contract; it stands in the history, and nothing is left running."""
    code, answer, said = perform(tmp_path, name)
    (drill,) = answer["drills"]
    assert set(drill) >= KEYS
    # How long it took is this machine's matter, and others use it as well.
    assert [each for each in drill["missed"] if "apart, at most" not in each and "bad requests" not in each] == [], said
    assert code == (0 if drill["passed"] else 1)
    assert (drill["name"], drill["environment"], drill["actual_action"]) == (name, "twin", drill["expected_action"])
    assert Home(tmp_path / ".backout" / "drills" / "stage" / "twin").note() is None
    listed = subprocess.run(
        [str(PROGRAM), "drill", "history", "--json"], cwd=tmp_path, env=ENV, capture_output=True, check=True
    )
    (kept,) = json.loads(listed.stdout)["drills"]
    assert {key: kept[key] for key in KEYS} == {key: drill[key] for key in KEYS}


@pytest.mark.long
@pytest.mark.rotating("drills", len(OFTEN))
def test_a_killed_drill_leaves_nothing_running(tmp_path: Path) -> None:
    """Kill -9 in the middle: twin, visitors and guard end by themselves, and the history says so."""
    argv = [str(PROGRAM), "drill", "run", "throws"]
    home = Home(tmp_path / ".backout" / "drills" / "stage" / "twin")
    with subprocess.Popen(argv, cwd=tmp_path, env=ENV, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "deployed throws-on-one-route" in line:
                break
        note = home.note()
        assert note is not None
        process.send_signal(signal.SIGKILL)
    pids = [note.daemon.pid, *(mark.pid for mark in note.children.values())]
    until(lambda: not any(map(is_running, pids)), what="the twin ends")
    until(lambda: not find_processes(tmp_path), what="guard ends")
    listed = subprocess.run(
        [str(PROGRAM), "drill", "history", "--json"], cwd=tmp_path, env=ENV, capture_output=True, check=True
    )
    assert [each["ended"] for each in json.loads(listed.stdout)["drills"]] == ["interrupted"]


def find_processes(folder: Path) -> list[str]:
    """Return the command lines that name a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.long
@pytest.mark.proof
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not PROOF, reason="`make proof` runs all of them, and `test_a_drill` one")
def test_all_drills_on_one_twin(tmp_path: Path, proof: Record) -> None:
    """Each ends as expected, none is rolled back that must not be, and it is over within a quarter of an hour."""
    began = time.monotonic()
    _, answer, said = perform(tmp_path, "--all", timeout_s=1800)
    took_s = time.monotonic() - began
    wrong = [each["name"] for each in answer["drills"] if each["actual_action"] != each["expected_action"]]
    proof("A drill ends with the action that is right", trials=len(answer["drills"]), failures=len(wrong), note="twin")
    assert answer["wrong_rollbacks"] == 0, said
    assert wrong == [], said
    assert took_s < 900


def test_the_groups_have_drills() -> None:
    """Something to roll back, something that must not be."""
    assert {drill.file.group for drill in DRILLS.values()} >= {DrillGroup.ROLL_BACK}
    assert set(OFTEN) <= set(DRILLS)
