"""The scenarios of the detector benchmark: traffic, mode, baseline, noise and the new version's fault."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.source_names import find_slow_start_s

RATES = (0.2, 5.0, 50.0)
SPLITS = (0.1, 0.5, 1.0)
BASE_ERRORS = (0.0, 0.0005, 0.005)
SPANS_S = (3600, 600, 120)
ROUTES = (0.80, 0.15, 0.05)
"""Shares of the traffic that three routes get."""
MODES = {0.1: "canary 10", 0.5: "canary 50", 1.0: "cut-over"}


class Noise(StrEnum):
    """The noise of a healthy system."""

    NONE = "steady"
    DRIFT = "daily drift"
    BURSTS = "traffic bursts"
    CLUSTERED = "uneven minutes"
    CORRELATED = "correlated minutes"
    RETRIES = "retry storms"
    BOTS = "bot bursts"
    MIX = "unequal route mix"
    SALE = "sale from the deployment on"
    COLD = "cold start"
    START = "cold start, nothing declared"
    BUSY = "busy host"
    OUTAGE = "shared outage"


class Family(StrEnum):
    """The class of results for a bad deployment."""

    ERRORS = "errors"
    SMALL_ERRORS = "errors below 1 %"
    LATENCY = "latency"
    SMALL_LATENCY = "latency x1.2"
    TAIL = "tail"
    LEAK = "leak"
    ROUTE = "route"
    BLIP = "blip"


@dataclass(frozen=True, slots=True)
class Bad:
    """The fault of a version.

    Args:
        errors: share of failing requests, 0 for as usual.
        latency, tail: factors on all latencies, on the slow 3 %.
        ramp_s: errors and latency grow over this time.
        route: the smallest route always fails.
        heals_s: (from, to) in which the errors happen; else from the deployment on.
    """

    name: str
    family: Family
    errors: float = 0.0
    latency: float = 1.0
    tail: float = 1.0
    ramp_s: float = 0.0
    route: bool = False
    heals_s: tuple[int, int] | None = None

    @property
    def slow(self) -> bool:
        """Whether only latencies change."""
        return not self.errors and not self.route


BADS = (
    Bad("errors 0.5 %", Family.SMALL_ERRORS, errors=0.005),
    Bad("errors 1 %", Family.ERRORS, errors=0.01),
    Bad("errors 2 %", Family.ERRORS, errors=0.02),
    Bad("errors 5 %", Family.ERRORS, errors=0.05),
    Bad("errors 20 %", Family.ERRORS, errors=0.2),
    Bad("errors 100 %", Family.ERRORS, errors=1.0),
    Bad("latency x1.2", Family.SMALL_LATENCY, latency=1.2),
    Bad("latency x1.5", Family.LATENCY, latency=1.5),
    Bad("latency x2", Family.LATENCY, latency=2.0),
    Bad("slow tail x3", Family.TAIL, tail=3.0),
    Bad("leak of errors", Family.LEAK, errors=0.05, ramp_s=600),
    Bad("leak of latency", Family.LEAK, latency=2.0, ramp_s=600),
    Bad("one route fails", Family.ROUTE, route=True),
    Bad("30 s blip", Family.BLIP, errors=0.5, heals_s=(60, 90)),
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of watch.

    Args:
        rate: requests a second of all versions.
        split: share of the new one.
        base_errors: usual share of errors.
        baseline_s: how much of the old version was seen before.
        bad: None for a healthy deployment.
        warm_up_s: declared beforehand: latency of the first seconds is not judged.
        slow_start_s: how slow a start is forgiven: 0 as in a replay without a configuration, else the default.
    """

    rate: float
    split: float
    base_errors: float
    baseline_s: int = 3600
    noise: Noise = Noise.NONE
    bad: Bad | None = None
    watch_s: int = 900
    warm_up_s: float = 0.0
    slow_start_s: float = 0.0

    @property
    def mode(self) -> str:
        """How the new version gets its traffic."""
        return MODES[self.split]

    @property
    def name(self) -> str:
        """One line that tells the scenario from every other."""
        what = self.bad.name if self.bad else self.noise.value
        base = f"{self.base_errors * 100:g} % errors before, {self.baseline_s // 60} min baseline"
        return f"{what}, {self.rate:g}/s, {self.mode}, {base}"


def healthy(noise: Noise, watch_s: int = 900) -> list[Scenario]:
    """Return the healthy deployments with one kind of noise: every traffic, mode, baseline and usual error rate."""
    warm_up_s = 60.0 if noise is Noise.COLD else 0.0
    slow_start_s = find_slow_start_s() if noise in (Noise.START, Noise.BUSY) else 0.0
    return [
        Scenario(rate, split, base, span, noise, watch_s=watch_s, warm_up_s=warm_up_s, slow_start_s=slow_start_s)
        for rate in RATES
        for split in SPLITS
        for span in SPANS_S
        for base in BASE_ERRORS
    ]


def bad() -> list[Scenario]:
    """Return the bad deployments with an hour of baseline; those of latency with one usual error rate."""
    return [
        Scenario(rate, split, base, bad=kind)
        for kind in BADS
        for rate in RATES
        for split in SPLITS
        for base in ((0.0005,) if kind.slow else BASE_ERRORS)
        if not kind.errors or kind.errors > 1.5 * base
    ]


def short_baselines() -> list[Scenario]:
    """Return bad deployments after a baseline of 10 and of 2 minutes."""
    kinds = [kind for kind in BADS if kind.name in ("errors 5 %", "errors 100 %", "latency x1.5")]
    return [
        Scenario(rate, split, 0.0005, span, bad=kind)
        for kind in kinds
        for rate in RATES
        for split in SPLITS
        for span in SPANS_S[1:]
    ]
