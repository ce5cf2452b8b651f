"""Failures that come in bunches: a client that fails tries again at once, so two in a second weigh less than two.

What one cause brings is learnt from the baseline: how much more often two failures fell into the same second than the
minute's number of them explains. A baseline with few failures cannot tell, and is granted `UNKNOWN` failures a cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UNKNOWN = 2.5
"""Failures that one cause brings, for who has seen none: a failed request, and three repetitions of which half fail."""
MOST = 4.0
"""No more are believed: what comes in larger bunches is an outage."""
_PRIOR = 3.0
"""So many failures seen weigh as much as what is granted unseen."""
_MINUTE_S = 60
_KEPT_S = 120


class RepeatsState(TypedDict):
    """Checkpoint of `Repeats`."""

    per_cause: float
    start: int
    minute: int
    seen: list[tuple[str, int, int, int]]


class Bunch(NamedTuple):
    """One minute: the failures of each second that had any, and the requests of each second."""

    failed: Sequence[int]
    requests: Sequence[int]


def failures_per_cause(minutes: Iterable[Bunch]) -> float:
    """Return how many failures one cause brings, in [1, 4].

    Within a minute of Y failures, chance puts Y(Y-1) q ordered pairs into the same second, q = sum of the squares of
    each second's share of the requests. More than that comes from repetition. A source whose rows are not seconds
    (q = 1) tells nothing.

    >>> failures_per_cause([]), failures_per_cause([Bunch([1] * 30, [5] * 60)]) < 1.2
    (2.5, True)
    """
    excess = informed = 0.0
    for failed, requests in minutes:
        failures, total = sum(failed), sum(requests)
        chance = sum(number * number for number in requests) / (total * total)
        pairs = sum(number * (number - 1) for number in failed)
        excess += pairs - failures * (failures - 1) * chance
        informed += failures * (1 - chance)
    return min(MOST, max(1.0, 1 + (_PRIOR * (UNKNOWN - 1) + excess) / (_PRIOR + informed)))


def weighed(failures: int, per_cause: float) -> float:
    """Return the weight of a second's failures: the first counts in full, each further one as 1 / per_cause.

    >>> weighed(0, 2.0), weighed(1, 2.0), weighed(5, 2.0)
    (0.0, 1.0, 3.0)
    """
    return 1 + (failures - 1) / per_cause if failures else 0.0


class Repeats:
    """Weighs the failures of a watch, in whatever pieces a second's counts arrive.

    Failures of both versions in the same second share one weight, whichever version they fell on: else the version with
    less traffic would weigh more in trouble that both share. Weights that labels do not decide keep a label test exact.

    Args:
        per_cause: failures that one cause brings, at least 1. start: Unix second from which minutes are counted.
    """

    def __init__(self, per_cause: float, start: int) -> None:
        self.per_cause = per_cause
        self._start = start
        self._minute = 0
        self._seen: dict[tuple[str, int], tuple[int, int]] = {}

    def weigh(self, second: int, failures: int, *, is_new: bool, route: str = "") -> tuple[float, float]:
        """Return what these failures of a second add to the weight of the new and of the old version's failures.

        What they take from the other version's weight is negative; of a minute that is over, nothing is taken back.
        """
        if not failures:
            return 0.0, 0.0
        minute = (second - self._start) // _MINUTE_S
        if minute > self._minute:
            self._minute = minute
            self._seen = {key: both for key, both in self._seen.items() if key[1] >= second - _KEPT_S}
        new, old = self._seen.get((route, second), (0, 0))
        more_new, more_old = (new + failures, old) if is_new else (new, old + failures)
        self._seen[route, second] = (more_new, more_old)
        before, after = weighed(new + old, self.per_cause), weighed(more_new + more_old, self.per_cause)
        if minute < self._minute:
            return (after - before, 0.0) if is_new else (0.0, after - before)
        each_before, each_after = before / max(new + old, 1), after / (more_new + more_old)
        return more_new * each_after - new * each_before, more_old * each_after - old * each_before

    def state(self) -> RepeatsState:
        """Return a checkpoint, plain JSON."""
        return {
            "per_cause": self.per_cause,
            "start": self._start,
            "minute": self._minute,
            "seen": [(route, second, new, old) for (route, second), (new, old) in self._seen.items()],
        }

    @classmethod
    def from_state(cls, state: RepeatsState) -> Repeats:
        """Return it as it was when the checkpoint was taken."""
        self = cls(state["per_cause"], state["start"])
        self._minute = state["minute"]
        self._seen = {(route, second): (new, old) for route, second, new, old in state["seen"]}
        return self
