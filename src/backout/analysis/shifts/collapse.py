"""Small but vital: a stratum that worked before and on which nearly everything fails, however few its requests.

Each known name has a test of its own on its own few requests: five of five that fail against none of 300 before are
beyond all chance, though they are a hundredth of the traffic. A test begins with the first answer that is not good, of
either version.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NotRequired, TypedDict

from backout.analysis.detector.streams import AGREES
from backout.analysis.shifts.tally import Tally
from backout.analysis.statistics.baseline import FLOOR
from backout.analysis.statistics.minute_law import MinuteLaw, MinuteLawState
from backout.analysis.statistics.rates import LabelTest, LabelTestState

if TYPE_CHECKING:
    from backout.analysis.shifts.normal import Normal
    from backout.analysis.shifts.tally import TallyState
    from backout.analysis.statistics.baseline import Law

NEARLY_ALL = 0.9
"""The share of answers that are not good from which it is nearly everything."""
WORKED = 0.5
"""What was answered well less often than this did not work before."""
_LEAST = 0.8
_POINTS = 8
_LEAST_REQUESTS = 5
_MOST_NOMINAL = 0.9


class CollapseState(TypedDict):
    """Checkpoint of a `Collapse`."""

    name: str
    weight: float
    new: TallyState
    old: TallyState
    tail: NotRequired[TallyState]
    last: int
    opened: tuple[int, int, int]
    law: MinuteLawState | None
    labels: LabelTestState | None


class Collapse:
    """The test of one stratum.

    Args:
        normal: what was normal of it.
        weight: its part in the average.
        share: the new version's part of the traffic.
    """

    def __init__(self, normal: Normal, weight: float, share: float) -> None:
        self.normal = normal
        self.weight = weight
        self.new = Tally()
        self.old = Tally()
        self.tail = Tally()
        """The latest answers of the new version of which nearly everything is not good; empty where that is over."""
        self._share = share
        self._last = -1  # the last minute before the open one in which the new version was asked
        self._opened = (
            -1,
            0,
            0,
        )  # the open minute, and what either version was asked in it before the first bad answer
        self._law: MinuteLaw | None = None
        self._labels: LabelTest | None = None

    def add(self, minute: int, piece: Tally, *, is_new: bool) -> None:
        """Count what was answered in a minute after the deployment."""
        (self.new if is_new else self.old).add(piece)
        bad = piece.bad
        if is_new and (bad or self.tail.requests):
            self._follow(piece)
        if self._law is None:
            if minute > self._opened[0]:
                self._last = self._opened[0] if self._opened[1] else self._last
                self._opened = (minute, 0, 0)
            if not bad or not self._begin():
                minute, new, old = self._opened
                more = piece.requests
                self._opened = (minute, new + more, old) if is_new else (minute, new, old + more)
                return
        counts, none = (bad, piece.requests - bad), (0, 0)
        assert self._law is not None
        for test in (self._law, self._labels):
            if test is not None:
                test.add(minute, counts if is_new else none, none if is_new else counts)

    def _follow(self, piece: Tally) -> None:
        """Keep what a version that fails from some minute on has answered since then, however well it did before."""
        self.tail.add(piece)
        if self.tail.bad < NEARLY_ALL * self.tail.requests:
            self.tail = Tally()

    def _begin(self) -> bool:
        minute, new, old = self._opened
        law, worked = self.normal.bad, self.normal.tally.good_share >= WORKED
        if law is None or not worked or self.normal.tally.requests < _LEAST_REQUESTS:
            return False
        self._law = MinuteLaw(law, concurrent=self._share < 1, points=_POINTS, clustered=True, least=_LEAST)
        self._law.begin(self._last + 1, minute)
        self._law.add(minute, (0, new), (0, old))
        self._begin_labels(law)
        return True

    def _begin_labels(self, law: Law) -> None:
        if self._share < 1:
            self._labels = LabelTest(min(max(law.p0, FLOOR), _MOST_NOMINAL), self._share, late=True)

    def set_split(self, share: float) -> None:
        """Go on with another share of the new version; at 1 nothing serves beside it any more."""
        self._share = share
        if self._law is not None:
            self._law.set_concurrent(concurrent=share < 1)
        if share >= 1:
            self._labels = None
        elif self._labels is not None:
            self._labels.set_share(share)
        elif self._law is not None:
            self._begin_labels(self._law.law)

    @property
    def has_begun(self) -> bool:
        """Whether there is anything to judge."""
        return self._law is not None

    @property
    def is_nearly_all(self) -> bool:
        """Whether nearly everything that was asked of the new version lately is not good."""
        return self.tail.requests > 0

    @property
    def agrees(self) -> bool:
        """Whether the old version beside it, where there is one, does not share the trouble."""
        return self._labels is None or self._labels.log_e() >= AGREES

    def was_added(self, minutes: float, hours: float) -> bool:
        """Whether what is bad was asked on top of what is usual: more came, and no good answer is lacking."""
        normal = self.normal
        more = normal.asked.rose(self.new.requests, minutes, hours)
        return more and not normal.well.fell(self.new.good, minutes, hours)

    def log_e(self) -> float:
        """Return the log evidence of this stratum alone."""
        return self._law.log_e() if self._law is not None else 0.0

    def weigh(self) -> float:
        """Return what it adds to the average, as a logarithm."""
        return math.log(self.weight) + self.log_e()

    def state(self) -> CollapseState:
        """Return a checkpoint, plain JSON; what was normal is kept elsewhere."""
        return {
            "name": self.normal.name,
            "weight": self.weight,
            "new": self.new.state(),
            "old": self.old.state(),
            "tail": self.tail.state(),
            "last": self._last,
            "opened": self._opened,
            "law": self._law.state() if self._law is not None else None,
            "labels": self._labels.state() if self._labels is not None else None,
        }

    @classmethod
    def from_state(cls, state: CollapseState, normal: Normal, share: float) -> Collapse:
        """Return the test as it was when the checkpoint was taken."""
        self = cls(normal, state["weight"], share)
        self.new, self.old = Tally.from_state(state["new"]), Tally.from_state(state["old"])
        self.tail = Tally.from_state(state["tail"] if "tail" in state else state["new"])
        self._last = state["last"]
        minute, asked, beside = state["opened"]
        self._opened = (minute, asked, beside)
        self._law = MinuteLaw.from_state(state["law"]) if state["law"] is not None else None
        self._labels = LabelTest.from_state(state["labels"]) if state["labels"] is not None else None
        return self
