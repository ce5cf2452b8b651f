"""Each of the busiest routes is a stream of its own: a small one that breaks is not lost among the others."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.analysis.detector.decision import Detector
from backout.analysis.statistics.baseline import MOST_ROUTES
from backout.analysis.statistics.summary import summarize
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, RouteCounts
from backout.model.guard.verdict import Cause, Verdict

from extent import by_extent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AT = 1_760_000_000
RATES = {"/app": 15, "/api": 4, "/pay": 1}
USUAL = 0.005

Behaviour = tuple[float, int]
"""Share of errors, and how many buckets slower than usual."""


def second(version: str, at: int, rng: random.Random, behaviour: Callable[[str], Behaviour]) -> Counts:
    routes = {}
    for name, rate in RATES.items():
        share, slower = behaviour(name)
        latency: dict[int, int] = {}
        for _ in range(rate):
            bucket = min(255, round(rng.gauss(100, 8)) + slower)
            latency[bucket] = latency.get(bucket, 0) + 1
        routes[name] = RouteCounts(rate, sum(rng.random() < share for _ in range(rate)), latency)
    whole: dict[int, int] = {}
    for route in routes.values():
        for bucket, number in route.latency.items():
            whole[bucket] = whole.get(bucket, 0) + number
    errors = sum(route.errors for route in routes.values())
    return Counts(version, at, sum(RATES.values()), errors, latency=whole, routes=routes)


def rows(
    seed: int, behaviour: Callable[[str], Behaviour], split: float = 1.0
) -> tuple[list[Counts], list[list[Counts]]]:
    """Return half an hour of the old version, and five minutes after it by second."""
    rng = random.Random(seed)  # noqa: S311 a simulation
    before = [second("v1", AT - t, rng, lambda _: (USUAL, 0)) for t in range(1, 1801)]
    after = []
    for t in range(300):
        parts = [second("v2", AT + t, rng, behaviour)]
        if split < 1:
            parts.append(second("v1", AT + t, rng, lambda _: (USUAL, 0)))
        after.append(parts)
    return before, after


def watched(before: list[Counts], after: list[list[Counts]], split: float = 1.0) -> Iterator[tuple[int, Detector]]:
    detector = Detector(version="v2", old="v1", deployed_at=AT, split=split, baseline=before, policy=Policy())
    for t, part in enumerate(after):
        detector.add(part)
        yield t + 1, detector


def found_s(before: list[Counts], after: list[list[Counts]], split: float = 1.0) -> float:
    looks = watched(before, after, split)
    return next((t for t, detector in looks if detector.judge(AT + t)[0] is Verdict.REGRESSED), float("inf"))


def without_routes(counts: list[Counts]) -> list[Counts]:
    return [replace(row, routes={}) for row in counts]


@pytest.mark.parametrize("split", [1.0, 0.5])
def test_a_small_route_that_fails_is_found_sooner_than_by_the_whole(split: float) -> None:
    """One request in twenty always fails, after half an hour with 0.5 % errors: never later, and mostly sooner."""
    sooner, seeds = 0, by_extent(5, 6, proof=10)
    for seed in range(seeds):
        before, after = rows(seed, lambda route: (1.0 if route == "/pay" else USUAL, 0), split)
        by_route = found_s(before, after, split)
        by_whole = found_s(without_routes(before), [without_routes(part) for part in after], split)
        assert by_route <= by_whole
        sooner += by_route < by_whole
    assert sooner >= 0.8 * seeds


def test_a_small_route_that_is_slow_is_named() -> None:
    """The reason says which route, with its own numbers; the cause is latency."""
    before, after = rows(3, lambda route: (USUAL, 20 if route == "/pay" else 0))
    decision = None
    for t, detector in watched(before, after):
        decision = detector.decide(AT + t)
        if decision.verdict is Verdict.REGRESSED:
            break
    assert decision is not None
    assert (decision.verdict, decision.cause) == (Verdict.REGRESSED, Cause.LATENCY)
    assert "requests to /pay took longer than its p95 of" in decision.reason


def test_routes_leave_a_healthy_version_alone() -> None:
    """Seeds of five minutes with no difference."""
    for seed in range(by_extent(6, 10, proof=20)):
        assert found_s(*rows(seed, lambda _: (USUAL, 0))) == float("inf")


def test_the_busiest_are_followed_with_the_vital_ones_and_one_alone_is_not() -> None:
    """A route with too few requests to say what is usual is none; a single route is the whole; query shapes are one."""
    parts = {f"/{n:02d}" + ("?q" if n == 12 else ""): RouteCounts(n, 0, {100: n}) for n in range(1, 31)}
    row = Counts("v1", AT - 30, 465, 0, latency={100: 465}, routes=parts)
    rows = [replace(row, second=AT - t) for t in range(1, 121)]
    found = summarize(rows, "v1", AT).routes
    assert [route.name for route in found] == [f"/{n:02d}" for n in range(30, 30 - MOST_ROUTES, -1)]
    assert [route.name for route in summarize(rows, "v1", AT, ["/02"]).routes] == [*(r.name for r in found), "/02"]
    rare = [replace(row, second=AT - t, routes={"/a": parts["/13"], "/b": parts["/01"]}) for t in range(1, 61)]
    assert summarize(rare, "v1", AT).routes == ()


def test_a_restored_detector_goes_on_with_its_routes() -> None:
    """The checkpoint holds every route's evidence, in far less than 64 kB."""
    before, after = rows(5, lambda route: (0.5 if route == "/pay" else USUAL, 0))
    kept = Detector(version="v2", old="v1", deployed_at=AT, split=1.0, baseline=before, policy=Policy())
    restored = Detector.from_state(json.loads(json.dumps(kept.state())), Policy())
    for t, part in enumerate(after[:60]):
        kept.add(part)
        restored.add(part)
        restored = Detector.from_state(json.loads(json.dumps(restored.state())), Policy())
        assert restored.decide(AT + t) == kept.decide(AT + t)
    assert len(json.dumps(kept.state())) < 64_000
