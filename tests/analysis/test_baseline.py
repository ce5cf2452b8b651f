"""What was normal: shares, scatter and thresholds from counts per minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import replace

from backout.analysis.statistics import baseline
from backout.analysis.statistics.baseline import FLOOR, SURE, Law, Minute
from backout.analysis.statistics.beta import beta_quantile
from backout.analysis.statistics.quantiles import count_above, find_quantile_bucket, find_thresholds
from backout.analysis.statistics.route_times import find_edges, list_latencies, weigh_routes
from backout.analysis.statistics.summary import summarize
from backout.model.guard.signals import Counts, RouteCounts, find_bucket, get_bucket_floor_ms

AT = 1_760_000_000


def law(minutes: list[tuple[int, int]], cv: float) -> Law | None:
    return baseline.estimate_law([Minute(*minute) for minute in minutes], cv)


def steady(seconds: int, version: str = "v1", errors_every: int = 0) -> list[Counts]:
    return [
        Counts(version, AT - t, 10, int(errors_every > 0 and t % errors_every == 0), latency={100: 9, 140: 1})
        for t in range(1, seconds + 1)
    ]


def test_an_even_hour_is_known_to_scatter_little_and_p0_is_a_quantile_of_the_posterior() -> None:
    """Ten errors in each of 60 minutes: far less scatter than is granted, and 90 % sure that the mean is below p0."""
    found = law([(10, 600)] * 60, cv=0.36)
    assert found is not None
    assert (found.hits, found.total) == (600, 36_000)
    assert found.p0 == pytest.approx(beta_quantile(SURE, 600.5, 35_400.5))
    assert found.phi == pytest.approx(1 / 36_002)


def test_few_errors_leave_the_granted_scatter() -> None:
    """About one error a minute cannot show that the share varies by less than 36 %."""
    found = law([(errors, 600) for errors in (0, 1, 0, 2, 0, 3, 1, 0, 2, 1)] * 6, cv=0.36)
    assert found is not None
    granted = 0.36**2 * (60.5 / 36_001) / (1 - 60.5 / 36_001)
    deff = 1 + 599 * granted
    assert found.phi == pytest.approx(granted + 1 / (36_000 / deff + 2))
    assert found.p0 == pytest.approx(beta_quantile(SURE, 60 / deff + 0.5, 35_940 / deff + 0.5))


@pytest.mark.parametrize("minutes", [1, 2, 5])
def test_a_short_baseline_is_a_wide_law(minutes: int) -> None:
    """The same share from less traffic: a higher p0 and more uncertainty; a minute or two cannot narrow the scatter."""
    short, hour = law([(3, 600)] * minutes, cv=0.36), law([(3, 600)] * 60, cv=0.36)
    assert short is not None
    assert hour is not None
    assert short.p0 > hour.p0
    assert short.phi > hour.phi
    assert short.phi > 0.36**2 * 0.005


def test_clustered_minutes_raise_the_bound_and_the_correlation() -> None:
    """The same 72 errors in every fifth minute give a wider law: errors that come in bursts prove less."""
    even = law([(1, 600), (1, 600), (1, 600), (1, 600), (2, 600)] * 12, cv=0.36)
    burst = law([(0, 600), (0, 600), (0, 600), (0, 600), (6, 600)] * 12, cv=0.36)
    assert even is not None
    assert burst is not None
    assert burst.hits == even.hits
    assert burst.p0 > 1.1 * even.p0
    assert burst.phi > 5 * even.phi
    assert burst.tau < even.tau


def test_one_outage_of_the_hour_before_does_not_blind_the_watch() -> None:
    """Three bad minutes in a row are left out, whatever they would do to the law."""
    quiet = law([(1, 600)] * 57, cv=0.36)
    assert law([(1, 600)] * 30 + [(120, 600), (300, 600), (40, 600)] + [(1, 600)] * 27, cv=0.36) == quiet


def test_trouble_that_comes_again_and_again_is_normal() -> None:
    """A minute of 20 % in every quarter of an hour: the next one is no reason to roll back."""
    found = law(([(1, 600)] * 14 + [(120, 600)]) * 4, cv=0.36)
    assert found is not None
    assert found.hits == 4 * 134
    assert found.phi > 0.05


def test_single_errors_of_quiet_minutes_are_no_outage() -> None:
    """One error among a dozen requests is 8 % of that minute, and nothing but chance."""
    found = law(([(0, 12)] * 9 + [(1, 12)]) * 6, cv=0.36)
    assert found is not None
    assert (found.hits, found.total) == (6, 720)


def test_no_error_in_a_busy_hour_still_grants_the_floor() -> None:
    """A million clean requests: p0 is the floor of 0.05 %, not zero."""
    found = law([(0, 20_000)] * 60, cv=0.36)
    assert found is not None
    assert found.p0 == FLOOR


def test_nothing_counted_or_nothing_but_hits_is_no_law() -> None:
    """Without requests, or with a share of 1, nothing can get worse measurably."""
    assert law([(0, 0)], cv=0.36) is None
    assert law([(5000, 5000)] * 10, cv=0.36) is None


@given(
    minutes=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10**6)), max_size=30),
    scale=st.sampled_from([1, 1000]),
)
def test_any_counts_give_a_law_of_shares_or_none(minutes: list[tuple[int, int]], scale: int) -> None:
    """No overflow, no division by zero; p0 above the floor and below 1."""
    found = law([(min(y, n) * scale, n * scale) for y, n in minutes], cv=0.36)
    if found is not None:
        assert FLOOR <= found.p0 < 1
        assert 0 < found.phi <= 0.5
        assert 0 <= found.hits <= found.total


def test_only_the_old_version_before_the_deployment_is_the_baseline() -> None:
    """Rows of other versions and of later seconds do not count; the span begins with the first row."""
    rows = [*steady(120), *steady(60, version="other", errors_every=1), Counts("v1", AT, 5, 5)]
    found = summarize(rows, "v1", float(AT))
    assert found.requests == 1200
    assert found.errors is not None
    assert found.errors.hits == 0
    assert found.span_s == 120
    assert summarize([], "v1", float(AT)).errors is None


def test_thresholds_lie_on_bucket_edges_and_counts_above_them_add_up() -> None:
    """p50, p95, p99 and twice the p99, with hits strictly above; a margin raises all of them."""
    latency = {100: 94, 110: 4, 120: 2}
    edges = find_thresholds(latency)
    assert edges is not None
    assert edges[:3] == (100, 110, 120)
    assert edges[3] == find_bucket(2 * get_bucket_floor_ms(121))
    assert count_above(latency, edges) == (100, 6, 2, 0, 0)
    assert count_above(latency, edges, margin=10) == (100, 2, 0, 0, 0)
    assert find_thresholds({}) is None
    assert find_quantile_bucket({}, 0.5) is None


def test_what_has_no_name_is_compared_with_what_had_none() -> None:
    """A source may name the routes of some requests only, or of none."""
    named = {"GET /a?q": RouteCounts(1, 0, {10: 1}), "GET /a": RouteCounts(1, 0, {12: 1})}
    row = Counts("v1", 0, 4, 0, 0, {10: 2, 12: 1, 90: 1}, named)
    assert list_latencies(row) == {"GET /a": {10: 1, 12: 1}, "": {10: 1, 90: 1}}
    assert list_latencies(replace(row, routes={})) == {"": row.latency}
    assert list_latencies(Counts("v1", 0, 4, 0)) == {}


def test_a_route_of_which_little_is_known_weighs_less() -> None:
    """Its share may be higher than that of all together: never by more than its weight takes back."""
    latencies = {"/a": dict.fromkeys(range(80, 180), 100), "/b": dict.fromkeys(range(80, 100), 1)}
    edges = find_edges({**latencies, "/c": {81: 4}})
    assert set(edges) == {"/a", "/b"}
    times = weigh_routes(latencies, edges, (0.5, 0.05, 0.01, 0.001))
    assert times["/a"].weights[0] > 0.95
    assert all(b < a for a, b in zip(times["/a"].weights, times["/b"].weights, strict=True))
