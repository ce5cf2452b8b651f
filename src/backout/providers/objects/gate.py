"""How many calls may be on their way at once: more while the store keeps up, half as many when it asks to slow down.

Slow start, then additive increase and multiplicative decrease, as TCP does it (RFC 5681): a store that answers 503
SlowDown has no other way to say how much it takes.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.providers.retry import CallFailed


def _admit() -> None:
    """Let any call be made."""


class Gate:
    """Lets a number of callers through at once; safe to use from several threads.

    Args:
        first: the number to begin with.
        most: it never grows beyond.

    Attributes:
        check: is called before each call; raises where no more may be made.
    """

    def __init__(self, first: int = 16, most: int = 128) -> None:
        self.check: Callable[[], None] = _admit
        self._limit = float(first)
        self._steady = float(most)
        self._most = most
        self._halved_at = -math.inf
        self._inside = 0
        self._changed = Condition()

    @property
    def limit(self) -> int:
        """How many may be inside now; at least one."""
        return max(1, int(self._limit))

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Wait until one more may be inside, and count it; a block that ends well lets the number grow."""
        with self._changed:
            self._changed.wait_for(lambda: self._inside < self.limit)
            self._inside += 1
        try:
            self.check()
            yield
        except BaseException:
            self._leave()
            raise
        self.grow()
        self._leave()

    def grow(self) -> None:
        """Let the number grow after what ended well: by one, or where it was too much before by one a round."""
        with self._changed:
            grown = 1.0 if self._limit < self._steady else 1.0 / self._limit
            self._limit = min(float(self._most), self._limit + grown)

    def hear(self, failed: CallFailed) -> None:
        """Halve the number after a failure that another attempt may mend: the store has too much to do.

        Once a round: a call that was sent before the last halving says nothing of the number since then.
        """
        with self._changed:
            if not failed.permanent and failed.begun > self._halved_at:
                self._halved_at = time.monotonic()
                self._limit = self._steady = max(1.0, self._limit / 2)

    def _leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify(max(0, self.limit - self._inside))  # no more than can pass: they wake one another
