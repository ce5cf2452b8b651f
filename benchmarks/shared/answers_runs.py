"""Runs the live detector where people are answered otherwise; work that was stopped goes on where it was."""

from __future__ import annotations

import json
import math
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from shared import answers_scenarios as scenarios
from shared.answers_oracle import oracle
from shared.answers_traffic import DEPLOYED_AT, NEW, OLD, watches

from backout.analysis.decision import Detector
from backout.model.policy import Policy
from backout.model.probes import PairedAnswer, VersionAnswer
from backout.model.verdict import Cause, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from shared.answers_scenarios import Scenario
    from shared.answers_traffic import Watch

_CHUNK = 20
_EVERY_S = 10
"""A watch in which nothing bad was answered just now is looked at so often: nothing else can make it regress."""
_STATUS = {"404": 404, "401": 401, "3xx": 302}
Chunk = tuple["Scenario", int, int]


@dataclass
class Found:
    """The watches of one scenario: seconds until the rollback and until the oracle's, and how each ended."""

    delays: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)


def plan(size: str) -> list[tuple[Scenario, int]]:
    """Return every scenario with its number of watches; `full` has 10,000 of each noise."""
    bad, healthy = {"quick": (2, 1), "standard": (20, 20), "full": (30, 1112)}[size]
    chosen = [(scenario, bad) for scenario in scenarios.bad()]
    chosen += [(scenario, healthy) for noise in scenarios.Noise for scenario in scenarios.healthy(noise)]
    return chosen if size != "quick" else [(s, n) for s, n in chosen if s.rate == 5]  # noqa: PLR2004 the middle one


def measure(
    chosen: Sequence[tuple[Scenario, int]], seed: int, *, jobs: int = 1, keep: Path | None = None
) -> dict[Scenario, Found]:
    """Return what was found; the same for any number of `jobs` (processes).

    Args:
        keep: a file of what was measured, line by line: work that was stopped goes on from it.
    """
    known = _known(keep, seed)
    chunks = [(s, first, min(first + _CHUNK, n)) for s, n in chosen for first in range(0, n, _CHUNK)]
    found: dict[Scenario, Found] = {}
    done = {_key(chunk): known[_key(chunk)] for chunk in chunks if _key(chunk) in known}
    left = [chunk for chunk in chunks if _key(chunk) not in known]
    with (
        ProcessPoolExecutor(jobs) if jobs > 1 else nullcontext() as pool,
        keep.open("a", encoding="utf-8") if keep else nullcontext() as file,
    ):
        one = partial(_measured, seed=seed)
        for number, (chunk, lines) in enumerate(
            zip(left, pool.map(one, left) if pool else map(one, left), strict=True)
        ):
            done[_key(chunk)] = lines
            if file is not None:
                file.write(json.dumps([seed, _key(chunk), lines]) + "\n")
                file.flush()
            if sys.stderr.isatty():
                print(f"\r{number + 1:,} of {len(left):,} parts", end="", file=sys.stderr)
    for chunk in chunks:
        mine = found.setdefault(chunk[0], Found())
        for delay, best, end in done[_key(chunk)]:
            mine.delays.append(math.inf if delay is None else delay)
            mine.best.append(math.inf if best is None else best)
            mine.ends.append(end)
    return found


Line = tuple[float | None, float | None, str]


def _key(chunk: Chunk) -> str:
    scenario, first, last = chunk
    return f"{scenario.name}, watches {first} to {last}"


def _known(keep: Path | None, seed: int) -> dict[str, list[Line]]:
    if keep is None or not keep.exists():
        return {}
    known: dict[str, list[Line]] = {}
    for text in keep.read_text(encoding="utf-8").splitlines():
        try:
            of, key, lines = json.loads(text)
        except ValueError:
            continue  # the last line, cut off
        if of == seed:
            known[key] = lines
    return known


def _measured(chunk: Chunk, *, seed: int) -> list[Line]:
    scenario, first, last = chunk
    lines: list[Line] = []
    for watch in watches(scenario, first, last, seed):
        delay, end = _watched(scenario, watch)
        best = oracle(scenario, watch) if scenario.bad else math.inf
        lines.append((None if math.isinf(delay) else delay, None if math.isinf(best) else best, end))
    return lines


def _watched(scenario: Scenario, watch: Watch) -> tuple[float, str]:
    """Return after how many seconds a watch is rolled back, and how it ended."""
    is_cut_over = watch.old is None
    detector = Detector(
        version=NEW,
        old=OLD,
        deployed_at=DEPLOYED_AT,
        split=scenario.split,
        baseline=watch.before,
        policy=Policy(),
        watch_s=scenario.watch_s,
        can_ask=is_cut_over,
    )
    sides = [watch.new.rows] + ([watch.old.rows] if watch.old is not None else [])
    for second in range(scenario.watch_s):
        rows = [row for row in (side.get(second) for side in sides) if row is not None]
        detector.add(rows)
        now = DEPLOYED_AT + second + 1
        detector.note_until(now)
        if not (any(row.errors or row.classes for row in rows) or second % _EVERY_S == 0):
            continue
        verdict, cause, _ = detector.judge(now)
        if verdict is Verdict.REGRESSED:
            return second + 1.0, str(verdict)
        if is_cut_over and cause in (Cause.ANSWERS, Cause.OUTSIDE) and detector.wants_probe:
            detector.add_pairs(_pairs(scenario, now))
    verdict, cause, _ = detector.judge(DEPLOYED_AT + scenario.watch_s)
    return math.inf, f"{verdict}{', held' if cause is Cause.ANSWERS else ''}"


def _pairs(scenario: Scenario, now: float) -> Sequence[PairedAnswer]:
    """Return what both versions answer to two safe requests: the home page, and one that the shift is about."""
    bad: Mapping[str, int] = {}
    routes = ("GET /", "GET /search")
    if scenario.bad is not None:
        status = _STATUS[scenario.bad.to.value]
        bad = {route: status for route in routes if scenario.bad.moves(route) == 1}
    return [
        PairedAnswer(now, route.partition(" ")[2], VersionAnswer(bad.get(route, 200)), VersionAnswer(200))
        for route in routes
    ]
