"""Runs every detector on the same simulated watches, with exact counts and with production-shaped ones."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from shared import detect_scenarios as scenarios
from shared.detect_evaluator import backout
from shared.detect_figures import COLUMNS, EXACT, ORACLE, OURS, Figures, Runs
from shared.detect_oracle import oracle
from shared.detect_peers import PEERS
from shared.detect_traffic import as_in_production, batches, usual_quantile_ms
from shared.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from shared.detect_peers import Rule
    from shared.detect_scenarios import Scenario
    from shared.detect_traffic import Batch

    Floats = NDArray[np.float64]
    Task = tuple[Sequence[tuple[Scenario, int]], Sequence[str] | None]
    Line = tuple[str, str, str, list[float | None], list[float], list[float]]

_MOST_SECONDS = 400_000
"""Seconds of simulated watches that are evaluated together: enough to be fast, little enough for 2 GB."""
_MOST_REQUESTS = 25_000_000
_PART_SECONDS = 1_000_000
_OTHER_WATCHES = 1_000_000


def plan(size: str) -> list[tuple[Scenario, int]]:
    """Return every scenario with its number of runs: few for `quick`, the same for `standard` and `full`."""
    bad, healthy, hour = (3, 1, 0) if size == "quick" else (30, 10, 1)
    chosen = [(s, bad) for s in (*scenarios.bad(), *scenarios.short_baselines())]
    chosen += [(s, healthy) for noise in scenarios.Noise for s in scenarios.healthy(noise)]
    if hour:
        chosen += [(s, hour) for noise in scenarios.Noise for s in scenarios.healthy(noise, watch_s=3600)]
    if size != "quick":
        return chosen
    return [(s, n) for s, n in chosen if (s.rate, s.base_errors, s.baseline_s) == (5.0, 0.0005, 3600) and s.split > 0.1]  # noqa: PLR2004


def plan_alone(size: str) -> list[tuple[Scenario, int]]:
    """Return the healthy watches that backout judges alone, exactly counted: with `plan`, 10,000 of each noise.

    Of a shared outage those beside an old version count, two thirds of its scenarios.
    """
    if size != "full":
        return []
    return [
        (s, 180 if noise is scenarios.Noise.OUTAGE and s.split < 1 else 114)
        for noise in scenarios.Noise
        for s in scenarios.healthy(noise)
    ]


def plan_noise(noises: Sequence[scenarios.Noise], size: str) -> list[tuple[Scenario, int]]:
    """Return healthy watches of these noises with the default `slow_start`: 10,044 of each for `full`.

    Of a shared outage so many are beside an old version; the cut-overs come on top.
    """
    runs, beside = {"quick": (1, 1), "standard": (10, 15), "full": (124, 186)}[size]
    slow_start_s = scenarios.find_slow_start_s()
    return [
        (replace(s, slow_start_s=slow_start_s), beside if noise is scenarios.Noise.OUTAGE and s.split < 1 else runs)
        for noise in noises
        for s in scenarios.healthy(noise)
    ]


def measure(
    chosen: Sequence[tuple[Scenario, int]],
    seed: int,
    peers: Mapping[str, Rule] = PEERS,
    *,
    alone: Sequence[tuple[Scenario, int]] = (),
    jobs: int = 1,
    keep: Path | None = None,
) -> Figures:
    """Return the figures of all runs; they are the same for any number of `jobs` (processes).

    Args:
        alone: more runs, of which only backout judges the exact counts.
        keep: a file of what was measured, line by line: work that was stopped goes on from it.

    Raises:
        LookupError: a peer was not measured on any run.
    """
    figures = Figures()
    done, total = 0, sum(n for _, n in (*chosen, *alone))
    parts: list[Task] = [(part, tuple(peers)) for part in _parts(chosen)] + [(part, None) for part in _parts(alone)]
    known = Kept(keep, seed)
    left = [task for task in parts if known.get(_key(task)) is None]
    one = partial(_measured, seed=seed)
    with ProcessPoolExecutor(jobs) if jobs > 1 else nullcontext() as pool:
        fresh = iter(pool.map(one, left) if pool else map(one, left))
        for task in parts:
            if (lines := known.get(_key(task))) is None:
                measured = next(fresh)
                known.put(_key(task), [_line(*each) for each in measured] if keep is not None else True)
            else:
                measured = [_from_line(task[0], each) for each in lines]
            for each in measured:
                figures.add(*each)
            done += sum(n for _, n in task[0])
            if sys.stderr.isatty():
                print(f"\r{done:,} of {total:,} watches", end="", file=sys.stderr)
    missing = set(PEERS) - set(figures.detectors())
    if chosen and missing:
        raise LookupError(f"not measured: {', '.join(sorted(missing))}")
    return figures


def _key(task: Task) -> str:
    part, names = task
    what = ", ".join(f"{scenario} x {runs}" for scenario, runs in part)
    return f"{'alone' if names is None else ', '.join(names)}: {what}"


def _line(scenario: Scenario, column: str, name: str, runs: Runs) -> Line:
    delays = [delay if math.isfinite(delay) else None for delay in runs.delay_s.tolist()]
    return repr(scenario), column, name, delays, runs.requests.tolist(), runs.bad.tolist()


def _from_line(part: Sequence[tuple[Scenario, int]], line: Line) -> tuple[Scenario, str, str, Runs]:
    scenario = next(each for each, _ in part if repr(each) == line[0])
    delays = np.array([math.inf if delay is None else delay for delay in line[3]])
    return scenario, line[1], line[2], Runs(delays, np.array(line[4]), np.array(line[5]))


def _parts(chosen: Sequence[tuple[Scenario, int]]) -> Iterator[list[tuple[Scenario, int]]]:
    """Return the scenarios of the same split, length and warm-up, some thousand watches at a time."""
    kinds: dict[tuple[float, ...], list[tuple[Scenario, int]]] = {}
    for scenario, runs in chosen:
        kind = (scenario.split, scenario.watch_s, scenario.warm_up_s, scenario.slow_start_s)
        kinds.setdefault(kind, []).append((scenario, runs))
    for members in kinds.values():
        part: list[tuple[Scenario, int]] = []
        for member in members:
            part.append(member)
            if sum(scenario.watch_s * runs for scenario, runs in part) >= _PART_SECONDS:
                yield part
                part = []
        if part:
            yield part


def _measured(task: Task, *, seed: int) -> list[tuple[Scenario, str, str, Runs]]:
    """Return what was measured on a part by the named peers and backout, or (None) by backout alone, exactly."""
    part, names = task
    found: list[tuple[Scenario, str, str, Runs]] = []
    for number, together in enumerate(_pieces(part, seed if names is not None else seed + _OTHER_WATCHES)):
        peers = {name: PEERS[name] for name in names or ()}
        found += _evaluated(together, peers)
        if names is not None:
            rng = np.random.default_rng([seed, number, *together[0].scenario.name.encode()])
            found += _evaluated([as_in_production(batch, rng) for batch in together], peers)
    return found


def pieces_of(chosen: Sequence[tuple[Scenario, int]], seed: int) -> Iterator[list[Batch]]:
    """Return the watches of these scenarios, exactly counted, in lists of the same split, length and warm-up."""
    for part in _parts(chosen):
        yield from _pieces(part, seed)


def _pieces(part: Sequence[tuple[Scenario, int]], seed: int) -> Iterator[list[Batch]]:
    """Return batches of the same split, length and warm-up in lists that fit into memory."""
    together: list[Batch] = []
    for scenario, runs in part:
        for batch in batches(scenario, runs, seed):
            together.append(batch)
            seconds = sum(each.runs * each.scenario.watch_s for each in together)
            if seconds >= _MOST_SECONDS or sum(each.size for each in together) >= _MOST_REQUESTS:
                yield together
                together = []
    if together:
        yield together


def _evaluated(together: Sequence[Batch], peers: Mapping[str, Rule]) -> Iterator[tuple[Scenario, str, str, Runs]]:
    for batch, delays in zip(together, backout(together, acts=True), strict=True):
        served = _served(batch)
        column = COLUMNS[batch.lag_s > 0]
        results: dict[str, Floats | None] = {OURS: delays, **{name: rule(batch) for name, rule in peers.items()}}
        if batch.scenario.bad is not None and column == EXACT:
            results[ORACLE] = oracle(batch)
        for name, found in results.items():
            if found is not None:
                yield batch.scenario, column, name, _until(batch, found, served)


def _served(batch: Batch) -> tuple[Floats, Floats]:
    """Return running sums of the new version's answers and bad answers, as they really were."""
    bad, new = batch.scenario.bad, (batch.truth or batch).new
    slow = bad is not None and bad.slow
    failed = new.slower_than(usual_quantile_ms(0.95)) if slow else new.errors.sum(axis=2)
    zero = np.zeros((batch.runs, 1))
    sums = [np.concatenate([zero, np.cumsum(part, axis=1)], axis=1) for part in (new.requests.sum(axis=2), failed)]
    return sums[0], sums[1]


def _until(batch: Batch, found: Floats, served: tuple[Floats, Floats]) -> Runs:
    end = batch.scenario.watch_s
    delay = np.where(found + batch.lag_s <= end, found + batch.lag_s, np.inf)
    until = np.minimum(delay, end).astype(int)
    rows = np.arange(batch.runs)
    return Runs(delay, served[0][rows, until], served[1][rows, until])
