"""Evidence that a stratum is answered in a different class from before, one test for each stratum and class.

In a split only the label of a request is random: the label test is exact under any attack and any wave of logouts, and
needs no baseline. Where labels say 20:1, the minutes of both versions count as well, which is sure sooner: in each of
them both share a share drawn from the baseline's law, or from an attack's. In a cut-over the minutes are held against
the baseline's law of minutes, in which any minute may be a burst with a probability of 5 %: no single one decides. All
tests are averaged with fixed weights, so that the whole is an e-process; a test begins with the first hit, and leaves
out the starts before it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict

from backout.analysis.detector.stream_set import ERROR_POINTS
from backout.analysis.detector.streams import AGREES
from backout.analysis.statistics.baseline import FLOOR
from backout.analysis.statistics.beta import log_add
from backout.analysis.statistics.minute_law import MinuteLaw, MinuteLawState
from backout.analysis.statistics.rates import LabelTest, LabelTestState
from backout.model.guard.answers import AnswerClass

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.analysis.statistics.baseline import Law

BURSTS = 0.05
"""Prior of a minute in which anything may be asked, by an attack or a campaign."""
LIKELY = math.log(20)
"""Weighed evidence from which on a shift is shown, and a probe is wanted."""
POINTS = 0.05
"""A shift moves at least so large a share of a stratum."""
CLASS_WEIGHTS = {
    AnswerClass.NOT_FOUND: 0.25,
    AnswerClass.DENIED: 0.25,
    AnswerClass.REDIRECT: 0.2,
    AnswerClass.BAD_REQUEST: 0.1,
    AnswerClass.LIMITED: 0.08,
    AnswerClass.OTHER_CLIENT_ERROR: 0.07,
    AnswerClass.GONE: 0.05,
}
"""What versions break is a name, a login, an address; they sum to 1."""
_MOST_NOMINAL = 0.9
_HALF = -math.log(2)
"""Labels alone, and minutes that they agree with, have half of the weight each."""


class EvidenceState(TypedDict):
    """Checkpoint of an `Evidence`."""

    stratum: str
    kind: str
    weight: float
    labels: LabelTestState | None
    beside: MinuteLawState | None
    law: MinuteLawState | None


class Evidence:
    """The tests of one stratum and class; in a ramp first of labels, then of minutes, as a product.

    Args:
        weight: its part in the average.
    """

    def __init__(self, stratum: str, kind: AnswerClass, weight: float) -> None:
        self.stratum = stratum
        self.kind = kind
        self.weight = weight
        self._labels: LabelTest | None = None
        self._beside: MinuteLaw | None = None
        self._law: MinuteLaw | None = None
        self._is_split = False

    def begin_labels(self, law: Law | None, share: float, minute: int, *, nothing_since: int) -> None:
        """Count labels from now on, and minutes beside an old version, see `begin_law`.

        Args:
            share: the new version's part of the traffic.
        """
        self._is_split = True
        if self._labels is not None:
            self._labels.set_share(share)
            return
        nominal = min(max(law.p0 if law is not None else FLOOR, FLOOR), _MOST_NOMINAL)
        self._labels = LabelTest(nominal, share, late=True)
        if law is not None:
            self._beside = _make_minute_law(law, minute, nothing_since, concurrent=True)

    def begin_law(self, law: Law | None, minute: int, *, nothing_since: int) -> None:
        """Count minutes from now on against the law of a healthy one.

        Args:
            nothing_since: first minute since which nothing was counted in this stratum but in `minute` itself.
        """
        self._is_split = False
        if law is None or self._law is not None:
            return
        self._law = _make_minute_law(law, minute, nothing_since, concurrent=False)

    def add(self, minute: int, hits: int, good: int, *, is_new: bool) -> None:
        """Count answers of this class and good ones, of the new version or of the old one beside it."""
        if self._is_split:
            pair, none = (hits, good), (0, 0)
            new, old = (pair, none) if is_new else (none, pair)
            if self._labels is not None and hits:
                self._labels.add(minute, new, old)
            if self._beside is not None:
                self._beside.add(minute, new, old)
        elif is_new and self._law is not None:
            self._law.add(minute, (hits, good))

    def log_labels(self) -> float:
        """Return the log evidence that rests on random labels, or that they agree with."""
        return self._log_labels(lambda beside: beside.log_e())

    def _log_labels(self, of: Callable[[MinuteLaw], float]) -> float:
        if self._labels is None:
            return 0.0
        labels = self._labels.log_e()
        if self._beside is None:
            return labels
        agreed = of(self._beside) if labels >= AGREES else -math.inf
        return log_add(labels, agreed) + _HALF

    def log_e(self) -> float:
        """Return the log evidence of labels and minutes together."""
        return self.log_labels() + (self._law.log_e() if self._law is not None else 0.0)

    @property
    def is_likely(self) -> bool:
        """Whether the weighed evidence is such that a shift is shown; that it is not costs little to know."""
        most = self._log_labels(lambda beside: beside.most_log_e(roughly=True))
        most += self._law.most_log_e(roughly=True) if self._law is not None else 0.0
        return self.weigh(most) >= LIKELY and self.weigh(self.log_e()) >= LIKELY

    def weigh(self, log_e: float) -> float:
        """Return what this evidence adds to the average, as a logarithm."""
        return math.log(self.weight) + log_e

    def state(self) -> EvidenceState:
        """Return a checkpoint, plain JSON."""
        return {
            "stratum": self.stratum,
            "kind": self.kind.value,
            "weight": self.weight,
            "labels": self._labels.state() if self._labels is not None else None,
            "beside": self._beside.state() if self._beside is not None else None,
            "law": self._law.state() if self._law is not None else None,
        }

    @classmethod
    def from_state(cls, state: EvidenceState, *, is_split: bool) -> Evidence:
        """Return the tests as they were when the checkpoint was taken."""
        self = cls(state["stratum"], AnswerClass(state["kind"]), state["weight"])
        self._is_split = is_split
        if state["labels"] is not None:
            self._labels = LabelTest.from_state(state["labels"])
        if state["beside"] is not None:
            self._beside = MinuteLaw.from_state(state["beside"])
        if state["law"] is not None:
            self._law = MinuteLaw.from_state(state["law"])
        return self


def _make_minute_law(law: Law, minute: int, nothing_since: int, *, concurrent: bool) -> MinuteLaw:
    """Return the test of minutes against the law of a healthy one, or a burst."""
    least = min(law.p0 + POINTS, _MOST_NOMINAL)
    test = MinuteLaw(law, concurrent=concurrent, points=ERROR_POINTS, clustered=True, outages=BURSTS, least=least)
    test.begin(nothing_since, minute)
    return test
