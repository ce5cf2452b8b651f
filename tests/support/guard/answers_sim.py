"""Simulated answers by route and class, one row a second: what visitors ask, and how a version answers."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backout.analysis.detector.decision import Detector
from backout.model.guard.answers import AnswerClass
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, RouteCounts
from backout.model.guard.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backout.model.guard.verdict import Decision

AT = 1_760_000_000
NEW, OLD = "v2", "v1"
GOOD, ERROR = AnswerClass.GOOD, "5xx"
Kind = AnswerClass | str
"""A class of answers, or `ERROR`."""
Mix = dict[str, float]
"""Requests a second by route."""
Answers = dict[str, dict[Kind, float]]
"""Shares of each kind by route; what is left is good."""

SHOP: Mix = {
    "GET /": 4.0,
    "GET /app": 8.0,
    "GET /api/items": 5.0,
    "POST /api/orders": 0.1,
    "POST /login": 0.6,
    "GET /account": 1.5,
    "GET /assets/{file}": 6.0,
}
USUAL: Answers = {
    "GET /": {},
    "GET /app": {ERROR: 0.001, AnswerClass.NOT_FOUND: 0.002},
    "GET /api/items": {ERROR: 0.002, AnswerClass.BAD_REQUEST: 0.005},
    "POST /api/orders": {AnswerClass.BAD_REQUEST: 0.02},
    "POST /login": {AnswerClass.DENIED: 0.15},
    "GET /account": {AnswerClass.REDIRECT: 0.1},
    "GET /assets/{file}": {AnswerClass.NOT_FOUND: 0.01},
}


_BASELINES: dict[tuple[int, int], list[Counts]] = {}


@dataclass(frozen=True)
class World:
    """One watch.

    Args:
        mix, usual: what is asked and answered as a rule.
        visitors: mix at a second after the deployment.
        both: how both versions answer then, new: the new one alone.
    """

    mix: Mix = field(default_factory=lambda: dict(SHOP))
    usual: Answers = field(default_factory=lambda: dict(USUAL))
    visitors: Callable[[int, Mix], Mix] | None = None
    both: Callable[[int, Answers], Answers] | None = None
    new: Callable[[int, Answers], Answers] | None = None
    split: float = 1.0
    baseline_s: int = 900
    watch_s: int = 600


def all_of(kind: Kind, share: float = 1.0, *, only: str = "", since_s: int = 0) -> Callable[[int, Answers], Answers]:
    """Return that a share of the answers of every route, or of those whose name begins so, is of that kind."""

    def change(t: int, usual: Answers) -> Answers:
        if t < since_s:
            return usual
        return {
            name: {each: rest * (1 - share) for each, rest in known.items()} | {kind: share}
            if name.startswith(only)
            else known
            for name, known in usual.items()
        }

    return change


def more_of(**rates: float) -> Callable[[int, Mix], Mix]:
    """Return that routes are asked for so many times as often."""
    return lambda _, mix: {name: rate * rates.get(name, 1.0) for name, rate in mix.items()}


class Answering:
    """Rows of one world and seed."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 a simulation

    def baseline(self) -> list[Counts]:
        """Return the old version's rows before the deployment; those of a usual world are drawn once for a seed."""
        world = self._world
        usual = (world.mix, world.usual) == (SHOP, USUAL)
        key = (self._seed, world.baseline_s)
        if usual and key in _BASELINES:
            return _BASELINES[key]
        again = Answering(world, self._seed + 1_000_000)
        rows = [again._row(OLD, AT - t, world.mix, world.usual) for t in range(1, world.baseline_s + 1)]
        if usual:
            _BASELINES[key] = rows
        return rows

    def second(self, t: int) -> list[Counts]:
        """Return both versions' rows of a second after the deployment."""
        world = self._world
        mix = world.visitors(t, world.mix) if world.visitors else world.mix
        shared = world.both(t, world.usual) if world.both else world.usual
        alone = world.new(t, shared) if world.new else shared
        rows = [self._row(NEW, AT + t, _part(mix, world.split), alone)]
        if world.split < 1:
            rows.append(self._row(OLD, AT + t, _part(mix, 1 - world.split), shared))
        return [row for row in rows if row.requests]

    def _row(self, version: str, second: int, mix: Mix, answers: Answers) -> Counts:
        routes = {}
        for name, rate in mix.items():
            route = self._route(self._poisson(rate), answers.get(name, {AnswerClass.NOT_FOUND: 1.0}))
            if route.requests:
                routes[name] = route
        return row_of(version, second, routes)

    def _route(self, requests: int, shares: Mapping[Kind, float]) -> RouteCounts:
        found: dict[Kind, int] = {}
        for _ in range(requests):
            kind = self._draw(shares)
            found[kind] = found.get(kind, 0) + 1
        errors = found.pop(ERROR, 0)
        classes = {AnswerClass(kind): number for kind, number in found.items() if kind is not GOOD}
        return RouteCounts(requests, errors, classes=classes)

    def _draw(self, shares: Mapping[Kind, float]) -> Kind:
        left = self._random.random()
        for kind, share in shares.items():
            left -= share
            if left < 0:
                return kind
        return GOOD

    def _poisson(self, mean: float) -> int:
        number, left = 0, mean
        while (left := left - self._random.expovariate(1)) > 0:
            number += 1
        return number


def _part(mix: Mix, share: float) -> Mix:
    return {name: rate * share for name, rate in mix.items()}


def row_of(version: str, second: int, routes: Mapping[str, RouteCounts]) -> Counts:
    """Return the row that these routes make up."""
    classes: dict[AnswerClass, int] = {}
    for route in routes.values():
        for kind, number in route.classes.items():
            classes[kind] = classes.get(kind, 0) + number
    requests = sum(route.requests for route in routes.values())
    errors = sum(route.errors for route in routes.values())
    return Counts(version, second, requests, errors, routes=dict(routes), classes=classes)


@dataclass(frozen=True)
class Seen:
    """What came out of a watch: seconds until it was called regressed, or None, and the last decision."""

    regressed_s: int | None
    decision: Decision
    detector: Detector


def detector_of(world: World, answering: Answering, policy: Policy | None = None, **more: bool) -> Detector:
    """Return the detector of a watch, baseline included."""
    return Detector(
        version=NEW,
        old=OLD,
        deployed_at=AT,
        split=world.split,
        baseline=answering.baseline(),
        policy=policy or Policy(),
        **more,
    )


def watched(world: World, seed: int, policy: Policy | None = None) -> Iterator[tuple[int, Detector]]:
    """Yield (seconds since the deployment, detector) once a second."""
    answering = Answering(world, seed)
    detector = detector_of(world, answering, policy)
    for t in range(world.watch_s):
        detector.add(answering.second(t))
        detector.note_until(AT + t + 1)
        yield t + 1, detector


def see(world: World, seed: int = 0, policy: Policy | None = None) -> Seen:
    """Watch until the version is called regressed, or to the end."""
    for t, detector in watched(world, seed, policy):
        if detector.judge(AT + t)[0] is Verdict.REGRESSED:
            return Seen(t, detector.decide(AT + t), detector)
    return Seen(None, detector.decide(AT + t), detector)
