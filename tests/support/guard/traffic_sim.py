"""Simulated traffic as counts per second: Poisson requests, lognormal latencies with a slow tail, all from one seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from values import replace

from backout.analysis.detector.decision import Detector
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, find_bucket
from backout.model.guard.verdict import Decision, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

DEPLOYED_AT = 1_760_000_000
NEW, OLD = "v2", "v1"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a version answers: share of errors, factor on all latencies, factor on the slow 3 %."""

    error_rate: float = 0.0005
    latency_factor: float = 1.0
    tail_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One watch. `bad` and `both` change the new or both versions' behaviour at a second after the deployment.

    Args:
        clustered: errors and latency of both versions vary by minute (CV 0.35 and 6 %).
    """

    rate: float = 5.0
    split: float = 1.0
    baseline_s: int = 3600
    watch_s: int = 900
    usual: Behaviour = Behaviour()
    bad: Callable[[int, Behaviour], Behaviour] | None = None
    both: Callable[[int, Behaviour], Behaviour] | None = None
    clustered: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """When the new version was called regressed and healthy, in seconds after the deployment, and the last decision."""

    regressed_s: int | None
    healthy_s: int | None
    decision: Decision


def always(**changes: float) -> Callable[[int, Behaviour], Behaviour]:
    """Return a behaviour that is changed from the first second on."""
    return lambda _, usual: replace(usual, **changes)


def outage(begin_s: int = 200, end_s: int = 320) -> Callable[[int, Behaviour], Behaviour]:
    """Return the outage of a dependency: 20 % errors and latency x1.5 for two minutes."""
    return lambda t, b: replace(b, error_rate=0.2, latency_factor=1.5 * b.latency_factor) if begin_s <= t < end_s else b


MOST_PASTS = 16
_PASTS: dict[tuple[Any, ...], tuple[list[Counts], Any, dict[int, tuple[float, float]]]] = {}
"""By what was drawn from: the rows of a baseline, and what Python's generator and the minutes were afterwards."""


class Traffic:
    """Counts per version and second of one scenario and seed."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._random = random.Random(seed)  # noqa: S311 a simulation
        self._minutes: dict[int, tuple[float, float]] = {}

    def baseline(self) -> list[Counts]:
        """Return the old version's counts before the deployment; those of equal pasts are drawn once."""
        scenario = self._scenario
        past = (scenario.rate, scenario.baseline_s, scenario.usual, scenario.clustered, self._random.getstate())
        if past not in _PASTS:
            while len(_PASTS) >= MOST_PASTS:
                _PASTS.pop(next(iter(_PASTS)))
            seconds = range(-scenario.baseline_s, 0)
            rows = [row for t in seconds if (row := self._row(OLD, t, scenario.rate, self._usual(t)))]
            _PASTS[past] = rows, self._random.getstate(), self._minutes.copy()
        rows, state, self._minutes = _PASTS[past][0], _PASTS[past][1], _PASTS[past][2].copy()
        self._random.setstate(state)
        return rows.copy()

    def second(self, t: int) -> list[Counts]:
        """Return both versions' counts of second `t` after the deployment."""
        scenario = self._scenario
        old = self._usual(t)
        old = scenario.both(t, old) if scenario.both else old
        new = scenario.bad(t, old) if scenario.bad else old
        rows = [self._row(NEW, t, scenario.rate * scenario.split, new)]
        if scenario.split < 1:
            rows.append(self._row(OLD, t, scenario.rate * (1 - scenario.split), old))
        return [row for row in rows if row is not None]

    def _usual(self, t: int) -> Behaviour:
        usual = self._scenario.usual
        if not self._scenario.clustered:
            return usual
        if t // 60 not in self._minutes:
            self._minutes[t // 60] = (self._random.gammavariate(8, 1 / 8), math.exp(self._random.gauss(0, 0.06)))
        errors, latency = self._minutes[t // 60]
        return replace(usual, error_rate=usual.error_rate * errors, latency_factor=usual.latency_factor * latency)

    def _row(self, version: str, t: int, rate: float, behaviour: Behaviour) -> Counts | None:
        requests = self._poisson(rate)
        if not requests:
            return None
        errors = sum(self._random.random() < behaviour.error_rate for _ in range(requests))
        latency: dict[int, int] = {}
        for _ in range(requests):
            bucket = find_bucket(self._latency_ms(behaviour))
            latency[bucket] = latency.get(bucket, 0) + 1
        return Counts(version, DEPLOYED_AT + t, requests, errors, latency=latency)

    def _latency_ms(self, behaviour: Behaviour) -> float:
        slow = self._random.random() < 0.03
        median_ms = 250 * behaviour.tail_factor if slow else 81
        return median_ms * math.exp((0.4 if slow else 0.35) * self._random.gauss(0, 1)) * behaviour.latency_factor

    def _poisson(self, mean: float) -> int:
        """Return a Poisson number by counting exponential gaps (fit for small means)."""
        number, left = 0, mean
        while (left := left - self._random.expovariate(1)) > 0:
            number += 1
        return number


def detector(
    scenario: Scenario,
    traffic: Traffic,
    policy: Policy | None = None,
    *,
    unseen: str = "",
    declared: Collection[str] | None = None,
) -> Detector:
    """Return the detector of a watch, baseline included."""
    return Detector(
        version=NEW,
        old=OLD,
        deployed_at=DEPLOYED_AT,
        split=scenario.split,
        baseline=traffic.baseline(),
        policy=policy or Policy(),
        unseen=unseen,
        declared=declared,
    )


def watch(scenario: Scenario, seed: int, policy: Policy | None = None) -> Outcome:
    """Watch one scenario, one look a second, until it is called regressed or the watch ends."""
    traffic = Traffic(scenario, seed)
    judge = detector(scenario, traffic, policy)
    healthy_s: int | None = None
    for t in range(scenario.watch_s):
        judge.add(traffic.second(t))
        verdict, _, _ = judge.judge(DEPLOYED_AT + t + 1)
        if verdict is Verdict.REGRESSED:
            return Outcome(t + 1, healthy_s, judge.decide(DEPLOYED_AT + t + 1))
        if verdict is Verdict.HEALTHY and healthy_s is None:
            healthy_s = t + 1
    return Outcome(None, healthy_s, judge.decide(DEPLOYED_AT + scenario.watch_s))
