"""Ages that do not depend on a single clock; pure.

A clock that is wrong for an hour must not remove what is young. So an age is what lies between the things themselves,
in the order in which they came to be, and a pause that is out of all proportion counts for nothing: its real
length is unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMES: Final = 2.0
"""A pause longer than this multiple of the longest other one is attributed to a wrong clock."""


def list_ages(moments: Sequence[float], now: float) -> list[float]:
    """Return how old each thing is at least, in seconds.

    Args:
        moments: when each came to be by this machine's clock, in the order in which they did (which the clock does not
            decide).
        now: by the same clock.

    >>> list_ages([], 0)
    []
    >>> day = 86_400.0
    >>> [age / day for age in list_ages([0, day, 2 * day], 3 * day)]
    [3.0, 2.0, 1.0]
    >>> [age / day for age in list_ages([0, day, 2 * day, 43 * day], 43 * day)]  # the clock is 40 days ahead
    [2.0, 1.0, 0.0, 0.0]
    >>> [age / day for age in list_ages([0, day, 42 * day, 3 * day], 3 * day)]  # and was put right
    [1.0, 0.0, 0.0, 0.0]
    >>> [age / day for age in list_ages([0, day], 90 * day)]  # what is usual is not known yet
    [0.0, 0.0]
    """
    if not moments:
        return []
    pauses = [max(0.0, after - before) for before, after in zip(moments, [*moments[1:], now], strict=True)]
    others = sorted(pauses[:-1])[:-1]
    most = _TIMES * others[-1] if others else 0.0
    found: list[float] = []
    age = 0.0
    for pause in reversed(pauses):
        age += pause if pause <= most else 0.0
        found.append(age)
    return found[::-1]
