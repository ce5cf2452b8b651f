"""Failures in bunches: a failing client retries at once, so two failures in a second weigh less than two.

What one cause brings is learnt from the baseline: how much more often two failures fell into the same second than the
minute's number of them explains. A baseline with few failures cannot tell, and is granted `UNKNOWN` failures a cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UNKNOWN = 2.5
"""Failures that one cause brings, where none were seen: a failed request, and three repetitions of which half fail."""
MOST = 4.0
"""No more are believed: what comes in larger bunches is an outage."""
_PRIOR = 3.0
"""The number of observed failures that weighs as much as the assumption."""
_MINUTE_S = 60
_KEPT_S = 120


class RetryClustersState(TypedDict):
    """Checkpoint of `RetryClusters`."""

    per_cause: float
    start: int
    minute: int
    seen: list[tuple[str, int, list[int]]]


class Bunch(NamedTuple):
    """One minute: the failures of each second that had any, and the requests of each second."""

    failed: Sequence[int]
    requests: Sequence[int]


def estimate_failures_per_cause(minutes: Iterable[Bunch]) -> float:
    """Return how many failures one cause brings, in [1, 4].

    Within a minute of Y failures, chance puts Y(Y-1) q ordered pairs into the same second, q = sum of the squares of
    each second's share of the requests. More than that comes from repetition. A source whose rows are not seconds
    (q = 1) tells nothing.

    >>> estimate_failures_per_cause([]), estimate_failures_per_cause([Bunch([1] * 30, [5] * 60)]) < 1.2
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


def weigh_failures(failures: int, per_cause: float) -> float:
    """Return the weight of a second's failures: how many causes they have, one at least.

    >>> weigh_failures(0, 2.0), weigh_failures(1, 2.0), weigh_failures(5, 2.0)
    (0.0, 1.0, 2.5)
    """
    return max(1.0, failures / per_cause) if failures else 0.0


class Weights(NamedTuple):
    """What answers weigh, of the new and of the old version.

    Where a law was measured, failures weigh and other answers count. Against a limit, which is a share as it is
    counted, both weigh: the share stays, and is worth less where failures come in bunches. What pieces take from each
    other is negative.
    """

    new_failures: float
    new_others: float
    old_failures: float
    old_others: float


class RetryClusters:
    """Weighs the failures of a watch, in whatever pieces a second's counts arrive.

    Failures of both versions in the same second share one weight, whichever version they fell on: else the version with
    less traffic would weigh more in trouble that both share. Weights that labels do not decide keep a label test exact.

    Args:
        per_cause: failures that one cause brings, at least 1.
        start: Unix second from which minutes are counted.
    """

    def __init__(self, per_cause: float, start: int) -> None:
        self.per_cause = per_cause
        self._start = start
        self._minute = 0
        self._seen: dict[tuple[str, int], tuple[int, int, int, int]] = {}

    def weigh(self, second: int, failures: int, total: int, *, is_new: bool, route: str = "") -> Weights:
        """Return what these answers of a second add to the weights, in whatever pieces they come.

        Of a minute that is over, nothing is taken back.
        """
        minute = (second - self._start) // _MINUTE_S
        if minute > self._minute:
            self._minute = minute
            self._seen = {key: known for key, known in self._seen.items() if key[1] >= second - _KEPT_S}
        before = self._seen.get((route, second), (0, 0, 0, 0))
        piece = (failures, total - failures, 0, 0) if is_new else (0, 0, failures, total - failures)
        after = (before[0] + piece[0], before[1] + piece[1], before[2] + piece[2], before[3] + piece[3])
        self._seen[route, second] = after
        if not (failures or before[0] or before[2]):  # nothing failed in this second: all weigh 1
            others = float(total)
            return Weights(0.0, others, 0.0, 0.0) if is_new else Weights(0.0, 0.0, 0.0, others)
        factor = self._factor(after)
        if minute < self._minute:
            return Weights(*(factor * number for number in piece))
        earlier = self._factor(before)
        return Weights(*(factor * now - earlier * then for now, then in zip(after, before, strict=True)))

    def _factor(self, counts: tuple[int, int, int, int]) -> float:
        """Return what each failure of a second weighs."""
        failures = counts[0] + counts[2]
        return weigh_failures(failures, self.per_cause) / failures if failures else 1.0

    def state(self) -> RetryClustersState:
        """Return a checkpoint, plain JSON."""
        return {
            "per_cause": self.per_cause,
            "start": self._start,
            "minute": self._minute,
            "seen": [(route, second, list(counts)) for (route, second), counts in self._seen.items()],
        }

    @classmethod
    def from_state(cls, state: RetryClustersState) -> RetryClusters:
        """Return it as it was when the checkpoint was taken."""
        self = cls(state["per_cause"], state["start"])
        self._minute = state["minute"]
        self._seen = {(route, second): (u, v, x, z) for route, second, (u, v, x, z) in state["seen"]}
        return self
