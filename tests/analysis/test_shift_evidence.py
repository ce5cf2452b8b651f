"""The evidence of shifts under its null: exact means, and the laws of volume and of the good share."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.analysis.shifts.collapse import Collapse
from backout.analysis.shifts.evidence import BURSTS, CLASS_WEIGHTS, Evidence
from backout.analysis.shifts.goodness import FALL, Answered, weigh
from backout.analysis.shifts.normal import Normal
from backout.analysis.shifts.strata import BUSIEST, REST, freeze
from backout.analysis.shifts.stratum import Stratum
from backout.analysis.shifts.tally import Tally
from backout.analysis.shifts.volume import estimate_volume
from backout.analysis.statistics.baseline import OUTAGE_A, OUTAGE_B, Law
from backout.analysis.statistics.beta import log_beta
from backout.analysis.statistics.minute_law import MinuteLaw
from backout.model.guard.answers import AnswerClass

from extent import by_extent, examples

ROUNDING = 1e-9
KIND = AnswerClass.NOT_FOUND
laws = st.builds(
    lambda p0, phi: Law(0, 0, p0, phi), st.floats(5e-4, 0.5), st.floats(math.log(1e-5), math.log(0.5)).map(math.exp)
)


def log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def healthy_or_burst(law: Law, hits: int, others: int) -> float:
    """Return the chance of so many hits in a minute of the law, or with 5 % in a burst."""
    a, b = law.p0 * law.tau, (1 - law.p0) * law.tau
    usual = math.exp(log_beta(a + hits, b + others) - log_beta(a, b))
    burst = math.exp(log_beta(OUTAGE_A + hits, OUTAGE_B + others) - log_beta(OUTAGE_A, OUTAGE_B))
    return math.exp(log_choose(hits + others, hits)) * ((1 - BURSTS) * usual + BURSTS * burst)


@examples(30)
@given(law=laws, sizes=st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 6)))
def test_the_mean_of_a_cut_overs_evidence_though_it_begins_with_the_first_hit(
    law: Law, sizes: tuple[int, int, int]
) -> None:
    """Three minutes, each healthy or a burst: the mean of a test without the starts before its first hit is <= 1."""
    mean = 0.0
    hits = [range(size + 1) for size in sizes]
    for first in hits[0]:
        for second in hits[1]:
            for third in hits[2]:
                chance, test, last = 1.0, None, -1
                for minute, (u, n) in enumerate(zip((first, second, third), sizes, strict=True)):
                    chance *= healthy_or_burst(law, u, n - u)
                    if test is None and u:
                        test = Evidence("GET /", KIND, 1.0)
                        test.begin_law(law, minute, nothing_since=last + 1)
                    if test is not None:
                        test.add(minute, u, n - u, is_new=True)
                    elif n:
                        last = minute
                mean += chance * (math.exp(test.log_e()) if test is not None else 0.0)
    assert mean <= 1 + ROUNDING


@examples(30)
@given(
    shares=st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)), rates=st.tuples(st.floats(0, 1), st.floats(0, 1))
)
def test_the_mean_of_a_splits_evidence_whatever_is_asked(
    shares: tuple[float, float], rates: tuple[float, float]
) -> None:
    """Any rate in each minute, a ramp step between them; the test begins with the first hit of either version."""
    mean = 0.0
    kinds = [(is_new, hit) for is_new in (True, False) for hit in (True, False)]
    for first in kinds:
        for second in kinds:
            for third in kinds:
                chance, test = 1.0, None
                for position, (is_new, hit) in enumerate((first, second, third)):
                    minute = int(position == 2)
                    label = shares[minute] if is_new else 1 - shares[minute]
                    chance *= label * (rates[minute] if hit else 1 - rates[minute])
                    if position == 2 and test is not None:
                        test.begin_labels(None, shares[1], 1, nothing_since=1)
                    if test is None and hit:
                        test = Evidence("GET /", KIND, 1.0)
                        test.begin_labels(None, shares[minute], minute, nothing_since=0)
                    if test is not None:
                        test.add(minute, int(hit), int(not hit), is_new=is_new)
                mean += chance * (math.exp(test.log_labels()) if test is not None else 1.0)
    assert mean <= 1 + ROUNDING


@examples(20)
@given(law=laws, sizes=st.tuples(st.integers(1, 8), st.integers(0, 8)))
def test_the_mean_of_a_small_stratums_evidence(law: Law, sizes: tuple[int, int]) -> None:
    """Begun with the first answer that is not good, in a cut-over: the good ones of its minute count."""
    mean = 0.0
    normal = Normal("POST /a", Tally(100, 0), bad=law)
    a, b = law.p0 * law.tau, (1 - law.p0) * law.tau
    for first in range(sizes[0] + 1):
        for second in range(sizes[1] + 1):
            chance, test = 1.0, Collapse(normal, 1.0, 1.0)
            for minute, (u, n) in enumerate(zip((first, second), sizes, strict=True)):
                chance *= math.exp(log_choose(n, u) + log_beta(a + u, b + n - u) - log_beta(a, b))
                test.add(minute, Tally(n - u, 0), is_new=True)
                test.add(minute, Tally(u, u), is_new=True)
            mean += chance * (math.exp(test.log_e()) if test.has_begun else 0.0)
    assert mean <= 1 + ROUNDING


def test_no_single_minute_decides() -> None:
    """Thousands of 404s in one minute, after an hour with none, are worth less than 100:1; three such minutes more."""
    test = MinuteLaw(
        Law(0, 50_000, 0.0005, 0.01), concurrent=False, points=16, clustered=True, outages=BURSTS, least=0.05
    )
    test.add(0, (5000, 0))
    assert test.log_e() < math.log(100)
    test.add(1, (5000, 0))
    test.add(2, (5000, 0))
    assert test.log_e() > math.log(10_000)
    assert MinuteLaw.from_state(json.loads(json.dumps(test.state()))).log_e() == test.log_e()


def test_class_weights_are_a_part_each() -> None:
    """They sum to 1, and there is one for each class that is not good."""
    assert sum(CLASS_WEIGHTS.values()) == pytest.approx(1)
    assert set(CLASS_WEIGHTS) == set(AnswerClass) - {AnswerClass.GOOD}


@given(
    usual=st.lists(st.floats(0, 0.6), min_size=1, max_size=4),
    falls=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    parts=st.lists(st.integers(1, 4), min_size=4, max_size=4),
)
def test_a_fall_of_two_points_is_not_called_none(usual: list[float], falls: list[float], parts: list[int]) -> None:
    """However it is spread over unlike strata: the mean of the bet on one answer is at most 1."""
    whole = sum(part for part, _ in zip(parts, usual, strict=False))
    shares = [part / whole for part, _ in zip(parts, usual, strict=False)]
    now = [min(1.0, each + fall) for each, fall in zip(usual, falls, strict=False)]
    fall = sum(share * (bad - each) for share, bad, each in zip(shares, now, usual, strict=True))
    if fall < FALL:
        return
    too_bad = sum(share * each for share, each in zip(shares, usual, strict=True)) + FALL
    bet = min(0.9, FALL / (too_bad * (1 - too_bad)))
    mean = sum(
        share * (bad * (1 + bet * (FALL - 1 + each)) + (1 - bad) * (1 + bet * (FALL + each)))
        for share, bad, each in zip(shares, now, usual, strict=True)
    )
    assert mean <= 1 + ROUNDING


def test_what_is_missing_for_healthy() -> None:
    """Another mix of requests is no fall; one stratum that falls is, also when it is a twentieth of the traffic."""
    assert weigh([Answered(0.0, 0, 400), Answered(0.3, 1200, 4000)]).missing > 0
    assert weigh([Answered(0.0, 0, 1000), Answered(0.3, 1200, 4000)]).missing == 0
    assert weigh([Answered(0.0, 0, 4000), Answered(0.3, 30, 100)]).missing == 0
    assert weigh([Answered(0.0, 120, 4000)]).missing > 0
    assert weigh([Answered(0.0, 0, 9000), Answered(0.1, 150, 500)]).missing > 0
    assert weigh([Answered(0.0, 0, 3)]).missing > 100
    assert weigh([]).missing == 1


def by_minute(*bad: int) -> Answered:
    """Return the answers of a stratum that is asked a thousand times a minute, of which one in a hundred is bad."""
    return Answered(0.01, sum(bad), 1000 * len(bad), tuple((minute, each, 1000) for minute, each in enumerate(bad)))


@pytest.mark.parametrize(
    ("bad", "fell"),
    [
        ((10, 11, 9, 10, 8), 0),
        ((10, 400, 300, 9, 10, 12, 8, 10), 2),  # one fall that is over
        ((900, 10, 9, 11), 1),
        ((10, 400, 10, 300, 9, 10, 10, 10), 3),  # it came and went
        ((10, 400, 10, 9, 10, 400, 10, 10), None),  # it came back
        ((10, 9, 10, 10, 400, 300), None),  # it is not over
        ((10, 400, 300, 350, 400, 10, 10), None),  # half of the time at most
        ((35, 35, 35, 35, 35, 35, 10, 10), None),
    ],
)
def test_one_fall_that_is_over_is_forgiven(bad: tuple[int, ...], fell: int | None) -> None:
    """An identity provider that was down for two minutes says nothing of the version; for how long is told."""
    found = weigh([by_minute(*bad)])
    assert (found.missing == 0, found.fell) == (fell is not None, fell or 0)


def test_false_alarms_of_the_good_share() -> None:
    """At the limit itself, looked at every hundred answers: at most one in a hundred is called no fall."""
    rng = random.Random(3)  # noqa: S311 a simulation
    number, wrong = by_extent(60, 300, proof=600), 0
    for _ in range(number):
        counts: dict[float, dict[int, list[int]]] = {0.0: {}, 0.2: {}}
        for step in range(2000):
            usual = 0.0 if rng.random() < 0.8 else 0.2
            fall = 0.025 if usual == 0.0 else 0.0
            part = counts[usual].setdefault(step // 200, [0, 0])
            part[0] += rng.random() < usual + fall
            part[1] += 1
            found = [
                Answered(
                    each,
                    sum(bad for bad, _ in parts.values()),
                    sum(total for _, total in parts.values()),
                    tuple((at, bad, total) for at, (bad, total) in parts.items()),
                )
                for each, parts in counts.items()
            ]
            if step % 100 == 99 and weigh(found).missing == 0:
                wrong += 1
                break
    assert wrong <= 2 + 0.02 * number


def test_volumes() -> None:
    """A drift of 40 % an hour is usual, a third of the traffic is not; a baseline of minutes grants more."""
    steady = estimate_volume([60, 55, 70, 58, 62] * 8)
    assert not steady.fell(40, 1.0, 1.0)
    assert steady.fell(15, 1.0, 1.0)
    assert steady.fell_below(1 / 3, 2, 1.0, 0.5)
    assert not steady.fell_below(1 / 3, 14, 1.0, 0.5)
    assert not steady.rose(85, 1.0, 1.0)
    assert steady.rose(200, 1.0, 1.0)
    assert not estimate_volume([60, 55]).fell(15, 1.0, 1.0)
    assert not estimate_volume([]).fell(0, 1.0, 1.0)
    rng = random.Random(4)  # noqa: S311 a simulation
    bursts = estimate_volume([rng.choice([30, 120]) for _ in range(60)])
    assert not bursts.fell(20, 1.0, 0.5)


def test_strata_are_frozen() -> None:
    """The busiest and the vital ones by themselves, the others as one; a query shape of its own is a known name."""
    asked = {f"GET /{n}": 100 - n for n in range(30)} | {"POST /api/orders": 1, "GET /0?page": 3}
    strata = freeze(asked, ["POST /api/orders"])
    assert {name for name, stratum in strata.items() if stratum == REST} == {f"GET /{n}" for n in range(BUSIEST, 30)}
    assert (strata["POST /api/orders"], strata["GET /0?page"]) == ("POST /api/orders", "GET /0")
    assert "GET /unknown" not in strata


def test_a_fall_that_the_next_step_of_a_ramp_met_is_not_taken_for_the_oldest() -> None:
    """Nobody asked since the step: what is judged by time is still in its place, and is not over."""
    stratum = Stratum(Normal("GET /a", Tally(1000, 1)), 0.1, 0, 0.5)
    for minute in range(5):
        stratum.add(minute, Tally(50), is_new=True)
    stratum.add(5, Tally(50, 0, {KIND: 50}), is_new=True)
    stratum.set_split(1.0, 360)
    found = stratum.count_answered(by_time=True)
    again = Stratum.from_state(json.loads(json.dumps(stratum.state())), stratum.normal, 0, 1.0).count_answered(
        by_time=True
    )
    assert found == again
    assert found is not None
    assert found.parts[-1] == (5, 50, 50)
    assert weigh([found]).missing > 0
    stratum.add(6, Tally(50), is_new=True)
    later = stratum.count_answered(by_time=True)
    assert later is not None
    assert later.parts[-2:] == ((5, 50, 50), (6, 0, 50))
