"""Sums of answers: requests, failures, and the others by class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backout.model.guard.answers import AnswerClass

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.guard.signals import Counts, RouteCounts

TallyState = tuple[int, int, dict[str, int]]
"""Checkpoint of a `Tally`: requests, errors, {class: answers}."""
RecentState = tuple[float, int, TallyState, TallyState]
"""Checkpoint of a `Recent`: since when, the open minute, the one before it, the open one."""


@dataclass(slots=True)
class Tally:
    """Counts of one version and one stratum; answers that are neither errors nor in a class were good."""

    requests: int = 0
    errors: int = 0
    classes: dict[AnswerClass, int] = field(default_factory=dict)

    def add(self, part: Counts | RouteCounts | Tally) -> None:
        """Add what a row, or a route of it, has."""
        self.requests += part.requests
        self.errors += part.errors
        if part.classes:
            for kind, number in part.classes.items():
                self.classes[kind] = self.classes.get(kind, 0) + number

    @property
    def good(self) -> int:
        """How many answers were good."""
        well = self.requests - self.errors
        return max(0, well - sum(self.classes.values())) if self.classes else well

    @property
    def bad(self) -> int:
        """How many were not."""
        return self.requests - self.good

    @property
    def good_share(self) -> float:
        """The share of good answers, 0 where there were none."""
        return self.good / self.requests if self.requests else 0.0

    def share(self, kind: AnswerClass) -> float:
        """Return the share of a class among all answers, 0 where there were none."""
        return self.classes.get(kind, 0) / self.requests if self.requests else 0.0

    def forgive(self, kind: AnswerClass, number: int | None = None) -> int:
        """Count answers of a class as good from now on, all or a number of them; return how many these were."""
        known = self.classes.pop(kind, 0)
        left = 0 if number is None else max(0, known - number)
        if left:
            self.classes[kind] = left
        return known - left

    def state(self) -> TallyState:
        """Return a checkpoint, plain JSON."""
        return self.requests, self.errors, {str(kind): number for kind, number in self.classes.items()}

    @classmethod
    def from_state(cls, state: TallyState) -> Tally:
        """Return the counts as they were when the checkpoint was taken."""
        requests, errors, classes = state
        return cls(requests, errors, {AnswerClass(kind): number for kind, number in classes.items()})


def make_piece(part: Counts | RouteCounts | Tally, good: Collection[AnswerClass]) -> Tally:
    """Return what a row, or a route of it, has, with those classes counted as good."""
    if not part.classes:
        return Tally(part.requests, part.errors)
    bad = {kind: number for kind, number in part.classes.items() if number and kind not in good}
    bad.pop(AnswerClass.GOOD, None)
    return Tally(part.requests, part.errors, bad)


class Recent:
    """The counts of the open minute and the one before it.

    Args:
        since: Unix second from which counts are complete: the deployment, or the last change of the split.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self.minute = -1
        self._before = Tally()
        self._open = Tally()

    def add(self, minute: int, part: Counts | RouteCounts | Tally) -> None:
        """Count in a minute after the deployment; what is late counts in the open one."""
        if minute > self.minute:
            self._before = self._open if minute == self.minute + 1 else Tally()
            self._open = Tally()
            self.minute = minute
        self._open.add(part)

    def tally(self) -> Tally:
        """Return both minutes together."""
        both = Tally()
        both.add(self._before)
        both.add(self._open)
        return both

    def minutes(self, start: float, until: float) -> float:
        """Return how many minutes these are, up to `until` (Unix seconds).

        Args:
            start: from where minutes are counted.
        """
        begin = max(self.since, start + 60 * (self.minute - 1))
        return max(0.0, until - begin) / 60

    @property
    def parts(self) -> tuple[Tally, Tally]:
        """The minute before the open one, and the open one."""
        return self._before, self._open

    def forgive(self, kind: AnswerClass, part: Recent | None = None) -> None:
        """Count answers of a class as good from now on: all of them, or as many as `part` has."""
        for mine, theirs in zip(self.parts, part.parts if part else (None, None), strict=True):
            mine.forgive(kind, None if theirs is None else theirs.classes.get(kind, 0))

    def state(self) -> RecentState:
        """Return a checkpoint, plain JSON."""
        return self.since, self.minute, self._before.state(), self._open.state()

    @classmethod
    def from_state(cls, state: RecentState) -> Recent:
        """Return it as it was when the checkpoint was taken."""
        since, minute, before, now = state
        self = cls(since)
        self.minute, self._before, self._open = minute, Tally.from_state(before), Tally.from_state(now)
        return self
