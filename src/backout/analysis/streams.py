"""The streams of one watch: which share is tested against what, with which weight, and in which words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

from backout.analysis.baseline import FEW_LATENCIES, FLOOR, MINUTE_S, assumed
from backout.analysis.measures import EXTREMES, SLOWER, Against, Measure
from backout.analysis.persistence import (
    EXTREME,
    MOST,
    SLOW,
    TIME_OUT_MS,
    BelowTest,
    BelowTestState,
    LimitTest,
    LimitTestState,
    Persistence,
    StretchLabels,
    StretchLabelsState,
    StretchLaw,
    StretchLawState,
    stretch_of,
)
from backout.analysis.quantiles import TAILS
from backout.analysis.rates import LabelTest, LabelTestState, MinuteLaw, MinuteLawState, log_e_above, slo_law
from backout.analysis.wording import percent
from backout.model.signals import BUCKETS, bucket_floor_ms, bucket_of
from backout.model.verdict import Cause, StreamEvidence

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from backout.analysis.baseline import Baseline, Law, RouteBaseline
    from backout.analysis.quantiles import Thresholds
    from backout.analysis.repeats import Weights

SHORT_BASELINE_S = 900.0
"""Beside a concurrent old version, a baseline shorter than this is worth less than the exact label test."""
AGREES = math.log(20)
"""Log evidence that a label test must add before a baseline test may act beside an old version."""
ERROR_POINTS = 16
LATENCY_POINTS = 5
_NOTHING = (0.0, 0.0)
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
"""A vital route counts as so many others."""


_COLUMNS = (Measure.ERRORS, *SLOWER, Measure.WARMING, Measure.PROBES)
"""How the version before wrote them into a checkpoint: by number."""


class StreamState(TypedDict):
    """Checkpoint of a `Stream`; the test that is not used is None."""

    name: str
    cause: str
    weight: float
    measure: NotRequired[str]
    column: NotRequired[int]  # as the version before wrote it
    bound: NotRequired[str]
    expected: float | None
    expected_from: str
    bad: int
    total: int
    old_bad: int
    old_total: int
    minute_law: MinuteLawState | None
    labels: LabelTestState | None
    beside: LabelTestState | None
    route: str
    edge: int
    stretch_s: NotRequired[int]
    stretch: NotRequired[int]
    slow_stretches: NotRequired[int]
    stretch_law: NotRequired[StretchLawState | None]
    stretch_labels: NotRequired[StretchLabelsState | None]
    limit: NotRequired[LimitTestState | None]
    below: NotRequired[BelowTestState | None]


@dataclass(slots=True)
class Stream:
    """One share under test.

    Args:
        weight: its part in the average of the evidence. bound: the latency above which requests are slow, in words.
        test: None for a stream that is only shown (its evidence is then that of the SLO, `expected`).
        expected: the share that would be normal. bad, total: hits and observations of the new version; old_bad,
            old_total: of the old one beside it.
        route: whose requests alone are counted, "" for all. edge: bucket above which they are slow.
        beside: where a baseline test runs beside an old version, the label test that has to agree with it: what both
            versions share is not the deployment.
        stretch_s: seconds of a stretch, 0 where it need not persist. stretch: number of the open one. slow_stretches:
            how many of those before it were slow. below: the bet that it is not too high.
    """

    name: str
    cause: Cause
    weight: float
    measure: Measure
    expected: float | None
    expected_from: Against
    test: MinuteLaw | LabelTest | StretchLaw | StretchLabels | LimitTest | None
    bad: int = 0
    total: int = 0
    old_bad: int = 0
    old_total: int = 0
    beside: LabelTest | None = None
    route: str = ""
    edge: int = 0
    bound: str = ""
    stretch_s: int = 0
    stretch: int = 0
    slow_stretches: int = 0
    below: BelowTest | None = None

    def add(self, second: int, hits: int, total: int, *, is_new: bool, weights: Weights | None = None) -> None:
        """Count hits among so many of the new version, or of the old one, in a second after the deployment.

        Args:
            weights: what they weigh in the tests, None for 1 each.
        """
        minute = second // MINUTE_S
        if self.stretch_s and second // self.stretch_s > self.stretch:
            self._begin_stretch(second // self.stretch_s)
        others = total - hits
        new, old = ((hits, others), _NOTHING) if is_new else (_NOTHING, (hits, others))
        if weights is not None:
            is_limit = isinstance(self.test, MinuteLaw) and not self.test.law.total
            new = (weights.new_failures, weights.new_others if is_limit else new[1])
            old = (weights.old_failures, weights.old_others if is_limit else old[1])
        if is_new:
            self.bad += hits
            self.total += total
            if self.below is not None:
                self.below.add(hits, total)
        else:
            self.old_bad += hits
            self.old_total += total
        if isinstance(self.test, StretchLaw):
            self.test.add(second // self.test.unit_s, new, old)
        elif self.test is not None:
            self.test.add(minute, new, old)
        if self.beside is not None:
            self.beside.add(minute, new, old)

    def _begin_stretch(self, stretch: int) -> None:
        self.slow_stretches += self.is_slow_now
        self.stretch = stretch
        if isinstance(self.test, (StretchLaw, StretchLabels, LimitTest)):
            self.test.begin_stretch()
        if self.below is not None:
            self.below.begin_stretch()

    @property
    def is_slow_now(self) -> bool:
        """Whether the open stretch by itself leaves no doubt."""
        return isinstance(self.test, (StretchLaw, StretchLabels)) and self.test.stretch_log_e() >= SLOW

    def set_split(self, share: float) -> None:
        """Go on with another share of the new version; at 1 nothing serves beside it any more.

        What both versions share can then no longer be told from the deployment, as in any cut-over. Probes count only
        in a cut-over: nobody knows which version answered them.
        """
        if self.measure is Measure.PROBES:
            return
        if isinstance(self.test, (MinuteLaw, StretchLaw)):
            self.test.set_concurrent(concurrent=share < 1)
        elif isinstance(self.test, (LabelTest, StretchLabels)):
            self.test.set_share(share)
        if self.beside is not None and share < 1:
            self.beside.set_share(share)
        elif share >= 1:
            self.beside = None

    def log_e(self) -> float:
        """Return the log evidence of this stream alone."""
        if self.test is not None:
            return self.test.log_e()
        return log_e_above(self.bad, self.total, self.expected) if self.expected else 0.0

    def most_log_e(self) -> float:
        """Return a number that `log_e` does not exceed, quickly where it can be."""
        if isinstance(self.test, (MinuteLaw, StretchLaw, LimitTest)):
            return self.test.most_log_e()
        return self.log_e()

    @property
    def agrees(self) -> bool:
        """Whether the old version beside it, where there is one, does not share the trouble."""
        return self.beside is None or self.beside.log_e() >= AGREES

    def evidence(self) -> StreamEvidence:
        """Return the numbers with their sentence."""
        return StreamEvidence(
            stream=self.name,
            bad=self.bad,
            total=self.total,
            expected=self.normal,
            expected_from=self.expected_from,
            log_evidence=self.log_e(),
            sentence=self.sentence(),
        )

    def sentence(self) -> str:
        """Return "61 of 5,204 requests failed against 0.2 % before"."""
        against = "" if self.normal is None else f" against {percent(self.normal)} {self.expected_from.words}"
        if self.measure is Measure.PROBES:
            return f"{self.bad:,} of {self.total:,} probes failed{against}"
        verb = "failed" if self.cause is Cause.ERRORS else f"took longer than {self.bound}"
        of = f" to {self.route}" if self.route else ""
        return f"{self.bad:,} of {self.total:,} requests{of} {verb}{against}"

    def state(self) -> StreamState:
        """Return a checkpoint, plain JSON."""
        return {
            "name": self.name,
            "cause": self.cause.value,
            "weight": self.weight,
            "measure": self.measure.value,
            "bound": self.bound,
            "expected": self.expected,
            "expected_from": self.expected_from,
            "bad": self.bad,
            "total": self.total,
            "old_bad": self.old_bad,
            "old_total": self.old_total,
            "minute_law": self.test.state() if isinstance(self.test, MinuteLaw) else None,
            "labels": self.test.state() if isinstance(self.test, LabelTest) else None,
            "beside": self.beside.state() if self.beside is not None else None,
            "route": self.route,
            "edge": self.edge,
            "stretch_s": self.stretch_s,
            "stretch": self.stretch,
            "slow_stretches": self.slow_stretches,
            "stretch_law": self.test.state() if isinstance(self.test, StretchLaw) else None,
            "stretch_labels": self.test.state() if isinstance(self.test, StretchLabels) else None,
            "limit": self.test.state() if isinstance(self.test, LimitTest) else None,
            "below": self.below.state() if self.below is not None else None,
        }

    @property
    def normal(self) -> float | None:
        """The share that would be normal: of the old version beside it, or `expected`."""
        if not isinstance(self.test, (LabelTest, StretchLabels)):
            return self.expected
        return self.old_bad / self.old_total if self.old_total else None

    @classmethod
    def from_state(cls, state: StreamState) -> Stream:
        """Return the stream as it was when the checkpoint was taken."""
        test: MinuteLaw | LabelTest | StretchLaw | StretchLabels | LimitTest | None = None
        below, limit = state.get("below"), state.get("limit")
        stretch_law, stretch_labels = state.get("stretch_law"), state.get("stretch_labels")
        if state["minute_law"] is not None:
            test = MinuteLaw.from_state(state["minute_law"])
        elif state["labels"] is not None:
            test = LabelTest.from_state(state["labels"])
        elif stretch_law is not None:
            test = StretchLaw.from_state(stretch_law)
        elif stretch_labels is not None:
            test = StretchLabels.from_state(stretch_labels)
        elif limit is not None:
            test = LimitTest.from_state(limit)
        return cls(
            name=state["name"],
            cause=Cause(state["cause"]),
            weight=state["weight"],
            measure=Measure(state["measure"]) if "measure" in state else _COLUMNS[state["column"]],
            expected=state["expected"],
            expected_from=Against(state["expected_from"]),
            test=test,
            bad=state["bad"],
            total=state["total"],
            old_bad=state["old_bad"],
            old_total=state["old_total"],
            beside=LabelTest.from_state(state["beside"]) if state["beside"] is not None else None,
            route=state["route"],
            edge=state["edge"],
            bound=state.get("bound", ""),
            stretch_s=state.get("stretch_s", 0),
            stretch=state.get("stretch", 0),
            slow_stretches=state.get("slow_stretches", 0),
            below=BelowTest.from_state(below) if below is not None else None,
        )


def streams_for(  # noqa: PLR0913 one noun per thing that the streams rest on
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
        split: share of the new version in (0, 1]; 1 is a full cut-over. slo: highest acceptable share of errors.
        persistence: how latency has to persist, None where it need not.
        warm_up_errors: share of errors that is granted while a new version warms up, None without a warm-up.
        times: whether latency will be judged at all. vital: routes that get more weight than the others.
    """
    edges = usable_edges(baseline)
    concurrent = split < 1
    short = concurrent and baseline.span_s < SHORT_BASELINE_S
    # Beside an old version the thresholds may still come from its own traffic: their weight is kept free.
    errors = _error_streams(baseline, split, slo, 0.5 if edges is not None or (concurrent and times) else 1.0)
    if warm_up_errors is not None:
        errors = _with_warm_up(errors, baseline, warm_up_errors, concurrent=concurrent)
    if edges is None:
        return _with_labels(errors, split)
    if short:
        shares = [law.share for law in baseline.latency]
        return _with_labels((*errors, *labelled_latency(edges, shares, split, persistence)), split)
    whole = (*errors, *_latency(edges, baseline.latency, persistence, concurrent=concurrent))
    routes = tuple(_route_streams(baseline.routes, persistence, vital, concurrent=concurrent))
    for stream in whole if routes else ():
        stream.weight *= 1 - _ROUTES_WEIGHT
    return _with_labels((*whole, *routes), split)


def _route_streams(
    routes: Sequence[RouteBaseline], persistence: Persistence | None, vital: Collection[str], *, concurrent: bool
) -> Iterable[Stream]:
    """Return two streams for each route: a small one that fails or is slow is found by its own rate."""
    whole = sum(VITAL if route.name in vital else 1 for route in routes)
    for route in routes:
        weight = _ROUTES_WEIGHT * (VITAL if route.name in vital else 1) / whole
        errors = _errors(f"errors of {route.name}", route.errors, Against.BEFORE, concurrent=concurrent)
        errors.route, errors.weight = route.name, weight * _ROUTE_ERRORS
        yield errors
        test = _persisting(route.slow, persistence, concurrent=concurrent)
        bound, share = f"its p95 of {bucket_floor_ms(route.p95 + 1):.0f} ms", weight * (1 - _ROUTE_ERRORS)
        name = f"latency of {route.name} above {bound}"
        slow = Stream(name, Cause.LATENCY, share, Measure.ABOVE_P95, route.slow.share, Against.BEFORE, test)
        slow.route, slow.edge, slow.bound, slow.stretch_s = route.name, route.p95, bound, stretch_of(persistence)
        yield slow


def _with_warm_up(
    errors: tuple[Stream, ...], baseline: Baseline, granted: float, *, concurrent: bool
) -> tuple[Stream, ...]:
    """Return the streams of errors, and half of their weight for the time in which so many more are granted."""
    acting = [stream for stream in errors if stream.weight]
    # A limit, not a law: whatever share below it the first seconds have is granted, and nothing above it.
    law = assumed(max(granted, baseline.errors.p0 if baseline.errors else 0.0), _LITTLE_SCATTER)
    warming = _errors("errors in the warm-up", law, Against.WARM_UP, concurrent=concurrent)
    warming.measure, warming.expected = Measure.WARMING, law.p0
    warming.weight = sum(stream.weight for stream in acting) / 2
    for stream in acting:
        stream.weight /= 2
    return (*errors, warming)


def with_probes(streams: tuple[Stream, ...], share: float) -> tuple[Stream, ...]:
    """Return the streams, and before them one of backout's own probes, of which that share may fail.

    A part of the weight is theirs, so that the weights still sum to 1.
    """
    probes = _errors("probes", assumed(share), Against.GRANTED, concurrent=False)
    probes.cause, probes.measure, probes.weight = Cause.HEALTH, Measure.PROBES, _PROBES_WEIGHT
    for stream in streams:
        stream.weight *= BESIDE_PROBES
    return (probes, *streams)


def _with_labels(streams: tuple[Stream, ...], split: float) -> tuple[Stream, ...]:
    """Return the streams, each baseline test beside an old version joined by the label test that has to agree."""
    for stream in streams:
        if split < 1 and isinstance(stream.test, (MinuteLaw, StretchLaw, LimitTest)):
            stream.beside = LabelTest(_nominal(stream.expected), split, late=True)
    return streams


def _nominal(share: float | None) -> float:
    """Return a share that a label test can work with."""
    return min(max(share or FLOOR, FLOOR), 0.9)


def usable_edges(baseline: Baseline) -> Thresholds | None:
    """Return the baseline's latency thresholds, None when too few latencies were measured."""
    return baseline.edges if baseline.latency and baseline.latency[0].total >= FEW_LATENCIES else None


def _persisting(law: Law, persistence: Persistence | None, *, concurrent: bool) -> MinuteLaw | StretchLaw:
    if persistence is None:
        return MinuteLaw(law, concurrent=concurrent, points=LATENCY_POINTS, clustered=False)
    return StretchLaw(law, concurrent=concurrent, points=LATENCY_POINTS, unit_s=persistence.unit_s)


def _latency(
    edges: Thresholds, laws: Sequence[Law], persistence: Persistence | None, *, concurrent: bool
) -> Iterator[Stream]:
    yield from _extremes(edges, persistence)
    for position, law in enumerate(laws):
        test = _persisting(law, persistence, concurrent=concurrent)
        yield _slower(edges, position, law.share, test, persistence)


def labelled_latency(
    edges: Thresholds, shares: Sequence[float], split: float, persistence: Persistence | None
) -> Iterator[Stream]:
    """Return the streams of latency between two versions that serve side by side; `shares` above each threshold."""
    for extreme in _extremes(edges, persistence):
        extreme.beside = LabelTest(_nominal(extreme.expected), split, late=True)
        yield extreme
    for position, share in enumerate(shares):
        kind = LabelTest if persistence is None else StretchLabels
        yield _slower(edges, position, share, kind(_nominal(share), split), persistence)


def _slower(
    edges: Thresholds,
    position: int,
    share: float,
    test: MinuteLaw | LabelTest | StretchLaw | StretchLabels,
    persistence: Persistence | None,
) -> Stream:
    bound = f"the {TAILS[position]} of {bucket_floor_ms(edges[position] + 1):.0f} ms"
    against = Against.BEFORE if isinstance(test, (MinuteLaw, StretchLaw)) else Against.BESIDE
    weight, name = _TAIL_WEIGHTS[position], f"latency above {bound}"
    if persistence is None:
        weight *= _WITHOUT_EXTREMES
    stream = Stream(name, Cause.LATENCY, weight, SLOWER[position], share, against, test, bound=bound)
    stream.stretch_s = stretch_of(persistence)
    if persistence is not None and stream.measure in LATENCY_ODDS:
        usual = usual_share(stream)
        stream.below = BelowTest(usual, at_odds(usual, LATENCY_ODDS[stream.measure]))
    return stream


def _extremes(edges: Thresholds, persistence: Persistence | None) -> Iterator[Stream]:
    """Return the streams of what is extreme: answers that take ten times the median, or longer than clients wait.

    They have no warm-up. What takes longer than clients wait need not persist: no cold start does.
    """
    if persistence is None:
        return
    ten_times = bucket_of(EXTREME * bucket_floor_ms(edges[0] + 1))
    time_out = max(bucket_of(TIME_OUT_MS), edges[2])
    kinds = ((ten_times, f"{EXTREME:.0f}*p50", True), (time_out, "time-out", False))
    for measure, weight, (edge, words, forgives) in zip(EXTREMES, _EXTREME_WEIGHTS, kinds, strict=True):
        bound = f"the {words} of {bucket_floor_ms(min(edge + 1, BUCKETS - 1)):.0f} ms"
        test, name = LimitTest(MOST, forgives=forgives), f"latency above {bound}"
        stream = Stream(name, Cause.LATENCY, weight, measure, MOST, Against.EXTREME, test, bound=bound)
        stream.edge, stream.stretch_s = edge, persistence.extreme_s
        yield stream


def usual_share(stream: Stream) -> float:
    """Return the stream's usual share of hits, within (0, 1)."""
    return min(max(FLOOR, stream.expected or FLOOR), _MOST_USUAL)


def at_odds(share: float, ratio: float) -> float:
    """Return the share whose odds are so many times those of `share`; below 1 however large both are.

    >>> round(at_odds(0.001, 2.0), 6), round(at_odds(0.6, 2.0), 2)
    (0.001998, 0.75)
    """
    odds_of = share / (1 - share) * ratio
    return odds_of / (1 + odds_of)


def _error_streams(baseline: Baseline, split: float, slo: float, weight: float) -> tuple[Stream, ...]:
    """Return the streams of errors, whose weights sum to `weight`.

    A baseline too thin to say that the SLO was kept is joined by the SLO itself; a good one leaves the SLO as a remark.
    """
    law = baseline.errors
    concurrent = split < 1
    kept = law is None or log_e_above(round(law.hits), law.total, slo) < AGREES
    parts: list[Stream] = []
    if law is not None:
        parts.append(_errors("errors", law, Against.BEFORE, concurrent=concurrent))
    if concurrent and baseline.span_s < SHORT_BASELINE_S:
        nominal = law or slo_law(slo)
        test = LabelTest(nominal.p0, split)
        name = "errors beside the old version"
        parts.append(Stream(name, Cause.ERRORS, 0, Measure.ERRORS, nominal.share, Against.BESIDE, test))
    if law is None:
        parts.append(_errors("errors vs SLO", slo_law(slo), Against.NO_BASELINE, concurrent=concurrent))
    elif law.p0 > slo and kept:
        parts.append(_errors("errors vs SLO", slo_law(slo), Against.SLO, concurrent=concurrent))
    for part in parts:
        part.weight = weight / len(parts)
    if all(part.expected_from not in (Against.SLO, Against.NO_BASELINE) for part in parts):
        parts.append(Stream("errors vs SLO", Cause.ERRORS, 0, Measure.ERRORS, slo, Against.SLO, None))
    return tuple(parts)


def _errors(name: str, law: Law, against: Against, *, concurrent: bool) -> Stream:
    test = MinuteLaw(law, concurrent=concurrent, points=ERROR_POINTS, clustered=True)
    return Stream(name, Cause.ERRORS, 0, Measure.ERRORS, law.share, against, test)
