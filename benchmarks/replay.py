"""The detector's cost: `guard replay` compared with `json.loads` of the same lines, evaluations, its state, and a week.

Events are seeded: 500 requests a second of two versions side by side (the mode with the most streams), a tick a second.
Both sides are whole processes and their CPU time counts, start included. Goals: 300,000 events and 10,000 evaluations a
second of one core; a state below 64 kB; the last day of a week as cheap as the first.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared import measure as shared
from shared.values import replace

from backout.analysis.detector.decision import Detector
from backout.analysis.statistics.quantiles import make_histogram
from backout.model.guard.policy import Policy
from backout.model.guard.routes import add_up
from backout.model.guard.signals import Counts, RouteCounts

if TYPE_CHECKING:
    from collections.abc import Iterator

T = 1_760_000_000
RATE = 500
HOUR_S, DAY_S = 3600, 86_400
ROUTES = ("/app", "/", "/api/items", "/api/orders", "/login", "/assets/app.js", "/search", "/checkout")
SPLITS = {"cut_over": 1.0, "canary": 0.1}
_JSON_LOADS = "import json, sys\nfor line in open(sys.argv[1], 'rb'): json.loads(line)"


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the measurement; `day_ticks` evaluations stand for each day of the week, evenly spread."""

    rounds: int
    baseline_s: int
    watch_s: int
    evaluations: int
    day_ticks: int


FULL = Size(rounds=5, baseline_s=600, watch_s=1400, evaluations=5_000, day_ticks=DAY_S)
QUICK = Size(rounds=2, baseline_s=60, watch_s=140, evaluations=500, day_ticks=1_440)


def latency_ms(draw: random.Random) -> float:
    """Return a latency with a slow tail: p50 about 81 ms, p99 about 340 ms."""
    slow = draw.random() < 0.03  # noqa: PLR2004 - the slow share
    return (250.0 if slow else 81.0) * draw.lognormvariate(0, 0.4 if slow else 0.35)


def recording(size: Size, draw: random.Random) -> Iterator[str]:
    """Yield the lines of a healthy deployment at half of the traffic."""
    yield json.dumps({"type": "start", "deploy_ts": T, "old": "v1", "new": "v2", "split": 0.5, "watch_s": size.watch_s})
    for second in range(T - size.baseline_s, T + size.watch_s):
        for index in range(RATE):
            event = {
                "ts": round(second + index / RATE, 3),
                "version": "v2" if second >= T and draw.random() < 0.5 else "v1",  # noqa: PLR2004 - half each
                "outcome": "ok" if draw.random() >= 0.0003 else "exception",  # noqa: PLR2004 - usual errors
                "status": draw.choice((200, 200, 200, 200, 304, 404)),
                "latency_ms": round(latency_ms(draw), 1),
                "route": draw.choice(ROUTES),
            }
            yield json.dumps(event)
        if second >= T:
            yield json.dumps({"type": "tick", "ts": second + 1})


def throughput(size: Size, folder: Path) -> dict[str, list[float]]:
    """Return events per CPU second of both sides, and our CPU as a multiple of theirs, interleaved."""
    path = folder / "requests.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in recording(size, random.Random(1)))  # noqa: S311 - a load
    events = RATE * (size.baseline_s + size.watch_s)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    sides = {
        "replay": [sys.executable, "-m", "backout", "guard", "replay", str(path)],
        "json_loads": [sys.executable, "-c", _JSON_LOADS, str(path)],
    }
    samples: dict[str, list[float]] = {f"{side}_events_per_cpu_s": [] for side in sides}
    samples["replay_of_json_loads"] = []
    for number in range(size.rounds + 1):
        spent = {side: shared.run(argv, cwd=folder, env=env).cpu for side, argv in sides.items()}
        if number:  # the first one warms the cache
            for side, cpu_s in spent.items():
                samples[f"{side}_events_per_cpu_s"].append(round(events / cpu_s))
            samples["replay_of_json_loads"].append(round(spent["replay"] / spent["json_loads"], 4))
    return samples


class Load:
    """Counts per second of both versions, from a seeded stock that is used again and again."""

    def __init__(self, split: float, *, rate: int = RATE, stock: int = 600) -> None:
        draw = random.Random(2)  # noqa: S311 - a load
        self._new = [_row("v2", max(1, round(rate * split)), draw) for _ in range(stock)]
        self._old = [_row("v1", round(rate * (1 - split)), draw) for _ in range(stock)] if split < 1 else []
        self._before = [_row("v1", rate, draw) for _ in range(stock)]

    def at(self, second: int) -> list[Counts]:
        """Return the rows of a second after the deployment."""
        return [replace(rows[second % len(rows)], second=T + second) for rows in (self._new, self._old) if rows]

    def baseline(self) -> list[Counts]:
        """Return an hour of the old version."""
        rows = self._before
        return [replace(rows[second % len(rows)], second=T - HOUR_S + second) for second in range(HOUR_S)]


def _row(version: str, requests: int, draw: random.Random) -> Counts:
    routes = {}
    for route, number in Counter(draw.choices(ROUTES, k=requests)).items():
        errors = sum(draw.random() < 0.0003 for _ in range(number))  # noqa: PLR2004 - usual errors
        routes[route] = RouteCounts(number, errors, make_histogram([latency_ms(draw) for _ in range(number)]))
    whole = add_up(routes.values())
    return Counts(version, 0, whole.requests, whole.errors, latency=whole.latency, routes=routes)


def detector(load: Load, split: float) -> Detector:
    """Return a watch's detector after its baseline."""
    return Detector(
        version="v2",
        old="v1",
        deployed_at=T,
        split=split,
        baseline=load.baseline(),
        policy=Policy(),
        healthy_after_s=600,
    )


def evaluations(size: Size) -> dict[str, list[float]]:
    """Return evaluations a second, when all streams were touched and when none was, and the state in bytes."""
    samples: dict[str, list[float]] = {}
    for name, split in SPLITS.items():
        load = Load(split)
        watched = detector(load, split)
        second = 0
        for _ in range(size.rounds):
            touched_s = untouched_s = 0.0
            for _ in range(size.evaluations):
                watched.add(load.at(second))
                second += 1
                began = time.process_time()
                watched.judge(T + second)
                middle = time.process_time()
                watched.judge(T + second)
                touched_s += middle - began
                untouched_s += time.process_time() - middle
            samples.setdefault(f"evaluations_per_s_{name}", []).append(round(size.evaluations / touched_s))
            samples.setdefault(f"untouched_per_s_{name}", []).append(round(size.evaluations / untouched_s))
        samples[f"state_bytes_{name}"] = [len(json.dumps(watched.state()))]
    return samples


def week(size: Size) -> dict[str, list[float]]:
    """Return the CPU of 10,000 ticks in each day of a week, that of the last by the first, and what memory grew by.

    The week is a canary's: it has more streams than a cut-over.
    """
    split = SPLITS["canary"]
    load = Load(split, rate=50)
    watched = detector(load, split)
    step_s = DAY_S // size.day_ticks
    per_10_000, peak_kib = [], []
    for day in range(7):
        began = time.process_time()
        for second in range(day * DAY_S, (day + 1) * DAY_S, step_s):
            watched.add(load.at(second))
            watched.judge(T + second + 1)
        per_10_000.append(round((time.process_time() - began) / size.day_ticks * 10_000, 4))
        peak_kib.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return {
        "day_cpu_s_per_10000_ticks": per_10_000,
        "last_day_of_first": [round(per_10_000[-1] / per_10_000[0], 4)],
        "peak_memory_growth_mb": [round((peak_kib[-1] - peak_kib[0]) / 1024, 2)],
        "state_bytes_after_a_week": [len(json.dumps(watched.state()))],
    }


def main() -> None:
    """Measure, and print a table or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--quick", action="store_true", help="few events, and a week in large steps: does it run?")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="backout-replay-") as folder:
        samples = throughput(size, Path(folder))
    samples |= evaluations(size)
    samples |= week(size)
    record = shared.absolute("replay", samples)
    if options.json:
        print(shared.as_json(record))
        return
    print(f"replay: medians ({record['machine']})")
    for key, values in samples.items():
        low, high = shared.median_bound(values)
        print(f"  {key:<34} {statistics.median(values):>12,.6g}  (95 %: {low:,.6g} to {high:,.6g}; n {len(values)})")


if __name__ == "__main__":
    main()
