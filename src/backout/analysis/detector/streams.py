"""One stream of a watch: the share under test, its counts and its evidence, in words and as a checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

from backout.analysis.detector.below_test import BelowTest, BelowTestState
from backout.analysis.detector.measures import SLOWER, Against, Measure
from backout.analysis.detector.persistence import (
    SLOW,
    LimitTest,
    LimitTestState,
    StretchLabels,
    StretchLabelsState,
    StretchLaw,
    StretchLawState,
)
from backout.analysis.detector.wording import format_percent
from backout.analysis.statistics.baseline import MINUTE_S
from backout.analysis.statistics.minute_law import MinuteLaw, MinuteLawState
from backout.analysis.statistics.rates import LabelTest, LabelTestState, log_e_above
from backout.model.guard.verdict import Cause, StreamEvidence

if TYPE_CHECKING:
    from backout.analysis.statistics.retry_clustering import Weights

AGREES = math.log(20)
"""Log evidence that a label test must add before a baseline test may act beside an old version."""
AGREES_ON_LITTLE = math.log(60)
"""The same where few requests come: an outage of two minutes then brings a handful of failures, which one time in 64
all fall on the new version by chance."""
_NOTHING = (0.0, 0.0)
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
    agrees_at: NotRequired[float]
    granted: NotRequired[float]


@dataclass(slots=True)
class Stream:
    """One share under test.

    Args:
        weight: its part in the average of the evidence.
        bound: the latency above which requests are slow, in words.
        test: None for a stream that is only shown (its evidence is then that of the SLO, `expected`).
        expected: the share that would be normal.
        bad, total: hits and observations of the new version; old_bad, old_total: of the old one beside it.
        route: whose requests alone are counted, "" for all.
        edge: bucket above which they are slow.
        beside: where a baseline test runs beside an old version, the label test that has to agree with it: what both
            versions share is not the deployment.
        agrees_at: log evidence of `beside` from which on it agrees.
        stretch_s: seconds of a stretch, 0 where it need not persist.
        stretch: number of the open one.
        slow_stretches: how many of those before it were slow.
        below: the bet that it is not too high.
        granted: the share that the new version may have, whatever the old one beside it has.
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
    agrees_at: float = AGREES
    granted: float = 0.0

    def add(
        self,
        second: int,
        hits: int,
        total: int,
        *,
        is_new: bool,
        weights: Weights | None = None,
        weighed: float | None = None,
    ) -> None:
        """Count hits out of a total of the new version, or of the old one, in a second after the deployment.

        Args:
            weights: what failures weigh in the tests, None for 1 each.
            weighed: what the hits weigh in the tests, of the same total; None for 1 each.
        """
        minute = second // MINUTE_S
        if self.stretch_s and second // self.stretch_s > self.stretch:
            self._begin_stretch(second // self.stretch_s)
        counted = hits if weighed is None else weighed
        others = total - counted
        new, old = ((counted, others), _NOTHING) if is_new else (_NOTHING, (counted, others))
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
        """Whether the open stretch alone leaves no doubt."""
        return isinstance(self.test, (StretchLaw, StretchLabels)) and self.test.stretch_log_e() >= SLOW

    def set_split(self, share: float) -> None:
        """Go on with another share of the new version; at 1 nothing serves beside it any more.

        What both versions share can then no longer be told from the deployment, as in any cut-over. Probes count only
        in a cut-over: it is unknown which version answered them.
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
        """Whether it is more than may be, and an old version beside it, where there is one, does not share it."""
        if self.granted and log_e_above(self.bad, self.total, self.granted) < AGREES:
            return False
        return self.beside is None or self.beside.log_e() >= self.agrees_at

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
        against = "" if self.normal is None else f" against {format_percent(self.normal)} {self.expected_from.words}"
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
            "agrees_at": self.agrees_at,
            "granted": self.granted,
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
            agrees_at=state.get("agrees_at", AGREES),
            granted=state.get("granted", 0.0),
        )
