"""Simulated requests by route and class of answer, as rows of counts for the live detector; seeded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from shared.answers_scenarios import NAMES, ROUTES, UNKNOWN, USUAL_ERRORS, Noise
from shared.detect_traffic import shares_of_buckets

from backout.model.guard.answers import AnswerClass
from backout.model.guard.signals import BUCKETS, Counts, RouteCounts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from shared.answers_scenarios import Scenario

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

DEPLOYED_AT = 1_760_000_000
NEW, OLD = "v2", "v1"
CLASSES = tuple(kind for kind in AnswerClass if kind is not AnswerClass.GOOD)
_SHARES = np.array([route.share for route in ROUTES])
_USUAL = np.array([[route.usual.get(kind, 0.0) for kind in CLASSES] for route in ROUTES])
_BUCKETS = shares_of_buckets(np.zeros(1))[0].cumsum()
RETIRED = "GET /search"
_AT = {name: place for place, name in enumerate(NAMES)}
_DENIED, _BAD, _MISSING, _GONE = (
    CLASSES.index(kind)
    for kind in (AnswerClass.DENIED, AnswerClass.BAD_REQUEST, AnswerClass.NOT_FOUND, AnswerClass.GONE)
)


def usual(route: str, kind: AnswerClass) -> float:
    """Return the usual share of a class on a route."""
    return float(_USUAL[_AT[route], CLASSES.index(kind)])


@dataclass(frozen=True)
class Side:
    """The answers of one version: (seconds, routes, classes) beside good answers and errors.

    Args:
        requests, errors: (seconds, routes).
        unknown: by second, requests for what was never requested before, answered 404.
        latency: (seconds, BUCKETS).
    """

    version: str
    requests: Ints
    errors: Ints
    classes: Ints
    unknown: Ints
    latency: Ints

    @property
    def is_calm(self) -> NDArray[np.bool_]:
        """Whether all answers of a second were good."""
        return ~(self.errors.any(axis=1) | self.classes.any(axis=(1, 2)) | (self.unknown > 0))

    def rows(self, begins: Sequence[int], end: int) -> list[Counts | None]:
        """Return a row for each group of seconds, as of its last second; None where nothing was requested.

        Args:
            begins: the first second of each group; it ends where the next one begins.
            end: the second after the last group.
        """
        parts = (self.requests, self.errors, self.classes, self.unknown, self.latency)
        requests, errors, classes, unknown, latency = (np.add.reduceat(part[:end], begins, axis=0) for part in parts)
        every = _routes(requests, errors, classes)
        for group in np.flatnonzero(unknown).tolist():
            number = int(unknown[group])
            every[group][UNKNOWN] = RouteCounts(number, 0, {}, {AnswerClass.NOT_FOUND: number})
        lasts = (*(begin - 1 for begin in begins[1:]), end - 1)
        return [
            _row(self.version, DEPLOYED_AT + last, routes, slow) if routes else None
            for last, routes, slow in zip(lasts, every, _histograms(latency), strict=True)
        ]


@dataclass
class _Setting:
    """The environment of both versions.

    Args:
        volume: factors on requests, by second and route.
        added: more requests, answered badly, by second, route and class.
        moved: shares of the good answers that move, the same.
        latency: log factors.
        unknown: requests for what was never requested before.
    """

    volume: Floats
    added: Floats
    moved: Floats
    latency: Floats
    unknown: Floats


def _setting(scenario: Scenario, rng: np.random.Generator, seconds: int) -> _Setting:
    one = np.ones((seconds, len(ROUTES)))
    none = np.zeros((seconds, len(ROUTES), len(CLASSES)))
    found = _Setting(one, none, none.copy(), np.zeros(seconds), np.zeros(seconds))
    begin, length = int(rng.uniform(0, seconds * 0.6)), int(rng.uniform(60, 300))
    at, grade = slice(begin, begin + length), rng.uniform(0.3, 1.0)
    login, account, orders, home = (_AT[n] for n in ("POST /login", "GET /account", "POST /api/orders", "GET /"))
    match scenario.noise:
        case Noise.ATTACK:  # passwords are tried: three times the traffic of the site, all denied
            found.added[at, login, _DENIED] = 3 * grade * scenario.rate
        case Noise.CRAWLER:  # paths that are none
            found.unknown[at] = 3 * grade * scenario.rate
        case Noise.CAMPAIGN:  # three times the visitors, on one page, and a link in it that leads nowhere
            found.volume[at, home] = 1 + 6 * grade
            found.volume[at, orders] = 1 + 2 * grade
            found.unknown[at] = 0.3 * grade * scenario.rate
            found.added[at, home, _MISSING] = 0.1 * grade * scenario.rate
        case Noise.LOGOUT:  # sessions end, and each visitor logs in again
            left = np.clip(1 - np.arange(length) / length, 0, 1)[: max(0, seconds - begin)]
            found.moved[begin : begin + len(left), account, _DENIED] = 0.8 * grade * left
            found.volume[begin : begin + len(left), login] = 1 + 3 * grade * left
        case Noise.IDENTITY:  # all logins fail
            found.moved[at, login, _DENIED] = grade
            found.moved[at, account, _DENIED] = 0.5 * grade
        case Noise.PURGE:  # answers come from farther away for a while
            found.latency[begin : begin + 20] = math.log(1 + grade)
            found.volume[at, _AT["GET /assets"]] = 1 + grade
        case Noise.RETIRED:  # the new version's own: one route is gone
            pass
        case Noise.RELEASE:  # an application on telephones sends what no version understands
            found.added[at, orders, _BAD] = 0.3 * grade * scenario.rate
    return found


def _answered(
    scenario: Scenario, rng: np.random.Generator, setting: _Setting, share: float, *, new: bool
) -> tuple[Ints, Ints, Ints, Ints]:
    """Return requests, errors, classes of the known routes, and requests for what is unknown."""
    seconds = len(setting.volume)
    requests = rng.poisson(scenario.rate * share * _SHARES * setting.volume)
    usual_shares = np.broadcast_to(_USUAL, (seconds, len(ROUTES), len(CLASSES)))
    good = 1 - usual_shares.sum(axis=2, keepdims=True)
    moved = setting.moved.copy()
    if new and scenario.bad is not None:
        to = CLASSES.index(scenario.bad.to)
        for place, name in enumerate(NAMES):
            moved[:, place, to] = np.maximum(moved[:, place, to], scenario.bad.moves(name))
    if new and scenario.noise is Noise.RETIRED:
        moved[:, _AT[RETIRED], _GONE] = 1.0
    shares = usual_shares + good * moved
    shares = np.concatenate([shares, np.clip(1 - shares.sum(axis=2, keepdims=True), 0, None)], axis=2)
    classes = rng.multinomial(requests, shares / shares.sum(axis=2, keepdims=True))[..., :-1]
    errors = np.minimum(rng.binomial(requests, USUAL_ERRORS), requests - classes.sum(axis=2))
    added = rng.poisson(setting.added * share)
    return requests + added.sum(axis=2), errors, classes + added, rng.poisson(setting.unknown * share)


def _side(scenario: Scenario, rng: np.random.Generator, setting: _Setting, *, new: bool) -> Side:
    share = scenario.split if new else 1 - scenario.split
    requests, errors, classes, unknown = _answered(scenario, rng, setting, share, new=new)
    latency = _latencies(rng, requests.sum(axis=1) + unknown, setting.latency)
    return Side(NEW if new else OLD, requests, errors, classes, unknown, latency)


def _routes(requests: Ints, errors: Ints, classes: Ints) -> list[dict[str, RouteCounts]]:
    """Return the routes that were requested, for each group of seconds or minute."""
    kinds: dict[tuple[int, int], dict[AnswerClass, int]] = {}
    for group, place, kind in np.argwhere(classes).tolist():
        kinds.setdefault((group, place), {})[CLASSES[kind]] = int(classes[group, place, kind])
    found: list[dict[str, RouteCounts]] = []
    for group, (asked, failed) in enumerate(zip(requests.tolist(), errors.tolist(), strict=True)):
        found.append(
            {
                NAMES[place]: RouteCounts(number, failed[place], {}, kinds.get((group, place), {}))
                for place, number in enumerate(asked)
                if number
            }
        )
    return found


def _row(version: str, second: int, routes: dict[str, RouteCounts], latency: dict[int, int]) -> Counts:
    kinds: dict[AnswerClass, int] = {}
    for route in routes.values():
        for kind, number in route.classes.items():
            kinds[kind] = kinds.get(kind, 0) + number
    requests = sum(route.requests for route in routes.values())
    errors = sum(route.errors for route in routes.values())
    return Counts(version, second, requests, errors, latency=latency, routes=routes, classes=kinds)


def _latencies(rng: np.random.Generator, every: Ints, log_factor: Floats) -> Ints:
    """Return the histogram of each second."""
    buckets = np.searchsorted(_BUCKETS, rng.random(int(every.sum())))
    moved = np.repeat(log_factor, every) / math.log(1.044)
    buckets = np.clip(buckets + moved.astype(np.int64), 0, BUCKETS - 1)
    flat = np.repeat(np.arange(len(every)), every) * BUCKETS + buckets
    return np.bincount(flat, minlength=len(every) * BUCKETS).reshape(len(every), BUCKETS)


def _histograms(latency: Ints) -> list[dict[int, int]]:
    found: list[dict[int, int]] = [{} for _ in latency]
    groups, buckets = np.nonzero(latency)
    numbers = latency[groups, buckets].tolist()
    for group, bucket, number in zip(groups.tolist(), buckets.tolist(), numbers, strict=True):
        found[group][bucket] = number
    return found


@dataclass(frozen=True)
class Watch:
    """One watch: rows of the old version before it, and both sides (`old` is None in a cut-over)."""

    before: list[Counts]
    new: Side
    old: Side | None

    @property
    def sides(self) -> tuple[Side, ...]:
        """The new version's, and the old one's beside it."""
        return (self.new,) if self.old is None else (self.new, self.old)


def _before(scenario: Scenario, rng: np.random.Generator) -> list[Counts]:
    """Return a row for each minute before, and one for each failure in the second of its own."""
    minutes = scenario.baseline_s // 60
    calm = _Setting(
        np.full((minutes, len(ROUTES)), 60.0),
        np.zeros((minutes, len(ROUTES), len(CLASSES))),
        np.zeros((minutes, len(ROUTES), len(CLASSES))),
        np.zeros(minutes),
        np.zeros(minutes),
    )
    requests, errors, classes, _ = _answered(scenario, rng, calm, 1.0, new=False)
    latency = _histograms(_latencies(rng, requests.sum(axis=1), calm.latency))
    every = _routes(requests - errors, np.zeros_like(errors), classes)
    rows: list[Counts] = []
    for minute, routes in enumerate(every):
        first = DEPLOYED_AT - 60 * (minute + 1)
        rows.append(_row(OLD, first, routes, latency[minute]))
        for place in np.repeat(np.arange(len(ROUTES)), errors[minute]).tolist():
            failed = {NAMES[place]: RouteCounts(1, 1)}
            rows.append(Counts(OLD, first + int(rng.integers(60)), 1, 1, routes=failed))
    return rows


def watches(scenario: Scenario, first: int, last: int, seed: int) -> Iterator[Watch]:
    """Return the watches of these numbers; each is decided by seed, scenario and number alone."""
    for number in range(first, last):
        rng = np.random.default_rng([seed, number, *scenario.name.encode()])
        setting = _setting(scenario, rng, scenario.watch_s)
        before = _before(scenario, rng)
        new = _side(scenario, rng, setting, new=True)
        yield Watch(before, new, _side(scenario, rng, setting, new=False) if scenario.split < 1 else None)
