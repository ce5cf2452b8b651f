"""One process after the other, each killed with -9 at a random moment and followed by another one, until all is done.

What they do is written into a file that refuses nothing, and is counted there: the journal alone keeps them from doing
it twice. `BACKOUT_RELAY_SEED` plays another sequence of moments.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from journal import courier, toy

from backout.model.incident.incident import RunState

from extent import by_extent
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Record

KILLS = by_extent(4, 8, proof=200)
LEASE_S = 1.0
SEED = os.environ.get("BACKOUT_RELAY_SEED", "20261202")
ENDLESS = 1_000_000
HOSTS = ("north", "south")


def start(directory: Path, life: int, last: int, host: str | None) -> subprocess.Popen[bytes]:
    """Start the next process; what it says is kept."""
    argv = [sys.executable, courier.__file__, str(directory), "--last", str(last), "--ttl", str(LEASE_S)]
    argv += ["--begun", str(directory / f"{life}.begun")]
    argv += ["--host", host] if host else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (directory / f"{life}.log").open("wb") as log:
        return subprocess.Popen(argv, env=environment, stdout=log, stderr=log)


def is_at_work(directory: Path) -> bool:
    """Whether the newest run is not over."""
    with closing(courier.open_journal(directory, None, LEASE_S)) as journal:
        newest = courier.find_newest(journal)
        assert newest is not None
        return not newest.state.is_over


def check(directory: Path, last: int) -> tuple[int, int]:
    """Check what all of them have done; return how many runs there were, and how many open steps were probed."""
    effects = toy.World(directory).effects
    doubled = [each for each, times in Counter(effects).items() if times > 1]
    assert not doubled, f"seed {SEED}: done twice: {doubled}"
    assert effects == courier.list_effects(last), f"seed {SEED}: lost, or out of order"
    with closing(courier.open_journal(directory, None, LEASE_S)) as journal:
        assert journal.verify_chain().is_whole
        runs = journal.runs()
        assert {run.state for run in runs} == {RunState.DONE}
        begun = [courier.read_number(run) for run in runs if not run.plan.cause]
        assert begun == list(range(last, 0, -1)), f"seed {SEED}: a number has no run, or two"
        fences = [int(str(event.data["fence"])) for event in journal.events(kind="run.driven")]
        assert fences == sorted(set(fences))
        ended = [(event.run, event.step) for event in journal.events(kind="step.ok")]
        assert len(ended) == len(set(ended)) == sum(len(run.plan.steps) for run in runs)
        probed = sum(bool(event.data.get("probed")) for event in journal.events(kind="step.ok"))
    return len(runs), probed


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_processes_that_are_killed_and_replaced_lose_and_repeat_nothing(
    quick_path: Path, engine: str, proof: Record
) -> None:
    """On a server half of them are on another host than the one before, and wait for its lease of a second.

    Only kills that found a run under way count. A process is killed within some runs after it began to drive the first.
    """
    moments = random.Random(f"relay {SEED} {engine}")  # noqa: S311 a seed, no secret
    toy.journal_in(quick_path).close()  # on a server its database, which none of them is to make
    landed = lives = 0
    host = HOSTS[0] if engine == "postgres" else None
    while landed < KILLS:
        assert lives <= 5 * KILLS + 5, f"only {landed} of {lives} kills found a run under way"
        lives += 1
        host = moments.choice(HOSTS) if host else None
        process = start(quick_path, lives, ENDLESS, host)
        try:
            begun, log = quick_path / f"{lives}.begun", quick_path / f"{lives}.log"
            until(lambda begun=begun: begun.exists(), what="it drives a run", every_s=0.002)  # type: ignore[misc]
            time.sleep(moments.uniform(0.0, 0.3))
            assert process.poll() is None, log.read_text()
        finally:
            process.kill()
            process.wait()
        landed += is_at_work(quick_path)
    with closing(courier.open_journal(quick_path, None, LEASE_S)) as journal:
        newest = courier.find_newest(journal)
        assert newest is not None
        last = courier.read_number(newest)
    process = start(quick_path, lives + 1, last, host)
    assert process.wait(timeout=PATIENCE_S) == 0, (quick_path / f"{lives + 1}.log").read_text()
    runs, probed = check(quick_path, last)
    where = "a server" if engine == "postgres" else "SQLite"
    proof(
        f"journal on {where}: one process after the other killed with -9, each replaced by another: no run lost or "
        "repeated, no effect doubled",
        trials=landed,
        failures=0,
        note=f"tests/journal/test_journal_relay.py ({runs:,} runs, {probed} open steps found done by their probe)",
    )


def test_a_relay_that_did_something_else_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: for a line too many, one too few, or two that changed places."""
    monkeypatch.delenv(toy.SERVER, raising=False)
    process = start(tmp_path, 1, 3, None)
    assert process.wait(timeout=PATIENCE_S) == 0, (tmp_path / "1.log").read_text()
    assert check(tmp_path, 3) == (4, 0)
    path = tmp_path / "effects"
    lines = path.read_text().splitlines(keepends=True)
    doubled, lost, moved = [*lines, lines[2]], lines[:-1], [lines[1], lines[0], *lines[2:]]
    for changed, said in ((doubled, "done twice"), (lost, "lost"), (moved, "out of order")):
        path.write_text("".join(changed))
        with pytest.raises(AssertionError, match=said):
            check(tmp_path, 3)
