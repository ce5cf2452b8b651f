"""The scenarios of shifts in answers: the requests, the noise, and the fault."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.detect_scenarios import MODES, SPLITS

from backout.model.guard.answers import AnswerClass

if TYPE_CHECKING:
    from collections.abc import Mapping

RATES = (1.0, 5.0, 50.0)
USUAL_ERRORS = 0.0005


@dataclass(frozen=True, slots=True)
class Route:
    """The requests under one name: their share of the traffic, and their answers beside good ones."""

    name: str
    share: float
    usual: Mapping[AnswerClass, float] = field(default_factory=dict)

    def __hash__(self) -> int:
        """Return the hash of the name, which tells routes apart."""
        return hash(self.name)


ROUTES = (
    Route("GET /", 0.28, {AnswerClass.REDIRECT: 0.01}),
    Route("GET /api/models", 0.34, {AnswerClass.NOT_FOUND: 0.01}),
    Route("GET /assets", 0.17),
    Route("GET /account", 0.06, {AnswerClass.DENIED: 0.03}),
    Route("GET /search", 0.05, {AnswerClass.BAD_REQUEST: 0.01}),
    Route("POST /login", 0.05, {AnswerClass.DENIED: 0.06}),
    Route("POST /api/orders", 0.05, {AnswerClass.BAD_REQUEST: 0.02}),
)
NAMES = tuple(route.name for route in ROUTES)
UNKNOWN = "GET /wp-admin"
"""A route that was never requested before."""


class Noise(StrEnum):
    """Noise that shifts the classes of answers of a healthy version."""

    NONE = "steady"
    ATTACK = "attack"
    CRAWLER = "crawler"
    CAMPAIGN = "campaign"
    LOGOUT = "logout wave"
    IDENTITY = "identity provider down"
    PURGE = "cache purge"
    RETIRED = "retired API"
    RELEASE = "app release full of 400s"


class Kind(StrEnum):
    """The class of results for a bad deployment."""

    SITE = "whole site, split"
    PART = "a fifth of the site, split"
    EXTINCTION = "extinction, cut-over"
    ROUTE = "one route, split"
    PROBED = "one route, cut-over and probes"
    UNASKED = "one route that nobody may ask, cut-over"


@dataclass(frozen=True, slots=True)
class Shift:
    """The fault of a bad version: this share of the good answers of some routes moves to a class.

    Args:
        routes: names, () for all.
    """

    name: str
    to: AnswerClass
    share: float = 1.0
    routes: tuple[str, ...] = ()

    def moves(self, route: str) -> float:
        """Return the share of a route's good answers that moves."""
        return self.share if not self.routes or route in self.routes else 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of watch; like `detect_scenarios.Scenario`, for answers."""

    rate: float
    split: float
    noise: Noise = Noise.NONE
    bad: Shift | None = None
    kind: Kind | None = None
    baseline_s: int = 3600
    watch_s: int = 900

    @property
    def name(self) -> str:
        """One line that tells the scenario from every other."""
        return f"{self.bad.name if self.bad else self.noise}, {self.rate:g}/s, {MODES[self.split]}"


_SITE = (
    Shift("all 404", AnswerClass.NOT_FOUND),
    Shift("all 401", AnswerClass.DENIED),
    Shift("all redirected", AnswerClass.REDIRECT),
)
_PART = Shift("a fifth 404", AnswerClass.NOT_FOUND, 0.2)
_ROUTES = (
    Shift("search 404", AnswerClass.NOT_FOUND, routes=("GET /search",)),
    Shift("search redirected", AnswerClass.REDIRECT, routes=("GET /search",)),
)
_ACCOUNT = Shift("account 401", AnswerClass.DENIED, routes=("GET /account",))
"""A request without a login is denied by every version."""


def bad() -> list[Scenario]:
    """Return the bad deployments."""
    found: list[Scenario] = []
    for rate in RATES:
        for split in SPLITS:
            is_split = split < 1
            whole, one = (Kind.SITE, Kind.ROUTE) if is_split else (Kind.EXTINCTION, Kind.PROBED)
            found += [Scenario(rate, split, bad=shift, kind=whole) for shift in _SITE]
            found += [Scenario(rate, split, bad=shift, kind=one) for shift in _ROUTES]
            hidden = one if is_split else Kind.UNASKED
            found.append(Scenario(rate, split, bad=_ACCOUNT, kind=hidden))
            if is_split:
                found.append(Scenario(rate, split, bad=_PART, kind=Kind.PART))
    return found


def healthy(noise: Noise) -> list[Scenario]:
    """Return the healthy deployments with one kind of noise."""
    return [Scenario(rate, split, noise) for rate in RATES for split in SPLITS]
