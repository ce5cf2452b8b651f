"""The counts of a watch: requests and errors of both versions, sorted into the streams that weigh them."""

from __future__ import annotations

import math
from operator import add
from typing import TYPE_CHECKING, NotRequired, TypedDict

from msgspec.structs import replace

from backout.analysis.detector.measures import EXTREMES, SLOWER, Against, Measure
from backout.analysis.detector.persistence import FORGIVEN, get_stretch, make_persistence
from backout.analysis.detector.stream_set import (
    BESIDE_PROBES,
    add_probes,
    find_extremes,
    get_usable_edges,
    make_labelled_latency,
    make_streams,
)
from backout.analysis.detector.streams import Stream, StreamState
from backout.analysis.detector.synthetic import compute_granted_share
from backout.analysis.detector.wording import count
from backout.analysis.shifts import PART
from backout.analysis.shifts.strata import fold_by_stratum
from backout.analysis.statistics.baseline import FEW_LATENCIES
from backout.analysis.statistics.noninferiority import NonInferiority
from backout.analysis.statistics.quantiles import RouteTimes, Thresholds, find_thresholds
from backout.analysis.statistics.rates import mix
from backout.analysis.statistics.retry_clustering import RetryClusters, RetryClustersState
from backout.analysis.statistics.route_times import (
    NAMELESS,
    add_latencies,
    count_slower,
    find_edges,
    list_latencies,
    weigh_routes,
)
from backout.model.guard.routes import OTHER
from backout.model.guard.signals import merge_counts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.analysis.statistics.baseline import Baseline
    from backout.analysis.statistics.route_times import Slower
    from backout.model.guard.policy import Policy
    from backout.model.guard.probes import ProbesBefore
    from backout.model.guard.signals import Counts

DRIFT_BUCKETS = 1
"""In a cut-over, and between labelled requests, latency may drift by one bucket (4.4 %)."""
MOST_UNCOMPARED = 0.2
"""With more of the answers slow, on routes that were not asked for before, no version is called healthy."""


class CountedState(TypedDict):
    """Checkpoint of a `CountedTraffic`, but for `first_bad_at`; plain JSON."""

    split: float
    splits: list[tuple[float, float]]
    edges: list[int] | None
    times: NotRequired[dict[str, tuple[list[int], list[float]]]]
    learning: list[tuple[int, int]]  # as the version before wrote it
    learning_by_route: NotRequired[dict[str, list[tuple[int, int]]]]
    streams: list[StreamState]
    repeats: RetryClustersState
    requests: int
    errors: int
    beside: list[int]
    has_baseline: bool
    uncompared: NotRequired[list[int]]


class CountedTraffic:
    """Both versions' counts since the deployment, and the evidence in them.

    Args:
        normal: what was usual before.
        split: share of the traffic that the new version gets, in (0, 1]; 1 is a full cut-over.
        start: the whole second of the deployment (Unix).
        watch_s: how long the watch is.
        probed: how backout's own probes ended before, None when none are made.

    Attributes:
        requests, errors: of the new version.
        beside: those of the version before, meanwhile.
        first_bad_at: when a request or a probe failed first (Unix seconds), None: none has.
        slow_from: latency counts from that time on (Unix seconds).
        uncompared: answers whose time was not compared, those of them on named routes above the former p95, the others.
    """

    def __init__(
        self, normal: Baseline, *, split: float, start: int, watch_s: float, policy: Policy, probed: ProbesBefore | None
    ) -> None:
        self._start = start
        self._split = split
        self._splits: list[tuple[float, float]] = []  # (from that second on, share): steps still to come
        self._policy = policy
        # A warm-up that outlasts the watch says that response times are nothing to go by here.
        self._times = policy.guard.warm_up_s < watch_s
        # From the whole second of the deployment on: without a warm-up none of its requests is left out.
        self._warm_until = start + (policy.guard.warm_up_s if self._times else 0.0)
        self._persistence = make_persistence(watch_s, policy.guard.slow_start_s)
        # Extreme latency is judged from the end of a declared warm-up on, all other after a stretch of time at least.
        self.slow_from = max(self._warm_until, start + get_stretch(self._persistence))
        if not self._times:
            normal = replace(normal, edges=None, latency=(), times={})
        self._edges: Thresholds | None = get_usable_edges(normal)
        self._usual = normal.times if self._edges is not None else {}
        self._learning: dict[str, dict[int, int]] = {}
        self._has_baseline = normal.errors is not None
        self._repeats = RetryClusters(normal.per_cause, start)
        warming = policy.guard.warm_up_errors if self._warm_until > start else None
        slo = policy.criteria.error_rate_below
        self.streams = make_streams(
            normal, split, slo, self._persistence, warming, times=self._times, vital=policy.guard.vital
        )
        if probed is not None:
            usual = normal.errors.p0 if normal.errors is not None else 0.0
            self.streams = add_probes(self.streams, compute_granted_share(probed, usual))
        self.requests = self.errors = 0
        self.beside = [0, 0]  # requests and errors
        self.uncompared = [0, 0, 0]
        self.first_bad_at: float | None = None
        self._log_e: float | None = None
        self._most: float | None = None
        self._exclusion: tuple[tuple[Stream, ...], NonInferiority] | None = None

    def set_split(self, at: float, share: float) -> None:
        """Take note that the new version's share is another one from that time on (Unix seconds); in time order."""
        self._splits.append((at, share))

    def step_up(self, second: int) -> list[tuple[float, float]]:
        """Go over to the shares of that second, and return each step that was taken, as (time, share)."""
        taken = []
        while self._splits and self._splits[0][0] <= second:
            taken.append(self._splits.pop(0))
            self._split = taken[-1][1]
            for stream in self.streams:
                stream.set_split(self._split)
        return taken

    @property
    def is_cut_over(self) -> bool:
        """Whether the new version gets all of the traffic now."""
        return self._split >= 1

    @property
    def has_times(self) -> bool:
        """Whether response times are compared."""
        return self._edges is not None

    def is_warming(self, at: float) -> bool:
        """Whether that time (Unix seconds) lies in the warm-up."""
        return at < self._warm_until

    def add(self, row: Counts, *, is_new: bool) -> None:
        """Count a row of a second since the deployment, of the new version or of the one before."""
        self._log_e = self._most = None
        warming = self.is_warming(row.second)
        if not is_new and self._split >= 1:
            return
        self._tally(row, is_new=is_new)
        second = row.second - self._start
        slower = self._count_slower(row, is_new=is_new)
        extreme = ((0, 0), (0, 0)) if warming else self._count_extreme(row)
        weights = self._repeats.weigh(row.second, row.errors, row.requests, is_new=is_new)
        for stream in self.streams:
            if stream.route or stream.measure is Measure.PROBES:
                continue
            if stream.measure.is_errors:
                if (stream.measure is Measure.WARMING) == warming:
                    stream.add(second, row.errors, row.requests, is_new=is_new, weights=weights)
            elif stream.measure in EXTREMES:
                hits, total = extreme[EXTREMES.index(stream.measure)]
                if total:
                    stream.add(second, hits, total, is_new=is_new)
            elif slower is not None:
                place = SLOWER.index(stream.measure)
                hits, weighed = slower.above[place], slower.weighed[place]
                stream.add(second, hits, slower.total, is_new=is_new, weighed=weighed)
        if row.routes and not warming:
            self._add_routes(row, second, is_new=is_new)

    def _tally(self, row: Counts, *, is_new: bool) -> None:
        if is_new:
            self.requests += row.requests
            self.errors += row.errors
            if row.errors and self.first_bad_at is None:
                self.first_bad_at = float(row.second)
            return
        self.beside = [self.beside[0] + row.requests, self.beside[1] + row.errors]
        if self._edges is None and self._times:
            self._learn(row)

    def _add_routes(self, row: Counts, second: int, *, is_new: bool) -> None:
        margin = DRIFT_BUCKETS if is_new and self._split >= 1 else 0
        routes = fold_by_stratum(row.routes)
        for stream in self.streams:
            route = routes.get(stream.route) if stream.route else None
            if route is None:
                continue
            if stream.measure is Measure.ERRORS:
                weights = self._repeats.weigh(
                    row.second, route.errors, route.requests, is_new=is_new, route=stream.route
                )
                stream.add(second, route.errors, route.requests, is_new=is_new, weights=weights)
            elif route.latency and row.second >= self.slow_from:
                slow = _count_slower(route.latency, stream.edge + margin)
                stream.add(second, slow, sum(route.latency.values()), is_new=is_new)

    def _learn(self, row: Counts) -> None:
        """Take latency thresholds from the old version's traffic when there is no baseline; they judge what follows."""
        add_latencies(self._learning, row)
        edges_of = find_edges(self._learning)
        seen = count_slower(self._learning.items(), {name: RouteTimes(edges) for name, edges in edges_of.items()})
        edges = find_thresholds(merge_counts(self._learning.values()))
        if edges is None or seen.total < FEW_LATENCIES:
            return
        shares = [number / seen.total for number in seen.above]
        self._edges, self._usual = edges, weigh_routes(self._learning, edges_of, shares)
        self._learning = {}
        by_route = len(self._usual) > 1
        learnt = tuple(make_labelled_latency(edges, shares, self._split, self._persistence, by_route=by_route))
        for stream in learnt if self.streams[0].measure is Measure.PROBES else ():
            stream.weight *= BESIDE_PROBES
        self.streams = (*self.streams, *learnt)

    def _count_slower(self, row: Counts, *, is_new: bool) -> Slower | None:
        """Return how many answers took longer than the thresholds of their route, None where none counts."""
        if self._edges is None or row.second < self.slow_from:
            return None
        drifts = is_new and (self._split >= 1 or self._is_labelled())
        latencies = list_latencies(row)
        found = count_slower(latencies.items(), self._usual, DRIFT_BUCKETS if drifts else 0)
        if is_new:
            new = {name: latency for name, latency in latencies.items() if name not in self._usual}
            named = (new[name] for name in new.keys() - {NAMELESS, OTHER})
            slow = sum(_count_slower(latency, self._edges[1] + DRIFT_BUCKETS) for latency in named)
            without = sum(sum(latency.values()) for latency in new.values())
            self.uncompared = list(map(add, self.uncompared, (without, slow, found.total)))
        return found if found.total else None

    def _count_extreme(self, row: Counts) -> tuple[tuple[int, int], ...]:
        """Return how many answers were extreme for their route, in either way, and how many were compared."""
        hits, total = [0] * len(EXTREMES), 0
        for name, latency in list_latencies(row).items() if self._usual else ():
            usual = self._usual.get(name)
            if usual is not None:
                total += sum(latency.values())
                for place, edge in enumerate(find_extremes(usual.edges)):
                    hits[place] += _count_slower(latency, edge)
        return tuple((number, total) for number in hits)

    def _is_labelled(self) -> bool:
        return self.streams[-1].expected_from is Against.BESIDE

    def is_alone(self, at: float) -> bool:
        """Whether the new version has all of the traffic then, so that whatever is asked is asked of it."""
        return next((share for since, share in reversed(self._splits) if since <= at), self._split) >= 1

    def add_probe(self, at: float, *, failed: bool) -> None:
        """Count a probe; not in a split, where it is unknown which version answered, nor in the warm-up."""
        # Not `_step_up`: the counts of the seconds before may still have to come, and count with their own share.
        if not self.is_alone(at) or at < self._warm_until or self.streams[0].measure is not Measure.PROBES:
            return
        self._log_e = self._most = None
        self.streams[0].add(math.floor(at) - self._start, int(failed), 1, is_new=True)
        if failed and self.first_bad_at is None:
            self.first_bad_at = at

    @property
    def threshold(self) -> float:
        """The log evidence of `log_evidence` that carries a rollback; shifts have a part of alpha of their own."""
        return -math.log((1 - PART) * self._policy.guard.alpha)

    def log_evidence(self) -> float:
        """Return the log evidence against "healthy" of all streams together."""
        if self._log_e is None:  # each stream knows its own until it is touched
            self._log_e = mix([(stream.weight, stream.log_e()) for stream in self.weighed])
        return self._log_e

    def most_log_evidence(self) -> float:
        """Return a bound of `log_evidence` from above, which is quick to have."""
        if self._most is None:
            self._most = mix([(stream.weight, stream.most_log_e()) for stream in self.weighed])
        return self._most

    @property
    def weighed(self) -> list[Stream]:
        """The streams whose evidence counts."""
        return [stream for stream in self.streams if stream.weight]

    @property
    def probed(self) -> int:
        """How many of backout's own probes were counted."""
        return self.streams[0].total if self.streams[0].measure is Measure.PROBES else 0

    def lead(self, streams: Sequence[Stream]) -> Stream:
        """Return the stream with the most evidence; probes only when theirs is enough alone.

        A verdict of probes may be acted on whatever the source of counts is worth, so it must not rest on its counts.
        """
        weighed = {id(stream): stream.log_e() + math.log(stream.weight) for stream in streams}
        enough = self.threshold
        leading = [
            stream for stream in streams if stream.measure is not Measure.PROBES or weighed[id(stream)] >= enough
        ]
        return max(leading, key=lambda stream: weighed[id(stream)])

    def get_noninferiority(self) -> NonInferiority:
        """Return what must be excluded before "healthy", for the streams there are now."""
        if self._exclusion is None or self._exclusion[0] is not self.streams:
            slo = self._policy.criteria.error_rate_below
            self._exclusion = (self.streams, NonInferiority(self.streams, slo, has_baseline=self._has_baseline))
        return self._exclusion[1]

    def describe_uncompared(self, *, much: bool) -> str | None:
        """Return how many response times could not be compared, None where all could.

        Args:
            much: only where too many of those on new routes are slow to call a version healthy.
        """
        without, slow, compared = self.uncompared
        if not without or (much and slow <= MOST_UNCOMPARED * (without + compared)):
            return None
        told = f"response times of {without:,} of {count(without + compared, 'request')} could not be compared"
        return f"{told} (too little was known of their routes before)" + (
            f"; {slow:,} of them are slow" if much else ""
        )

    def slow_for_now(self) -> str | None:
        """Return that answers are slow just now, though not for long enough to be a reason, or None."""
        stream = next((stream for stream in self.streams if not stream.route and stream.is_slow_now), None)
        if stream is None:
            return None
        slow, length = stream.slow_stretches + 1, count(stream.stretch_s, "second")
        if slow > FORGIVEN:
            return f"{stream.sentence()}; that is slow, and not yet for long enough to be sure"
        return f"{stream.sentence()}; slow in {slow} of the {FORGIVEN + 1} times {length} that it takes to be a reason"

    def state(self) -> CountedState:
        """Return a checkpoint."""
        return {
            "split": self._split,
            "splits": list(self._splits),
            "edges": list(self._edges) if self._edges else None,
            "times": {name: (list(each.edges), list(each.weights)) for name, each in self._usual.items()},
            "learning": [],
            "learning_by_route": {name: list(found.items()) for name, found in self._learning.items()},
            "streams": [stream.state() for stream in self.streams],
            "repeats": self._repeats.state(),
            "requests": self.requests,
            "errors": self.errors,
            "beside": list(self.beside),
            "has_baseline": self._has_baseline,
            "uncompared": list(self.uncompared),
        }

    def restore(self, state: CountedState) -> None:
        """Go on from a checkpoint."""
        self._splits = [(at, share) for at, share in state["splits"]]
        edges = state["edges"]
        self._edges = (edges[0], edges[1], edges[2], edges[3]) if edges else None
        # The version before kept the thresholds of all routes together.
        whole = {NAMELESS: (edges, [1.0] * len(edges))} if edges else {}
        self._usual = {
            name: RouteTimes((p50, p95, p99, twice), tuple(weights))
            for name, ((p50, p95, p99, twice), weights) in state.get("times", whole).items()
        }
        learning = state.get("learning_by_route", {NAMELESS: state["learning"]} if state["learning"] else {})
        self._learning = {name: dict(found) for name, found in learning.items()}
        self._has_baseline = state["has_baseline"]
        self.streams = tuple(Stream.from_state(stream) for stream in state["streams"])
        self._repeats = RetryClusters.from_state(state["repeats"])
        self.requests, self.errors = state["requests"], state["errors"]
        self.beside = list(state["beside"])
        self.uncompared = list(state.get("uncompared", (0, 0, 0)))
        self.renew()

    def probe_state(self) -> StreamState | None:
        """Return a checkpoint of the probes alone, None where none are made."""
        return self.streams[0].state() if self.streams[0].measure is Measure.PROBES else None

    def restore_probes(self, state: StreamState | None) -> None:
        """Go on from a checkpoint of the probes."""
        self.renew()
        if state is not None and self.streams[0].measure is Measure.PROBES:
            self.streams = (Stream.from_state(state), *self.streams[1:])

    def renew(self) -> None:
        """Forget what was reckoned of the streams so far: they have changed."""
        self._log_e = self._most = None


def _count_slower(latency: Mapping[int, int], edge: int) -> int:
    """Return how many latencies are in buckets above the edge."""
    return sum(number for bucket, number in latency.items() if bucket > edge)
