"""The usual number of requests a minute, and whether a higher or lower one is still within it.

A negative binomial law of minutes, fitted to the baseline: counts that scatter more than chance alone makes them.
Traffic may drift by 40 % an hour on top: an evening has less of it than the hour before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backout.analysis.statistics.beta import beta_tails

if TYPE_CHECKING:
    from collections.abc import Sequence

SURE = 0.01
"""Chance of a count so far out under the law, drift included."""
DRIFT = 0.4
"""By so much of itself traffic may fall, or rise, in an hour."""
_LARGEST = 100.0
"""Traffic is assumed to scatter by at least a tenth from minute to minute."""
_UNKNOWN = 4.0
"""What is granted to a baseline of few minutes: half as much again, or half as much, is usual."""
_TELLING_MINUTES, _TELLING_REQUESTS = 10, 20


class Volume(NamedTuple):
    """The law of the number a minute: its mean, and the size of the negative binomial law (1 / its excess variance)."""

    mean: float
    size: float

    def fell(self, seen: int, minutes: float, hours: float) -> bool:
        """Return whether this few in this many minutes exclude that all is as usual, `hours` after the baseline."""
        return self._below(seen, self.mean * minutes * (1 - DRIFT) ** hours, minutes)

    def fell_below(self, part: float, seen: int, minutes: float, hours: float) -> bool:
        """Return whether this few exclude that at least that part of the usual traffic is there."""
        mean = part * self.mean * minutes * (1 - DRIFT) ** hours
        return seen < mean and self._below(seen, mean, minutes)

    def rose(self, seen: int, minutes: float, hours: float) -> bool:
        """Return whether this many exclude that all is as usual."""
        mean = self.mean * minutes * (1 + DRIFT) ** hours
        if mean <= 0 or seen <= mean:
            return False
        size = self.size * max(1.0, minutes)
        return beta_tails(size / (size + mean), size, float(seen))[1] <= SURE

    def _below(self, seen: int, mean: float, minutes: float) -> bool:
        if mean <= 0 or seen >= mean:
            return False
        size = self.size * max(1.0, minutes)
        return beta_tails(size / (size + mean), size, seen + 1.0)[0] <= SURE


NOTHING = Volume(0.0, _UNKNOWN)


def estimate_volume(minutes: Sequence[int], unseen: float = 0.0) -> Volume:
    """Return the law of these minutes' numbers, by moments; minutes without any are among them.

    Args:
        unseen: so large a part of a minute is not covered by them: a baseline of few seconds is no minute.

    >>> (estimate_volume([5] * 20).mean, estimate_volume([]).mean, estimate_volume([3, 9, 4]).size,
    ...  estimate_volume([50], 0.5).mean, estimate_volume([9], 0.5).mean)
    (5.0, 0.0, 4.0, 100.0, 0.0)
    """
    if not minutes:
        return NOTHING
    if len(minutes) - unseen < 1 and sum(minutes) < _TELLING_REQUESTS:
        return NOTHING
    mean = sum(minutes) / (len(minutes) - unseen)
    if len(minutes) < _TELLING_MINUTES:
        return Volume(mean, _UNKNOWN)
    excess = sum((number - mean) ** 2 for number in minutes) / (len(minutes) - 1) - mean
    return Volume(mean, min(_LARGEST, mean * mean / excess) if excess > 0 else _LARGEST)
