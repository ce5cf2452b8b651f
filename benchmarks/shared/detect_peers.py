"""The rules of other tools, on the same counts: the runbook, Flagger, Argo Rollouts, Kayenta, alarms, and tests.

Every rule is a function from a batch to seconds until the rollback (infinity: never), or None where the rule cannot be
used. Second t has seen the requests of seconds 0 to t-1. Versions of the sources: docs/research/detection.md.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri
from shared.detect_kayenta import is_high
from shared.source_names import BUCKET_RATIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from shared.detect_traffic import Batch, Side

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Rule = Callable[[Batch], Floats | None]

SLO = 0.01
_SINGLE_METRIC_Z = float(-ndtri(1e-3))


class Sums:
    """Running sums of one version: `requests[:, t]` are those before second t."""

    def __init__(self, side: Side) -> None:
        self.requests = _running(side.requests.sum(axis=2))
        self.errors = _running(side.errors.sum(axis=2))

    def within(self, t: int, window_s: int) -> tuple[Ints, Ints]:
        """Return (errors, requests) of each run in the window that ends at t."""
        start = max(0, t - window_s)
        return self.errors[:, t] - self.errors[:, start], self.requests[:, t] - self.requests[:, start]


def _running(counts: Ints) -> Ints:
    return np.concatenate([np.zeros_like(counts[:, :1]), np.cumsum(counts, axis=1)], axis=1)


def _share(errors: Ints, requests: Ints) -> Floats:
    """Return errors / requests, not a number where there are no requests."""
    return np.divide(errors, requests, out=np.full(errors.shape, np.nan), where=requests > 0)


class _Clock:
    """Collects the first rollback of each run."""

    def __init__(self, batch: Batch) -> None:
        self.end = batch.scenario.watch_s
        self.at: Floats = np.full(batch.runs, np.inf)

    def roll_back(self, rows: NDArray[np.bool_], t: int) -> None:
        self.at = np.where(rows & np.isinf(self.at), float(t), self.at)


def runbook(batch: Batch) -> Floats:
    """Error rate of five minutes, polled every 5 s from the fifth minute on: 1 % or more rolls back."""
    clock, sums = _Clock(batch), Sums(batch.new)
    for t in range(300, clock.end + 1, 5):
        clock.roll_back(_share(*sums.within(t, 300)) >= SLO, t)
    return clock.at


def runbook_pass(batch: Batch) -> Floats:
    """The same polls; after 15 minutes without five minutes in a row below 1 % it rolls back."""
    clock, sums = _Clock(batch), Sums(batch.new)
    streak = np.zeros(batch.runs)
    passed = np.zeros(batch.runs, dtype=bool)
    for t in range(300, min(900, clock.end) + 1, 5):
        ok = ~(_share(*sums.within(t, 300)) >= SLO)
        streak = np.where(ok, streak + 1, 0)
        passed |= streak > 300 / 5
    if clock.end >= 900:  # noqa: PLR2004 the runbook's watch
        clock.roll_back(~passed, 900)
    return clock.at


def argo(batch: Batch, *, interval_s: int, window_s: int, success: float, limit: int) -> Floats:
    """Argo Rollouts: more than `limit` failed measurements, or five in a row without data (retried after 10 s)."""
    clock, sums = _Clock(batch), Sums(batch.new)
    due = np.zeros(batch.runs)
    failed, empty = np.zeros(batch.runs), np.zeros(batch.runs)
    for t in range(0, clock.end + 1, 10):
        now = due <= t
        share = _share(*sums.within(t, window_s))
        missing = np.isnan(share)
        empty = np.where(now, np.where(missing, empty + 1, 0), empty)
        failed += now & ~missing & (1 - share < success)
        due = np.where(now, np.where(missing, t + 10, t + interval_s), due)
        clock.roll_back((failed > limit) | (empty > 4), t)  # noqa: PLR2004 consecutiveErrorLimit
    return clock.at


def flagger(batch: Batch, *, threshold: int, slowest_ms: float = 500.0) -> Floats:
    """Flagger: a failed check is success below 99 %, p99 above 500 ms or no data; the rollback comes a tick later."""
    clock, sums = _Clock(batch), Sums(batch.new)
    slow = _running(batch.new.slower_than(slowest_ms)) if math.isfinite(slowest_ms) else None
    failed = np.zeros(batch.runs)
    for t in range(120, clock.end + 1, 60):  # the first tick opens the traffic
        clock.roll_back(failed >= threshold, t)
        errors, requests = sums.within(t, 60)
        bad = ~(_share(errors, requests) <= SLO)
        if slow is not None:
            bad |= slow[:, t] - slow[:, t - 60] > 0.01 * requests
        failed += bad
    return clock.at


def alarm(batch: Batch, *, breaches: int, periods: int, above: float = SLO) -> Floats:
    """CloudWatch: `breaches` of the last `periods` minutes above a rate; minutes without data do not count."""
    clock, sums = _Clock(batch), Sums(batch.new)
    history: list[NDArray[np.bool_]] = []
    for t in range(60, clock.end + 1, 60):
        history.append(_share(*sums.within(t, 60)) > above)
        clock.roll_back(np.sum(history[-periods:], axis=0) >= breaches, t)
    return clock.at


def burn_rate(batch: Batch, *, slo: float = 0.999) -> Floats:
    """The SRE workbook's page: the service burns its budget 14.4 times too fast over 5 minutes and over an hour."""
    clock, sums = _Clock(batch), Sums(batch.new)
    beside = Sums(batch.old) if batch.old is not None else None
    before = [_running(part.sum(axis=2)) for part in (batch.before.errors, batch.before.requests)]
    limit = 14.4 * (1 - slo)

    def service(t: int, window_s: int) -> Floats:
        errors, requests = sums.within(t, window_s)
        if beside is not None:
            more = beside.within(t, window_s)
            errors, requests = errors + more[0], requests + more[1]
        minutes = min(max(0, window_s - t) // 60, before[0].shape[1] - 1)
        return _share(errors + before[0][:, minutes], requests + before[1][:, minutes])

    for t in range(30, clock.end + 1, 30):
        clock.roll_back((service(t, 300) > limit) & (service(t, 3600) > limit), t)
    return clock.at


def z_test(batch: Batch, *, every_s: int = 10) -> Floats:
    """A two-proportion z-test at a nominal 1e-3, looked at every 10 s: beside the old version, else against before."""
    clock, sums = _Clock(batch), Sums(batch.new)
    beside = Sums(batch.old) if batch.old is not None else None
    usual = (batch.before.errors.sum(axis=(1, 2)), batch.before.requests.sum(axis=(1, 2)))
    for t in range(every_s, clock.end + 1, every_s):
        e1, n1 = sums.within(t, t)
        e0, n0 = beside.within(t, t) if beside is not None else usual
        with np.errstate(all="ignore"):
            pooled = (e1 + e0) / (n1 + n0)
            z = (e1 / n1 - e0 / n0) / np.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n0))
        clock.roll_back(z > _SINGLE_METRIC_Z, t)
    return clock.at


def growthbook(batch: Batch, *, every_s: int = 3600, alpha: float = 0.05, tuned_for: float = 5000.0) -> Floats | None:
    """GrowthBook's guardrail: an asymptotic confidence sequence of the difference wholly above zero."""
    if batch.old is None:
        return None
    clock, new, old = _Clock(batch), Sums(batch.new), Sums(batch.old)
    log = math.log(2 * alpha)
    rho2 = (-2 * log + math.log(1 - 2 * log)) / tuned_for
    for t in range(every_s, clock.end + 1, every_s):
        (e1, n1), (e0, n0) = new.within(t, t), old.within(t, t)
        with np.errstate(all="ignore"):
            p1, p0, n = e1 / n1, e0 / n0, n1 + n0
            variance = p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0
            wide = 2 * (n * rho2 + 1) / (n * n * rho2) * np.log1p(np.sqrt(n * rho2 + 1) / (2 * alpha))
            clock.roll_back(p1 - p0 - np.sqrt(n * variance * wide) > 0, t)
    return clock.at


def kayenta(batch: Batch, *, interval_s: int, latency: bool = True) -> Floats:
    """Kayenta: error rate and p95 by the minute, judged on a growing window; one metric High is below the pass mark.

    In a cut-over the control is the same number of minutes before the deployment (its control offset).
    """
    clock = _Clock(batch)
    metrics = [(_minute_shares(batch.new), _control_shares(batch))]
    if latency:
        metrics.append((_p95(batch.new.minutes()), _control_p95(batch)))
    for t in range(interval_s, clock.end + 1, interval_s):
        for row in np.flatnonzero(np.isinf(clock.at)):
            points = [(new[row, : t // 60], old[row, : t // 60]) for new, old in metrics]
            if any(is_high(a[~np.isnan(a)], b[~np.isnan(b)]) for a, b in points):
                clock.at[row] = float(t)
    return clock.at


def _minute_shares(side: Side) -> Floats:
    errors, requests = (_by_minute(part) for part in (side.errors, side.requests))
    return 100 * _share(errors, requests)


def _by_minute(counts: Ints) -> Ints:
    runs, seconds, _ = counts.shape
    return np.asarray(counts.sum(axis=2).reshape(runs, seconds // 60, 60).sum(axis=2))


def _control_shares(batch: Batch) -> Floats:
    if batch.old is not None:
        return _minute_shares(batch.old)
    return 100 * _share(batch.before.errors.sum(axis=2), batch.before.requests.sum(axis=2))


def _control_p95(batch: Batch) -> Floats:
    return _p95(batch.old.minutes() if batch.old is not None else batch.before.latency.sum(axis=2))


def _p95(histograms: Ints) -> Floats:
    below = np.cumsum(histograms, axis=-1)
    total = below[..., -1:]
    bucket = (below >= 0.95 * total).argmax(axis=-1)
    return np.where(total[..., 0] > 0, BUCKET_RATIO ** (bucket + 0.5), np.nan)


PEERS: dict[str, Rule] = {
    "runbook, polled": runbook,
    "runbook, pass rule": runbook_pass,
    "Flagger, threshold 1": partial(flagger, threshold=1),
    "Flagger, threshold 5": partial(flagger, threshold=5),
    "Flagger, threshold 10": partial(flagger, threshold=10),
    "Argo Rollouts, documented": partial(argo, interval_s=300, window_s=300, success=0.95, limit=3),
    "Argo Rollouts, 30 s": partial(argo, interval_s=30, window_s=300, success=0.95, limit=3),
    "Kayenta, 5 min": partial(kayenta, interval_s=300),
    "Kayenta, 1 h": partial(kayenta, interval_s=3600),
    "CloudWatch, 3 of 3": partial(alarm, breaches=3, periods=3),
    "CloudWatch, 1 of 1": partial(alarm, breaches=1, periods=1),
    "AWS SAM": partial(alarm, breaches=2, periods=2, above=0.0),
    "z-test, peeking": z_test,
    "GrowthBook, hourly": growthbook,
    "GrowthBook, every minute": partial(growthbook, every_s=60),
    "error-budget burn": burn_rate,
}
"""The rules beside which backout is measured; not one may be missing from a run."""
