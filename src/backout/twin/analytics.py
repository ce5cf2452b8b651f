"""What Cloudflare's analytics would tell of the router's counts: late, and of busy seconds a sample."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.twin.counts import Row

SAMPLE_ABOVE = 100
"""From so many requests in a second on, every tenth is looked at and counts for ten."""
_EVERY = 10


@dataclass(frozen=True, slots=True)
class Analytics:
    """The router's counts as the analytics see them.

    Args:
        counts: (script, since, until) to the rows of these seconds. now: the clock.
    """

    counts: Callable[[str, int, int | None], Sequence[Row]]
    now: Callable[[], float] = time.time

    def rows(self, script: str, since: int, until: int, *, lag_s: float) -> tuple[Row, ...]:
        """Return the rows of the seconds in [since, until) that have arrived."""
        return tuple(self.counts(script, since, min(until, int(self.now() - lag_s))))


def estimate(number: int, of: int) -> int:
    """Return what a sample says of a number of requests among those of its second.

    >>> estimate(7, 40), estimate(7, 400), estimate(3, 400)
    (7, 10, 0)
    """
    return number if of <= SAMPLE_ABOVE else (number + _EVERY // 2) // _EVERY * _EVERY
