"""A watch that lies high as a whole: a mean estimated too low, minutes that hang together."""

from __future__ import annotations

import json
import math

import pytest

from backout.analysis.statistics.baseline import CV_ERRORS, Law, Minute, estimate_law
from backout.analysis.statistics.beta import log_beta
from backout.analysis.statistics.minute_law import MinuteLaw

USUAL = Law(80, 30_000, 0.003, 0.0004)
HIGH = Law(80, 30_000, 0.003, 0.0004, 0.006)


def law(hits: list[int], total: int = 3000) -> Law:
    found = estimate_law([Minute(number, total) for number in hits], CV_ERRORS, lasting=True)
    assert found is not None
    return found


def minute_law(of: Law) -> MinuteLaw:
    return MinuteLaw(of, concurrent=False, points=16, clustered=True)


def test_the_null_is_a_mixture_of_two_watches() -> None:
    """2 % of a watch of which each minute is drawn around the high share, 98 % of a usual one."""
    alone, both = minute_law(USUAL), minute_law(HIGH)
    high = usual = 0.0
    for minute, hits in enumerate((14, 17, 30)):
        for test in (alone, both):
            test.add(minute, (hits, 3000 - hits))
        for p in (0.003, 0.006):
            a, b = p * USUAL.tau, (1 - p) * USUAL.tau
            found = log_beta(a + hits, b + 3000 - hits) - log_beta(a, b)
            high, usual = (high + found, usual) if p == 0.006 else (high, usual + found)
    mixture = math.log(0.98 + 0.02 * math.exp(high - usual))
    assert both.log_e() == pytest.approx(alone.log_e() - mixture, abs=1e-4)
    assert mixture > 2
    assert MinuteLaw.from_state(json.loads(json.dumps(both.state()))).log_e() == pytest.approx(both.log_e(), abs=1e-12)


def test_what_a_few_failures_show_costs_nothing() -> None:
    """Ten requests that all fail are as much evidence as before, within what is set aside for the second law."""
    alone, both = minute_law(USUAL), minute_law(HIGH)
    for test in (alone, both):
        test.add(0, (10, 0))
    assert both.log_e() == pytest.approx(alone.log_e(), abs=0.35)


def test_an_even_hour_grants_little_and_an_hour_that_swings_grants_all_of_its_scatter() -> None:
    """The same 600 errors: even, scattered from minute to minute, or high and low for ten minutes each."""
    even, swinging = [10] * 60, ([5] * 10 + [15] * 10) * 3
    scattered = [5, 15] * 30
    assert law(even).p_lasting < 1.1 * law(even).p0
    assert law(scattered).p_lasting < 1.1 * law(scattered).p0
    assert law(swinging).p_lasting > 1.6 * law(swinging).p0


def test_ten_minutes_cannot_tell_and_grant_the_scatter_that_any_system_is_granted() -> None:
    """Ten even minutes may all lie low."""
    assert law([10] * 10).p_lasting > 1.5 * law([10] * 10).p0
    assert estimate_law([Minute(10, 3000)] * 10, CV_ERRORS) == Law(100, 30_000, law([10] * 10).p0, law([10] * 10).phi)
