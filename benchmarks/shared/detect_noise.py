"""The environment of simulated watches: the noise of a healthy system, and the faults of a bad version."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from shared.detect_scenarios import ROUTES, Noise

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shared.detect_scenarios import Bad, Scenario

    Floats = NDArray[np.float64]

ROUTE_ERRORS = np.array([0.85, 1.0, 3.4])
ROUTE_LATENCY = np.log(np.array([1.0, 1.1, 1.5]))
"""Traits of the routes where the mix matters: errors relative to all (they average 1), log factor of latencies."""


@dataclass(frozen=True)
class Setting:
    """Factors by run and second (log for latency), shared by both versions; `start` is the new version's alone."""

    volume: Floats
    errors: Floats
    latency: Floats
    outage: Floats
    bots: Floats
    start: Floats

    def between(self, begin: int, end: int | None) -> Setting:
        """Return some of the seconds."""
        parts = (self.volume, self.errors, self.latency, self.outage, self.bots, self.start)
        return Setting(*(part[:, begin:end] for part in parts))


def setting_of(scenario: Scenario, rng: np.random.Generator, runs: int, seconds: Floats) -> Setting:
    """Return the environment at seconds (negative: before the deployment), shape (runs, seconds)."""
    shape = (runs, len(seconds))
    volume, errors, latency = np.ones(shape), np.ones(shape), np.zeros(shape)
    outage, bots, start = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    minutes = np.floor(seconds / 60).astype(int)
    minute = minutes - minutes.min()
    each = int(minute.max()) + 1
    match scenario.noise:
        case Noise.DRIFT:
            hours = seconds / 3600
            volume, errors = volume * (1 + 0.4 * hours), errors * (1 + 0.3 * hours)
            latency = latency + np.log1p(0.05 * hours)
        case Noise.BURSTS:
            busy = rng.random((runs, each * 2)) < 0.1  # noqa: PLR2004 a tenth of all half minutes
            volume = np.where(busy[:, np.minimum((seconds - seconds.min()) // 30, each * 2 - 1).astype(int)], 4.0, 1.0)
        case Noise.CLUSTERED:
            errors = rng.gamma(8, 1 / 8, (runs, each))[:, minute]
            latency = rng.normal(0, 0.06, (runs, each))[:, minute]
        case Noise.CORRELATED:
            errors = np.exp(_ar1(rng, runs, each, 0.8, 0.35) - 0.35**2 / 2)[:, minute]
            latency = _ar1(rng, runs, each, 0.8, 0.05)[:, minute]
        case Noise.BOTS:
            bots = np.where(_windows(rng, runs, seconds, 60), 5.0, 0.0)
        case Noise.SALE:
            volume = np.where(seconds >= 0, 3.0, 1.0) * volume
            latency = latency + np.where(seconds >= 0, 0.02, 0.0)
        case Noise.START:
            start = _cold_start(rng, runs, seconds)
        case Noise.BUSY:
            latency = _busy(rng, runs, seconds)
        case Noise.OUTAGE:
            out = (seconds >= 200) & (seconds < 320)  # noqa: PLR2004 two minutes
            outage, latency = outage + np.where(out, 0.2, 0.0), latency + np.where(out, math.log(1.5), 0.0)
    return Setting(volume, errors, latency, outage, bots, start)


def _cold_start(rng: np.random.Generator, runs: int, seconds: Floats) -> Floats:
    """Return log factors of a start that is 2 to 20 times slower and is over after 1 to 60 s.

    In half of the runs the factor falls by the same share each second, in the others by the same amount.
    """
    length, first = rng.uniform(1, 60, (runs, 1)), np.exp(rng.uniform(math.log(2), math.log(20), (runs, 1)))
    left = np.where(seconds >= 0, np.clip(1 - seconds / length, 0, None), 0.0)
    return np.where(rng.random((runs, 1)) < 0.5, np.log(first) * left, np.log1p((first - 1) * left))  # noqa: PLR2004


def _busy(rng: np.random.Generator, runs: int, seconds: Floats) -> Floats:
    """Return log factors of a host that something else keeps busy once, for 5 to 20 s: 1.5 to 5 times slower."""
    begin, length = rng.uniform(0, 880, (runs, 1)), rng.uniform(5, 20, (runs, 1))
    factor = rng.uniform(math.log(1.5), math.log(5), (runs, 1))
    return np.where((seconds >= begin) & (seconds < begin + length), factor, 0.0)


def _ar1(rng: np.random.Generator, runs: int, minutes: int, keep: float, sigma: float) -> Floats:
    values = np.empty((runs, minutes))
    values[:, 0] = rng.normal(0, sigma, runs)
    for k in range(1, minutes):
        values[:, k] = keep * values[:, k - 1] + math.sqrt(1 - keep * keep) * rng.normal(0, sigma, runs)
    return values


def _windows(rng: np.random.Generator, runs: int, seconds: Floats, length_s: int) -> NDArray[np.bool_]:
    """Return for each run and second whether one of its bursts is on: one every quarter of an hour."""
    quarter = np.floor(seconds / 900).astype(int)
    quarter -= quarter.min()
    starts = rng.uniform(0, 900 - length_s, (runs, int(quarter.max()) + 1))[:, quarter]
    at = seconds % 900
    return (at >= starts) & (at < starts + length_s)


def mix_of(scenario: Scenario, *, new: bool, after: bool) -> Floats:
    """Return the routes' shares: a canary's clients, or a sale, shift traffic to the slow route with more errors."""
    shares = np.array(ROUTES)
    shifted = (scenario.noise is Noise.MIX and new) or (scenario.noise is Noise.SALE and after)
    if shifted:
        shares = shares + shares[2] * np.array([-0.5, 0.0, 0.5])
    return shares


def traits_of(scenario: Scenario) -> tuple[Floats, Floats]:
    """Return how the routes differ: factors on errors, log factors on latencies."""
    if scenario.noise in (Noise.MIX, Noise.SALE):
        return ROUTE_ERRORS, ROUTE_LATENCY
    return np.ones(len(ROUTES)), np.zeros(len(ROUTES))


def bad_error_share(bad: Bad | None, usual: Floats, seconds: Floats) -> Floats:
    """Return the new version's share of errors by (runs, seconds, routes), from the usual share of that shape."""
    if bad is None or bad.slow:
        return usual
    if bad.route:
        share = np.array(usual)
        share[..., -1] = 1.0
        return share
    part = np.minimum(1.0, (seconds + 0.5) / bad.ramp_s) if bad.ramp_s else np.ones(len(seconds))
    if bad.heals_s:
        part = np.where((seconds >= bad.heals_s[0]) & (seconds < bad.heals_s[1]), 1.0, 0.0)
    return np.maximum(usual, usual + (bad.errors - usual) * part[:, None])


def bad_log_factor(bad: Bad | None, seconds: Floats) -> Floats:
    """Return the log factor of the new version's latencies by second."""
    if bad is None or bad.latency == 1.0:
        return np.zeros(len(seconds))
    part = np.minimum(1.0, (seconds + 0.5) / bad.ramp_s) if bad.ramp_s else np.ones(len(seconds))
    return np.log1p((bad.latency - 1) * part)
