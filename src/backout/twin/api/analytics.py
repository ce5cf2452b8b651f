"""The router's counts as Cloudflare's analytics would show them: late, and sampled in busy seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.twin.dataplane.counts import Row

SAMPLE_ABOVE = 100
"""From this many requests in a second on, a sample is read."""
SAMPLE_EVERY = 10
"""Of them one in so many, which counts for all of these."""


class Analytics(Value, frozen=True):
    """The router's counts as the analytics see them.

    Args:
        counts: (script, since, until) to the rows of these seconds.
        now: the clock.
    """

    counts: Callable[[str, int, int | None], Sequence[Row]]
    now: Callable[[], float] = time.time

    def rows(self, script: str, since: int, until: int, *, lag_s: float) -> tuple[Row, ...]:
        """Return the rows of the seconds in [since, until) that have arrived."""
        return tuple(self.counts(script, since, min(until, int(self.now() - lag_s))))


def estimate(number: int, of: int) -> int:
    """Return a sample's estimate of a number of requests among those of its second.

    >>> estimate(7, 40), estimate(7, 400), estimate(3, 400)
    (7, 10, 0)
    """
    return number if of <= SAMPLE_ABOVE else (number + SAMPLE_EVERY // 2) // SAMPLE_EVERY * SAMPLE_EVERY
