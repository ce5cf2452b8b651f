"""Another mix of routes is not slower: response times are held against those of their own route."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import replace

from backout.analysis.detector.decision import Detector
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, RouteCounts, merge_latency
from backout.model.guard.verdict import Cause, Verdict

from extent import examples

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AT = 1_760_000_000
RATE = 20
WATCH_S = 150
BEFORE_S = 600
TYPICAL = {"GET /": 70, "GET /api/models": 100, "POST /api/orders": 150, "POST /api/files": 190, "GET /news": 80}
"""The usual bucket of each route: about 20, 74, 640 and 3,570 ms, and 31 of the one that not every version has."""
PEOPLE = {"GET /": 80.0, "GET /api/models": 18.0, "POST /api/orders": 1.0, "POST /api/files": 1.0}
"""How often each is asked for in a second, in hundredths."""

Mix = dict[str, float]


def second(
    rng: random.Random, version: str, at: int, mix: Mapping[str, float], rate: int = RATE, slower: int = 0
) -> Counts:
    """Return the answers of a second: `rate` of them, by routes drawn from the mix, so many buckets slower."""
    found: dict[str, dict[int, int]] = {}
    for name in rng.choices(list(mix), list(mix.values()), k=rate):
        bucket = round(rng.gauss(TYPICAL.get(name, 200), 6)) + slower
        latency = found.setdefault(name, {})
        latency[bucket] = latency.get(bucket, 0) + 1
    routes = {name: RouteCounts(sum(latency.values()), 0, latency) for name, latency in found.items()}
    return Counts(version, at, rate, 0, 0, merge_latency(routes.values()), routes)


def policy(slow_start_s: float = 60.0) -> Policy:
    standard = Policy()
    return replace(standard, guard=replace(standard.guard, slow_start_s=slow_start_s))


def watch(detector: Detector, seconds: Iterator[list[Counts]]) -> list[tuple[Verdict, Cause]]:
    found = []
    for t, rows in enumerate(seconds):
        detector.add(rows)
        detector.note_until(AT + t + 1)
        found.append(detector.judge(AT + t + 1)[:2])
    return found


def before(rng: random.Random, mix: Mapping[str, float] = PEOPLE, seconds: int = BEFORE_S) -> list[Counts]:
    return [second(rng, "v1", AT - t, mix) for t in range(seconds, 0, -1)]


def make(baseline: list[Counts], *, split: float = 1.0, slow_start_s: float = 60.0) -> Detector:
    return Detector(
        version="v2",
        old="v1",
        deployed_at=AT,
        split=split,
        baseline=baseline,
        policy=policy(slow_start_s),
        watch_s=WATCH_S,
    )


SHARES = st.permutations([80.0, 18.0, 1.5, 0.5]).map(lambda shares: dict(zip(PEOPLE, shares, strict=True)))


@examples(8)
@given(
    seed=st.integers(0, 2**32),
    mix=SHARES,
    moved=SHARES,
    split=st.sampled_from([1.0, 0.5]),
    seconds=st.sampled_from([0, 120, BEFORE_S]),
    slow_start_s=st.sampled_from([0.0, 60.0]),
)
def test_another_mix_with_the_same_response_times_is_not_slower(
    seed: int, mix: Mix, moved: Mix, split: float, seconds: int, slow_start_s: float
) -> None:
    """Whatever is asked for of the new version: in a cut-over, and of the people that a split gives to it."""
    rng = random.Random(seed)  # noqa: S311 a simulation
    detector = make(before(rng, mix, seconds), split=split, slow_start_s=slow_start_s)
    rows = (
        [second(rng, "v2", AT + t, moved), *([second(rng, "v1", AT + t, mix)] if split < 1 else [])]
        for t in range(WATCH_S)
    )
    assert (Verdict.REGRESSED, Cause.LATENCY) not in watch(detector, rows)


LEFT = {"POST /api/orders": 1.0, "POST /api/files": 1.0}


@pytest.mark.parametrize("slow_start_s", [0.0, 60.0])
def test_nearly_all_visitors_leave_and_slow_requests_remain(slow_start_s: float) -> None:
    """An order and a file twice a second are slow as ever: no reason to roll back."""
    rng = random.Random(3)  # noqa: S311 a simulation
    detector = make(before(rng), slow_start_s=slow_start_s)
    found = watch(detector, ([second(rng, "v2", AT + t, LEFT, 2)] for t in range(WATCH_S)))
    assert Verdict.REGRESSED not in {verdict for verdict, _ in found}


def test_what_nobody_asked_for_before_is_compared_with_nothing() -> None:
    """A new page that takes long is not the old ones being slow."""
    rng = random.Random(4)  # noqa: S311 a simulation
    detector = make(before(rng), slow_start_s=0.0)
    found = watch(detector, ([second(rng, "v2", AT + t, {**PEOPLE, "GET /report": 300.0})] for t in range(WATCH_S)))
    assert Verdict.REGRESSED not in {verdict for verdict, _ in found}


@pytest.mark.parametrize("mix", [PEOPLE, LEFT])
def test_slow_answers_are_found_whatever_the_mix(mix: Mix) -> None:
    """Half as slow again, in the usual mix and where few visitors remain; the reason says what is compared."""
    rng = random.Random(5)  # noqa: S311 a simulation
    detector = make(before(rng), slow_start_s=0.0)
    for t in range(WATCH_S):
        detector.add([second(rng, "v2", AT + t, mix, 4 if mix is LEFT else RATE, slower=10)])
        decision = detector.decide(AT + t + 1)
        if decision.verdict is Verdict.REGRESSED:
            break
    assert (decision.verdict, decision.cause) == (Verdict.REGRESSED, Cause.LATENCY)
    assert "of its route (" in decision.reason or "took longer than its p95 of" in decision.reason


def test_a_checkpoint_keeps_what_was_usual_of_each_route() -> None:
    """Also while the thresholds are learnt from the old version beside it."""
    rng = random.Random(6)  # noqa: S311 a simulation
    detector, kept = make([], split=0.5), make([], split=0.5)
    for t in range(60):
        rows = [second(rng, version, AT + t, PEOPLE, 4) for version in ("v1", "v2")]
        for each in (detector, kept):
            each.add(rows)
        kept = Detector.from_state(json.loads(json.dumps(kept.state())), policy())
        assert kept.decide(AT + t + 1) == detector.decide(AT + t + 1)


def test_a_crawler_that_asks_for_slow_pages_is_no_slower_version() -> None:
    """What has no route's name is little before, and much and slow afterwards: it says nothing of the version."""

    def row(version: str, at: int, others: int, bucket: int) -> Counts:
        latency = {"GET /items": {130 + at % 5: 10}, **({"other": {bucket: others}} if others else {})}
        routes = {name: RouteCounts(sum(found.values()), 0, found) for name, found in latency.items()}
        return Counts(version, at, 10 + others, 0, 0, merge_latency(routes.values()), routes)

    detector = make([row("v1", AT - t, t % 2, 20) for t in range(BEFORE_S, 0, -1)], slow_start_s=0.0)
    found = watch(detector, ([row("v2", AT + t, 3, 90)] for t in range(WATCH_S)))
    assert Verdict.REGRESSED not in {verdict for verdict, _ in found}


def test_a_version_is_not_healthy_while_many_response_times_are_compared_with_nothing() -> None:
    """A slow new page gets more than a fifth of all requests; where it gets few, that is said."""
    found = []
    for share in (60.0, 6.0):
        rng = random.Random(7)  # noqa: S311 a simulation
        detector = make(before(rng), slow_start_s=0.0)
        for t in range(1200):
            detector.add([second(rng, "v2", AT + t, {**PEOPLE, "GET /report": share})])
        found.append(detector.decide(AT + 1200))
    much, little = found
    assert much.verdict is Verdict.INCONCLUSIVE
    assert little.verdict is Verdict.HEALTHY
    assert all("could not be compared (too little was known of their routes before)" in each.reason for each in found)


@pytest.mark.parametrize("share", [60.0, 500.0])
def test_a_popular_new_page_that_is_as_quick_as_the_others_is_no_doubt(share: float) -> None:
    """Nor are a crawler's requests for what is not there, whatever names a source gives them."""
    rng = random.Random(8)  # noqa: S311 a simulation
    detector = make(before(rng), slow_start_s=0.0)
    for t in range(1200):
        detector.add([second(rng, "v2", AT + t, {**PEOPLE, "GET /news": share}, round(RATE * (1 + share / 100)))])
    decision = detector.decide(AT + 1200)
    assert decision.verdict is Verdict.HEALTHY
    assert "could not be compared (too little was known of their routes before)" in decision.reason
