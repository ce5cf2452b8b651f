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
_KEPT_S = 120


class RepeatsState(TypedDict):
    """Checkpoint of `Repeats`."""

    per_cause: float
    seen: list[tuple[bool, str, int, int]]


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
    """Weighs the failures of a watch, in whatever pieces a second's count arrives.

    Args:
        per_cause: failures that one cause brings, at least 1.
    """

    def __init__(self, per_cause: float) -> None:
        self.per_cause = per_cause
        self._seen: dict[tuple[bool, str, int], int] = {}
        self._forgot_at = 0

    def weigh(self, second: int, failures: int, *, is_new: bool, route: str = "") -> float:
        """Return what these failures of a second add to the weight of those that were counted for it before."""
        if not failures:
            return 0.0
        key = (is_new, route, second)
        before = self._seen.get(key, 0)
        self._seen[key] = before + failures
        if second > self._forgot_at + _KEPT_S:
            self._forgot_at = second
            self._seen = {known: number for known, number in self._seen.items() if known[2] >= second - _KEPT_S}
        return weighed(before + failures, self.per_cause) - weighed(before, self.per_cause)

    def state(self) -> RepeatsState:
        """Return a checkpoint, plain JSON."""
        return {
            "per_cause": self.per_cause,
            "seen": [(is_new, route, second, number) for (is_new, route, second), number in self._seen.items()],
        }

    @classmethod
    def from_state(cls, state: RepeatsState) -> Repeats:
        """Return it as it was when the checkpoint was taken."""
        self = cls(state["per_cause"])
        self._seen = {(is_new, route, second): number for is_new, route, second, number in state["seen"]}
        self._forgot_at = max((second for _, _, second in self._seen), default=0)
        return self
