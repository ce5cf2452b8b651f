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
from shared.detect_noise import bad_error_share, bad_log_factor, mix_of, setting_of, traits_of
from shared.detect_scenarios import ROUTES, Noise
from shared.source_names import BUCKET_RATIO, BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from shared.detect_noise import Setting
    from shared.detect_scenarios import Scenario

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

BODY, SLOW = (math.log(81.0), 0.35), (math.log(250.0), 0.4)
SLOW_SHARE = 0.03
LAG_S = 90
SAMPLED = 0.1
EXCEPTIONS = 0.5
"""Production-shaped: half of all failed requests raise, the other half answer with a 5xx that no exception shows."""
_MOST_LATENCIES = 12_000_000
_TABLE_SIZE = 1 << 18
_LOG_RATIO = math.log(BUCKET_RATIO)
_EDGES = np.arange(1, BUCKETS) * _LOG_RATIO


def _table(tail: float) -> NDArray[np.float32]:
    slow = round(SLOW_SHARE * _TABLE_SIZE)
    body = _TABLE_SIZE - slow
    quantiles = [
        SLOW[0] + math.log(tail) + SLOW[1] * ndtri((np.arange(slow) + 0.5) / slow),
        BODY[0] + BODY[1] * ndtri((np.arange(body) + 0.5) / body),
    ]
    return np.concatenate(quantiles).astype(np.float32)


_USUAL = _table(1.0)


def usual_quantile_ms(q: float) -> float:
    """Return a quantile of the usual latencies."""
    return math.exp(float(np.quantile(_USUAL, q)))


def shares_of_buckets(log_factor: Floats) -> Floats:
    """Return the usual probability of each bucket for an array of log factors: shape (..., BUCKETS)."""
    z = _EDGES - log_factor[..., None]
    below = SLOW_SHARE * ndtr((z - SLOW[0]) / SLOW[1]) + (1 - SLOW_SHARE) * ndtr((z - BODY[0]) / BODY[1])
    ends = np.concatenate([np.zeros_like(below[..., :1]), below, np.ones_like(below[..., :1])], axis=-1)
    shares = np.diff(ends, axis=-1)
    return shares / shares.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Side:
    """The answers of one version in each run: counts of shape (runs, seconds, routes), and latencies in that order.

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
        routes = np.broadcast_to(np.arange(self.requests.shape[2], dtype=np.uint8), self.requests.shape)
        return np.repeat(routes.ravel(), self.requests.ravel())

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
        requests, errors: (runs, minutes, routes).
        latency: (runs, minutes, routes, BUCKETS).
        seconds: requests and errors of each second, (runs, minutes, 60, 2), or of the whole minute as if of its first,
            (.., 1, 2).
        failed: errors of each route and second, (runs, minutes, routes, 60 or 1).
    """

    requests: Ints
    errors: Ints
    latency: NDArray[np.int32]
    seconds: Ints
    failed: Ints


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

    @property
    def size(self) -> int:
        """How many latencies are kept in memory."""
        return len(self.new.log_ms) + (len(self.old.log_ms) if self.old is not None else 0)


def _counts(
    rng: np.random.Generator, scenario: Scenario, mean: Floats, share: Floats, shape: tuple[int, ...]
) -> tuple[Ints, Ints]:
    requests = rng.poisson(np.broadcast_to(mean, shape))
    errors = rng.binomial(requests, np.minimum(share, 1.0))
    if scenario.noise is Noise.RETRIES:
        again = _repeated(rng, errors)
        requests, errors = requests + again, errors + again
    return requests, errors


def _repeated(rng: np.random.Generator, failed: Ints) -> Ints:
    """Return the failures among repetitions: each failure is repeated up to three times, and half of those fail."""
    return rng.binomial(3 * failed, 0.5)


def _side(scenario: Scenario, rng: np.random.Generator, setting: Setting, *, new: bool) -> Side:
    runs, length = setting.volume.shape
    seconds = np.arange(length, dtype=float)
    traits, log_traits = traits_of(scenario)
    mix = mix_of(scenario, new=new, after=True)
    mean = scenario.rate * (scenario.split if new else 1 - scenario.split) * setting.volume[..., None] * mix
    usual = scenario.base_errors * setting.errors[..., None] * traits
    usual = np.maximum(usual, setting.outage[..., None])
    share = bad_error_share(scenario.bad, usual, seconds) if new else usual
    latency = setting.latency + (bad_log_factor(scenario.bad, seconds) + setting.start if new else 0.0)
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


def _bots(rng: np.random.Generator, scenario: Scenario, setting: Setting, share: float) -> Ints | None:
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


def _before(scenario: Scenario, rng: np.random.Generator, setting: Setting) -> Before:
    runs, minutes = setting.volume.shape
    traits, log_traits = traits_of(scenario)
    mean = scenario.rate * 60 * setting.volume[..., None] * mix_of(scenario, new=False, after=False)
    share = scenario.base_errors * setting.errors[..., None] * traits
    requests = rng.poisson(np.broadcast_to(mean, (runs, minutes, len(ROUTES))))
    failed = _by_second(rng, rng.binomial(requests, np.minimum(share, 1.0)))
    if scenario.noise is Noise.RETRIES:
        again = _repeated(rng, failed)
        requests, failed = requests + again.sum(axis=-1), failed + again
    errors = failed.sum(axis=-1)
    log_factor = setting.latency[..., None] + log_traits
    shares = shares_of_buckets(log_factor) if log_factor.any() else shares_of_buckets(np.zeros(1))[0]
    latency = rng.multinomial(requests, shares).astype(np.int32)
    bots = _bots(rng, scenario, setting, 60.0)
    if bots is not None:
        requests = requests + bots
        latency += rng.multinomial(bots, shares_of_buckets(np.full(1, -math.log(2)))[0]).astype(np.int32)
    every = failed.sum(axis=2)
    answered = _by_second(rng, (requests - errors).sum(axis=2))
    return Before(requests, errors, latency, np.stack([answered + every, every], axis=-1), failed)


def _by_second(rng: np.random.Generator, minutes: Ints) -> Ints:
    """Return each minute's number shared out over its seconds, as a last axis."""
    return rng.multinomial(minutes, np.full(60, 1 / 60))


def simulate(scenario: Scenario, runs: int, rng: np.random.Generator) -> Batch:
    """Return `runs` watches, exactly counted."""
    minutes = scenario.baseline_s // 60
    middle = -60.0 * np.arange(minutes) - 30.0
    seconds = np.concatenate([middle, np.arange(scenario.watch_s, dtype=float)])
    every = setting_of(scenario, rng, runs, seconds)
    later = every.between(minutes, None)
    before = _before(scenario, rng, every.between(0, minutes))
    new = _side(scenario, rng, later, new=True)
    old = _side(scenario, rng, later, new=False) if scenario.split < 1 else None
    return Batch(scenario, new, old, before)


def batches(scenario: Scenario, runs: int, seed: int) -> Iterator[Batch]:
    """Return the runs in pieces that fit into memory; the seed and the scenario's name decide every draw."""
    rng = np.random.default_rng([seed, *scenario.name.encode()])
    factor = {Noise.SALE: 3.0, Noise.BURSTS: 1.3, Noise.BOTS: 1.4}.get(scenario.noise, 1.0)
    most = max(1, int(_MOST_LATENCIES / (scenario.rate * factor * scenario.watch_s)))
    most = min(most, 1_200_000 // scenario.baseline_s)  # histograms per minute and route
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
    raised = rng.binomial(failed, EXCEPTIONS)
    minutes = np.stack([requests.sum(axis=2), raised.sum(axis=2)], axis=-1)
    seen = Before(requests, raised, kept, minutes[:, :, None, :], raised[..., None])
    old = _sampled(batch.old, rng) if batch.old is not None else None
    return Batch(batch.scenario, _sampled(batch.new, rng), old, seen, LAG_S, batch)


def _sampled(side: Side, rng: np.random.Generator) -> Side:
    keep = rng.random(len(side.log_ms), dtype=np.float32) < SAMPLED
    cells = np.repeat(np.arange(side.requests.size), side.requests.ravel())[keep]
    requests = np.bincount(cells, minlength=side.requests.size).reshape(side.requests.shape)
    failed = rng.hypergeometric(side.errors, side.requests - side.errors, requests)
    return Side(requests, rng.binomial(failed, EXCEPTIONS), side.log_ms[keep])
