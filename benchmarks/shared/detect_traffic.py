"""Simulated traffic of many watches at once: counts per run, second and route, and every single latency.

Latencies: lognormal body (median 81 ms, sigma 0.35) with a slow tail of 3 % (250 ms, 0.4), so that the p99 is about
340 ms. They are drawn from a table of 2^18 quantiles, which is ten times faster than drawing normal numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, ndtri
from shared.detect_scenarios import ROUTES, Noise

from backout.model.signals import BUCKET_RATIO, BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from shared.detect_scenarios import Bad, Scenario

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

BODY, SLOW = (math.log(81.0), 0.35), (math.log(250.0), 0.4)
SLOW_SHARE = 0.03
LAG_S = 90
SAMPLED = 0.1
EXCEPTIONS = 0.5
"""Production-shaped: half of all failed requests raise, the other half answer with a 5xx that nobody sees."""
_MOST_LATENCIES = 12_000_000
_TABLE_SIZE = 1 << 18
_LOG_RATIO = math.log(BUCKET_RATIO)
_EDGES = np.arange(1, BUCKETS) * _LOG_RATIO
ROUTE_ERRORS = np.array([0.85, 1.0, 3.4])
ROUTE_LATENCY = np.log(np.array([1.0, 1.1, 1.5]))
"""Traits of the routes where the mix matters: errors relative to all (they average 1), log factor of latencies."""


def _table(tail: float) -> NDArray[np.float32]:
    slow = round(SLOW_SHARE * _TABLE_SIZE)
    body = _TABLE_SIZE - slow
    quantiles = [
        SLOW[0] + math.log(tail) + SLOW[1] * ndtri((np.arange(slow) + 0.5) / slow),
        BODY[0] + BODY[1] * ndtri((np.arange(body) + 0.5) / body),
    ]
    return np.concatenate(quantiles).astype(np.float32)


_USUAL = _table(1.0)


def shares_of_buckets(log_factor: Floats) -> Floats:
    """Return the usual probability of each bucket for an array of log factors: shape (..., BUCKETS)."""
    z = _EDGES - log_factor[..., None]
    below = SLOW_SHARE * ndtr((z - SLOW[0]) / SLOW[1]) + (1 - SLOW_SHARE) * ndtr((z - BODY[0]) / BODY[1])
    ends = np.concatenate([np.zeros_like(below[..., :1]), below, np.ones_like(below[..., :1])], axis=-1)
    shares = np.diff(ends, axis=-1)
    return shares / shares.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Side:
    """What one version answered in each run: counts of shape (runs, seconds, routes), and latencies in that order.

    Args:
        log_ms: natural logarithms of milliseconds, one for each request.
    """

    requests: Ints
    errors: Ints
    log_ms: NDArray[np.float32]

    @cached_property
    def bucket(self) -> NDArray[np.uint8]:
        """Histogram bucket of each request."""
        return np.clip(self.log_ms * np.float32(1 / _LOG_RATIO), 0, BUCKETS - 1).astype(np.uint8)

    @cached_property
    def cell(self) -> Ints:
        """Flat (run, second) of each request."""
        runs, seconds, routes = self.requests.shape
        return np.repeat(np.arange(runs * seconds * routes) // routes, self.requests.ravel())

    @cached_property
    def route(self) -> NDArray[np.uint8]:
        """Route of each request."""
        cells, routes = self.requests.size, self.requests.shape[2]
        return np.repeat((np.arange(cells) % routes).astype(np.uint8), self.requests.ravel())

    def count(self, chosen: NDArray[np.bool_]) -> Ints:
        """Return how many of the chosen requests each run had in each second."""
        runs, seconds, _ = self.requests.shape
        return np.bincount(self.cell[chosen], minlength=runs * seconds).reshape(runs, seconds)

    def slower_than(self, ms: float) -> Ints:
        """Return how many requests of each run and second took longer."""
        return self.count(self.log_ms > math.log(ms))

    def minutes(self) -> Ints:
        """Return histograms of shape (runs, minutes, BUCKETS)."""
        runs, seconds, _ = self.requests.shape
        each = -(-seconds // 60)
        minute = self.cell // seconds * each + self.cell % seconds // 60
        flat = np.bincount(minute * BUCKETS + self.bucket, minlength=runs * each * BUCKETS)
        return flat.reshape(runs, each, BUCKETS)

    def take(self, rows: Ints) -> Side:
        """Return some of the runs."""
        per_run = self.requests.sum(axis=(1, 2))
        ends = np.cumsum(per_run)
        parts = [self.log_ms[ends[row] - per_run[row] : ends[row]] for row in rows]
        return Side(self.requests[rows], self.errors[rows], np.concatenate(parts) if parts else self.log_ms[:0])


@dataclass(frozen=True)
class Before:
    """The old version by minute, last minute first (the one that ends with the deployment).

    Args:
        requests, errors: (runs, minutes, routes). latency: (runs, minutes, routes, BUCKETS).
    """

    requests: Ints
    errors: Ints
    latency: NDArray[np.int32]


@dataclass(frozen=True)
class Batch:
    """Some runs of one scenario as one observer sees them; `old` is None in a cut-over.

    Args:
        lag_s: how late everything is seen.
    """

    scenario: Scenario
    new: Side
    old: Side | None
    before: Before
    lag_s: int = 0
    truth: Batch | None = field(default=None, repr=False)

    @property
    def runs(self) -> int:
        """How many watches."""
        return int(self.new.requests.shape[0])


@dataclass(frozen=True)
class _Setting:
    """Factors by run and second (log for latency), shared by both versions."""

    volume: Floats
    errors: Floats
    latency: Floats
    outage: Floats
    bots: Floats


def _setting(scenario: Scenario, rng: np.random.Generator, runs: int, seconds: Floats) -> _Setting:
    """Return the environment at seconds (negative: before the deployment), shape (runs, seconds)."""
    shape = (runs, len(seconds))
    volume, errors, latency = np.ones(shape), np.ones(shape), np.zeros(shape)
    outage, bots = np.zeros(shape), np.zeros(shape)
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
            errors = np.exp(_ar1(rng, runs, each, 0.8, 0.35))[:, minute]
            latency = _ar1(rng, runs, each, 0.8, 0.05)[:, minute]
        case Noise.BOTS:
            bots = np.where(_windows(rng, runs, seconds, 60), 5.0, 0.0)
        case Noise.SALE:
            volume = np.where(seconds >= 0, 3.0, 1.0) * volume
            latency = latency + np.where(seconds >= 0, 0.02, 0.0)
        case Noise.OUTAGE:
            out = (seconds >= 200) & (seconds < 320)  # noqa: PLR2004 two minutes
            outage, latency = outage + np.where(out, 0.2, 0.0), latency + np.where(out, math.log(1.5), 0.0)
    return _Setting(volume, errors, latency, outage, bots)


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


def _mix(scenario: Scenario, *, new: bool, after: bool) -> Floats:
    """Return the routes' shares: a canary's clients, or a sale, shift traffic to the slow route with more errors."""
    shares = np.array(ROUTES)
    shifted = (scenario.noise is Noise.MIX and new) or (scenario.noise is Noise.SALE and after)
    if shifted:
        shares = shares + shares[2] * np.array([-0.5, 0.0, 0.5])
    return shares


def _traits(scenario: Scenario) -> tuple[Floats, Floats]:
    if scenario.noise in (Noise.MIX, Noise.SALE):
        return ROUTE_ERRORS, ROUTE_LATENCY
    return np.ones(len(ROUTES)), np.zeros(len(ROUTES))


def _counts(
    rng: np.random.Generator, scenario: Scenario, mean: Floats, share: Floats, shape: tuple[int, ...]
) -> tuple[Ints, Ints]:
    requests = rng.poisson(np.broadcast_to(mean, shape))
    errors = rng.binomial(requests, np.minimum(share, 1.0))
    if scenario.noise is Noise.RETRIES:  # every failed request is sent up to three times again and fails half the time
        again = rng.binomial(3 * errors, 0.5)
        requests, errors = requests + again, errors + again
    return requests, errors


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


def _side(scenario: Scenario, rng: np.random.Generator, setting: _Setting, *, new: bool) -> Side:
    runs, length = setting.volume.shape
    seconds = np.arange(length, dtype=float)
    traits, log_traits = _traits(scenario)
    mix = _mix(scenario, new=new, after=True)
    mean = scenario.rate * (scenario.split if new else 1 - scenario.split) * setting.volume[..., None] * mix
    usual = scenario.base_errors * setting.errors[..., None] * traits
    usual = np.maximum(usual, setting.outage[..., None])
    share = bad_error_share(scenario.bad, usual, seconds) if new else usual
    latency = setting.latency + (bad_log_factor(scenario.bad, seconds) if new else 0.0)
    if new and scenario.noise is Noise.COLD:
        share = np.maximum(share, np.where(seconds < 20, 0.05, 0.0)[:, None])  # noqa: PLR2004 as the issue says
        latency = latency + np.where(seconds < 60, math.log(2), 0.0)  # noqa: PLR2004 the same
    requests, errors = _counts(rng, scenario, mean, share, (runs, length, len(ROUTES)))
    bots = _bots(rng, scenario, setting, scenario.split if new else 1 - scenario.split)
    table = _table(scenario.bad.tail) if new and scenario.bad is not None and scenario.bad.tail != 1.0 else _USUAL
    shift = np.broadcast_to(latency[..., None] + log_traits, requests.shape).astype(np.float32)
    if bots is None:
        log_ms = _draw(rng, table, requests, shift)
        return Side(requests, errors, log_ms)
    # Bots come on the largest route and get fast 404s: counted as requests, never as errors.
    both = np.stack([requests, bots], axis=-1)
    shifts = np.stack([shift, shift - np.float32(math.log(2))], axis=-1)
    return Side(requests + bots, errors, _draw(rng, table, both, shifts))


def _bots(rng: np.random.Generator, scenario: Scenario, setting: _Setting, share: float) -> Ints | None:
    if scenario.noise is not Noise.BOTS:
        return None
    bots = np.zeros((*setting.bots.shape, len(ROUTES)), dtype=np.int64)
    bots[..., 0] = rng.poisson(scenario.rate * share * setting.bots)
    return bots


def _draw(
    rng: np.random.Generator, table: NDArray[np.float32], requests: Ints, shift: NDArray[np.float32]
) -> NDArray[np.float32]:
    flat = requests.ravel()
    drawn = table[rng.integers(0, _TABLE_SIZE, int(flat.sum()), dtype=np.uint32)]
    if shift.any():
        drawn += np.repeat(shift.ravel(), flat)
    return drawn


def _before(scenario: Scenario, rng: np.random.Generator, setting: _Setting) -> Before:
    runs, minutes = setting.volume.shape
    traits, log_traits = _traits(scenario)
    mean = scenario.rate * 60 * setting.volume[..., None] * _mix(scenario, new=False, after=False)
    share = scenario.base_errors * setting.errors[..., None] * traits
    requests, errors = _counts(rng, scenario, mean, share, (runs, minutes, len(ROUTES)))
    log_factor = setting.latency[..., None] + log_traits
    if log_factor.any():
        shares = shares_of_buckets(log_factor)
    else:
        shares = shares_of_buckets(np.zeros(1))[0]
    latency = rng.multinomial(requests, shares).astype(np.int32)
    bots = _bots(rng, scenario, _Setting(*(getattr(setting, f) for f in _Setting.__annotations__)), 60.0)
    if bots is not None:
        requests = requests + bots
        latency += rng.multinomial(bots, shares_of_buckets(np.full(1, -math.log(2)))[0]).astype(np.int32)
    return Before(requests, errors, latency)


def simulate(scenario: Scenario, runs: int, rng: np.random.Generator) -> Batch:
    """Return `runs` watches, exactly counted."""
    minutes = scenario.baseline_s // 60
    middle = -60.0 * np.arange(minutes) - 30.0
    seconds = np.concatenate([middle, np.arange(scenario.watch_s, dtype=float)])
    every = _setting(scenario, rng, runs, seconds)
    parts = [getattr(every, name) for name in _Setting.__annotations__]
    earlier = _Setting(*(part[:, :minutes] for part in parts))
    later = _Setting(*(part[:, minutes:] for part in parts))
    before = _before(scenario, rng, earlier)
    new = _side(scenario, rng, later, new=True)
    old = _side(scenario, rng, later, new=False) if scenario.split < 1 else None
    return Batch(scenario, new, old, before)


def batches(scenario: Scenario, runs: int, seed: int) -> Iterator[Batch]:
    """Return the runs in pieces that fit into memory; the seed and the scenario's name decide every draw."""
    rng = np.random.default_rng([seed, *scenario.name.encode()])
    factor = {Noise.SALE: 3.0, Noise.BURSTS: 1.3, Noise.BOTS: 1.4}.get(scenario.noise, 1.0)
    most = max(1, int(_MOST_LATENCIES / (scenario.rate * factor * scenario.watch_s)))
    most = min(most, 30_000 // scenario.baseline_s * 60 if scenario.baseline_s >= 60 else most)  # noqa: PLR2004
    while runs > 0:
        piece = min(runs, most)
        yield simulate(scenario, piece, rng)
        runs -= piece


def as_in_production(batch: Batch, rng: np.random.Generator) -> Batch:
    """Return what a sampled analytics store shows of a batch: 90 s late, a tenth of all, only exceptions as errors."""
    before = batch.before
    kept = rng.binomial(before.latency, SAMPLED).astype(np.int32)
    requests = kept.sum(axis=-1, dtype=np.int64)
    failed = rng.hypergeometric(before.errors, before.requests - before.errors, requests)
    seen = Before(requests, rng.binomial(failed, EXCEPTIONS), kept)
    old = _sampled(batch.old, rng) if batch.old is not None else None
    return Batch(batch.scenario, _sampled(batch.new, rng), old, seen, LAG_S, batch)


def _sampled(side: Side, rng: np.random.Generator) -> Side:
    keep = rng.random(len(side.log_ms), dtype=np.float32) < SAMPLED
    cells = np.repeat(np.arange(side.requests.size), side.requests.ravel())[keep]
    requests = np.bincount(cells, minlength=side.requests.size).reshape(side.requests.shape)
    failed = rng.hypergeometric(side.errors, side.requests - side.errors, requests)
    return Side(requests, rng.binomial(failed, EXCEPTIONS), side.log_ms[keep])
