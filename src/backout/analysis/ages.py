"""How old something is by more than one clock's word; pure.

A clock that is wrong for an hour must not remove what is young. So an age is what lies between the things themselves,
in the order in which they came to be, and a pause that is out of all proportion counts as a long one only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_DAY_S: Final = 86_400.0
_TIMES: Final = 2.0
"""A pause counts at most so many times the longest other one (a day at least)."""


def ages(moments: Sequence[float], now: float) -> list[float]:
    """Return how old each thing is, at most, in seconds.

    Args:
        moments: when each came to be by this machine's clock, in the order in which they did (which the clock does not
            decide). now: by the same clock.

    >>> ages([], 0)
    []
    >>> day = 86_400.0
    >>> [age / day for age in ages([0, day, 2 * day], 3 * day)]
    [3.0, 2.0, 1.0]
    >>> [age / day for age in ages([0, day, 2 * day, 43 * day], 43 * day)]  # the clock is 40 days ahead
    [4.0, 3.0, 2.0, 0.0]
    >>> [age / day for age in ages([0, day, 42 * day, 3 * day], 3 * day)]  # and was put right
    [3.0, 2.0, 0.0, 0.0]
    """
    if not moments:
        return []
    pauses = [max(0.0, after - before) for before, after in zip(moments, [*moments[1:], now], strict=True)]
    others = sorted(pauses[:-1])[:-1]
    most = _TIMES * max([_DAY_S, *others[-1:]])
    found: list[float] = []
    age = 0.0
    for pause in reversed(pauses):
        age += min(pause, most)
        found.append(age)
    return found[::-1]
