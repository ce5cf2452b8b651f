"""backout's own detector for many runs at once; a property test holds it equal to `Detector` within 1e-9.

Everything that is decided once per watch (baseline, streams, weights, laws) is made by the live code. Only the work of
every second is repeated here in arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from shared.detect_arrays import arrays

from backout.analysis.baseline import MINUTE_S
from backout.analysis.decision import DRIFT_BUCKETS, Detector
from backout.analysis.quantiles import counts_above, thresholds
from backout.analysis.streams import AGREES, BESIDE, FEW_LATENCIES, labelled_latency
from backout.model.policy import Policy
from backout.model.signals import BUCKETS, Counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from shared.detect_arrays import LabelTests, MinuteLaws
    from shared.detect_traffic import Batch, Before, Side

    from backout.analysis.streams import Stream

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

DEPLOYED_AT = 1_760_000_000
NEW, OLD = "v2", "v1"


def policy_of(batch: Batch) -> Policy:
    """Return the policy of a watch: the standard one, with the warm-up that the scenario declares."""
    standard = Policy()
    return replace(standard, guard=replace(standard.guard, warm_up_s=batch.scenario.warm_up_s))


def counts_before(before: Before, run: int) -> list[Counts]:
    """Return the baseline of one run, one row a minute."""
    rows = []
    for minute in range(before.requests.shape[1]):
        requests = int(before.requests[run, minute].sum())
        if requests:
            histogram = before.latency[run, minute].sum(axis=0)
            latency = {int(k): int(histogram[k]) for k in np.flatnonzero(histogram)}
            errors = int(before.errors[run, minute].sum())
            rows.append(Counts(OLD, DEPLOYED_AT - MINUTE_S * (minute + 1), requests, errors, latency=latency))
    return rows


def live(batch: Batch, run: int) -> Detector:
    """Return the live detector at the moment of the deployment."""
    return Detector(
        version=NEW,
        old=OLD,
        deployed_at=DEPLOYED_AT,
        split=batch.scenario.split,
        baseline=counts_before(batch.before, run),
        policy=policy_of(batch),
    )


@dataclass(frozen=True)
class _Start:
    """One run at its start; `from_s` is the second with which latency thresholds were learnt, -1: before."""

    streams: tuple[Stream, ...]
    edges: tuple[int, int, int, int] | None
    from_s: int
    learnt: int

    @property
    def shape(self) -> tuple[object, ...]:
        """What runs must have in common to share arrays."""
        kinds = [(s.column, s.weight, type(s.test).__name__, s.beside is None) for s in self.streams]
        return (*kinds, self.learnt, self.edges is None)


def _start(batch: Batch, run: int, old: dict[int, Ints] | None) -> _Start:
    detector = live(batch, run)
    streams, edges = detector._streams, detector._edges  # noqa: SLF001 made by the live code, evaluated here
    if edges is not None or batch.old is None or old is None:
        return _Start(streams, edges, -1, 0)
    seen: dict[int, int] = {}
    for second, buckets in old.items():
        for bucket in buckets:
            seen[int(bucket)] = seen.get(int(bucket), 0) + 1
        found = thresholds(seen)
        if found is not None and sum(seen.values()) >= FEW_LATENCIES:
            total, *above = counts_above(seen, found)
            more = tuple(labelled_latency(found, [n / total for n in above], batch.scenario.split))
            return _Start((*streams, *more), found, second, len(more))
    return _Start(streams, None, -1, 0)


def _old_by_second(batch: Batch, run: int) -> dict[int, Ints] | None:
    """Return the old version's buckets of each second that had any."""
    if batch.old is None:
        return None
    one = batch.old.take(np.array([run]))
    ends = np.cumsum(one.requests.sum(axis=2)[0])
    parts = np.split(one.bucket, ends[:-1])
    return {second: part for second, part in enumerate(parts) if len(part)}


class _Group:
    """Runs with the same streams."""

    def __init__(self, batch: Batch, rows: Ints, starts: list[_Start]) -> None:
        self.rows = rows
        self._policy = policy_of(batch)
        first = starts[0]
        self._from_s = np.array([start.from_s for start in starts])
        self._acting = [k for k, stream in enumerate(first.streams) if stream.weight]
        self._learnt = len(first.streams) - first.learnt
        self._columns = [first.streams[k].column for k in self._acting]
        self._log_weights = np.log([first.streams[k].weight for k in self._acting])
        self._tests: list[MinuteLaws | LabelTests] = [arrays([s.streams[k].test for s in starts]) for k in self._acting]
        self._beside = {
            position: arrays([s.streams[k].beside for s in starts])
            for position, k in enumerate(self._acting)
            if first.streams[k].beside is not None
        }
        self._bad = np.zeros((len(rows), len(self._acting)), dtype=np.int64)
        margin = DRIFT_BUCKETS if batch.old is None or first.streams[-1].expected_from == BESIDE else 0
        edges = np.array([start.edges for start in starts]) if first.edges is not None else None
        self._new = self._counts(batch.new.take(rows), edges, margin, first_s=self._from_s + 1)
        self._old = self._counts(batch.old.take(rows), edges, 0, first_s=self._from_s) if batch.old is not None else None

    def _counts(self, side: Side, edges: Ints | None, margin: int, first_s: Ints) -> tuple[Ints, Ints]:
        """Return (hits, others) of each column, shape (columns, runs, seconds)."""
        runs, seconds, _ = side.requests.shape
        requests, errors = side.requests.sum(axis=2), side.errors.sum(axis=2)
        hits, others = np.zeros((5, runs, seconds), np.int64), np.zeros((5, runs, seconds), np.int64)
        hits[0], others[0] = errors, requests - errors
        if edges is not None:
            above = np.arange(BUCKETS)[None, :, None] > (edges + margin)[:, None, :]
            level = above.sum(axis=2)  # 0..4 for each run and bucket
            found = level[side.cell // seconds, side.bucket]
            cells = np.bincount(side.cell * 5 + found, minlength=runs * seconds * 5).reshape(runs, seconds, 5)
            cells[np.arange(seconds)[None, :] < np.maximum(first_s, self._policy.guard.warm_up_s)[:, None]] = 0
            for column in range(1, 5):
                hits[column] = cells[..., column:].sum(axis=2)
                others[column] = cells.sum(axis=2) - hits[column]
        return hits, others

    def second(self, t: int, alive: NDArray[np.bool_]) -> None:
        """Count one second of the runs that are alive."""
        for position, column in enumerate(self._columns):
            new = self._new[0][column][:, t], self._new[1][column][:, t]
            old = (self._old[0][column][:, t], self._old[1][column][:, t]) if self._old else (0 * new[0], 0 * new[0])
            counts = np.stack([*new, *old], axis=1)
            rows = np.flatnonzero(alive & counts.any(axis=1))
            if not len(rows):
                continue
            self._tests[position].add(rows, t // MINUTE_S, counts[rows].astype(float))
            if position in self._beside:
                self._beside[position].add(rows, t // MINUTE_S, counts[rows].astype(float))
            self._bad[rows, position] += new[0][rows]

    def judge(self, t: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Return log evidence against healthy, and whether it rolls back, for each run at the end of second t."""
        evidence = np.stack([test.log_e for test in self._tests], axis=1) + self._log_weights
        for position, k in enumerate(self._acting):
            if k >= self._learnt:
                evidence[:, position] = np.where(t >= self._from_s, evidence[:, position], -np.inf)
        agrees = np.ones(evidence.shape, dtype=bool)
        for position, test in self._beside.items():
            agrees[:, position] = test.log_e >= AGREES
        among = np.where(agrees, evidence, -np.inf)
        limit = -math.log(self._policy.guard.alpha)
        log_e, acting = np.logaddexp.reduce(evidence, axis=1), np.logaddexp.reduce(among, axis=1)
        lead = among.argmax(axis=1)
        enough = self._bad[np.arange(len(lead)), lead] >= self._policy.guard.min_bad
        return log_e, (log_e >= limit) & (acting >= limit) & enough


def _groups(batch: Batch) -> Iterator[_Group]:
    starts: dict[tuple[object, ...], list[tuple[int, _Start]]] = {}
    for run in range(batch.runs):
        start = _start(batch, run, None)
        if start.edges is None and batch.old is not None:
            start = _start(batch, run, _old_by_second(batch, run))
        starts.setdefault(start.shape, []).append((run, start))
    for members in starts.values():
        yield _Group(batch, np.array([run for run, _ in members]), [start for _, start in members])


def backout(batch: Batch) -> Floats:
    """Return after how many seconds each run is rolled back, infinity where it never is."""
    found = np.full(batch.runs, np.inf)
    for group in _groups(batch):
        at = np.full(len(group.rows), np.inf)
        for t in range(batch.scenario.watch_s):
            alive = np.isinf(at)
            if not alive.any():
                break
            group.second(t, alive)
            at = np.where(group.judge(t)[1] & alive, t + 1.0, at)
        found[group.rows] = at
    return found


def log_evidence(batch: Batch) -> tuple[Floats, NDArray[np.bool_]]:
    """Return log evidence and "rolls back" of each run and second: what the property test compares."""
    evidence = np.zeros((batch.runs, batch.scenario.watch_s))
    fires = np.zeros(evidence.shape, dtype=bool)
    for group in _groups(batch):
        everyone = np.ones(len(group.rows), dtype=bool)
        for t in range(batch.scenario.watch_s):
            group.second(t, everyone)
            evidence[group.rows, t], fires[group.rows, t] = group.judge(t)
    return evidence, fires
