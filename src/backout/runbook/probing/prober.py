"""Look at something at an even pace beside other measurements, so that a hanging look delays nothing."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import Clock

T = TypeVar("T")


class Prober(Generic[T]):
    """Looks at intervals; `collect` returns the looks since the last call.

    With `in_background` the looks happen in one daemon thread; without, inside `collect` (deterministic tests).

    Args:
        look: never raises; None looks at nothing.
        every_s: seconds from the end of a look to the next one, or what tells them after each look.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], T] | None,
        clock: Clock,
        every_s: float | Callable[[], float],
        *,
        in_background: bool,
    ) -> None:
        self._look = look
        self._clock = clock
        self._every_s = every_s
        self._next_at = clock.now()
        self._found: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        if look is not None and in_background:
            self._thread = threading.Thread(target=self._run, args=(look,), name=name, daemon=True)
            self._thread.start()

    def collect(self) -> tuple[T, ...]:
        """Return the looks since the last call, oldest first."""
        if self._look is None:
            return ()
        if self._thread is None:
            if self._clock.now() < self._next_at:
                return ()
            begun = self._clock.now()
            found = self._look()
            self._next_at = begun + self._wait_s()
            return (found,)
        every = []
        while True:
            try:
                every.append(self._found.get_nowait())
            except queue.Empty:
                return tuple(every)

    def _wait_s(self) -> float:
        return self._every_s() if callable(self._every_s) else self._every_s

    def close(self) -> None:
        """Stop looking; a look in flight ends by its own time-out."""
        self._stopped = True
        self._wake.set()

    def _run(self, look: Callable[[], T]) -> None:
        while not self._stopped:
            self._found.put(look())
            self._wake.wait(self._wait_s())
