"""Three workers, many environments, faults in a third: workers are killed, and the servers say how it went."""

from __future__ import annotations

import random
import signal
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from fleet import fleet
from journal import toy
from journal_engines import journal_server

from extent import by_extent
from polling import until

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Record

__all__ = ["journal_server"]

ENVIRONMENTS = by_extent(6, 6, proof=60)
WORKERS = 3
KILLED_EVERY_S = 20.0
LASTS_S = by_extent(40, 40, proof=300)
"""How long workers are killed, and versions deployed."""
MOST_GAP_S = 15.0
"""Between two looks at an environment, by the clock of the server that is looked at."""


@pytest.mark.long
@pytest.mark.proof
@pytest.mark.timeout(2400)
@pytest.mark.rotating("workers", 4)
def test_every_bad_version_is_rolled_back_once_and_no_good_one(
    tmp_path: Path, journal_server: str, monkeypatch: pytest.MonkeyPatch, proof: Record
) -> None:
    """A third gets a bad version, a third a good one; each killed worker is replaced at once."""
    monkeypatch.setenv(toy.SERVER, journal_server)
    chance = random.Random(f"fleet {ENVIRONMENTS}")  # noqa: S311 - moments, no secret
    with fleet(tmp_path, ENVIRONMENTS, journal_url=toy.url_of(tmp_path), rate=4.0, watch="30s") as made:
        running = [made.start_worker() for _ in range(WORKERS)]
        until(lambda: len(made.read_guards()) == ENVIRONMENTS, 60, "all are guarded")
        names = chance.sample(made.names, 2 * ENVIRONMENTS // 3)
        bad, good = names[::2], names[1::2]
        due = sorted((chance.uniform(5.0, LASTS_S - 5.0), name) for name in names)
        began, killed, next_kill = time.monotonic(), 0, KILLED_EVERY_S
        since = time.time()
        while (elapsed := time.monotonic() - began) < LASTS_S:
            while due and due[0][0] <= elapsed:
                _, name = due.pop(0)
                made.deploy(name, "bad-2" if name in bad else "good-2")
            if elapsed >= next_kill:
                next_kill += KILLED_EVERY_S
                place = chance.randrange(WORKERS)
                running[place].send_signal(signal.SIGKILL)
                running[place] = made.start_worker()
                killed += 1
            time.sleep(0.2)
        until(lambda: all(made.read_live(name) == "good-1" for name in bad), 90, "every bad version is gone")
        ended = time.time()
        looks = made.read_looks()
        switches = {name: [each for each in made.read_switches(name) if " auto " in each["message"]] for name in names}
        gaps = {name: find_gap(looks[name], since, ended) for name in made.names}
        assert {name: len(switches[name]) for name in bad} == dict.fromkeys(bad, 1)
        assert {name: len(switches[name]) for name in good} == dict.fromkeys(good, 0)
        assert {made.read_live(name) for name in good} == {"good-2"}
        longest = max(gaps.values())
        took = sorted(switches[name][0]["at"] - made.read_switches(name)[1]["at"] for name in bad)
        note = (
            f"{WORKERS} workers, {ENVIRONMENTS} environments, {killed} workers killed: longest gap {longest:.1f} s; "
            f"a bad version was live for {took[len(took) // 2]:.1f} s (median), {took[-1]:.1f} s (longest)"
        )
        claim = "each bad version is rolled back once and no good one, by workers of which one is killed every 20 s"
        proof(claim, trials=len(names), failures=0, note=note)
        late = [name for name, gap in gaps.items() if gap > MOST_GAP_S]
        claim = "no environment is left alone for more than 15 s while workers are killed"
        proof(claim, trials=ENVIRONMENTS, failures=len(late), note=note)


def find_gap(looks: list[float], since: float, until_at: float) -> float:
    """Return the longest time without a look, in seconds."""
    times = [since, *(at for at in looks if since < at < until_at), until_at]
    return max(after - before for before, after in pairwise(times))
