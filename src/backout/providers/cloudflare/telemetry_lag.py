"""How late the telemetry is, measured by backout's own requests: all that were answered before some moment are told.

Nothing documents the delay. Guard asks /health all the time, so that a query for its own requests shows up to which
moment the telemetry is complete: the first one that it does not show yet, or the last one that was sent.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOOKS_BACK_S: Final = 120
"""How many seconds of own requests are looked for: what is later than that is as good as never."""
_NEAR_S: Final = (0, -1, 1, 2)
"""A request may be told under the second in which it began, or by another clock."""
_MARGIN_S: Final = 3.0
_FEWEST: Final = 4
_WITHIN_S: Final = 300.0


class Lag:
    """The worst delay that was measured lately.

    Attributes:
        complete_until: up to when the telemetry was complete when it was last asked (Unix seconds), None before.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()
        self.complete_until: float | None = None

    def measure(self, now: float, sent: Iterable[float], seen: Mapping[int, int]) -> None:
        """Take in one look.

        Args:
            now: when it was made, Unix seconds.
            sent: when own requests were answered, the earliest first; without any nothing is measured.
            seen: {Unix second: how many of them the telemetry shows}.
        """
        complete = find_complete(sent, seen)
        if complete is None:
            return
        self.complete_until = complete
        if self._samples or any(seen.values()):  # where none is seen yet, it may be much later than that
            self._samples.append((now, now - complete))
        while self._samples and self._samples[0][0] < now - _WITHIN_S:
            self._samples.popleft()

    def estimate_s(self, now: float) -> float | None:
        """Return after how many seconds what happened is told; None while too little was seen to say."""
        known = [late for at, late in self._samples if at >= now - _WITHIN_S]
        return max(known) + _MARGIN_S if len(known) >= _FEWEST else None


def find_complete(sent: Iterable[float], seen: Mapping[int, int]) -> float | None:
    """Return the moment before which all that were sent are seen: of the first one that is not, else of the last.

    >>> find_complete([10.2, 15.1, 20.4], {10: 1, 15: 1}), find_complete([10.2, 15.1], {10: 1, 14: 1})
    (20.4, 15.1)
    >>> find_complete([10.2], {}), find_complete([], {})
    (10.2, None)
    """
    left, last = Counter(seen), None
    for at in sent:
        second = next((int(at) + off for off in _NEAR_S if left[int(at) + off] > 0), None)
        if second is None:
            return at
        left[second] -= 1
        last = at
    return last
