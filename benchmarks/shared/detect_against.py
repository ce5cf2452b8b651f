"""Today's detector compared with an earlier commit's on the same watches: run as a program, it prints one's delays."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
from shared import detect_scenarios as scenarios
from shared import versions
from shared.detect_evaluator import backout
from shared.detect_runs import pieces_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Delays = Mapping[str, Sequence[float]]

RUNS = {"quick": 2, "standard": 10, "full": 60}
_DRAWS = 2000
_EVALUATOR = tuple(f"benchmarks/shared/{name}.py" for name in ("detect_evaluator", "detect_arrays"))


def chosen(size: str) -> list[tuple[scenarios.Scenario, int]]:
    """Return the bad deployments that are compared, with their number of watches."""
    every = [s for s in scenarios.bad() if s.bad is not None and not s.bad.heals_s]
    return [(s, RUNS[size]) for s in every if size != "quick" or (s.rate, s.base_errors) == (5.0, 0.0005)]


def delays(size: str, seed: int) -> dict[str, list[float]]:
    """Return by scenario after how many seconds each watch is rolled back, its whole length where it never is."""
    found: dict[str, list[float]] = {}
    for together in pieces_of(chosen(size), seed):
        for batch, after in zip(together, backout(together), strict=True):
            known = np.minimum(after, batch.scenario.watch_s)
            found.setdefault(batch.scenario.name, []).extend(known.tolist())
    return found


def delays_at(commit: str, size: str, seed: int, folder: Path) -> dict[str, list[float]]:
    """Return the delays of the detector of a commit, on the same watches.

    Args:
        folder: an empty folder.
    """
    copy = versions.copy_at(commit, folder, *_EVALUATOR)
    argv = [str(copy.python), "-m", "shared.detect_against", size, str(seed)]
    env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    done = subprocess.run(
        argv, cwd=copy.folder / "benchmarks", env=env, capture_output=True, text=True, check=False, timeout=7200
    )
    if done.returncode:
        sys.exit(f"the detector of {commit} cannot judge today's watches: {done.stderr.strip()[-500:]}")
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def compared(new: Delays, old: Delays, size: str) -> dict[str, object]:
    """Return a `backout.benchmark/1`: by family mean delay / the earlier one's, at 5 requests/s and more.

    Watches are paired, so that what chance made of them is the same on both sides; a watch that is never rolled back
    counts with its whole length.
    """
    ratios: dict[str, float] = {}
    bounds: dict[str, list[float]] = {}
    samples: dict[str, list[float]] = {}
    source = np.random.default_rng(1)
    names_of: dict[str, list[str]] = {}
    for scenario, _ in chosen(size):
        if scenario.bad is not None and scenario.rate >= 5:  # noqa: PLR2004 as everywhere
            names_of.setdefault(_family(scenario.bad), []).append(scenario.name)
    for family, names in names_of.items():
        mine, theirs = (np.array([x for name in names for x in side[name]]) for side in (new, old))
        key = f"new_over_old_{family}"
        ratios[key] = float(mine.mean() / theirs.mean())
        bounds[key] = _bounds(mine, theirs, source)
        samples[f"new_{family}"], samples[f"old_{family}"] = mine.tolist(), theirs.tolist()
    return {
        "schema": "backout.benchmark/1",
        "name": "detect",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "samples": samples,
        "ratios": ratios,
        "n": {key: len(samples[key.replace("new_over_old", "new")]) for key in ratios},
        "bound95": bounds,
    }


def _family(bad: scenarios.Bad) -> str:
    return (
        f"{bad.family} of {'latency' if bad.slow else 'errors'}" if bad.family is scenarios.Family.LEAK else bad.family
    )


def _bounds(mine: NDArray[np.float64], theirs: NDArray[np.float64], source: np.random.Generator) -> list[float]:
    rows = source.integers(0, len(mine), (_DRAWS, len(mine)))
    low, high = np.quantile(mine[rows].mean(axis=1) / theirs[rows].mean(axis=1), [0.025, 0.975])
    return [float(low), float(high)]


if __name__ == "__main__":
    print(json.dumps(delays(sys.argv[1], int(sys.argv[2]))))
