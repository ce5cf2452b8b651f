"""`backout diagnose events` and `build --log`: what is read of files and pipes, and what a wrong call is told."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from event_lab import BEGIN_MS, VERSIONS, compact, event, pretty, thrown
from polling import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = VERSIONS


def incident() -> list[dict[str, object]]:
    """Return a minute of each version; a tenth of the new one's invocations throw."""
    calm = [event(OLD, BEGIN_MS + 100 * n) for n in range(600)]
    bad = {"outcome": "exception", "exceptions": [thrown("Cannot read properties of undefined (reading 'email')")]}
    new = [event(NEW, BEGIN_MS + 60_000 + 100 * n, **(bad if n % 10 == 0 else {})) for n in range(600)]
    return [*calm, *new]


@pytest.mark.parametrize("spelled", [compact, pretty], ids=["compact", "pretty"])
def test_a_tail_in_a_file(tmp_path: Path, spelled: object) -> None:
    """The versions are told apart by the events themselves; exit 1; the line is quoted."""
    assert callable(spelled)
    (tmp_path / "tail.json").write_bytes(spelled(incident()))
    answer = backout(tmp_path, "diagnose", "events", "tail.json", "--json")
    assert answer.code == 1, answer.err
    found = answer.json
    assert (found["schema"], found["scenario"], found["cause"]) == (
        "backout.diagnosis/1",
        "S3_runtime_errors",
        "worker_script_error",
    )
    assert found["is_new"] is True
    assert "reading 'email'" in str(found["evidence"])
    assert found["counts"] == {
        OLD: {"invocations": 600, "errors": 0},
        NEW: {"invocations": 600, "errors": 60},
    }


def test_versions_and_several_files(tmp_path: Path) -> None:
    """`--old` and `--new` take the beginning of an id; the other way round nothing is new, and what was is over."""
    events = incident()
    (tmp_path / "a.json").write_bytes(compact(events[:600]))
    (tmp_path / "b.json").write_bytes(pretty(events[600:]))
    both = ("diagnose", "events", "a.json", "b.json", "--json")
    assert backout(tmp_path, *both, "--old", "1111", "--new", "2222").json["is_new"] is True
    turned = backout(tmp_path, *both, "--old", "2222", "--new", "1111")
    assert (turned.code, turned.json["scenario"]) == (0, "S0_no_action")


def test_calm_events(tmp_path: Path) -> None:
    (tmp_path / "tail.json").write_bytes(compact([event() for _ in range(50)]))
    answer = backout(tmp_path, "diagnose", "events", "tail.json")
    assert (answer.code, answer.out.splitlines()[0]) == (0, "S0, nothing to do: no errors")


def test_standard_input() -> None:
    """A pipe is read to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "backout", "diagnose", "events", "-", "--json"],
        input=compact(incident()), capture_output=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["cause"] == "worker_script_error"


@pytest.mark.parametrize("data", [b"", b"\n\n", b" "], ids=["empty", "lines", "blank"])
def test_nothing_to_read(tmp_path: Path, data: bytes) -> None:
    """Exit 7: neither well nor ill."""
    (tmp_path / "tail.json").write_bytes(data)
    answer = backout(tmp_path, "diagnose", "events", "tail.json", "--json")
    assert (answer.code, answer.json["scenario"], answer.json["title"]) == (7, None, "nothing was read")


@pytest.mark.parametrize("name", ["absent.json", "."], ids=["absent", "folder"])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    """Exit 2, with its name, before any other file is read."""
    (tmp_path / "tail.json").write_bytes(compact(incident()))
    answer = backout(tmp_path, "diagnose", "events", "tail.json", name, "--json")
    assert (answer.code, answer.json["error"], answer.json["what"]) == (2, "UsageError", "no such file")
    assert name.strip(".") in str(answer.json["where"])


def test_a_time_that_is_none(tmp_path: Path) -> None:
    """Exit 2, with one that is."""
    (tmp_path / "tail.json").write_bytes(compact(incident()))
    answer = backout(tmp_path, "diagnose", "events", "tail.json", "--deployed-at", "yesterday-ish", "--json")
    assert (answer.code, answer.json["hint"]) == (2, "--deployed-at 2026-03-01T10:00:00Z")
    assert "yesterday-ish" in str(answer.json["what"])


@pytest.mark.parametrize("jobs", ["0", "65", "many"])
def test_a_number_of_processes_that_is_none(tmp_path: Path, jobs: str) -> None:
    assert backout(tmp_path, "diagnose", "events", "tail.json", "--jobs", jobs).code == 2


def test_the_time_of_the_deployment_stands_for_versions(tmp_path: Path) -> None:
    """Of one version alone, what is new is told by time."""
    events = [{**each, "scriptVersion": {"id": OLD}} for each in incident()]
    (tmp_path / "tail.json").write_bytes(compact(events))
    at = "2025-11-24T16:01:00Z"  # a minute after the first of them
    assert BEGIN_MS == 1_764_000_000_000
    found = backout(tmp_path, "diagnose", "events", "tail.json", "--deployed-at", at, "--json").json
    assert (found["cause"], found["is_new"]) == ("worker_script_error", True)
    assert found["deployed_at"] == "2025-11-24T16:01:00.000Z"


def test_binary_is_counted_and_named(tmp_path: Path) -> None:
    """It is no event, and no crash; what can be read beside it is."""
    (tmp_path / "core").write_bytes(bytes(range(256)) * 40 + b"\n" + compact(incident()))
    answer = backout(tmp_path, "diagnose", "events", "core", "--json")
    assert answer.code == 1, answer.err
    assert answer.json["cause"] == "worker_script_error"
    assert answer.json["unreadable"] or answer.json["notes"]
    assert "\x00" not in answer.out


LOG = "npm error code EUSAGE\nnpm error Missing: one@1.0.0 from lock file\n"


def test_a_log_of_a_build(tmp_path: Path) -> None:
    """Exit 1 with its cause; a log without a failure is exit 0; a missing one exit 2."""
    (tmp_path / "build.log").write_text(LOG, encoding="utf-8")
    (tmp_path / "calm.log").write_text("added 41 packages in 2s\n", encoding="utf-8")
    answer = backout(tmp_path, "diagnose", "build", "--log", "build.log", "--json")
    assert (answer.code, answer.json["cause"]) == (1, "build_lockfile_mismatch")
    calm = backout(tmp_path, "diagnose", "build", "--log", "calm.log", "--json")
    assert (calm.code, calm.json["scenario"], calm.json["title"]) == (
        0,
        "S0_no_action",
        "the log speaks of no failure",
    )
    absent = backout(tmp_path, "diagnose", "build", "--log", "absent.log", "--json")
    assert (absent.code, absent.json["what"]) == (2, "no such file")


def test_a_build_that_cannot_be_told_or_run(tmp_path: Path) -> None:
    """Two ways at once; a program that is not there; no pipeline."""
    both = backout(tmp_path, "diagnose", "build", "--log", "a", "--json", "--", "make")
    assert (both.code, both.json["error"]) == (2, "UsageError")
    gone = backout(tmp_path, "diagnose", "build", "--json", "--", "no-such-program-here")
    assert (gone.code, gone.json["where"]) == (2, "no-such-program-here")
    assert "No such file" in str(gone.json["what"])
    failing = backout(tmp_path, "diagnose", "build", "--json", "--", sys.executable, "-c", "import sys; sys.exit(3)")
    assert (failing.code, failing.json["cause"]) == (1, "unknown")
