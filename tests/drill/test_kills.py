"""The real program killed with -9 at random moments, then typed again: right version, one activation, one report."""

from __future__ import annotations

import random
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from backout.analysis.history.remark_text import parse
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind

from extent import by_extent, rotated

if TYPE_CHECKING:
    from conftest import Record
    from drillbook import Drillbook, Trial

pytestmark = pytest.mark.rotating("drills", 5)

COMMANDS = {
    "rollback": ("rollback", "-m", "it fails", "--confirm", "production", "--json"),
    "guard": ("guard", "--json"),
}


def is_done(trial: Trial) -> bool:
    """Whether the journal holds a finished rollback."""
    newest = next(iter(trial.tools().runs.runs("production")), None)
    return newest is not None and newest.plan.kind is PlanKind.ROLLBACK and newest.state is RunState.DONE


def check(trial: Trial, bad_deployment: str) -> None:
    """The good version is live by one proof and one activation since the bad deployment, told in one report."""
    tools = trial.tools()
    history = tools.deployments.history()
    since = list(history[: next(i for i, d in enumerate(history) if d.id == bad_deployment)])
    assert history[0].sole == trial.book.good
    remarks = [parse(deployment.message) for deployment in since]
    kinds = [remark.kind for remark in remarks if remark is not None and remark.run.startswith("rollback-")]
    assert kinds == [RemarkKind.ROLLBACK, RemarkKind.PROVE]
    assert None not in remarks
    assert len(trial.reports()) == 1
    runs = [run for run in tools.runs.runs("production") if run.plan.kind is PlanKind.ROLLBACK]
    assert [run.state for run in runs] == [RunState.DONE]
    verified = tools.runs.result(runs[0].id, "verify")
    assert isinstance(verified, dict)
    assert verified["verified"] is True, verified["criteria"]


@pytest.mark.long
@pytest.mark.proof
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("command", rotated(["rollback", "guard"], 1))
def test_killed_at_random_moments_and_typed_again(drillbook: Drillbook, command: str, proof: Record) -> None:
    """Kill -9 somewhere in the whole course of the command; the same command again ends it as if nothing had been."""
    rounds = by_extent(1, 1, proof=25)
    chance = random.Random(f"{command} {rounds}")  # noqa: S311 - moments, no secret
    undisturbed = drillbook.trial()
    bad = undisturbed.make_live(drillbook.bad)
    began = time.monotonic()
    first = undisturbed.run(*COMMANDS[command])
    whole_s = time.monotonic() - began
    assert first.code == (1 if command == "guard" else 0), first.err
    check(undisturbed, bad.id)
    killed_inside = tries = 0
    while killed_inside < rounds:  # only kills that found the program still at work count
        tries += 1
        assert tries <= 10 * rounds, f"only {killed_inside} of {tries} kills found it still at work"
        trial = drillbook.trial()
        bad = trial.make_live(drillbook.bad)
        process = trial.start(*COMMANDS[command])
        try:
            process.communicate(timeout=chance.uniform(0.0, whole_s))
            whole_s *= 0.7  # the machine was busier while it was measured
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed_inside += 1
        if not is_done(trial):
            ended = trial.run(*COMMANDS[command])
            assert ended.code == (1 if command == "guard" else 0), ended.err
        check(trial, bad.id)
    proof(
        f"`backout {command}` killed with -9, then typed again: right version live, one activation, one report",
        trials=killed_inside,
        failures=0,
        note="tests/drill/test_kills.py",
    )
