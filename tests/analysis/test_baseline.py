"""What was normal: shares, scatter and thresholds from counts per minute."""

from __future__ import annotations

import pytest

from backout.analysis.baseline import FLOOR, law, summarise
from backout.analysis.beta import upper_bound
from backout.analysis.quantiles import counts_above, quantile_bucket, thresholds
from backout.model.signals import Counts, bucket_floor_ms, bucket_of

AT = 1_760_000_000


def steady(seconds: int, version: str = "v1", errors_every: int = 0) -> list[Counts]:
    return [
        Counts(version, AT - t, 10, int(errors_every > 0 and t % errors_every == 0), latency={100: 9, 140: 1})
        for t in range(1, seconds + 1)
    ]


def test_independent_minutes_have_no_extra_scatter_and_the_exact_bound() -> None:
    """One error a minute in every minute: deff 1, p0 the Clopper-Pearson bound, phi the granted variation."""
    found = law([(1, 600)] * 60, cv=0.36, alpha=1e-4)
    assert found is not None
    assert (found.hits, found.total) == (60, 36_000)
    assert found.p0 == pytest.approx(upper_bound(60, 36_000, 1e-4))
    assert found.phi == pytest.approx(0.36**2 * found.p0 / (1 - found.p0))


def test_clustered_minutes_raise_the_bound_and_the_correlation() -> None:
    """The same 60 errors in two bad minutes give a wider law: errors that come in bursts prove less."""
    even = law([(1, 600)] * 60, cv=0.36, alpha=1e-4)
    burst = law([(0, 600)] * 58 + [(30, 600)] * 2, cv=0.36, alpha=1e-4)
    assert even is not None
    assert burst is not None
    assert burst.p0 > 1.5 * even.p0
    assert burst.phi > 5 * even.phi
    assert burst.tau < even.tau


def test_no_error_in_a_busy_hour_still_grants_the_floor() -> None:
    """A million clean requests: p0 is the floor of 0.05 %, not zero."""
    found = law([(0, 20_000)] * 60, cv=0.36, alpha=1e-4)
    assert found is not None
    assert found.p0 == FLOOR


def test_nothing_counted_or_nothing_but_hits_is_no_law() -> None:
    """Without requests, or with a share of 1, nothing can get worse measurably."""
    assert law([(0, 0)], cv=0.36, alpha=1e-4) is None
    assert law([(50, 50)] * 10, cv=0.36, alpha=1e-4) is None


def test_only_the_old_version_before_the_deployment_is_the_baseline() -> None:
    """Rows of other versions and of later seconds do not count; the span begins with the first row."""
    rows = [*steady(120), *steady(60, version="other", errors_every=1), Counts("v1", AT, 5, 5)]
    found = summarise(rows, "v1", float(AT), 1e-3)
    assert found.requests == 1200
    assert found.errors is not None
    assert found.errors.hits == 0
    assert found.span_s == 120
    assert summarise([], "v1", float(AT), 1e-3).errors is None


def test_thresholds_lie_on_bucket_edges_and_counts_above_them_add_up() -> None:
    """p50, p95, p99 and twice the p99, with hits strictly above; a margin raises all of them."""
    latency = {100: 94, 110: 4, 120: 2}
    edges = thresholds(latency)
    assert edges is not None
    assert edges[:3] == (100, 110, 120)
    assert edges[3] == bucket_of(2 * bucket_floor_ms(121))
    assert counts_above(latency, edges) == (100, 6, 2, 0, 0)
    assert counts_above(latency, edges, margin=10) == (100, 2, 0, 0, 0)
    assert thresholds({}) is None
    assert quantile_bucket({}, 0.5) is None
