"""A billion requests a second, rates of one in a billion, and nothing at all: numbers, never an error."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.analysis.detector.decision import Detector
from backout.analysis.statistics.baseline import Law
from backout.analysis.statistics.limits import log_e_below
from backout.analysis.statistics.minute_law import MinuteLaw
from backout.analysis.statistics.quantiles import make_histogram
from backout.analysis.statistics.rates import LabelTest, log_e_above
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, find_bucket
from backout.model.guard.verdict import Verdict

from extent import examples

if TYPE_CHECKING:
    from collections.abc import Sequence

T = 1_760_000_000
BILLION = 10**9
numbers = st.one_of(st.just(0), st.integers(0, 5), st.integers(0, BILLION), st.just(BILLION))
shares = st.one_of(st.just(0.0), st.just(1e-9), st.floats(0, 1), st.just(1.0))


def is_evidence(log_e: float) -> bool:
    """Whether it is a number below infinity: minus infinity is "impossible under every alternative"."""
    return not math.isnan(log_e) and log_e < math.inf


@given(
    p0=st.floats(5e-4, 1 - 5e-4),
    phi=st.floats(1e-12, 0.5),
    concurrent=st.booleans(),
    counts=st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=4),
)
def test_tests_take_any_counts(
    p0: float, phi: float, concurrent: bool, counts: list[tuple[int, int, int, int]]
) -> None:
    """Minute after minute of anything, a silence of years, and a checkpoint that is JSON."""
    laws = MinuteLaw(Law(0, 0, p0, phi), concurrent=concurrent, points=16, clustered=True)
    labels = LabelTest(p0, 0.1, late=True)
    for index, (u, v, x, z) in enumerate(counts):
        for test in (laws, labels):
            test.add(index * BILLION, (u, v), (x, z))
            assert is_evidence(test.log_e())
    assert MinuteLaw.from_state(json.loads(json.dumps(laws.state()))).log_e() == laws.log_e()
    assert LabelTest.from_state(json.loads(json.dumps(labels.state()))).log_e() == labels.log_e()


@given(limit=st.floats(1e-9, 1 - 1e-9), hits=numbers, others=numbers)
def test_shares_of_one_in_a_billion(limit: float, hits: int, others: int) -> None:
    """The SLO test and the proof of health at any limit."""
    assert is_evidence(log_e_above(hits, hits + others, limit))
    assert is_evidence(log_e_below(hits, hits + others, limit / 2, limit))


def rows(version: str, start: int, seconds: Sequence[tuple[int, float, int]]) -> list[Counts]:
    return [
        Counts(
            version, start + index, requests, round(requests * share), latency={bucket: requests} if requests else {}
        )
        for index, (requests, share, bucket) in enumerate(seconds)
    ]


seconds = st.lists(st.tuples(numbers, shares, st.sampled_from([0, 100, 255])), max_size=6)


@examples(60)
@given(before=seconds, new=seconds, old=seconds, split=st.sampled_from([1e-9, 0.1, 0.5, 1 - 1e-9, 1.0]))
def test_the_detector_takes_any_counts(
    before: list[tuple[int, float, int]],
    new: list[tuple[int, float, int]],
    old: list[tuple[int, float, int]],
    split: float,
) -> None:
    """Any past, any present, any split: a verdict with a sentence at every second, and a state of plain numbers."""
    detector = Detector(
        version="new", old="old", deployed_at=T, split=split, baseline=rows("old", T - 700, before), policy=Policy()
    )
    for second in range(6):
        detector.add(
            [*rows("new", T + second, new[second : second + 1]), *rows("old", T + second, old[second : second + 1])]
        )
        decision = detector.decide(T + second + 1)
        assert decision.verdict in Verdict
        assert all(is_evidence(line.log_evidence) for line in decision.evidence)
        state = json.loads(json.dumps(detector.state(), allow_nan=False))
        assert Detector.from_state(state, Policy()).decide(T + second + 1) == decision


def test_a_billion_requests_a_second_are_judged_like_any_others() -> None:
    """As usual is left alone, ten times the errors are found at once."""
    baseline = [Counts("old", T - t, BILLION, 10**6 + t) for t in range(1, 1200)]

    def verdict(errors: int) -> Verdict:
        detector = Detector(version="new", old="old", deployed_at=T, split=1.0, baseline=baseline, policy=Policy())
        detector.add([Counts("new", T, BILLION, errors)])
        return detector.judge(T + 1)[0]

    assert verdict(10**6) is Verdict.HEALTHY
    assert verdict(10**7) is Verdict.REGRESSED


latencies = st.one_of(st.none(), st.floats(0, 1e308), st.sampled_from([0.0, 1.0, 1.044, 5e-324, 59_000.0]))


@given(st.lists(latencies, max_size=50))
def test_a_histogram_is_its_buckets_one_by_one(found: list[float | None]) -> None:
    """The fast way and the plain one agree on every latency there is."""
    plain: dict[int, int] = {}
    for latency in found:
        if latency is not None:
            plain[find_bucket(latency)] = plain.get(find_bucket(latency), 0) + 1
    assert make_histogram(found) == plain


@pytest.mark.parametrize("edge", range(1, 255))
def test_a_histogram_cuts_at_the_same_edges(edge: int) -> None:
    """The floats right at and right below a bucket's edge."""
    floor = 1.044**edge
    for latency in (floor, math.nextafter(floor, 0), math.nextafter(floor, 1e9)):
        assert make_histogram([latency]) == {find_bucket(latency): 1}
