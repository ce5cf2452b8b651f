"""Ctrl-C and SIGTERM: the first stops at the boundary and prints how to resume, the second stops now."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from typing import TYPE_CHECKING

import pytest
from api_gate import Answer, Gate, api_gate

from extent import long
from polling import PATIENCE_S, until
from streamed import await_line

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from drillbook import Drillbook, Trial

pytestmark = pytest.mark.rotating("drills", 5)

ROLLBACK = ("rollback", "-m", "it fails", "--confirm", "production", "--json")
SHORT = (r'watch = "\d+s"', 'watch = "10s"')


@pytest.fixture
def gate(drillbook: Drillbook) -> Iterator[Gate]:
    """Stand before the twin's counts of requests."""
    with api_gate(f"{drillbook.stage.twin.ingress_url}/twin/v1") as made:
        yield made


def counted_through(gate: Gate) -> tuple[str, str]:
    """Return the change of a configuration that has the counts come through a gate."""
    return (r'url = "[^"]*/twin/v1"', f'url = "{gate.url}"')


def is_at(trial: Trial, action: str) -> bool:
    """Whether a rollback is being driven and its next step is this one; how many come before depends on the stage."""
    newest = trial.tools().journal.runs("production")[0]
    comes = newest.plan.steps[newest.steps_done :][:1]
    return newest.plan.kind == "rollback" and newest.state == "running" and [step.action for step in comes] == [action]


@contextlib.contextmanager
def held_at_verification(trial: Trial, gate: Gate, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Start a rollback and lend it in the middle of its verification: its source of counts answers when the block ends.

    However slow the machine is, the verification is not over before.
    """
    is_there, goes_on = threading.Event(), threading.Event()

    def hold(_method: str, path: str) -> None:
        if "/counts" in path and not goes_on.is_set() and is_at(trial, "verify"):
            is_there.set()
            goes_on.wait(PATIENCE_S)

    gate.before = hold
    process = trial.start(*command)
    try:
        until(is_there.is_set, 20, "the verification", 0.1, process=process)
        yield process
    finally:
        goes_on.set()


@pytest.mark.calm
@pytest.mark.parametrize(
    ("command", "number"),
    [
        long("guard", signal.SIGTERM),
        ("rollback", signal.SIGINT),
        long("guard", signal.SIGINT),
        long("rollback", signal.SIGTERM),
    ],
)
def test_once(drillbook: Drillbook, gate: Gate, command: str, number: signal.Signals) -> None:
    """It ends with 130 and the resume command; resume finishes what was begun."""
    trial = drillbook.trial().replace(SHORT, counted_through(gate))
    trial.make_live(drillbook.good)
    if command == "rollback":
        trial.make_live(drillbook.bad)
        with held_at_verification(trial, gate, *ROLLBACK) as process:
            process.send_signal(number)
    else:
        process = trial.start("guard", "--early", "--json")
        await_line(process, '"tick"')
        process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, out + err
    run = trial.newest()
    assert f"backout runs resume {run['run_id']}" in err
    assert '"exit_code":130' in out.splitlines()[-1]
    assert run["state"] == "interrupted"
    resumed = trial.run("runs", "resume", run["run_id"], "--json")
    # On a busy machine a short watch may end without a verdict on latency, and what is left of a verification may be
    # too short for any answer; that it goes on to its end, and says so, is the point.
    unmeasured = command == "guard" or "nothing that proves health could be measured" in resumed.err
    assert resumed.code == 0 or (resumed.code == 7 and unmeasured), resumed.err
    assert resumed.json["live_version"] == drillbook.good
    assert trial.newest()["state"] == "done"


@pytest.mark.long
@pytest.mark.calm
def test_a_watch_of_what_is_live_ends_with_what_was_seen(drillbook: Drillbook) -> None:
    """`backout watch` in another shell sees a rollback, and changes nothing; Ctrl-C is its regular end."""
    trial, other = drillbook.trial(), drillbook.trial()
    trial.make_live(drillbook.bad)
    process = other.start("watch", "--json", "--every", "1s")
    await_line(process, f'"live_version":"{drillbook.bad}"')
    assert trial.run(*ROLLBACK, "--for", "5s").json["seen"]["looks"] > 0
    line = json.loads(await_line(process, f'"live_version":"{drillbook.good}"'))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    ended = json.loads(out.splitlines()[-1])
    assert process.returncode == {True: 0, False: 1, None: 7}[ended["verified"]], err
    assert (line["type"], line["left_version"], ended["type"]) == ("reading", drillbook.bad, "result")
    assert [each["version"] for each in ended["seen"]["versions"]] == [drillbook.bad, drillbook.good]
    assert list(other.tools().runs.runs("production")) == list(drillbook.trial().tools().runs.runs("production"))


@pytest.mark.long
@pytest.mark.calm
def test_twice(drillbook: Drillbook) -> None:
    """The second one does not wait for a step that takes for ever."""
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        trial = drillbook.trial().replace(SHORT).behind(gate.url)
        bad = trial.make_live(drillbook.bad)
        gate.when("POST", "/deployments", Answer(after=True, held=True), after_posts=gate.posts() + 1)  # the switch
        process = trial.start(*ROLLBACK)
        until(
            lambda: is_at(trial, "activate") and trial.live() == drillbook.good,
            20,
            "the switch",
            0.1,
            process=process,
        )
        process.send_signal(signal.SIGINT)
        await_line(process, "Ctrl-C again", stream=process.stderr)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130, err
        assert trial.newest()["state"] == "interrupted"
        assert trial.run(*ROLLBACK, "--no-wait").code == 0
        assert trial.tools().deployments.history()[2].id == bad.id


@pytest.mark.long
@pytest.mark.calm
def test_the_same_command_again_with_its_target(drillbook: Drillbook, gate: Gate) -> None:
    """`rollback TARGET`, stopped, and typed again, is the same run; another target is told which one that was."""
    trial = drillbook.trial().replace(counted_through(gate))
    trial.make_live(drillbook.bad)
    typed = ("rollback", drillbook.good[:8], *ROLLBACK[1:])
    with held_at_verification(trial, gate, *typed) as process:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    run = trial.newest()
    assert (process.returncode, run["state"]) == (130, "interrupted"), out + err
    other = trial.run("rollback", drillbook.bad, *ROLLBACK[1:])
    assert other.code == 6
    assert f"a rollback to version {drillbook.good}, was interrupted" in other.json["what"]
    assert f"backout runs resume {run['run_id']}" in other.json["hint"]
    again = trial.run(*typed)
    assert again.code in (0, 7), again.err  # a busy machine may leave the error rate undecided
    assert (again.json["run_id"], again.json["live_version"]) == (run["run_id"], drillbook.good)
    assert trial.newest()["state"] == "done"
