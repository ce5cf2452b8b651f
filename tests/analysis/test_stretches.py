"""The tests behind "latency is judged by what persists": what two stretches can add, what a slow one can cost."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from backout.analysis.detector.below_test import BelowTest
from backout.analysis.detector.persistence import FORGIVEN, LimitTest, StretchLabels, StretchLaw
from backout.analysis.statistics.baseline import Law
from backout.analysis.statistics.minute_law import MinuteLaw
from backout.analysis.statistics.rates import LabelTest

from extent import examples

LAW = Law(500, 1000, 0.5, 0.003)
counts = st.tuples(st.integers(0, 60), st.integers(0, 60))
stretches = st.lists(st.tuples(counts, counts), min_size=3, max_size=9)


def law_of(concurrent: bool) -> StretchLaw:
    return StretchLaw(LAW, concurrent=concurrent, points=5)


@examples(40)
@given(stretches=stretches, disturbed=st.sets(st.integers(0, 8), max_size=FORGIVEN), kind=st.integers(0, 3))
def test_two_stretches_can_add_nothing(
    stretches: list[tuple[tuple[int, int], tuple[int, int]]], disturbed: set[int], kind: int
) -> None:
    """Whatever is counted in any two of them, the evidence is no more than that of the others alone."""
    forgiving = (
        law_of(concurrent=False),
        law_of(concurrent=True),
        StretchLabels(0.3, 0.4),
        LimitTest(0.5, forgives=True),
    )
    plain = (
        MinuteLaw(LAW, concurrent=False, points=5, clustered=False),
        MinuteLaw(LAW, concurrent=True, points=5, clustered=False),
        LabelTest(0.3, 0.4),
        LimitTest(0.5, forgives=False),
    )
    for number, (new, old) in enumerate(stretches):
        forgiving[kind].begin_stretch()
        if isinstance(other := plain[kind], LimitTest):
            other.begin_stretch()
        forgiving[kind].add(number // 3, new, old)
        plain[kind].add(number // 3, *((0, 0), (0, 0)) if number in disturbed else (new, old))
    assert forgiving[kind].log_e() <= plain[kind].log_e() + 1e-9


@examples(40)
@given(stretches=stretches, kind=st.integers(0, 3))
def test_the_quick_bound_is_one(stretches: list[tuple[tuple[int, int], tuple[int, int]]], kind: int) -> None:
    """What is not worth an exact look is never above its bound."""
    test = [
        law_of(concurrent=False),
        law_of(concurrent=True),
        LimitTest(0.5, forgives=True),
        LimitTest(0.5, forgives=False),
    ][kind]
    for number, (new, old) in enumerate(stretches):
        test.begin_stretch()
        test.add(number // 3, new, old)
        most = test.most_log_e()
        assert test.log_e() <= most + 1e-9


@examples(40)
@given(limit=st.floats(1e-3, 0.9), better=st.floats(0.05, 0.95), n=st.integers(1, 30), parts=st.integers(1, 3))
def test_the_mean_of_the_bet_on_health_and_what_a_stretch_can_cost(
    limit: float, better: float, n: int, parts: int
) -> None:
    """Over all outcomes at the limit the mean is at most 1; a stretch in which all are hits costs 20:1 at most."""
    chances = [math.comb(n, y) * limit**y * (1 - limit) ** (n - y) for y in range(n + 1)]
    mean = 0.0
    for hits, chance in enumerate(chances):
        test = BelowTest(limit * better, limit)
        test.add(hits, n)
        mean += chance * math.exp(test.log_e())
    assert mean <= 1 + 1e-9
    bad = BelowTest(limit * better, limit)
    for _ in range(parts):
        bad.begin_stretch()
        bad.add(10_000, 10_000)
    assert bad.log_e() >= -parts * math.log(20) - 1e-9
