"""backout's own detector for many runs at once; a property test holds it equal to `Detector` within 1e-9.

Everything that is decided once per watch (baseline, streams, weights, laws) comes from the live code. Only the work of
every second is reimplemented here in arrays.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from shared.detect_arrays import arrays
from shared.detect_counts import DEPLOYED_AT, NEW, OLD, counts_before, policy_of, route_name, rows_of
from shared.detect_shifts import find_crowds, find_shifted
from shared.detect_slower import Limits, count_extreme, count_slower

from backout.analysis.detector.counted import DRIFT_BUCKETS
from backout.analysis.detector.decision import Detector
from backout.analysis.detector.measures import EXTREMES, SLOWER, Against, Measure
from backout.analysis.detector.persistence import get_stretch, make_persistence
from backout.analysis.detector.stream_set import make_labelled_latency
from backout.analysis.shifts import PART
from backout.analysis.statistics.baseline import FEW_LATENCIES
from backout.analysis.statistics.minute_law import MinuteLaw
from backout.analysis.statistics.quantiles import RouteTimes, find_thresholds
from backout.analysis.statistics.route_times import count_slower as count_once
from backout.analysis.statistics.route_times import find_edges, weigh_routes
from backout.model.guard.signals import merge_counts
from backout.model.guard.verdict import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from shared.detect_arrays import Tests
    from shared.detect_traffic import Batch, Side

    from backout.analysis.detector.failing_spell import Failures
    from backout.analysis.detector.streams import Stream
    from backout.analysis.shifts import Shifts

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_COLUMNS = {measure: column for column, measure in enumerate((Measure.ERRORS, *SLOWER, *EXTREMES, Measure.WARMING))}
_SLOWER = [_COLUMNS[measure] for measure in SLOWER]
ERRORS, WARMING = _COLUMNS[Measure.ERRORS], _COLUMNS[Measure.WARMING]
_LIMIT = 1 + WARMING
"""Column of the failures that are held against a limit: other answers weigh as the failures of their second do."""


def live(batch: Batch, run: int) -> Detector:
    """Return the live detector at the moment of the deployment."""
    return Detector(
        version=NEW,
        old=OLD,
        deployed_at=DEPLOYED_AT,
        split=batch.scenario.split,
        baseline=counts_before(batch.before, run),
        policy=policy_of(batch),
        watch_s=batch.scenario.watch_s,
    )


@dataclass(frozen=True)
class _Start:
    """One run at its start; `from_s` is the second with which latency thresholds were learnt, -1: before."""

    per_cause: float
    streams: tuple[Stream, ...]
    usual: Mapping[str, RouteTimes]
    from_s: int
    learnt: int
    answers: Shifts
    failures: Failures

    @property
    def shape(self) -> tuple[object, ...]:
        """What runs must have in common to share arrays."""
        kinds = [(s.measure, s.route, s.weight, type(s.test).__name__, s.beside is None) for s in self.streams]
        return (*kinds, self.learnt, not self.usual)


def _start(batch: Batch, run: int, old: dict[int, Ints] | None) -> _Start:
    detector = live(batch, run)
    counted, answers = detector._counted, detector._answers  # noqa: SLF001 made by the live code, evaluated here
    failures = detector._failures  # noqa: SLF001 the same
    streams, usual, per_cause = counted.streams, counted._usual, counted._repeats.per_cause  # noqa: SLF001 the same
    if usual or batch.old is None or old is None:
        return _Start(per_cause, streams, usual, -1, 0, answers, failures)
    seen: dict[str, dict[int, int]] = {}
    for second, routes in old.items():
        for name, buckets in routes.items():
            seen[name] = merge_counts((seen.get(name, {}), Counter(buckets.tolist())))
        edges_of = find_edges(seen)
        total, above, _ = count_once(seen.items(), {name: RouteTimes(edges) for name, edges in edges_of.items()})
        found = find_thresholds(merge_counts(seen.values()))
        if found is not None and total >= FEW_LATENCIES:
            shares = [n / total for n in above]
            usual = weigh_routes(seen, edges_of, shares)
            persistence = make_persistence(batch.scenario.watch_s, batch.scenario.slow_start_s)
            split = batch.scenario.split
            more = tuple(make_labelled_latency(found, shares, split, persistence, by_route=len(usual) > 1))
            return _Start(per_cause, (*streams, *more), usual, second, len(more), answers, failures)
    return _Start(per_cause, streams, usual, -1, 0, answers, failures)


def _old_by_second(batch: Batch, run: int) -> dict[int, dict[str, Ints]] | None:
    """Return the old version's buckets by route of each second that had any."""
    if batch.old is None:
        return None
    one = batch.old.take(np.array([run]))
    ends = np.cumsum(one.requests.sum(axis=2)[0])
    buckets, routes = np.split(one.bucket, ends[:-1]), np.split(one.route, ends[:-1])
    return {
        second: {route_name(k): part[routes[second] == k] for k in np.unique(routes[second]).tolist()}
        for second, part in enumerate(buckets)
        if len(part)
    }


@dataclass(frozen=True)
class _Part:
    """The runs of one batch that belong to a group."""

    batch: Batch
    index: int
    rows: Ints
    starts: list[_Start]
    shifted: NDArray[np.bool_]


class _Group:
    """Runs with the same streams, of batches with the same split, policy and length."""

    def __init__(self, parts: list[_Part]) -> None:
        self.parts = parts
        starts = [start for part in parts for start in part.starts]
        self.runs = len(starts)
        self._policy = policy_of(parts[0].batch)
        self._warm_s = math.ceil(self._policy.guard.warm_up_s)
        scenario = parts[0].batch.scenario
        self._slow_s = max(self._warm_s, get_stretch(make_persistence(scenario.watch_s, scenario.slow_start_s)))
        first = starts[0]
        self._from_s = np.array([start.from_s for start in starts])
        self._acting = [k for k, stream in enumerate(first.streams) if stream.weight]
        self._learnt = len(first.streams) - first.learnt
        self._columns = [_COLUMNS[first.streams[k].measure] for k in self._acting]
        self._routes = sorted({stream.route for stream in first.streams if stream.route})
        self._places = [self._place(first.streams[k]) for k in self._acting]
        self._log_weights = np.log([first.streams[k].weight for k in self._acting])
        self._tests: list[Tests] = [
            arrays([s.streams[k].test for s in starts], first.streams[k].stretch_s) for k in self._acting
        ]
        self._beside = {
            position: arrays([s.streams[k].beside for s in starts])
            for position, k in enumerate(self._acting)
            if first.streams[k].beside is not None
        }
        self._agrees_at = np.array([[s.streams[k].agrees_at for k in self._acting] for s in starts])
        self._bad = np.zeros((self.runs, len(self._acting)), dtype=np.int64)
        failed = np.concatenate([part.batch.new.errors[part.rows] for part in parts])
        self._failed = {"": failed.sum(axis=2), **{route_name(k): failed[..., k] for k in range(failed.shape[2])}}
        self._owners = [first.streams[k].route for k in self._acting]
        acting = [first.streams[k] for k in self._acting]
        self._of_errors = np.array([s.cause is Cause.ERRORS for s in acting])
        self._runs = [(part, s, int(row)) for part in parts for s, row in zip(part.starts, part.rows, strict=True)]
        self._told = [0] * self.runs
        self._yields = np.array([s.cause is Cause.LATENCY and s.measure not in EXTREMES for s in acting])
        self._crowds = np.concatenate(
            [find_crowds(part.batch, part.rows, [start.answers for start in part.starts]) for part in parts]
        )
        self._shifted = np.concatenate([part.shifted for part in parts])
        sides = [self._both(part) for part in parts]
        self._slower = np.concatenate([slower for slower, _ in sides], axis=1)
        self._counts = np.concatenate([counts for _, counts in sides], axis=1)

    def _place(self, stream: Stream) -> int:
        """Return which of the counted columns is that of a stream: after those of all requests, two of each route."""
        if not stream.route:
            is_limit = isinstance(stream.test, MinuteLaw) and not stream.test.law.total
            return _LIMIT if stream.measure is Measure.ERRORS and is_limit else _COLUMNS[stream.measure]
        return 1 + _LIMIT + 2 * self._routes.index(stream.route) + int(stream.measure is not Measure.ERRORS)

    def _both(self, part: _Part) -> tuple[Ints, Floats]:
        """Return the new version's slower answers, and what hits and others of the new, then of the old one weigh.

        Of shape (thresholds, runs, seconds) and (columns, runs, seconds, 4).
        """
        limits = Limits([start.usual for start in part.starts]) if part.starts[0].usual else None
        from_s = np.array([start.from_s for start in part.starts])
        drifts = part.batch.old is None or part.starts[0].streams[-1].expected_from is Against.BESIDE
        per_cause = np.array([start.per_cause for start in part.starts])
        margin = DRIFT_BUCKETS if drifts else 0
        sides = [(part.batch.new.take(part.rows), margin, DRIFT_BUCKETS if part.batch.old is None else 0, from_s + 1)]
        if part.batch.old is not None:
            sides.append((part.batch.old.take(part.rows), 0, 0, from_s))
        failed = sum(side.errors for side, *_ in sides)
        both, hits = [], []
        for side, over, over_route, since in sides:
            whole = self._side(side, _each(failed.sum(axis=2), per_cause))
            slow = np.zeros((len(SLOWER), *side.requests.shape[:2]), dtype=np.int64)
            if limits is not None:
                slow, whole[_SLOWER] = count_slower(side, limits, over, np.maximum(since, self._slow_s))
                whole[[_COLUMNS[measure] for measure in EXTREMES]] = count_extreme(
                    side, limits, np.maximum(since, self._warm_s)
                )
            hits.append(slow)
            routes = [
                self._route(side, route, part.starts, _each(failed, per_cause), over_route) for route in self._routes
            ]
            both.append(np.concatenate([whole, *routes]))
        if len(both) == 1:
            both.append(np.zeros_like(both[0]))
        return hits[0], np.concatenate(both, axis=-1)

    def _route(self, side: Side, name: str, starts: list[_Start], each: Floats, margin: int) -> Floats:
        """Return errors, and latencies above the route's own p95, of one route: (2, runs, seconds, 2)."""
        runs, seconds, routes = side.requests.shape
        number, warm = next(k for k in range(routes) if route_name(k) == name), self._warm_s
        edges = np.array([next(s.edge for s in start.streams if s.route == name and s.edge) for start in starts])
        counts = np.zeros((2, runs, seconds, 2))
        failed = side.errors[..., number]
        counts[0, ..., 0] = failed * each[..., number]
        counts[0, ..., 1] = side.requests[..., number] - failed
        mine = side.route == number
        cell, bucket = side.cell[mine], side.bucket[mine]
        slow = cell[bucket > (edges + margin)[cell // seconds]]
        above, every = (np.bincount(part, minlength=runs * seconds).reshape(runs, seconds) for part in (slow, cell))
        counts[1, ..., 0], counts[1, ..., 1] = above, every - above
        counts[0, :, :warm] = 0
        counts[1, :, : self._slow_s] = 0
        return counts

    def _side(self, side: Side, each: Floats) -> Floats:
        runs, seconds, _ = side.requests.shape
        counts = np.zeros((1 + _LIMIT, runs, seconds, 2))
        failed, warm = side.errors.sum(axis=2), self._warm_s
        others = side.requests.sum(axis=2) - failed
        judged, warming = slice(warm, None), slice(warm)
        for column, of_others, span in (
            (ERRORS, others, judged),
            (WARMING, others * each, warming),
            (_LIMIT, others * each, judged),
        ):
            counts[column, :, span, 0] = (failed * each)[:, span]
            counts[column, :, span, 1] = of_others[:, span]
        return counts

    def second(self, t: int, alive: NDArray[np.bool_]) -> None:
        """Count one second of the runs that are alive."""
        for position, column in enumerate(self._columns):
            counts = self._counts[self._places[position], :, t]
            rows = np.flatnonzero(alive & counts.any(axis=1))
            if not len(rows):
                continue
            known = counts[rows]
            self._tests[position].add(rows, t, known)
            if position in self._beside:
                self._beside[position].add(rows, t, known)
            self._bad[rows, position] += self._hits(position, column, t, rows, known)

    def _hits(self, position: int, column: int, t: int, rows: Ints, known: Floats) -> Ints:
        owner = self._owners[position]
        if column in (ERRORS, WARMING):
            return np.asarray(self._failed[owner][rows, t])
        if not owner and column in _SLOWER:
            return np.asarray(self._slower[_SLOWER.index(column), rows, t])
        return known[:, 0].astype(np.int64)

    def judge(self, t: int, *, exactly: bool = False) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
        """Return log evidence against healthy, whether it rolls back, and whether for errors, at the end of second t.

        Args:
            exactly: also where it is too little to roll back; else the evidence returned there is a bound.
        """
        limit = -math.log((1 - PART) * self._policy.guard.alpha)
        evidence = self._evidence(t)
        enough = np.logaddexp.reduce(evidence, axis=1) >= limit
        rows = np.flatnonzero(enough | exactly)
        if len(rows):
            for test in self._tests:
                test.settle(rows)
            evidence = self._evidence(t)
        agrees = np.ones(evidence.shape, dtype=bool)
        for position, test in self._beside.items():
            agrees[:, position] = test.log_e >= self._agrees_at[:, position]
        among = np.where(agrees, evidence, -np.inf)
        log_e, acting = np.logaddexp.reduce(evidence, axis=1), np.logaddexp.reduce(among, axis=1)
        lead = among.argmax(axis=1)
        seen = self._bad[np.arange(len(lead)), lead] >= self._policy.guard.min_bad
        fires = (log_e >= limit) & (acting >= limit) & seen & ~(self._yields[lead] & self._crowds[:, t])
        return log_e, fires | self._shifted[:, t], fires & self._of_errors[lead] & ~self._shifted[:, t]

    def is_put_off(self, row: int, t: int) -> bool:
        """Return whether a watch that acts puts off the verdict that it has at the end of second t for errors."""
        part, start, run = self._runs[row]
        for second in range(self._told[row], t + 1):
            for counts in rows_of(part.batch, run, second):
                if counts.version == NEW:
                    start.failures.add(counts)
        self._told[row] = t + 1
        at = DEPLOYED_AT + t + 1
        start.failures.note_until(at)
        return bool(start.failures.explain_wait(at, is_last=t + 1 >= part.batch.scenario.watch_s))

    def _evidence(self, t: int) -> Floats:
        evidence = np.stack([test.log_e for test in self._tests], axis=1) + self._log_weights
        for position, k in enumerate(self._acting):
            if k >= self._learnt:
                evidence[:, position] = np.where(t >= self._from_s, evidence[:, position], -np.inf)
        return evidence


def _each(failed: Ints, per_cause: Floats) -> Floats:
    """Return what each failure weighs, by the failures of both versions in the same second; runs come first."""
    most = np.maximum(failed, 1)
    return np.maximum(1.0, most / per_cause.reshape(-1, *[1] * (failed.ndim - 1))) / most


def _groups(batches: Sequence[Batch], *, to_the_end: bool = False) -> Iterator[_Group]:
    shapes: dict[tuple[object, ...], dict[int, list[tuple[int, _Start]]]] = {}
    for index, batch in enumerate(batches):
        for run in range(batch.runs):
            start = _start(batch, run, None)
            if not start.usual and batch.old is not None:
                start = _start(batch, run, _old_by_second(batch, run))
            shapes.setdefault(start.shape, {}).setdefault(index, []).append((run, start))
    for found in shapes.values():
        parts = []
        for index, members in found.items():
            runs, starts = [run for run, _ in members], [start for _, start in members]
            answers = [start.answers for start in starts]
            fires = find_shifted(batches[index], runs, answers, to_the_end=to_the_end)
            parts.append(_Part(batches[index], index, np.array(runs), starts, fires))
        yield _Group(parts)


def backout(batches: Sequence[Batch], *, acts: bool = False) -> list[Floats]:
    """Return for each batch after how many seconds its runs are rolled back, infinity where they never are.

    Args:
        batches: of the same split, length and warm-up; together they cost much less than one by one.
        acts: as a watch that acts does, which puts off what may be over by itself; else by the evidence alone.
    """
    found = [np.full(batch.runs, np.inf) for batch in batches]
    for group in _groups(batches):
        at = np.full(group.runs, np.inf)
        for t in range(batches[0].scenario.watch_s):
            alive = np.isinf(at)
            if not alive.any():
                break
            group.second(t, alive)
            _, fires, for_errors = group.judge(t)
            for row in np.flatnonzero(for_errors & alive).tolist() if acts else ():
                fires[row] = not group.is_put_off(row, t)
            at = np.where(fires & alive, t + 1.0, at)
        _share_out(group, at, found)
    return found


def _share_out(group: _Group, values: NDArray[np.generic], into: Sequence[NDArray[np.generic]]) -> None:
    """Write the rows of a group back into the arrays of their batches."""
    begin = 0
    for part in group.parts:
        into[part.index][part.rows] = values[begin : begin + len(part.rows)]
        begin += len(part.rows)


def log_evidence(batch: Batch) -> tuple[Floats, NDArray[np.bool_]]:
    """Return log evidence and "rolls back" of each run and second: what the property test compares."""
    evidence = np.zeros((batch.runs, batch.scenario.watch_s))
    fires = np.zeros(evidence.shape, dtype=bool)
    for group in _groups([batch], to_the_end=True):
        everyone = np.ones(group.runs, dtype=bool)
        for t in range(batch.scenario.watch_s):
            group.second(t, everyone)
            log_e, fired, _ = group.judge(t, exactly=True)
            _share_out(group, log_e, [evidence[:, t]])
            _share_out(group, fired, [fires[:, t]])
    return evidence, fires
