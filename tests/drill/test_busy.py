"""A second backout on the same environment: exit 6 names the holder; an abort frees it, alive or dead."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from extent import long
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from drillbook import Drillbook, Trial

pytestmark = pytest.mark.rotating("drills", 5)

ROLLBACK = ("rollback", "-m", "it fails", "--confirm", "production", "--json")
GUARD = ("guard", "--json")


@contextlib.contextmanager
def holder(trial: Trial, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Have a command run until the block ends; it is past its first steps and watches."""
    process = trial.start(*command)
    try:
        until(
            lambda: trial.newest()["state"] == "running",
            20,
            "the first command to hold the environment",
            0.2,
            process=process,
        )
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.calm
@pytest.mark.parametrize(("first", "second"), [long(GUARD, GUARD), (ROLLBACK, GUARD), long(ROLLBACK, ROLLBACK)])
def test_second_command(drillbook: Drillbook, first: tuple[str, ...], second: tuple[str, ...]) -> None:
    """It is told who holds the environment and what to type, before it asks or plans anything."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good if first == GUARD else drillbook.bad)
    with holder(trial, *first) as process:
        ended = trial.run(*second)
        assert ended.code == 6, ended.err
        assert ended.json["error"] == "Busy"
        assert f"pid {process.pid}" in ended.json["what"]
        assert f"backout runs abort {trial.newest()['run_id']}" in ended.json["hint"]
        assert "Plan to" not in ended.err
        assert trial.run("rollback", "--dry-run", "--json").json["schema"].startswith("backout.")


@pytest.mark.calm
@pytest.mark.parametrize("observe", [False, long(True)])
def test_a_rollback_ends_a_watch(drillbook: Drillbook, observe: bool) -> None:
    """A person goes back while guard watches in another process: that one ends, and says who ended it and why."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    flag = ("--observe",) if observe else ()
    with holder(trial, *GUARD, *flag) as process:
        watch = trial.newest()["run_id"]
        trial.make_live(drillbook.bad)
        ended = trial.run(*ROLLBACK, "--no-wait")
        assert ended.code == 0, ended.err
        assert ended.json["live_version"] == drillbook.good
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 6, out + err
        if f"driven by pid {process.pid}" in ended.err:
            assert f"{watch} is ended" in ended.err
        else:  # it had seen the other deployment just before; then the rollback found nobody
            assert "took its place" in out + err
    assert trial.run("runs", "show", watch, "--json").json["state"] in ("aborted", "done")


@pytest.mark.long
@pytest.mark.calm
def test_a_rollback_ends_a_watch_that_nobody_drives(drillbook: Drillbook) -> None:
    """Its process is gone, it only observed: a person goes back with one command, and the record says why it ended."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    with holder(trial, *GUARD, "--observe") as process:
        watch = trial.newest()["run_id"]
        process.kill()
        process.communicate()
    trial.make_live(drillbook.bad)
    assert trial.newest()["state"] == "interrupted"
    ended = trial.run(*ROLLBACK, "--no-wait")
    assert (ended.code, ended.json["live_version"]) == (0, drillbook.good), ended.err
    assert f"{watch} (watch the deployment of version {drillbook.good}) was interrupted" in ended.err
    told = trial.run("timeline", "--json").json["events"]
    why = [each["text"] for each in told if each["run"] == watch and each["kind"] == "command"]
    assert why == [f"{watch} is to end: gave way to a person's rollback: it fails"]


@pytest.mark.calm
def test_abort_with_a_live_holder(drillbook: Drillbook) -> None:
    """The holder stops at its next boundary, exit 6; then the environment is free."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    with holder(trial, *GUARD) as process:
        asked = trial.run("runs", "abort", trial.newest()["run_id"], "-m", "enough", "--json")
        assert asked.code == 0, asked.err
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 6, out + err
        assert "was ended by" in err
        assert "(enough)" in err
    assert trial.newest()["state"] == "aborted"
    trial.make_live(drillbook.bad)
    assert trial.run(*ROLLBACK, "--no-wait").code == 0


@pytest.mark.long
@pytest.mark.calm
def test_abort_with_a_dead_holder(drillbook: Drillbook) -> None:
    """The run ends at once; until then another command is told that nobody drives it, and how to go on."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    with holder(trial, *ROLLBACK) as process:
        process.kill()
        process.communicate()
    trial.make_live(drillbook.bad)
    run = trial.newest()
    assert run["state"] == "interrupted"
    refused = trial.run(*GUARD)
    assert refused.code == 6
    assert "no process drives it" in refused.json["what"]
    assert f"backout runs resume {run['run_id']}" in refused.json["hint"]
    assert trial.run("runs", "abort", run["run_id"], "-m", "enough", "--json").json["state"] == "aborted"
    assert trial.run("runs", "resume", run["run_id"]).code == 2
    assert trial.run(*ROLLBACK, "--no-wait").code == 0


@pytest.mark.long
@pytest.mark.calm
def test_runs_that_are_not_there(drillbook: Drillbook) -> None:
    """An unknown id and a prefix that fits several are usage errors that say so."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    assert trial.run(*ROLLBACK, "--no-wait").code == 0
    trial.make_live(drillbook.good)
    for action in ("resume", "show", "abort"):
        unknown = trial.run("runs", action, "nope", "--json")
        assert unknown.code == 2
        assert "nope" in unknown.json["what"]
        assert unknown.json["hint"].startswith("backout runs list -e production")
    trial.replace((r'watch = "\d+s"', 'watch = "2s"'))
    trial.run("guard", "--json")
    ambiguous = trial.run("runs", "resume", "guard-", "--json")
    assert ambiguous.code == 2
    assert "may be" in ambiguous.json["what"]
