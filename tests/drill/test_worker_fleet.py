"""Three workers, environments on three platforms, faults in a third: workers are killed, servers say how that went."""

from __future__ import annotations

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from fleet import fleet
from journal import toy
from journal_engines import journal_server

from extent import by_extent
from polling import until

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from fleet import Fleet

    from conftest import Record

__all__ = ["journal_server"]

SCRIPTED = by_extent(4, 4, proof=48)
ON_TWIN = by_extent(1, 1, proof=6)
ON_HOSTS = by_extent(1, 1, proof=6)
ENVIRONMENTS = SCRIPTED + ON_TWIN + ON_HOSTS
WORKERS = 3
KILLED_EVERY_S = 20.0
LASTS_S = by_extent(40, 40, proof=300)
"""How long workers are killed, and versions deployed."""
MOST_GAP_S = 15.0
"""Between two looks at an environment, by the clock of the server that is looked at."""
GONE_WITHIN_S = 90.0


@pytest.mark.long
@pytest.mark.proof
@pytest.mark.timeout(2400)
@pytest.mark.rotating("workers", 4)
def test_every_bad_version_is_rolled_back_once_and_no_good_one(
    tmp_path: Path, journal_server: str, monkeypatch: pytest.MonkeyPatch, proof: Record
) -> None:
    """A third of each platform gets a bad version, a third a good one; each killed worker is replaced at once."""
    monkeypatch.setenv(toy.SERVER, journal_server)
    chance = random.Random(f"fleet {ENVIRONMENTS}")  # noqa: S311 - moments, no secret
    mixed = {"on_twin": ON_TWIN, "on_hosts": ON_HOSTS, "rate": 4.0, "watch": "30s"}
    with fleet(tmp_path, SCRIPTED, journal_url=toy.url_of(tmp_path), **mixed) as made:
        running = [made.start_worker() for _ in range(WORKERS)]
        until(lambda: len(made.read_guards()) == ENVIRONMENTS, 60, "all are guarded")
        bad, good = choose(made, chance)
        due = sorted((chance.uniform(5.0, LASTS_S - 5.0), name) for name in (*bad, *good))
        began, killed, next_kill = time.monotonic(), 0, KILLED_EVERY_S
        since = time.time()
        deployed: list[Future[str]] = []
        with ThreadPoolExecutor(4) as pipelines:  # to push a release takes seconds, and nobody waits for it
            while (elapsed := time.monotonic() - began) < LASTS_S:
                while due and due[0][0] <= elapsed:
                    _, name = due.pop(0)
                    deployed.append(pipelines.submit(made.deploy, name, "bad-2" if name in bad else "good-2"))
                if elapsed >= next_kill:
                    next_kill += KILLED_EVERY_S
                    place = chance.randrange(WORKERS)
                    running[place].send_signal(signal.SIGKILL)
                    running[place] = made.start_worker()
                    killed += 1
                time.sleep(0.2)
        for each in deployed:
            each.result()
        until(lambda: all(made.read_live(name) == "good-1" for name in bad), GONE_WITHIN_S, "every bad version is gone")
        ended = time.time()
        looks = made.read_looks()
        expected = {name: ["good-1"] for name in made.names}
        expected |= {name: ["good-1", "bad-2", "good-1"] for name in bad}
        expected |= {name: ["good-1", "good-2"] for name in good}
        assert {name: made.read_served(name) for name in made.names} == expected
        switches = {name: made.read_switches(name) for name in made.names}
        back = {name: [each for each in switches[name] if " auto " in each["message"]] for name in made.names}
        assert {name: len(each) for name, each in back.items() if each} == dict.fromkeys(bad, 1)
        assert all(made.read_live(name) == versions[-1] for name, versions in expected.items())
        gaps = {name: find_gap(looks[name], since, ended) + made.find_part(name).blur_s for name in made.names}
        took = sorted(back[name][0]["at"] - find_first(switches[name], "bad-2") for name in bad)
        longest = ", ".join(f"{max(gaps[name] for name in part.names):.1f} s {part.place}" for part in made.parts)
        note = (
            f"{WORKERS} workers, {ENVIRONMENTS} environments, {killed} workers killed: longest gap {longest}; "
            f"a bad version was live for {took[len(took) // 2]:.1f} s (median), {took[-1]:.1f} s (longest)"
        )
        claim = "each bad version is rolled back once and no good one, by workers of which one is killed every 20 s"
        proof(claim, trials=len(bad) + len(good), failures=0, note=note)
        late = [name for name, gap in gaps.items() if gap > MOST_GAP_S]
        claim = "no environment is left alone for more than 15 s while workers are killed"
        proof(claim, trials=ENVIRONMENTS, failures=len(late), note=note)


def choose(made: Fleet, chance: random.Random) -> tuple[list[str], list[str]]:
    """Return a third of the applications of each platform that gets a bad version, and one that gets a good one.

    Of a platform with a single application that one gets the bad one.
    """
    chosen = [chance.sample(part.names, max(1, 2 * len(part.names) // 3)) for part in made.parts]
    return [name for names in chosen for name in names[::2]], [name for names in chosen for name in names[1::2]]


def find_first(switches: list[dict[str, object]], version: str) -> float:
    """Return when a version was made live first."""
    return next(float(str(each["at"])) for each in switches if each["version"] == version)


def find_gap(looks: list[float], since: float, until_at: float) -> float:
    """Return the longest time without a look, in seconds."""
    times = [since, *(at for at in looks if since < at < until_at), until_at]
    return max(after - before for before, after in pairwise(times))
