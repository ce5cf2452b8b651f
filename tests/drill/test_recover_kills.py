"""A recovery on real parts killed with -9 in each of its phases, then typed again, or taken back."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from recovery_night import Writer
from recovery_stage import (
    PRODUCTION,
    RECOVER,
    begin_night,
    check_ledger,
    check_once,
    check_taken_back,
    damage,
    kill_in,
    mark_point,
    open_lab,
    set_up,
)
from store_lab import Store, open_store

from extent import by_extent, drawn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recovery_lab import Lab

    from conftest import Record
    from drillbook import Drillbook

PHASES = (
    "db_side",
    "recover_maintenance",
    "recover_fence",
    "db_exchange",
    "db_start_server",
    "restore_objects",
    "recover_open",
    "recover_go_live",
)
DECISION = 3
CLOSED = PHASES[2:6]
"""Killed in one of these, it is closed whatever the moment: `status` says so before anything else."""
AGAIN, BACK = "typed again", "taken back"
KEPT = Path(name) if (name := os.environ.get("BACKOUT_RECOVER_KILLS")) else None
"""A file that keeps which kills ended well, one line each: a proof that was interrupted goes on behind them."""


def list_kills() -> list[tuple[str, str, int]]:
    """Return (phase, what follows, number): of each phase three are typed again and two taken back, 40 in all.

    `make test-all` tries one of each, one of them a day.
    """
    times = {AGAIN: by_extent(1, 1, proof=3), BACK: by_extent(1, 1, proof=2)}
    return [
        (phase, then, number)
        for number in range(max(times.values()))
        for then in times
        for phase in PHASES
        if number < times[then]
    ]


def read_kept(kept: Path | None = KEPT) -> set[tuple[str, str, int]]:
    """Return the kills that an earlier run has kept."""
    lines = kept.read_text(encoding="utf-8").splitlines() if kept and kept.is_file() else ()
    return {(phase, then, number) for phase, then, number in map(json.loads, lines)}


LEFT = [each for each in list_kills() if each not in read_kept()]


def claim(then: str) -> str:
    """Return what is shown, as the page of the proofs has it."""
    ends = {AGAIN: "same end, each effect once", BACK: "as it was before"}
    return f"a recovery on real parts killed with -9, then {then}: {ends[then]}, no acknowledged write lost"


def describe(kills: set[tuple[str, str, int]], then: str) -> str:
    """Return in which phases a recovery was killed, and how often."""
    counted = Counter(phase for phase, found, _ in kills if found == then)
    return ", ".join(f"{phase} {counted[phase]}" for phase in PHASES if counted[phase])


@pytest.fixture
def drillbook(fresh_drillbook: Drillbook) -> Drillbook:
    """Return a stage of its own: the drills change the secrets of what is live."""
    return fresh_drillbook


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("kills")) as made:
        yield made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.mark.long
@pytest.mark.calm
@pytest.mark.proof
@pytest.mark.rotating("recover kills", 2 * len(PHASES))
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("phase", "then", "number"), LEFT)
def test_killed_in_a_phase(
    drillbook: Drillbook, lab: Lab, store: Store, phase: str, then: str, number: int, proof: Record
) -> None:
    """Kill -9 in that step; what follows ends as if nothing had been, and no write came through the fence."""
    chance = drawn(f"recover {phase} {then} {number}")
    trial, bucket = set_up(drillbook, lab, store)
    with begin_night(drillbook, trial, store, bucket):
        with Writer(lab) as writer:
            marked, good = mark_point(trial, writer), store.list_live(bucket)
            bad = damage(drillbook, trial, lab, store, bucket)
            damaged = store.list_live(bucket)
            time.sleep(1.2)
            kill_in(trial, phase, RECOVER, chance.random() / 5)
            first = trial.newest()["run_id"]
            if phase in CLOSED:
                line = trial.run("status").out.splitlines()[0]
                assert "CLOSED by " in line, line
            if then == AGAIN:
                done = trial.run("recover", "--json")
                assert done.code in (0, 2), done.err  # 2: it was done before
            else:
                words = ("recover", "--undo", *PRODUCTION, "--no-wait", "--json")
                done = trial.run(*words)
                if done.code == DECISION:  # it was open meanwhile: what else goes back is agreed to, as it was asked
                    asked = dict.fromkeys(re.findall(r"--also-back ([^ `]+)", done.err))
                    done = trial.run(*words, *(word for each in asked for word in ("--also-back", each)))
                assert done.code == 0, done.err
            time.sleep(0.5)
        if then == AGAIN:
            assert trial.newest()["state"] == "done"
            check_ledger(trial, lab, writer, first, marked)
            check_once(trial, drillbook.good, first)
            assert store.list_live(bucket) == good
        else:
            check_taken_back(trial, lab, writer, first)
            assert trial.live() == bad
            assert store.list_live(bucket) == damaged
    proof(claim(then), trials=1, failures=0, note=describe({*read_kept(), *LEFT}, then))
    if KEPT:
        with KEPT.open("a", encoding="utf-8") as file:
            file.write(json.dumps([phase, then, number]) + "\n")


@pytest.mark.proof
def test_a_proof_goes_on_where_it_was_interrupted(tmp_path: Path, proof: Record) -> None:
    """What was seen is counted, and not tried again."""
    kept = tmp_path / "kept"
    assert read_kept(kept) == set()
    kept.write_text(json.dumps([PHASES[0], AGAIN, 0]) + "\n")
    assert read_kept(kept) == {(PHASES[0], AGAIN, 0)}
    for then in (AGAIN, BACK):
        if seen := [each for each in read_kept() if each[1] == then]:
            proof(claim(then), trials=len(seen), failures=0, note=describe({*read_kept(), *LEFT}, then))
