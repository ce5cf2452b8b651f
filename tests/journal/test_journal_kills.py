"""kill -9 everywhere: before and after each commit and each effect, and at random moments; then a resume."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from journal import toy

from backout.errors import DecisionNeeded
from backout.model.incident.incident import RunState

from extent import by_extent, sampled
from polling import until

if TYPE_CHECKING:
    from backout.model.incident.incident import Run

    from conftest import Record

SCRIPT = Path(toy.__file__)
RANDOM_KILLS = by_extent(4, 8, proof=200)
pytestmark = pytest.mark.usefixtures("engine")
EXPECTED = {"probed": 2, "handing": 3, "blind": 3}


def command(directory: Path, plan: str, *more: str) -> list[str]:
    return [sys.executable, str(SCRIPT), str(directory), plan, *more]


def resume(directory: Path, plan: str) -> Run:
    """Go on in this process as a person would: the same command, and an answer where one is asked for."""
    world = toy.World(directory)
    journal = toy.journal_in(directory)
    actions = toy.actions_in(world)
    known = journal.runs()
    run = known[-1].id if known else journal.submit(toy.plan_named(plan), actor="me", reason="resume")
    try:
        return journal.drive(run, actions, actor="me")
    except DecisionNeeded:
        before = world.effects
        key = f"{run}:1"
        found = journal.find(run)
        assert found is not None
        assert found.state is RunState.BLOCKED
        with pytest.raises(DecisionNeeded):
            journal.drive(run, actions, actor="me")
        assert world.effects == before, "a blind irreversible step was retried without a person's decision"
        journal.ask(run, "decide:done" if key in before else "decide:retry", actor="me", reason="I looked")
        return journal.drive(run, actions, actor="me")
    finally:
        journal.close()


def prove(directory: Path, plan: str) -> None:
    """Check the promise on what a kill and a resume left behind."""
    journal = toy.journal_in(directory)
    effects = toy.World(directory).effects
    assert len(effects) == len(set(effects)), f"doubled: {effects}"
    assert len(effects) == EXPECTED[plan], f"lost: {effects}"
    assert {run.state for run in journal.runs()} == {RunState.DONE}
    assert journal.verify_chain().is_whole
    ended: set[tuple[str, int | None]] = set()
    started: set[str] = set()
    for event in journal.events(kind="step.*"):
        assert (event.run, event.step) not in ended, f"{event.kind} after the completion of {event.run}:{event.step}"
        if event.kind == "step.start":
            started.add(f"{event.run}:{event.step}")
        if event.kind == "step.ok":
            ended.add((event.run, event.step))
    assert set(effects) <= started, "an effect without a start recorded before it"
    journal.close()


@pytest.mark.proof
@pytest.mark.parametrize("plan", ["handing", "blind"])
def test_a_kill_at_every_commit_and_every_effect_loses_and_doubles_nothing(tmp_path: Path, plan: str) -> None:
    """Whatever point the process dies at, the resumed run ends as one that was never killed."""
    whole = tmp_path / "whole"
    whole.mkdir()
    told = subprocess.run(command(whole, plan), capture_output=True, text=True, check=True)
    points = json.loads(told.stdout)["points"]
    assert len(points) >= 22, points
    prove(whole, plan)
    for number in (1 + place for place in sampled(len(points), 5, 3)):
        directory = tmp_path / str(number)
        directory.mkdir()
        killed = subprocess.run(command(directory, plan, "--die", str(number)), capture_output=True, check=False)
        assert killed.returncode == -9, (points[number - 1], killed.stderr)
        assert resume(directory, plan).state is RunState.DONE, points[number - 1]
        prove(directory, plan)


def killed_at_random(directory: Path, plan: str, within_s: float, moments: random.Random) -> bool:
    """Kill the toy at a random moment after it began; return whether its work was not over by then."""
    with subprocess.Popen(command(directory, plan), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        until((directory / "begun").exists, what="the child begins", every_s=0.0005)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=moments.uniform(0.0, within_s))
        child.kill()
    journal = toy.journal_in(directory)
    known = journal.runs()
    journal.close()
    return not known or not known[0].state.is_over


@pytest.mark.proof
def test_random_kills_lose_and_double_nothing(tmp_path: Path, proof: Record) -> None:
    """Killed at a random moment, in the middle of commits and system calls too, a run is resumed to the same end.

    Only kills that found the work unfinished count. How long the work takes depends on the machine, so the moments
    follow it: each kill that came too late shortens the time they are drawn from, each other one lengthens it.
    """
    moments = random.Random(20_251_125)  # noqa: S311 a seed, not a secret
    landed = tries = 0
    within_s = 0.03
    while landed < RANDOM_KILLS:
        tries += 1
        assert tries <= 5 * RANDOM_KILLS, f"only {landed} of {tries} kills found the work unfinished"
        directory = tmp_path / str(tries)
        directory.mkdir()
        plan = ("probed", "handing", "blind")[tries % 3]
        in_time = killed_at_random(directory, plan, within_s, moments)
        within_s = min(max(within_s * (1.1 if in_time else 0.85), 0.002), 0.5)
        landed += in_time
        assert resume(directory, plan).state is RunState.DONE
        prove(directory, plan)
    proof(
        "journal: killed with -9 at a random moment, resumed: nothing lost, nothing done twice, no blind repetition",
        trials=landed,
        failures=0,
        note="tests/journal/test_journal_kills.py",
    )
