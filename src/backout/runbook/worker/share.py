"""Which environments a worker takes and which it gives back, so that each of them guards its part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class Change(Value, frozen=True):
    """What a worker does now: take these, give those back."""

    take: tuple[str, ...] = ()
    give: tuple[str, ...] = ()


def share_out(held: Collection[str], idle: Sequence[str], free: Sequence[str], others: Sequence[int]) -> Change:
    """Return what a worker takes or gives back.

    What is free is taken at once, up to this worker's part; the rest is left to the others, which look every second.
    One that is alone takes everything. An environment with a run under way is never given back.

    Args:
        held: what it guards.
        idle: those of them in which no run is under way.
        free: what nobody guards.
        others: how many environments each other worker guards.

    >>> share_out([], [], ["a", "b", "c"], [])
    Change(take=('a', 'b', 'c'), give=())
    >>> share_out([], [], ["a", "b", "c"], [0])
    Change(take=('a', 'b'), give=())
    >>> share_out(["a", "b", "c", "d"], ["a", "b", "c"], [], [0])
    Change(take=(), give=('a', 'b'))
    >>> share_out(["a", "b"], ["a", "b"], [], [1])
    Change(take=(), give=())
    >>> share_out(["a", "b"], ["a", "b"], [], [2, 0])
    Change(take=(), give=('a',))
    """
    workers = len(others) + 1
    total = len(held) + len(free) + sum(others)
    least, most = total // workers, -(-total // workers)
    if len(held) < most:
        return Change(take=tuple(free[: most - len(held)]))
    lacking = sum(max(0, least - each) for each in others) - len(free)
    surplus = max(len(held) - most, min(len(held) - least, lacking))
    return Change(give=tuple(idle[: max(0, surplus)]))
