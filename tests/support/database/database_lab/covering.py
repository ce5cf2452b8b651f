"""Which combinations are tried, and what is known of each from an earlier run that was stopped."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from database_lab.damages import DAMAGES, PATHS, Damage
from database_lab.faults import FAULTS, Fault
from database_lab.outcomes import Outcome

from extent import PROOF, long

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

RESUME = "BACKOUT_LAB_RESUME"
"""Names a file, one line of JSON for each combination that ended; a proof that was stopped goes on behind them."""

UNCLAIMED = "nothing says that it is protected across a gap in the WAL (the lab)"
WENT_ON = "a restore that ends with 5 names a command, and that leads to a right end (the lab)"


@dataclass(frozen=True)
class Combination:
    """A damage, or a fault around one, on a path, beside a load or not."""

    what: Damage | Fault
    path: str
    busy: bool
    seed: int

    def __str__(self) -> str:
        return f"{self.what.name}, {self.path}, {'busy' if self.busy else 'quiet'}"


def combinations(*paths: str) -> Iterator[Combination]:
    """Yield every damage on every path, and every path beside a load and without; rescue and undo both for each.

    Where a path is tried once for a damage, loads alternate, so that half are busy and each path meets both.
    """
    for path in paths:
        for number, damage in enumerate(DAMAGES):
            both = (False, True) if path in ("rescue", "undo") else (number % 2 == PATHS.index(path) % 2,)
            for busy in both:
                yield Combination(damage, path, busy, seed=1000 * PATHS.index(path) + 10 * number + busy)


def faulty_combinations() -> Iterator[Combination]:
    """Yield every fault on both paths that read the archive; beside a load where the fault is not the server's end."""
    for number, fault in enumerate(FAULTS):
        for path in ("rescue", "side"):
            if path == "side" and fault.heals and fault.name != "the disk is full":
                continue  # a side instance asks the live database for nothing that these keep from it
            for busy in (False, True):
                yield Combination(fault, path, busy, seed=9000 + 10 * number + busy)


def chosen(every: Iterable[Combination], sample: int) -> list[Any]:
    """Return all of them in `make proof`, else a few, spread out, for `make test-all`."""
    found = list(every)
    if PROOF:
        return found
    return [long(each) for each in found[:: max(1, len(found) // sample)][:sample]]


def known(case: Combination, run: Callable[[], Outcome]) -> Outcome:
    """Return how a combination ended: as an earlier run wrote it down, or as it ends now, which is written down."""
    place = os.environ.get(RESUME)
    if place is None:
        return run()
    path = Path(place)
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        told = json.loads(line)
        if told["case"] == str(case) and told["seed"] == case.seed:
            return Outcome(**{name: value for name, value in told.items() if name not in ("case", "seed")})
    found = run()
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"case": str(case), "seed": case.seed, **asdict(found)}) + "\n")
    return found


def judged(case: Combination, outcome: Outcome, proof: Callable[..., None], bad: dict[tuple[str, str], str]) -> None:
    """Record a combination and judge it: everything is right, or what is not is named and the exit code is not 0.

    Nothing calls the database protected across a gap, and where a command ended with 5, what it named went on.

    Args:
        bad: what is known to go wrong, by (damage or fault, path), each with its reason.
    """
    why = bad.get((case.what.name, case.path))
    silent = bool(outcome.silent)
    done, stuck = outcome.code == 0 and bool(outcome.wrong), outcome.stuck
    proof("a restore loses or spoils no row without a word (the lab)", trials=1, failures=int(silent), note=why or "")
    proof("a restore that ends with 0 left nothing of the damage (the lab)", trials=1, failures=int(done))
    if outcome.claims is not None:
        proof(UNCLAIMED, trials=1, failures=int(bool(outcome.claims)))
    if stuck is not None:
        proof(WENT_ON, trials=1, failures=int(bool(stuck)))
    assert not outcome.claims, f"{case}: said across a gap: {outcome.claims}"
    assert not stuck, f"{case}: {stuck}\n{outcome.said[:3000]}"
    if silent and why is not None:
        pytest.xfail(why)
    assert not silent, f"{case}: exit code {outcome.code}; {outcome.silent}\n{outcome.said[:3000]}"
