"""What would have changed a verdict, checked by changing it and asking the detector again."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import replace

from backout.analysis.hindsight.counterfactual import Evenly, would_change
from backout.analysis.hindsight.retrace import Recorded, find_regression, retrace
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Counts, RouteCounts

from traffic_sim import DEPLOYED_AT, NEW, OLD, Scenario, Traffic, always, watch

POLICY = Policy()


def recorded(scenario: Scenario, seed: int = 1, until_s: int = 300) -> Recorded:
    traffic = Traffic(scenario, seed)
    baseline = tuple(traffic.baseline())
    rows = tuple(row for t in range(until_s) for row in traffic.second(t))
    return Recorded(NEW, OLD, scenario.split, DEPLOYED_AT, DEPLOYED_AT + until_s, baseline, rows)


def with_share_failing(found: Recorded, share: float) -> Recorded:
    """Return it with so many of the new version's requests failing, evenly."""
    rows, seen = [], 0
    for row in found.counts:
        before, seen = seen, seen + (row.requests if row.version == NEW else 0)
        errors = math.floor(seen * share) - math.floor(before * share)
        rows.append(replace(row, errors=errors) if row.version == NEW else row)
    return replace(found, counts=tuple(rows))


def with_errors(found: Recorded, wanted: int, total: int) -> Recorded:
    """Return it with `wanted` of its first `total` errors left, evenly."""
    rows: list[Counts] = []
    seen = 0
    for row in found.counts:
        before, seen = seen, seen + (row.errors if row.version == NEW else 0)
        errors = math.floor(seen * wanted / total) - math.floor(before * wanted / total)
        rows.append(replace(row, errors=errors) if row.version == NEW else row)
    return replace(found, counts=tuple(rows))


@pytest.mark.parametrize("split", [1.0, 0.5])
def test_a_retrace_decides_when_the_watch_did(split: float) -> None:
    """The same rows, the same detector: the same second."""
    scenario = Scenario(rate=5, split=split, bad=always(error_rate=0.1))
    for seed in range(3):
        outcome = watch(scenario, seed)
        assert outcome.regressed_s is not None
        found = recorded(scenario, seed)
        trace = retrace(found, POLICY)
        assert trace.regressed_at == DEPLOYED_AT + outcome.regressed_s
        assert trace.decision == outcome.decision
        again = find_regression(found, POLICY)
        assert again is not None
        assert again == (trace.regressed_at, outcome.decision.reason)


@pytest.mark.parametrize("seed", range(3))
def test_fewer_errors_would_not_have_been_called_regressed(seed: int) -> None:
    """With as many as the sentence names it is left alone, with one more it is not."""
    found = recorded(Scenario(rate=5, bad=always(error_rate=0.1)), seed)
    trace = retrace(found, POLICY)
    assert trace.regressed_at is not None
    first, met = would_change(found, trace, POLICY)
    words = first.replace(",", "").split()
    fewer, total = int(words[1]), int(words[6])
    cut = replace(found, until=trace.regressed_at)
    assert find_regression(with_errors(cut, fewer, total), POLICY) is None
    assert find_regression(with_errors(cut, fewer + 1, total), POLICY) is not None
    assert "1,100:1 was needed" in met  # nine tenths of alpha are for these streams


@pytest.mark.long
def test_more_errors_would_have_been() -> None:
    """The share that the sentence names is found; clearly fewer are not."""
    found = recorded(Scenario(rate=20))
    trace = retrace(found, POLICY)
    assert trace.regressed_at is None
    most, share, *_ = would_change(found, trace, POLICY)
    assert most.startswith("the evidence never exceeded")
    named = float(share.split()[2]) / 100
    assert find_regression(with_share_failing(found, named * 1.1), POLICY) is not None
    assert find_regression(with_share_failing(found, named / 1.5), POLICY) is None


@pytest.mark.parametrize(("until_s", "words"), [(25, "would tell"), (300, "2 requests came in")])
def test_too_few_requests_for_any_verdict(until_s: int, words: str) -> None:
    """Two requests: not even all of them failing is enough, and the detector's own words say what is missing."""
    found = recorded(Scenario(rate=5), until_s=until_s)
    few = replace(found, counts=(Counts(NEW, DEPLOYED_AT + 1, 2, 0, latency={100: 2}),))
    sentences = would_change(few, retrace(few, POLICY), POLICY)
    assert "not even with all of its 2 requests failing" in sentences[1]
    assert words in sentences[2]


def test_slow_responses() -> None:
    """A verdict on latency: how much shorter the times would have had to be."""
    found = recorded(Scenario(rate=5, bad=always(latency_factor=1.5)))
    trace = retrace(found, POLICY)
    assert trace.regressed_at is not None
    first, _ = would_change(found, trace, POLICY)
    assert first.startswith("with response times ")
    assert 0.0 < float(first.split()[3]) / 100 < 0.5


@given(st.lists(st.tuples(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.floats(0, 1)), max_size=40))
def test_errors_are_shared_out_exactly_and_evenly(rows: list[tuple[list[int], float]]) -> None:
    """Each row has as many as it should, no part more than it may, and over time none is far from its share."""
    evenly, due, got = Evenly(), Counter[str](), Counter[str]()
    for numbers, share in rows:
        parts = {f"/{name}": number for name, number in enumerate(numbers)}
        errors = math.floor(sum(numbers) * share)
        given_ = evenly.among(parts, errors)
        assert sum(given_.values()) == errors
        assert all(given_[name] <= part for name, part in parts.items())
        for name, part in parts.items():
            due[name] += errors * part / sum(numbers) if errors else 0.0  # type: ignore[assignment]
            got[name] += given_[name]
    assert sum(got.values()) == pytest.approx(sum(due.values()))


def test_one_route_among_many_keeps_its_share_of_the_errors() -> None:
    """Twenty percent of five requests a second, one for each of five routes: no route fails totally by rounding."""
    evenly, got = Evenly(), Counter[str]()
    for _ in range(100):
        got.update(evenly.among({f"/{name}": 1 for name in "abcde"}, 1))
    assert set(got.values()) == {20}


def test_a_watch_with_routes_is_changed_in_its_routes_too() -> None:
    """What is asked of the detector is a watch that could have been: routes are parts of their rows."""
    found = recorded(Scenario(rate=5, bad=always(error_rate=0.2)))
    halves = (("/app", 0.5), ("/", 0.25))
    rows = tuple(
        replace(row, routes={name: RouteCounts(math.ceil(row.requests * part), 0) for name, part in halves})
        for row in found.counts
    )
    routed = replace(found, counts=rows)
    sentence, *_ = would_change(routed, retrace(routed, POLICY), POLICY)
    assert sentence.startswith("with ")


def test_nothing_was_counted() -> None:
    """Without a request there is nothing to change."""
    found = replace(recorded(Scenario(rate=1), until_s=5), counts=())
    assert would_change(found, retrace(found, POLICY), POLICY) == ()
