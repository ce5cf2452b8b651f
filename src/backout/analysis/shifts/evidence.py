"""Evidence that a stratum is answered in another class than before, one test for each stratum and class.

In a split only the label of a request is random: the label test is exact under any attack and any wave of logouts, and
needs no baseline. In a cut-over the minutes are held against the baseline's law of minutes, in which any minute may be
a burst with a probability of 5 %: no single one decides. All tests are averaged with fixed weights, so that the whole
is an e-process; a test begins with the first hit, and leaves out the starts before it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict

from backout.analysis.baseline import FLOOR
from backout.analysis.rates import LabelTest, LabelTestState, MinuteLaw, MinuteLawState
from backout.analysis.streams import ERROR_POINTS
from backout.model.answers import AnswerClass

if TYPE_CHECKING:
    from backout.analysis.baseline import Law

BURSTS = 0.05
"""Prior of a minute in which anything may be asked, by an attack or a campaign."""
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


class EvidenceState(TypedDict):
    """Checkpoint of an `Evidence`."""

    stratum: str
    kind: str
    weight: float
    labels: LabelTestState | None
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
        self._law: MinuteLaw | None = None
        self._is_split = False

    def begin_labels(self, law: Law | None, share: float) -> None:
        """Count labels from now on: the new version's part of the traffic is `share`."""
        self._is_split = True
        if self._labels is None:
            nominal = min(max(law.p0 if law is not None else FLOOR, FLOOR), _MOST_NOMINAL)
            self._labels = LabelTest(nominal, share, late=True)
        else:
            self._labels.set_share(share)

    def begin_law(self, law: Law | None, minute: int, *, nothing_since: int) -> None:
        """Count minutes from now on against the law of a healthy one.

        Args:
            nothing_since: first minute since which nothing was counted in this stratum but in `minute` itself.
        """
        self._is_split = False
        if law is None or self._law is not None:
            return
        least = min(law.p0 + POINTS, _MOST_NOMINAL)
        self._law = MinuteLaw(law, concurrent=False, points=ERROR_POINTS, clustered=True, outages=BURSTS, least=least)
        self._law.begin(nothing_since, minute)

    def add(self, minute: int, hits: int, good: int, *, is_new: bool) -> None:
        """Count answers of this class and good ones, of the new version or of the old one beside it."""
        if self._is_split:
            if self._labels is not None and hits:
                pair = (hits, 0)
                self._labels.add(minute, pair if is_new else (0, 0), (0, 0) if is_new else pair)
        elif is_new and self._law is not None:
            self._law.add(minute, (hits, good))

    def log_labels(self) -> float:
        """Return the log evidence that rests on labels alone."""
        return self._labels.log_e() if self._labels is not None else 0.0

    def log_e(self) -> float:
        """Return the log evidence of labels and minutes together."""
        return self.log_labels() + (self._law.log_e() if self._law is not None else 0.0)

    def weighed(self, log_e: float) -> float:
        """Return what this evidence adds to the average, as a logarithm."""
        return math.log(self.weight) + log_e

    def state(self) -> EvidenceState:
        """Return a checkpoint, plain JSON."""
        return {
            "stratum": self.stratum,
            "kind": self.kind.value,
            "weight": self.weight,
            "labels": self._labels.state() if self._labels is not None else None,
            "law": self._law.state() if self._law is not None else None,
        }

    @classmethod
    def from_state(cls, state: EvidenceState, *, is_split: bool) -> Evidence:
        """Return the tests as they were when the checkpoint was taken."""
        self = cls(state["stratum"], AnswerClass(state["kind"]), state["weight"])
        self._is_split = is_split
        if state["labels"] is not None:
            self._labels = LabelTest.from_state(state["labels"])
        if state["law"] is not None:
            self._law = MinuteLaw.from_state(state["law"])
        return self
