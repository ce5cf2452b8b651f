"""Runs the live detector on shifts in answers; interrupted work is resumed."""

from __future__ import annotations

import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from shared import answers_scenarios as scenarios
from shared.answers_oracle import oracle
from shared.answers_scenarios import Noise
from shared.answers_traffic import DEPLOYED_AT, NEW, OLD, RETIRED, watches
from shared.kept import Kept

from backout.analysis.detector.decision import Detector
from backout.analysis.detector.persistence import make_persistence
from backout.analysis.shifts.turns import Turns
from backout.analysis.statistics.baseline import MINUTE_S
from backout.model.guard.policy import Policy, SyntheticCheck
from backout.model.guard.probes import PairedAnswer, VersionAnswer
from backout.model.guard.verdict import Cause, Verdict
from backout.runbook.probing.pairs import PAIRED_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from shared.answers_scenarios import Scenario
    from shared.answers_traffic import Watch

    from backout.model.guard.signals import Counts

_CHUNK = 20
_EVERY_S = 10
"""A watch in which nothing bad was answered just now is looked at so often: nothing else can make it regress."""
_STATUS = {"404": 404, "401": 401, "3xx": 302}
_ASKED = ("/", "/search")
"""What both versions may be asked: the home page, and what most shifts are about, without what needs a login."""
_DEPLOYS_S, _ANSWERS_S = 1.0, 0.05
"""How long it takes to put the old version beside the new one, and to ask both."""
Chunk = tuple["Scenario", int, int]


@dataclass
class Found:
    """The watches of one scenario: seconds until the rollback and the oracle's, how each ended, the versions asked."""

    delays: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    asked: list[bool] = field(default_factory=list)


def plan(size: str) -> list[tuple[Scenario, int]]:
    """Return every scenario with its number of watches; `full` has 10,000 of each noise."""
    bad, healthy = {"quick": (2, 1), "standard": (20, 20), "full": (30, 1112)}[size]
    chosen = [(scenario, bad) for scenario in scenarios.bad()]
    chosen += [(scenario, healthy) for noise in scenarios.Noise for scenario in scenarios.healthy(noise)]
    return chosen if size != "quick" else [(s, n) for s, n in chosen if s.rate == 5]  # noqa: PLR2004 the middle one


def measure(
    chosen: Sequence[tuple[Scenario, int]],
    seed: int,
    *,
    jobs: int = 1,
    keep: Path | None = None,
    within_s: float = math.inf,
) -> dict[Scenario, Found]:
    """Return what was found; the same for any number of `jobs` (processes).

    Args:
        keep: a file of what was measured, line by line: work that was stopped goes on from it.
        within_s: after so long no further watches are begun: of all scenarios about as many were measured by then.
    """
    known, until = Kept(keep, seed), time.monotonic() + within_s
    chunks = [(s, first, min(first + _CHUNK, n)) for s, n in chosen for first in range(0, n, _CHUNK)]
    chunks.sort(key=lambda chunk: chunk[1])
    found: dict[Scenario, Found] = {}
    left = [chunk for chunk in chunks if known.get(_key(chunk)) is None]
    with ProcessPoolExecutor(jobs) if jobs > 1 else nullcontext() as pool:
        one = partial(_measured, seed=seed)
        every = pool.map(one, left) if pool else map(one, left)
        for number, (chunk, lines) in enumerate(zip(left, every, strict=True)):
            known.put(_key(chunk), lines)
            if sys.stderr.isatty():
                print(f"\r{number + 1:,} of {len(left):,} parts", end="", file=sys.stderr)
            if time.monotonic() > until:
                if pool:
                    pool.shutdown(cancel_futures=True)
                break
    for chunk in chunks:
        if (lines := known.get(_key(chunk))) is None:
            continue
        mine = found.setdefault(chunk[0], Found())
        for delay, best, end, asked in lines:
            mine.asked.append(asked)
            mine.delays.append(math.inf if delay is None else delay)
            mine.best.append(math.inf if best is None else best)
            mine.ends.append(end)
    return found


Line = tuple[float | None, float | None, str, bool]


def _key(chunk: Chunk) -> str:
    scenario, first, last = chunk
    return f"{scenario.name}, watches {first} to {last}"


def _measured(chunk: Chunk, *, seed: int) -> list[Line]:
    scenario, first, last = chunk
    lines: list[Line] = []
    for watch in watches(scenario, first, last, seed):
        delay, end, asked = _watched(scenario, watch)
        best = oracle(scenario, watch) if scenario.bad else math.inf
        lines.append((None if math.isinf(delay) else delay, None if math.isinf(best) else best, end, asked))
    return lines


def _watched(scenario: Scenario, watch: Watch) -> tuple[float, str, bool]:
    """Return after how many seconds a watch is rolled back, how it ended, and whether both versions were asked."""
    is_cut_over = watch.old is None
    detector = make_detector(scenario, watch)
    asking = Asking(scenario)
    for last, rows in group_seconds(scenario, watch, asking):
        detector.add(rows)
        now = DEPLOYED_AT + last + 1
        detector.note_until(now)
        pairs = asking.pairs(now, detector.suspected) if asking.is_going_on(now) else []
        detector.add_pairs(pairs)
        if not (pairs or any(row.errors or row.classes for row in rows) or last % _EVERY_S == 0):
            continue
        if detector.has_regressed(now):
            return last + 1.0, str(Verdict.REGRESSED), asking.has_begun
        if is_cut_over and not asking.has_begun and detector.wants_probe:
            asking.begin(now)
    verdict, cause, _ = detector.judge(DEPLOYED_AT + scenario.watch_s)
    held = ", held" if cause is Cause.ANSWERS else ""
    return math.inf, f"{verdict}{held}", asking.has_begun


def make_detector(scenario: Scenario, watch: Watch) -> Detector:
    """Return the live detector at the moment of the deployment."""
    return Detector(
        version=NEW,
        old=OLD,
        deployed_at=DEPLOYED_AT,
        split=scenario.split,
        baseline=watch.before,
        policy=Policy(),
        watch_s=scenario.watch_s,
        can_ask=watch.old is None,
    )


def group_seconds(scenario: Scenario, watch: Watch, asking: Asking) -> Iterator[tuple[int, list[Counts]]]:
    """Yield rows of seconds, and the last of these: calm ones together, since nothing is judged in between.

    A group lies within one minute and one stretch, and no second that is judged lies inside of it, so that the
    detector is in the same state whenever it is asked. While both versions are asked every second may be judged.
    """
    end = scenario.watch_s
    persistence = make_persistence(end, Policy().guard.slow_start_s)
    lengths = (persistence.stretch_s, persistence.unit_s, persistence.extreme_s) if persistence is not None else ()
    every_second = np.arange(end)
    is_calm = np.logical_and.reduce([side.is_calm for side in watch.sides])
    alone = ~is_calm | (every_second % _EVERY_S == 0)
    is_begin = alone | np.roll(alone, 1)
    for length in (MINUTE_S, *lengths):
        is_begin |= every_second % length == 0
    begins = np.flatnonzero(is_begin).tolist()
    every = zip(*(side.rows(begins, end) for side in watch.sides), strict=True)
    for begin, after, rows in zip(begins, (*begins[1:], end), every, strict=True):
        if after - begin == 1 or not asking.is_going_on(DEPLOYED_AT + begin + 1):
            yield after - 1, [row for row in rows if row is not None]
            continue
        seconds = range(begin, after)
        for second, *found in zip(seconds, *(side.rows(seconds, after) for side in watch.sides), strict=True):
            yield second, [row for row in found if row is not None]


class Asking:
    """Pairs as guard asks for them, for a minute: the first ones a second after they are wanted, then at its pace."""

    def __init__(self, scenario: Scenario) -> None:
        self._turns = Turns([SyntheticCheck(path) for path in _ASKED], Random(7).shuffle)  # noqa: S311 a simulation
        self._answers = {path: _answer(scenario, f"GET {path}") for path in _ASKED}
        self._next_at = self._until = -math.inf
        self.has_begun = False

    def begin(self, now: float) -> None:
        """Deploy the old version at 0 %, which takes a second."""
        self.has_begun = True
        self._next_at, self._until = now + _DEPLOYS_S, now + PAIRED_S

    def is_going_on(self, now: float) -> bool:
        """Whether there is time left."""
        return now <= self._until

    def pairs(self, now: float, suspected: frozenset[str]) -> list[PairedAnswer]:
        """Return what came in until now."""
        self._turns.suspected = suspected
        found = []
        while self._next_at <= now:
            check = self._turns.take()
            found.append(PairedAnswer(now, check.path, self._answers[check.path], VersionAnswer(200)))
            self._turns.note(check, found[-1])
            self._next_at += self._turns.pace_s + _ANSWERS_S
        return found


def _answer(scenario: Scenario, route: str) -> VersionAnswer:
    """Return what the new version answers to guard's own request for a route; the old one answers 200."""
    if scenario.bad is not None and scenario.bad.moves(route) == 1:
        return VersionAnswer(_STATUS[scenario.bad.to.value])
    is_retired = scenario.noise is Noise.RETIRED and route == RETIRED
    return VersionAnswer(410 if is_retired else 200)
