"""Two workers on different hosts and one Postgres, paused, killed, cut off, their clocks put wrong: nothing twice.

`BACKOUT_TEAM_SCHEDULES` names a file that keeps what was seen, one line a schedule: a proof that was interrupted goes
on behind it. A seed that failed is played again with `BACKOUT_TEAM_SEED=N`.
"""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cut_proxy import cut_proxy
from journal.team_history import count_late, count_takeovers, find_faults
from swap_platform import ask_platform, swap_platform
from team_stage import KINDS, draw_schedule, play

from extent import DAY, PROOF, by_extent
from polling import until

if TYPE_CHECKING:
    from conftest import Record

SCHEDULES = by_extent(2, 4, proof=300)
AT_ONCE = 3
"""So many are played at the same time: each of them mostly waits."""
KEPT = Path(name) if (name := os.environ.get("BACKOUT_TEAM_SCHEDULES")) else None
CLAIM = (
    "two workers on different hosts and one Postgres, paused, killed, cut off, clocks jumping: no double activation, "
    "no lost run, no stale write, chain whole, every environment goes on"
)
Seen = dict[str, int]


def list_seeds() -> list[int]:
    """Return which schedules are played: in `make proof` always the same, else others on each day."""
    if "BACKOUT_TEAM_SEED" in os.environ:
        return [int(os.environ["BACKOUT_TEAM_SEED"])]
    first = 0 if PROOF else DAY * SCHEDULES
    return list(range(first, first + SCHEDULES))


def read_kept(kept: Path | None) -> dict[int, Seen]:
    """Return what earlier runs have seen, by seed."""
    lines = kept.read_text(encoding="utf-8").splitlines() if kept and kept.is_file() else ()
    return {seen.pop("seed"): seen for seen in map(json.loads, lines)}


def try_seed(seed: int, folder: Path, server: str) -> Seen:
    """Play the schedule of a seed; fails where its history breaks a promise, naming the seed."""
    folder.mkdir()
    schedule = draw_schedule(seed)
    try:
        history = play(schedule, folder, server)
    except Exception as error:
        raise AssertionError(f"BACKOUT_TEAM_SEED={seed}: {schedule}\n{error}") from error
    faults = find_faults(history)
    assert not faults, f"BACKOUT_TEAM_SEED={seed}: {schedule}\n" + "\n".join(faults)
    counted = Counter(trouble.kind for trouble in schedule.troubles)
    counted["activations"] = sum(each.accepted and each.register == "version" for each in history.changes)
    counted["takeovers"] = count_takeovers(history)
    counted["under an old fence"] = count_late(history)
    return dict(counted)


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_a_disturbed_team_does_nothing_twice_and_loses_nothing(
    quick_path: Path, journal_server: str, proof: Record
) -> None:
    """Whatever the schedule; each environment goes on when the last trouble is over."""
    seeds = list_seeds()
    known = read_kept(KEPT)
    seen = {seed: known[seed] for seed in seeds if seed in known}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        played = {
            pool.submit(try_seed, seed, quick_path / str(seed), journal_server): seed
            for seed in seeds
            if seed not in known
        }
        try:
            for done in as_completed(played):
                seen[played[done]] = done.result()
                if KEPT:
                    with KEPT.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"seed": played[done], **done.result()}) + "\n")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    totals = sum((Counter(each) for each in seen.values()), Counter())
    if len(seeds) >= 100:
        assert set(KINDS) <= set(totals)
        assert totals["takeovers"] >= len(seeds) / 3, "nothing was put to the test"
        assert totals["under an old fence"], "no process woke up with an old fence"
    told = ", ".join(f"{count:,} {what}" for what, count in sorted(totals.items()))
    proof(CLAIM, trials=len(seeds), failures=0, note=f"tests/journal/test_journal_team_faults.py ({told})")


def test_a_proof_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    """What was seen is counted, and not played again."""
    assert read_kept(tmp_path / "kept") == {}
    (tmp_path / "kept").write_text('{"seed": 3, "takeovers": 2}\n')
    assert read_kept(tmp_path / "kept") == {3: {"takeovers": 2}}


def test_a_schedule_is_its_seed_s_alone() -> None:
    """What failed can be played again; among some tens every kind of trouble comes up."""
    assert draw_schedule(7) == draw_schedule(7) != draw_schedule(8)
    kinds = {trouble.kind for seed in range(50) for trouble in draw_schedule(seed).troubles}
    assert kinds == set(KINDS)


def test_the_platform_refuses_what_it_is_not_at_and_does_what_nobody_waits_for_any_more() -> None:
    """A change whose caller was killed or cut off happens all the same, later; what never arrived does not."""
    with swap_platform() as platform:
        asked = {"what": "swap", "environment": "alpha", "register": "version", "worker": "w", "fence": 1}
        first = ask_platform(platform.port, **asked, expected=0, wanted=1, run="r1")
        second = ask_platform(platform.port, **asked, expected=0, wanted=1, run="r2")
        assert (first["accepted"], second["accepted"], second["maker"]) == (True, False, "r1")
        with cut_proxy(platform.port) as proxy:
            proxy.drop()
            with pytest.raises(OSError):  # noqa: PT011 whichever the system has for it
                ask_platform(proxy.port, **asked, expected=1, wanted=2, run="r3")
            proxy.heal()
        late = {**asked, "expected": 1, "wanted": 2, "run": "r4", "before_s": 0.2}
        with socket.create_connection(("127.0.0.1", platform.port)) as caller:
            caller.sendall(json.dumps(late).encode() + b"\n")
        until(lambda: platform.read_registers() == {("alpha", "version"): 2}, what="what was under way arrives")
        assert [(change.run, change.accepted) for change in platform.changes] == [
            ("r1", True),
            ("r2", False),
            ("r4", True),
        ]
