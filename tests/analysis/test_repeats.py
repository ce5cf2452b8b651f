"""Failures that are repeated at once: how many one cause brings, and what they weigh then."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.analysis.statistics.retry_clustering import (
    MOST,
    UNKNOWN,
    Bunch,
    RetryClusters,
    estimate_failures_per_cause,
    weigh_failures,
)
from backout.analysis.statistics.summary import summarize
from backout.model.guard.signals import Counts

AT = 1_760_000_000


def past(causes_per_minute: float, per_s: int, *, repeated: bool, minutes: int = 60, seed: int = 1) -> list[Counts]:
    """Return an hour with failures at random seconds, each repeated up to three times at once, half of which fail."""
    rng = random.Random(seed)  # noqa: S311 a simulation
    rows = []
    for t in range(1, 60 * minutes + 1):
        failed = 0
        if rng.random() < causes_per_minute / 60:
            failed = 1 + (sum(rng.random() < 0.5 for _ in range(3)) if repeated else 0)
        rows.append(Counts("v1", AT - t, per_s + failed, failed))
    return rows


@pytest.mark.parametrize(("causes", "repeated", "low", "high"), [(6, True, 2.0, 3.2), (6, False, 1.0, 1.1)])
def test_repetition_is_learnt_from_the_seconds(causes: float, repeated: bool, low: float, high: float) -> None:
    """2.8 on average by the size of the bunches; a past of single failures says 1."""
    assert low <= summarize(past(causes, 10, repeated=repeated), "v1", AT).per_cause <= high


def test_little_that_was_seen_leaves_what_is_granted() -> None:
    """No failure: 2.5; one: nearly that; and a source that counts by the minute tells nothing."""
    assert estimate_failures_per_cause([]) == UNKNOWN
    assert 2 < estimate_failures_per_cause([Bunch([1], [10] * 60)]) < 2.5
    assert estimate_failures_per_cause([Bunch([30], [600])] * 60) == UNKNOWN


def test_uneven_minutes_are_not_repetition() -> None:
    """Ten minutes with thirty times the failures, each alone in its second."""
    assert estimate_failures_per_cause([Bunch([1] * 30, [50] * 60)] * 10 + [Bunch([1], [50] * 60)] * 50) < 1.1


def test_a_second_whose_requests_all_fail_is_worth_what_is_believed_at_most() -> None:
    """Hours of whole seconds that fail are a bunch of four each, not of fifty."""
    assert estimate_failures_per_cause([Bunch([50], [50] * 60)] * 60) == MOST


def test_the_law_of_a_past_with_repetition_is_that_of_its_causes() -> None:
    """The share that is shown stays the share that failed; the bound is lower and the scatter is not inflated."""
    rows = past(6, 10, repeated=True)
    law = summarize(rows, "v1", AT).errors
    assert law is not None
    failed, requests = sum(row.errors for row in rows), sum(row.requests for row in rows)
    assert law.share == pytest.approx(failed / requests)
    assert law.p0 < law.share


@given(
    pieces=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.booleans()), max_size=30),
    per_cause=st.floats(1, 4),
    cut=st.integers(0, 30),
)
def test_pieces_of_a_second_weigh_what_the_second_weighs(
    pieces: list[tuple[int, int, bool]], per_cause: float, cut: int
) -> None:
    """In any order, and with a crash between them; each failure of a second weighs the same, whose ever it is."""
    repeats, new, old, others = RetryClusters(per_cause, AT), 0.0, 0.0, 0.0
    failed: dict[int, list[int]] = {}
    pieces_of: dict[int, int] = {}
    for number, (second, failures, is_new) in enumerate(pieces):
        if number == cut:
            repeats = RetryClusters.from_state(json.loads(json.dumps(repeats.state())))
        more = repeats.weigh(AT + second, failures, failures + 3, is_new=is_new)
        new, old = new + more.new_failures, old + more.old_failures
        others += more.new_others + more.old_others
        pieces_of[second] = pieces_of.get(second, 0) + 1
        failed.setdefault(second, [0, 0])[not is_new] += failures
    each = {s: weigh_failures(u + x, per_cause) / (u + x) if u + x else 1.0 for s, (u, x) in failed.items()}
    assert others == pytest.approx(sum(3 * number * each[second] for second, number in pieces_of.items()))
    assert new == pytest.approx(sum(u * each[second] for second, (u, _) in failed.items()))
    assert old == pytest.approx(sum(x * each[second] for second, (_, x) in failed.items()))


def test_nothing_is_taken_back_from_a_minute_that_is_over() -> None:
    """A late row adds what it is worth, and leaves what was judged."""
    repeats = RetryClusters(2.0, AT)
    assert repeats.weigh(AT + 59, 4, 4, is_new=True) == pytest.approx((2, 0, 0, 0))
    assert repeats.weigh(AT + 60, 1, 1, is_new=True) == pytest.approx((1, 0, 0, 0))
    late = repeats.weigh(AT + 59, 2, 2, is_new=False)
    assert late == pytest.approx((0, 0, 2 * weigh_failures(6, 2.0) / 6, 0))


def test_an_outage_that_both_versions_share_weighs_by_traffic() -> None:
    """A tenth of the traffic has a tenth of the weight, however many failures a second brings."""
    repeats, new, old = RetryClusters(2.5, AT), 0.0, 0.0
    for second in range(60):
        for number, is_new in ((2, True), (18, False)):
            more = repeats.weigh(AT + second, number, number, is_new=is_new)
            new, old = new + more.new_failures, old + more.old_failures
    assert new / (new + old) == pytest.approx(0.1)


def test_seconds_long_past_are_forgotten() -> None:
    """A week of failures leaves a state of a few minutes."""
    repeats = RetryClusters(2.0, AT)
    for second in range(20_000):
        repeats.weigh(AT + second, 2, 5, is_new=True)
        repeats.weigh(AT + second, 1, 5, is_new=False)
    assert len(json.dumps(repeats.state())) < 16_000
