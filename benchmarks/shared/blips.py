"""Failures that heal after two seconds, and failures that go on: whether and when the live detector acts on them.

A cut-over after an hour of baseline, judged once a second as a watch does. Requests come by chance (Poisson), and the
failures begin anywhere in the twentieth second.
"""

from __future__ import annotations

import math
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from shared.measure import describe_machine

from backout.analysis.detector.decision import Detector
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, RouteCounts
from backout.model.guard.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Results = Mapping["Blips", Sequence[float]]

RATES = (5, 20, 50, 200)
FAILING = (0.2, 0.5, 1.0)
ROUTES = (0.80, 0.15, 0.05)
MANY = ((20, 1), (10, 3), (5, 10))
"""(routes, requests a second of each) where a request in 2,000 fails anyway."""
USUAL = 1 / 2000
LASTS_S = 2.0
_DEPLOYED_AT = 1_760_000_000
_BASELINE_S, _BEGIN_S, _SEEN_S = 3600, 20, 60
_NEW, _OLD = "v2", "v1"
_NOTE = (
    "Three routes get 80, 15 and 5 % of the requests. Mean delay: of those that go on, from the first failing moment."
)
_HEAD = ("requests/s", "share that fails", "blips rolled back", "of those that go on", "mean delay")


@dataclass(frozen=True, slots=True)
class Blips:
    """One kind of failures.

    Args:
        rate: requests a second of all routes.
        routes: the share of each.
        failing: the share of requests that fails while it lasts.
        usual: the share that fails before, and anyway.
        heals: it is over after two seconds, else it goes on.
    """

    rate: float
    routes: tuple[float, ...]
    failing: float
    usual: float
    heals: bool


def plan(size: str) -> list[tuple[Blips, int]]:
    """Return each kind of failures with its number of watches."""
    number = {"quick": 2, "standard": 40, "full": 400}[size]
    kinds = [
        Blips(rate, ROUTES, failing, 0.0, heals) for rate in RATES for failing in FAILING for heals in (True, False)
    ]
    kinds += [Blips(routes * each, (1 / routes,) * routes, 1.0, USUAL, heals=True) for routes, each in MANY]
    return [(kind, number) for kind in kinds]


def measure(chosen: Sequence[tuple[Blips, int]], seed: int, jobs: int = 1) -> dict[Blips, list[float]]:
    """Return of each watch the seconds from the first failing moment to the rollback, infinite where there is none."""
    work = [(kind, seed, k, run) for k, (kind, number) in enumerate(chosen) for run in range(number)]
    found: dict[Blips, list[float]] = {kind: [] for kind, _ in chosen}
    if jobs == 1:
        delays = [*map(_watch, work)]
    else:
        with ProcessPoolExecutor(jobs) as pool:
            delays = [*pool.map(_watch, work, chunksize=4)]
    for (kind, *_), delay in zip(work, delays, strict=True):
        found[kind].append(delay)
    return found


def _watch(task: tuple[Blips, int, int, int]) -> float:
    kind, *draw = task
    rng = np.random.default_rng(draw)
    begin = _BEGIN_S + rng.random()
    end = begin + LASTS_S if kind.heals else math.inf
    detector = Detector(
        version=_NEW,
        old=_OLD,
        deployed_at=_DEPLOYED_AT,
        split=1.0,
        baseline=_draw_baseline(kind, rng),
        policy=Policy(),
    )
    for second in range(_SEEN_S + math.ceil(LASTS_S)):
        requests = rng.poisson(kind.rate * np.array(kind.routes))
        failed = np.array([_count_failed(kind, second + rng.random(n), (begin, end), rng) for n in requests])
        detector.add(_make_rows(_NEW, second, requests, failed))
        detector.note_until(_DEPLOYED_AT + second + 1)
        decision = detector.put_off(detector.decide(_DEPLOYED_AT + second + 1))
        if decision.verdict is Verdict.REGRESSED:
            return second + 1 - begin
    return math.inf


def _draw_baseline(kind: Blips, rng: np.random.Generator) -> list[Counts]:
    requests = rng.poisson(kind.rate * np.array(kind.routes), (_BASELINE_S, len(kind.routes)))
    failed = rng.binomial(requests, kind.usual)
    return [
        row
        for second in range(_BASELINE_S)
        for row in _make_rows(_OLD, second - _BASELINE_S, requests[second], failed[second])
    ]


def _count_failed(
    kind: Blips, moments: NDArray[np.float64], spell: tuple[float, float], rng: np.random.Generator
) -> int:
    share = np.where((moments >= spell[0]) & (moments < spell[1]), kind.failing, kind.usual)
    return int((rng.random(len(moments)) < share).sum())


def _make_rows(version: str, second: int, requests: NDArray[np.int64], failed: NDArray[np.int64]) -> list[Counts]:
    """Return the row of one second, none without a request; every answer takes as long as any other."""
    routes = {
        f"GET /{k}": RouteCounts(int(n), int(bad), {100: int(n)})
        for k, (n, bad) in enumerate(zip(requests, failed, strict=True))
        if n
    }
    total = int(requests.sum())
    if not total:
        return []
    return [Counts(version, _DEPLOYED_AT + second, total, int(failed.sum()), latency={100: total}, routes=routes)]


def text(found: Results) -> str:
    """Return both tables as Markdown."""
    rows = []
    for rate in RATES:
        for failing in FAILING:
            blip, bad = (found.get(Blips(rate, ROUTES, failing, 0.0, heals), ()) for heals in (True, False))
            if bad:
                mean_s = statistics.fmean(filter(math.isfinite, bad)) if any(map(math.isfinite, bad)) else math.inf
                rows.append((f"{rate}", f"{failing:.0%}", _tell(blip), _tell(bad), f"{mean_s:.1f} s"))
    many = []
    for routes, each in MANY:
        blip = found.get(Blips(routes * each, (1 / routes,) * routes, 1.0, USUAL, heals=True), ())
        if blip:
            many.append((f"{routes}", f"{each}", _tell(blip)))
    first = _table("Blips of two seconds, and failures that go on.", _NOTE, _HEAD, rows)
    title = "All fail for two seconds, and one request in 2,000 anyway."
    return f"{first}\n\n{_table(title, '', ('routes', 'requests/s of each', 'blips rolled back'), many)}"


def _table(title: str, note: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"**{title}** {note}".rstrip(), "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join((*lines, *(f"| {' | '.join(row)} |" for row in rows)))


def _tell(delays: Sequence[float]) -> str:
    return f"{sum(map(math.isfinite, delays))} of {len(delays)}"


def record(found: Results) -> dict[str, object]:
    """Return a `backout.benchmark/1`: of blips 0 or 1 for each watch, of failures that go on the delays in seconds."""
    samples = {
        f"{'blip' if kind.heals else 'goes on'}, {len(kind.routes)} routes, {kind.rate:g}/s, {kind.failing:.0%}": [
            int(math.isfinite(delay)) if kind.heals else (delay if math.isfinite(delay) else None) for delay in delays
        ]
        for kind, delays in found.items()
    }
    return {
        "schema": "backout.benchmark/1",
        "name": "detect-blips",
        "machine": describe_machine(),
        "samples": samples,
        "ratios": {
            key: None if None in values else statistics.fmean(value for value in values if value is not None)
            for key, values in samples.items()
        },
        "n": {key: len(values) for key, values in samples.items()},
    }
