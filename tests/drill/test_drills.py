"""Drills on a twin of their own, by the real program: what each expects comes true, and a killed one leaves nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_shell import backout

from backout.errors import UsageError
from backout.model.drill import DrillGroup, DrillPlace
from backout.providers.child import is_running
from backout.twin.home import Home
from backout.wiring.drills.catalogue import load_drills
from backout.wiring.drills.ground import open_ground

from drillbook import ENV, PROGRAM
from extent import PROOF, rotated
from polling import PATIENCE_S, until
from streamed import await_line

if TYPE_CHECKING:
    from conftest import Record

DRILLS = {drill.name: drill for drill in load_drills(Path(__file__).parent)}
ALWAYS = ("throws", "answers-404", "failed-build", "no-traffic", "missing-secret", "hotfix", "rows-corrupted")
OTHERS = [name for name, drill in DRILLS.items() if drill.file.environment is DrillPlace.TWIN and name not in ALWAYS]
OFTEN = (*ALWAYS, *rotated(OTHERS, 1)[:1])
"""In `make test-all` eight of them: of those that are not always among them another one each day."""
QUARTER_S = 900
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
@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_what_each_drill_expects_comes_true(tmp_path: Path, proof: Record) -> None:
    """Eight of them; in `make proof` all, twice: two at a time on one twin, with nothing left of it.

    How long something took is this machine's matter, and others use it as well: only a proof counts that.
    """
    names = ("--all", "--times", "2") if PROOF else (*OFTEN, "--side-by-side")
    began = time.monotonic()
    code, answer, said = perform(tmp_path, *names, timeout_s=3000 if PROOF else 10 * PATIENCE_S)
    took_s = time.monotonic() - began
    drills = answer["drills"]
    wrong = [each["name"] for each in drills if (not PROOF and list_wrong(each)) or (PROOF and not each["passed"])]
    proof("A drill ends as it is expected to", trials=len(drills), failures=len(wrong), note="twin, wrangler, workerd")
    assert wrong == [], said
    assert answer["wrong_rollbacks"] == 0, said
    assert code == (0 if answer["passed"] == len(drills) else 1)
    assert all(set(each) >= KEYS for each in drills)
    assert Home(tmp_path / ".backout" / "drills" / "stage" / "twin").note() is None
    history = backout(tmp_path, "drill", "history", "--last", "1000", "--json").json["drills"]
    kept = [{key: each[key] for key in KEYS} for each in reversed(history)]  # type: ignore[call-overload]
    assert kept == [{key: each[key] for key in KEYS} for each in drills]
    assert not PROOF or took_s / 2 < QUARTER_S


def list_wrong(drill: dict[str, Any]) -> list[str]:
    """Return what was missed, but for how long it took, and for a diagnosis that was not ready in time."""
    slow = ("apart, at most", "bad requests", "the scenario was none")
    return [each for each in drill["missed"] if not any(words in each for words in slow)]


@pytest.mark.long
@pytest.mark.rotating("drills", 5)
def test_a_killed_drill_leaves_nothing_running(tmp_path: Path) -> None:
    """Kill -9 in the middle, of one or of two: twin, visitors and guard end, the history says so, and it runs again."""
    argv = [str(PROGRAM), "drill", "run", "throws", "hotfix", "--side-by-side"]
    home = Home(tmp_path / ".backout" / "drills" / "stage" / "twin")
    with subprocess.Popen(argv, cwd=tmp_path, env=ENV, stderr=subprocess.PIPE, text=True) as process:
        await_line(process, "deployed throws-on-one-route", stream=process.stderr, patience_s=2 * PATIENCE_S)
        note = home.note()
        assert note is not None
        process.send_signal(signal.SIGKILL)
    pids = [note.daemon.pid, *(mark.pid for mark in note.children.values())]
    until(lambda: not any(map(is_running, pids)), what="the twin ends")
    until(lambda: not find_processes(tmp_path), what="guard ends")
    history = backout(tmp_path, "drill", "history", "--json").json["drills"]
    assert {each["ended"] for each in history} == {"interrupted"}  # type: ignore[attr-defined]
    code, answer, talk = perform(tmp_path, "failed-build")
    assert code == 0, talk
    assert [each["name"] for each in answer["drills"]] == ["failed-build"]


@pytest.mark.long
@pytest.mark.rotating("drills", 5)
@pytest.mark.parametrize("flag", ["--one-by-one", "--side-by-side"])
def test_an_interrupted_run_says_what_has_ended_and_goes_on_with_the_rest(tmp_path: Path, flag: str) -> None:
    """Ctrl-C in the second drill: exit code 130, the table of the first one, and the command that runs the second."""
    names = ("failed-build", "no-traffic")
    argv = [str(PROGRAM), "drill", "run", *names, flag]
    with subprocess.Popen(argv, cwd=tmp_path, env=ENV, stderr=subprocess.PIPE, text=True) as process:
        missing = {"2 of 2: no-traffic", "failed-build: passed" if flag == "--side-by-side" else "passed: "}

        def is_last(line: str) -> bool:  # side by side, either comes first
            missing.difference_update([each for each in missing if each in line])
            return not missing

        await_line(process, is_last, stream=process.stderr, patience_s=2 * PATIENCE_S)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "1 of 1 passed" in said
    assert f"backout drill run failed-build no-traffic {flag} --resume" in said
    assert Home(tmp_path / ".backout" / "drills" / "stage" / "twin").note() is None
    assert not find_processes(tmp_path)
    code, answer, talk = perform(tmp_path, *names, flag, "--resume")
    assert [each["name"] for each in answer["drills"]] == list(names)
    assert code == 0, talk
    assert "1 of 1: no-traffic" in talk


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


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """Drills remove what is in their folder; one that they did not make is refused."""
    kept = tmp_path / "trials" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(UsageError, match="not of drills"):
        open_ground(tmp_path, str)
    assert kept.read_text() == "mine"


def test_the_groups_have_drills() -> None:
    """Something to roll back, something that must not be."""
    assert {drill.file.group for drill in DRILLS.values()} >= {DrillGroup.ROLL_BACK}
    assert set(OFTEN) <= set(DRILLS)
