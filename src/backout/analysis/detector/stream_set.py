"""The streams of one watch: each share, what it is tested against, and its weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.detector.below_test import BelowTest
from backout.analysis.detector.measures import EXTREMES, SLOWER, Against, Measure
from backout.analysis.detector.persistence import (
    EXTREME,
    MOST,
    TIME_OUT_MS,
    LimitTest,
    Persistence,
    StretchLabels,
    StretchLaw,
    get_stretch,
)
from backout.analysis.detector.streams import AGREES, AGREES_ON_LITTLE, Stream
from backout.analysis.statistics.baseline import FEW_LATENCIES, FLOOR, assume_law
from backout.analysis.statistics.minute_law import MinuteLaw
from backout.analysis.statistics.quantiles import NAMED, TAILS, is_raised
from backout.analysis.statistics.rates import LabelTest, log_e_above
from backout.model.guard.signals import BUCKETS, find_bucket, get_bucket_floor_ms
from backout.model.guard.verdict import Cause

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from backout.analysis.statistics.baseline import Baseline, Law, RouteBaseline
    from backout.analysis.statistics.quantiles import Thresholds

SHORT_BASELINE_S = 900.0
"""Beside a concurrent old version, a baseline shorter than this is worth less than the exact label test."""
FEW_A_MINUTE = 30.0
"""With fewer requests a minute before, two minutes in which a fifth fails bring no more than a dozen failures."""
ERROR_POINTS = 16
LATENCY_POINTS = 6
_PROBES_WEIGHT = 0.1
BESIDE_PROBES = 1 - _PROBES_WEIGHT
"""What is left of the other streams' weight where probes are made."""
_LITTLE_SCATTER = 0.02
_TAIL_WEIGHTS = (0.06, 0.08, 0.08, 0.18)
"""The rarest answers tell most: a slow tail is found there or nowhere, a shift of all of them everywhere."""
_EXTREME_WEIGHTS = (0.08, 0.02)
_WITHOUT_EXTREMES = 1.25
"""Where latency need not persist, what is extreme needs no stream of its own: its weight goes to the others."""
LATENCY_ODDS = {Measure.ABOVE_P50: 1.9, Measure.ABOVE_P99: 3.8}
"""Odds ratios of the latency shares that must be excluded before a version is called healthy."""
_MOST_USUAL = 0.9
"""A share that is higher than this is not taken for normal, whatever was measured before."""
_ROUTES_WEIGHT = 0.2
_ROUTE_ERRORS = 2 / 3
"""Weight of all routes together, and how much of a route's is for its errors."""
VITAL = 4
"""The weight of a vital route, in other routes."""


def make_streams(
    baseline: Baseline,
    split: float,
    slo: float,
    persistence: Persistence | None,
    warm_up_errors: float | None = None,
    *,
    times: bool = True,
    vital: Collection[str] = (),
) -> tuple[Stream, ...]:
    """Return the streams of a watch; the weights of those that may act sum to 1.

    Args:
        split: share of the new version in (0, 1]; 1 is a full cut-over.
        slo: highest acceptable share of errors.
        persistence: how latency has to persist, None where it need not.
        warm_up_errors: share of errors that is granted while a new version warms up, None without a warm-up.
        times: whether latency will be judged at all.
        vital: routes that get more weight than the others.
    """
    edges = get_usable_edges(baseline)
    concurrent = split < 1
    short = concurrent and baseline.span_s < SHORT_BASELINE_S
    # Beside an old version the thresholds may still come from its own traffic: their weight is kept free.
    errors = _make_error_streams(baseline, split, slo, 0.5 if edges is not None or (concurrent and times) else 1.0)
    if warm_up_errors is not None:
        errors = _add_warm_up(errors, baseline, warm_up_errors, concurrent=concurrent)
    if edges is None:
        return _add_labels(errors, split, baseline)
    if short:
        shares = [law.share for law in baseline.latency]
        slower = make_labelled_latency(edges, shares, split, persistence, by_route=baseline.has_route_times)
        return _add_labels((*errors, *slower), split, baseline)
    whole = (*errors, *_make_latency_streams(edges, baseline, persistence, concurrent=concurrent))
    routes = tuple(_make_route_streams(baseline.routes, persistence, vital, concurrent=concurrent))
    for stream in whole if routes else ():
        stream.weight *= 1 - _ROUTES_WEIGHT
    return _add_labels((*whole, *routes), split, baseline)


def _make_route_streams(
    routes: Sequence[RouteBaseline], persistence: Persistence | None, vital: Collection[str], *, concurrent: bool
) -> Iterable[Stream]:
    """Return two streams for each route: a small one that fails or is slow is found by its own rate."""
    whole = sum(VITAL if route.name in vital else 1 for route in routes)
    for route in routes:
        weight = _ROUTES_WEIGHT * (VITAL if route.name in vital else 1) / whole
        errors = _make_errors_stream(f"errors of {route.name}", route.errors, Against.BEFORE, concurrent=concurrent)
        errors.route, errors.weight = route.name, weight * _ROUTE_ERRORS
        yield errors
        test = _make_persisting(route.slow, persistence, concurrent=concurrent)
        bound, share = f"its p95 of {get_bucket_floor_ms(route.p95 + 1):.0f} ms", weight * (1 - _ROUTE_ERRORS)
        name = f"latency of {route.name} above {bound}"
        slow = Stream(name, Cause.LATENCY, share, Measure.ABOVE_P95, route.slow.share, Against.BEFORE, test)
        slow.route, slow.edge, slow.bound, slow.stretch_s = route.name, route.p95, bound, get_stretch(persistence)
        yield slow


def _add_warm_up(
    errors: tuple[Stream, ...], baseline: Baseline, granted: float, *, concurrent: bool
) -> tuple[Stream, ...]:
    """Return the streams of errors, and half of their weight for the time with a larger allowance."""
    acting = [stream for stream in errors if stream.weight]
    # A limit, not a law: whatever share below it the first seconds have is granted, and nothing above it.
    law = assume_law(max(granted, baseline.errors.p0 if baseline.errors else 0.0), _LITTLE_SCATTER)
    warming = _make_errors_stream("errors in the warm-up", law, Against.WARM_UP, concurrent=concurrent)
    warming.measure, warming.expected = Measure.WARMING, law.p0
    warming.weight = sum(stream.weight for stream in acting) / 2
    for stream in acting:
        stream.weight /= 2
    return (*errors, warming)


def add_probes(streams: tuple[Stream, ...], share: float) -> tuple[Stream, ...]:
    """Return the streams, and before them one of backout's own probes, of which that share may fail.

    A part of the weight is theirs, so that the weights still sum to 1.
    """
    probes = _make_errors_stream("probes", assume_law(share), Against.GRANTED, concurrent=False)
    probes.cause, probes.measure, probes.weight = Cause.HEALTH, Measure.PROBES, _PROBES_WEIGHT
    for stream in streams:
        stream.weight *= BESIDE_PROBES
    return (probes, *streams)


def _add_labels(streams: tuple[Stream, ...], split: float, baseline: Baseline) -> tuple[Stream, ...]:
    """Return the streams, each baseline test beside an old version joined by the label test that has to agree."""
    is_little = baseline.requests * 60 < FEW_A_MINUTE * baseline.span_s
    for stream in streams:
        if split < 1 and isinstance(stream.test, (MinuteLaw, StretchLaw, LimitTest)):
            stream.beside = LabelTest(_clamp_share(stream.expected), split, late=True)
            stream.agrees_at = AGREES_ON_LITTLE if is_little else AGREES
    return streams


def _clamp_share(share: float | None) -> float:
    """Return a share that a label test can work with."""
    return min(max(share or FLOOR, FLOOR), 0.9)


def get_usable_edges(baseline: Baseline) -> Thresholds | None:
    """Return the baseline's latency thresholds, None when too few latencies were measured."""
    return baseline.edges if baseline.latency and baseline.latency[0].total >= FEW_LATENCIES else None


def _make_persisting(law: Law, persistence: Persistence | None, *, concurrent: bool) -> MinuteLaw | StretchLaw:
    if persistence is None:
        return MinuteLaw(law, concurrent=concurrent, points=LATENCY_POINTS, clustered=False)
    return StretchLaw(law, concurrent=concurrent, points=LATENCY_POINTS, unit_s=persistence.unit_s)


def _make_latency_streams(
    edges: Thresholds, baseline: Baseline, persistence: Persistence | None, *, concurrent: bool
) -> Iterator[Stream]:
    by_route = baseline.has_route_times
    yield from _make_extreme_streams(edges, persistence, by_route=by_route)
    for position, law in enumerate(baseline.latency):
        test = _make_persisting(law, persistence, concurrent=concurrent)
        yield _make_slower_stream(edges, position, law.share, test, persistence, by_route=by_route)


def make_labelled_latency(
    edges: Thresholds, shares: Sequence[float], split: float, persistence: Persistence | None, *, by_route: bool
) -> Iterator[Stream]:
    """Return the streams of latency between two versions that serve side by side; `shares` above each threshold."""
    for extreme in _make_extreme_streams(edges, persistence, by_route=by_route):
        extreme.beside = LabelTest(_clamp_share(extreme.expected), split, late=True)
        yield extreme
    for position, share in enumerate(shares):
        kind = LabelTest if persistence is None else StretchLabels
        test = kind(_clamp_share(share), split)
        yield _make_slower_stream(edges, position, share, test, persistence, by_route=by_route)


def _describe_bound(threshold: str, edge: int, *, by_route: bool) -> str:
    """Return "the p50 of 81 ms", or where every route has its own "the p50 of its route (81 ms over all)"."""
    over_all = f"{get_bucket_floor_ms(min(edge + 1, BUCKETS - 1)):.0f} ms"
    return f"the {threshold} of its route ({over_all} over all)" if by_route else f"the {threshold} of {over_all}"


def _make_slower_stream(
    edges: Thresholds,
    position: int,
    share: float,
    test: MinuteLaw | LabelTest | StretchLaw | StretchLabels,
    persistence: Persistence | None,
    *,
    by_route: bool,
) -> Stream:
    bound = _describe_bound(TAILS[position], edges[position], by_route=by_route)
    is_granted = is_raised(edges, position)
    before = Against.UNNOTICED if is_granted else Against.BEFORE
    against = before if isinstance(test, (MinuteLaw, StretchLaw)) else Against.BESIDE
    weight, name = _TAIL_WEIGHTS[position], f"latency above {bound}"
    if persistence is None:
        weight *= _WITHOUT_EXTREMES
    stream = Stream(name, Cause.LATENCY, weight, SLOWER[position], share, against, test, bound=bound)
    stream.stretch_s = get_stretch(persistence)
    stream.granted = NAMED[position] if is_granted and against is Against.BESIDE else 0.0
    if persistence is not None and stream.measure in LATENCY_ODDS:
        usual = get_usual_share(stream)
        stream.below = BelowTest(usual, multiply_odds(usual, LATENCY_ODDS[stream.measure]))
    return stream


def find_extremes(edges: Thresholds) -> tuple[int, int]:
    """Return the buckets above which answers are extreme: ten times the median, and longer than clients wait."""
    ten_times = find_bucket(EXTREME * get_bucket_floor_ms(edges[0] + 1))
    return ten_times, max(find_bucket(TIME_OUT_MS), edges[2])


def _make_extreme_streams(edges: Thresholds, persistence: Persistence | None, *, by_route: bool) -> Iterator[Stream]:
    """Return the streams of what is extreme: answers that take ten times the median, or longer than clients wait.

    They have no warm-up. What takes longer than clients wait need not persist: no cold start does.
    """
    if persistence is None:
        return
    words = ((f"{EXTREME:.0f}*p50", by_route, True), ("time-out", False, False))
    for measure, weight, edge, (threshold, own, forgives) in zip(
        EXTREMES, _EXTREME_WEIGHTS, find_extremes(edges), words, strict=True
    ):
        bound = _describe_bound(threshold, edge, by_route=own)
        test, name = LimitTest(MOST, forgives=forgives), f"latency above {bound}"
        stream = Stream(name, Cause.LATENCY, weight, measure, MOST, Against.EXTREME, test, bound=bound)
        stream.edge, stream.stretch_s = edge, persistence.extreme_s
        yield stream


def get_usual_share(stream: Stream) -> float:
    """Return the stream's usual share of hits, within (0, 1)."""
    return min(max(FLOOR, stream.expected or FLOOR), _MOST_USUAL)


def multiply_odds(share: float, ratio: float) -> float:
    """Return the share whose odds are a multiple of those of `share`; below 1 however large both are.

    >>> round(multiply_odds(0.001, 2.0), 6), round(multiply_odds(0.6, 2.0), 2)
    (0.001998, 0.75)
    """
    odds_of = share / (1 - share) * ratio
    return odds_of / (1 + odds_of)


def _make_error_streams(baseline: Baseline, split: float, slo: float, weight: float) -> tuple[Stream, ...]:
    """Return the streams of errors, whose weights sum to `weight`.

    A baseline too thin to say that the SLO was kept is joined by the SLO itself; a good one leaves the SLO as a remark.
    """
    law = baseline.errors
    concurrent = split < 1
    kept = law is None or log_e_above(round(law.hits), law.total, slo) < AGREES
    parts: list[Stream] = []
    if law is not None:
        parts.append(_make_errors_stream("errors", law, Against.BEFORE, concurrent=concurrent))
    if concurrent and baseline.span_s < SHORT_BASELINE_S:
        nominal = law or assume_law(slo)
        test = LabelTest(nominal.p0, split)
        name = "errors beside the old version"
        parts.append(Stream(name, Cause.ERRORS, 0, Measure.ERRORS, nominal.share, Against.BESIDE, test))
    if law is None:
        parts.append(_make_errors_stream("errors vs SLO", assume_law(slo), Against.NO_BASELINE, concurrent=concurrent))
    elif law.p0 > slo and kept:
        parts.append(_make_errors_stream("errors vs SLO", assume_law(slo), Against.SLO, concurrent=concurrent))
    for part in parts:
        part.weight = weight / len(parts)
    if all(part.expected_from not in (Against.SLO, Against.NO_BASELINE) for part in parts):
        parts.append(Stream("errors vs SLO", Cause.ERRORS, 0, Measure.ERRORS, slo, Against.SLO, None))
    return tuple(parts)


def _make_errors_stream(name: str, law: Law, against: Against, *, concurrent: bool) -> Stream:
    test = MinuteLaw(law, concurrent=concurrent, points=ERROR_POINTS, clustered=True)
    return Stream(name, Cause.ERRORS, 0, Measure.ERRORS, law.share, against, test)
