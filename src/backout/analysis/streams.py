"""The streams of one watch: which share is tested against what, with which weight, and in which words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

from backout.analysis.baseline import FEW_LATENCIES, FLOOR, assumed
from backout.analysis.measures import SLOWER, Against, Measure
from backout.analysis.quantiles import TAILS
from backout.analysis.rates import LabelTest, LabelTestState, MinuteLaw, MinuteLawState, log_e_above, slo_law
from backout.analysis.wording import percent
from backout.model.signals import bucket_floor_ms
from backout.model.verdict import Cause, StreamEvidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
_TAIL_WEIGHTS = (0.075, 0.1, 0.1, 0.225)
"""The rarest answers tell most: a slow tail is found there or nowhere, a shift of all of them everywhere."""
_ROUTES_WEIGHT = 0.2
_ROUTE_ERRORS = 2 / 3
"""Weight of all routes together, and how much of a route's is for its errors."""


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
    """

    name: str
    cause: Cause
    weight: float
    measure: Measure
    expected: float | None
    expected_from: Against
    test: MinuteLaw | LabelTest | None
    bad: int = 0
    total: int = 0
    old_bad: int = 0
    old_total: int = 0
    beside: LabelTest | None = None
    route: str = ""
    edge: int = 0
    bound: str = ""

    def add(self, minute: int, hits: int, total: int, *, is_new: bool, weights: Weights | None = None) -> None:
        """Count hits among so many of the new version, or of the old one, in a minute after the deployment.

        Args:
            weights: what they weigh in the tests, None for 1 each.
        """
        others = total - hits
        new, old = ((hits, others), _NOTHING) if is_new else (_NOTHING, (hits, others))
        if weights is not None:
            is_limit = isinstance(self.test, MinuteLaw) and not self.test.law.total
            new = (weights.new_failures, weights.new_others if is_limit else new[1])
            old = (weights.old_failures, weights.old_others if is_limit else old[1])
        if is_new:
            self.bad += hits
            self.total += total
        else:
            self.old_bad += hits
            self.old_total += total
        if self.test is not None:
            self.test.add(minute, new, old)
        if self.beside is not None:
            self.beside.add(minute, new, old)

    def set_split(self, share: float) -> None:
        """Go on with another share of the new version; at 1 nothing serves beside it any more.

        What both versions share can then no longer be told from the deployment, as in any cut-over. Probes count only
        in a cut-over: nobody knows which version answered them.
        """
        if self.measure is Measure.PROBES:
            return
        if isinstance(self.test, MinuteLaw):
            self.test.set_concurrent(concurrent=share < 1)
        elif self.test is not None:
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
        return self.test.most_log_e() if isinstance(self.test, MinuteLaw) else self.log_e()

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
        }

    @property
    def normal(self) -> float | None:
        """The share that would be normal: of the old version beside it, or `expected`."""
        if not isinstance(self.test, LabelTest):
            return self.expected
        return self.old_bad / self.old_total if self.old_total else None

    @classmethod
    def from_state(cls, state: StreamState) -> Stream:
        """Return the stream as it was when the checkpoint was taken."""
        test: MinuteLaw | LabelTest | None = None
        if state["minute_law"] is not None:
            test = MinuteLaw.from_state(state["minute_law"])
        elif state["labels"] is not None:
            test = LabelTest.from_state(state["labels"])
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
        )


def streams_for(
    baseline: Baseline, split: float, slo: float, warm_up_errors: float | None = None, *, times: bool = True
) -> tuple[Stream, ...]:
    """Return the streams of a watch; the weights of those that may act sum to 1.

    Args:
        split: share of the new version in (0, 1]; 1 is a full cut-over. slo: highest acceptable share of errors.
        warm_up_errors: share of errors that is granted while a new version warms up, None without a warm-up.
        times: whether latency will be judged at all.
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
        return _with_labels((*errors, *labelled_latency(edges, [law.share for law in baseline.latency], split)), split)
    whole = (*errors, *_latency(edges, baseline.latency, concurrent=concurrent))
    routes = tuple(_route_streams(baseline.routes, concurrent=concurrent))
    for stream in whole if routes else ():
        stream.weight *= 1 - _ROUTES_WEIGHT
    return _with_labels((*whole, *routes), split)


def _route_streams(routes: Sequence[RouteBaseline], *, concurrent: bool) -> Iterable[Stream]:
    """Return two streams for each route: a small one that fails or is slow is found by its own rate."""
    for route in routes:
        weight = _ROUTES_WEIGHT / len(routes)
        errors = _errors(f"errors of {route.name}", route.errors, Against.BEFORE, concurrent=concurrent)
        errors.route, errors.weight = route.name, weight * _ROUTE_ERRORS
        yield errors
        test = MinuteLaw(route.slow, concurrent=concurrent, points=LATENCY_POINTS, clustered=False)
        bound, share = f"its p95 of {bucket_floor_ms(route.p95 + 1):.0f} ms", weight * (1 - _ROUTE_ERRORS)
        name = f"latency of {route.name} above {bound}"
        slow = Stream(name, Cause.LATENCY, share, Measure.ABOVE_P95, route.slow.share, Against.BEFORE, test)
        slow.route, slow.edge, slow.bound = route.name, route.p95, bound
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
        if split < 1 and isinstance(stream.test, MinuteLaw):
            stream.beside = LabelTest(_nominal(stream.expected), split, late=True)
    return streams


def _nominal(share: float | None) -> float:
    """Return a share that a label test can work with."""
    return min(max(share or FLOOR, FLOOR), 0.9)


def usable_edges(baseline: Baseline) -> Thresholds | None:
    """Return the baseline's latency thresholds, None when too few latencies were measured."""
    return baseline.edges if baseline.latency and baseline.latency[0].total >= FEW_LATENCIES else None


def _latency(edges: Thresholds, laws: Sequence[Law], *, concurrent: bool) -> Iterable[Stream]:
    for position, law in enumerate(laws):
        test = MinuteLaw(law, concurrent=concurrent, points=LATENCY_POINTS, clustered=False)
        yield _slower(edges, position, law.share, Against.BEFORE, test)


def labelled_latency(edges: Thresholds, shares: Sequence[float], split: float) -> Iterable[Stream]:
    """Return the streams of latency between two versions that serve side by side; `shares` above each threshold."""
    for position, share in enumerate(shares):
        yield _slower(edges, position, share, Against.BESIDE, LabelTest(_nominal(share), split))


def _slower(edges: Thresholds, position: int, share: float, against: Against, test: MinuteLaw | LabelTest) -> Stream:
    bound = f"the {TAILS[position]} of {bucket_floor_ms(edges[position] + 1):.0f} ms"
    weight, name = _TAIL_WEIGHTS[position], f"latency above {bound}"
    return Stream(name, Cause.LATENCY, weight, SLOWER[position], share, against, test, bound=bound)


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
