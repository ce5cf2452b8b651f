"""Changes in the days after a watch: found soon, with a bounded rate of false alarms; see `edetector`.

What counts as usual is fixed in advance, so that daily rhythm and slow drift need not be learnt: errors up to the
SLO, and response times up to the factor that the success criteria allow. Below these limits nothing is trouble, however
fast it changes; above them everything is, however slowly it came.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, TypedDict

import msgspec
from msgspec.structs import replace

from backout.analysis.detector.stream_set import ERROR_POINTS, get_usable_edges
from backout.analysis.detector.streams import AGREES
from backout.analysis.statistics.baseline import SURE, Baseline, Law, assume_law
from backout.analysis.statistics.beta import beta_quantile
from backout.analysis.statistics.edetector import BLOCK_S, EDetector, EDetectorState
from backout.analysis.statistics.minute_law import list_alternatives
from backout.analysis.statistics.quantiles import TAILS
from backout.analysis.statistics.rates import log_e_above, mix
from backout.model.guard.signals import BUCKET_RATIO, get_bucket_floor_ms
from backout.model.guard.verdict import Cause
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.guard.policy import Policy
    from backout.model.guard.signals import Counts

_BLOCKS_PER_YEAR = 365.25 * 86_400 / BLOCK_S
_LOG_BLOCKS_PER_DAY = math.log(86_400 / BLOCK_S)
"""Trouble that goes on is taken for ended once a day at most, on the average: then it would be told once more."""
_CALMER = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Shares that would be well again, as parts of the highest usual one."""
_P95 = TAILS.index("p95")
_CLEARLY = 0.99
"""How sure it has to be that fewer requests fail than before."""
_FEWER = 0.5
"""That many times the limit that the version before would set; less than that may be chance."""


class Change(Value, frozen=True):
    """The beginning or the end of trouble.

    Args:
        cause: errors or latency.
        began: False when it ended.
        at: Unix seconds of the finding.
        since: Unix seconds when it most likely began (ended).
        bad, total: requests since then.
        limit: the highest usual share.
        kept_before: False where more than the SLO failed before already, so that the limit is what was usual then.
        slow_ms: what counts as slow, None for errors.
        log_evidence: log M against "all is as usual" (for an end: against "the trouble goes on").
    """

    cause: Cause
    began: bool
    at: int
    since: int
    bad: int
    total: int
    limit: float
    log_evidence: float
    kept_before: bool = True
    slow_ms: float | None = None

    @property
    def share(self) -> float:
        """The share of bad requests since then."""
        return self.bad / self.total if self.total else 0.0


class StreamState(TypedDict):
    """Checkpoint of one stream; `calm` is None while there is no trouble."""

    law: dict[str, float]
    rise: EDetectorState
    calm: EDetectorState | None


class ChangesState(TypedDict):
    """Checkpoint of a `ChangeDetector`, plain JSON, a few kB."""

    settings: list[float]
    edge: int | None
    kept_before: bool
    streams: dict[str, StreamState]
    trouble: str | None


class _Stream:
    """One share: the detector of its rise, and in trouble that of its end."""

    def __init__(self, law: Law) -> None:
        self.law = law
        self.rise = self._rise()
        self.calm: EDetector | None = None

    def _rise(self) -> EDetector:
        return EDetector(self.law, list_alternatives(self.law, ERROR_POINTS, clustered=True))

    def _calm(self) -> EDetector:
        p0, tau = self.law.p0, self.law.tau
        return EDetector(self.law, [(part * p0 * tau, (1 - part * p0) * tau) for part in _CALMER])

    def add(self, second: int, hits: int, total: int) -> None:
        """Count a second."""
        (self.rise if self.calm is None else self.calm).add(second, hits, total - hits)

    def turn(self, *, trouble: bool) -> None:
        """Look for the end of the trouble from now on, or for its beginning."""
        self.rise = self._rise()
        self.calm = self._calm() if trouble else None

    def state(self) -> StreamState:
        """Return a checkpoint."""
        calm = self.calm.state() if self.calm is not None else None
        return {"law": msgspec.to_builtins(self.law), "rise": self.rise.state(), "calm": calm}

    @classmethod
    def from_state(cls, state: StreamState) -> _Stream:
        """Return the stream as it was."""
        law = state["law"]
        stream = cls(Law(law["hits"], int(law["total"]), law["p0"], law["phi"]))
        stream.rise.restore(state["rise"])
        stream.calm = stream._calm().restore(state["calm"]) if state["calm"] is not None else None
        return stream


class ChangeDetector:
    """Watches what is live without a time limit; reports each trouble when it begins and when it ends.

    Errors and slowness are two streams whose e-detectors are averaged. During trouble nothing new is reported until it
    has ended. The state is a few kB, and the cost of each second stays constant.

    Args:
        policy: the SLO, how much longer responses may take, and how many false alarms a year are accepted.
        baseline: what is usual, see `find_usual`; without latencies in it only errors are looked at.
    """

    def __init__(self, policy: Policy, baseline: Baseline) -> None:
        slo, errors = policy.criteria.error_rate_below, baseline.errors
        self._settings = _list_settings(policy)
        self._log_alarm = max(0.0, math.log(_BLOCKS_PER_YEAR / policy.guard.false_alarms_per_year))
        self._min_bad = policy.guard.min_bad
        self._kept_before = errors is None or log_e_above(round(errors.hits), errors.total, slo) < AGREES
        usual = assume_law(slo) if errors is None or self._kept_before else _restore_bound(errors)
        self._streams = {Cause.ERRORS: _Stream(_add_scatter(usual))}
        edges = get_usable_edges(baseline) if _judges_times(policy) else None
        self._edge: int | None = None  # a latency is slow when its bucket is greater
        if edges is not None:
            self._edge = edges[_P95] + math.ceil(math.log(policy.criteria.latency_p99_at_most) / math.log(BUCKET_RATIO))
            self._streams[Cause.LATENCY] = _Stream(_add_scatter(baseline.latency[_P95]))
        self._trouble: Cause | None = None

    @property
    def trouble(self) -> Cause | None:
        """What goes on now, None when all is as usual."""
        return self._trouble

    def add(self, counts: Iterable[Counts]) -> tuple[Change, ...]:
        """Count whole seconds, all rows of each, and return what began or ended in them, in order.

        The same seconds lead to the same findings, however they are cut into calls.
        """
        found = []
        for second, rows in groupby(sorted(counts, key=lambda row: row.second), key=lambda row: row.second):
            self._count(second, tuple(rows))
            change = self._look(second + 1)
            if change is not None:
                found.append(change)
        return tuple(found)

    def _count(self, second: int, rows: Sequence[Counts]) -> None:
        errors, requests = sum(row.errors for row in rows), sum(row.requests for row in rows)
        self._streams[Cause.ERRORS].add(second, errors, requests)
        if self._edge is not None:
            measured = [(bucket, n) for row in rows for bucket, n in row.latency.items()]
            slow = sum(n for bucket, n in measured if bucket > self._edge)
            self._streams[Cause.LATENCY].add(second, slow, sum(n for _, n in measured))

    def _look(self, at: int) -> Change | None:
        if self._trouble is not None:
            return self._find_end(self._trouble, at)
        weight = 1 / len(self._streams)
        evidence = mix([(weight, stream.rise.log_e()) for stream in self._streams.values()])
        if evidence < self._log_alarm:
            return None
        cause = max(self._streams, key=lambda each: self._streams[each].rise.log_e())
        change = self._change(cause, self._streams[cause].rise, at, evidence, began=True)
        if change.bad < self._min_bad:
            return None
        self._turn(cause)
        return change

    def _find_end(self, cause: Cause, at: int) -> Change | None:
        calm = self._streams[cause].calm
        if calm is None or calm.log_e() < _LOG_BLOCKS_PER_DAY:
            return None
        change = self._change(cause, calm, at, calm.log_e(), began=False)
        self._turn(None)
        return change

    def _turn(self, trouble: Cause | None) -> None:
        self._trouble = trouble
        for stream in self._streams.values():
            stream.turn(trouble=trouble is not None)

    def _change(self, cause: Cause, detector: EDetector, at: int, log_e: float, *, began: bool) -> Change:
        since, bad, total = detector.change()
        return Change(
            cause=cause,
            began=began,
            at=at,
            since=since,
            bad=bad,
            total=total,
            limit=self._streams[cause].law.p0,
            log_evidence=log_e,
            kept_before=self._kept_before,
            slow_ms=get_bucket_floor_ms(self._edge + 1) if cause is Cause.LATENCY and self._edge is not None else None,
        )

    def state(self) -> ChangesState:
        """Return a checkpoint, plain JSON."""
        return {
            "settings": self._settings,
            "edge": self._edge,
            "kept_before": self._kept_before,
            "streams": {cause.value: stream.state() for cause, stream in self._streams.items()},
            "trouble": self._trouble.value if self._trouble is not None else None,
        }

    @classmethod
    def from_state(cls, policy: Policy, state: ChangesState) -> ChangeDetector | None:
        """Return the detector as it was; None when the checkpoint was made with other settings."""
        self = cls(policy, Baseline(0.0, None, None, ()))
        if state["settings"] != self._settings:
            return None
        self._edge = state["edge"]
        self._kept_before = state["kept_before"]
        self._streams = {Cause(name): _Stream.from_state(each) for name, each in state["streams"].items()}
        self._trouble = Cause(state["trouble"]) if state["trouble"] is not None else None
        return self


def find_usual(policy: Policy, before: Baseline, watched: Baseline) -> Baseline:
    """Return the past that says what is usual of a version: that of the one before, or what its own watch counted.

    Where more than the SLO failed before and the watch saw clearly less, the version before was in trouble, and its
    errors and times are no measure: a later failure of the version that fixed it would go unreported.

    Args:
        before: of the version before, up to the deployment.
        watched: of the version itself, during its watch.
    """
    slo, errors, own = policy.criteria.error_rate_below, before.errors, watched.errors
    if errors is None or own is None or log_e_above(round(errors.hits), errors.total, slo) < AGREES:
        return before
    highest = beta_quantile(_CLEARLY, own.hits + 0.5, own.total - own.hits + 0.5)
    if highest > max(slo, _FEWER * _restore_bound(errors).p0):
        return before
    return watched if get_usable_edges(watched) is not None else replace(before, errors=own)


def _list_settings(policy: Policy) -> list[float]:
    """Return what a detector was made from, its baseline apart."""
    criteria, guard = policy.criteria, policy.guard
    slower = criteria.latency_p99_at_most if _judges_times(policy) else 0.0
    return [criteria.error_rate_below, slower, guard.false_alarms_per_year, float(guard.min_bad)]


def _judges_times(policy: Policy) -> bool:
    """Whether response times are looked at: a warm-up that outlasts the watch says that they tell nothing here."""
    return policy.guard.warm_up_s < policy.criteria.watch_s


def _restore_bound(law: Law) -> Law:
    """Return the law with the bound of the share as it was counted: a baseline weighs repeated failures less."""
    bound = beta_quantile(SURE, law.hits + 0.5, law.total - law.hits + 0.5)
    return replace(law, p0=max(law.p0, bound))


def _add_scatter(law: Law) -> Law:
    """Return the law with at least the scatter between minutes that errors are always granted.

    It must not be narrower than the alternatives are, or these would explain an improvement better.
    """
    return replace(law, phi=max(law.phi, assume_law(law.p0).phi))
