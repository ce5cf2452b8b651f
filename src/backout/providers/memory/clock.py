"""The World's clock: it stands still until code sleeps, and what was scheduled happens on the way."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class WorldClock:
    """Port Clock that moves when it is told to sleep; what was scheduled happens on the way."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()

    def now(self) -> float:
        """Return Unix seconds UTC."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move the clock on."""
        self.move_to(self._now + max(0.0, seconds))

    def move_to(self, at: float) -> None:
        """Move the clock to `at`; scheduled events happen at their own times, in order. It never goes back."""
        while self._events and self._events[0][0] <= at:
            due, _, event = heapq.heappop(self._events)
            self._now = max(self._now, due)
            event()
        self._now = max(self._now, at)

    def at(self, when: float, event: Callable[[], object]) -> None:
        """Let something happen when the clock passes `when` (Unix seconds): a hotfix, an outage, Ctrl-C."""
        heapq.heappush(self._events, (when, next(self._order), event))
