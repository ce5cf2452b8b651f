"""Asking the health endpoint at an even pace beside other measurements, so that a hanging endpoint delays nothing."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.model.signals import HealthReport
    from backout.ports import Clock, HealthCheck


class Prober:
    """Looks every `every_s` seconds; `collect` returns what came in since the last call.

    With `in_background` the looks happen in one daemon thread; without, inside `collect` (deterministic tests).
    """

    def __init__(self, health: HealthCheck | None, clock: Clock, every_s: float, *, in_background: bool) -> None:
        self._health = health
        self._clock = clock
        self._every_s = every_s
        self._next_at = clock.now()
        self._reports: queue.SimpleQueue[HealthReport] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        if health is not None and in_background:
            self._thread = threading.Thread(target=self._run, name="health", daemon=True)
            self._thread.start()

    def collect(self) -> tuple[HealthReport, ...]:
        """Return the reports that came in since the last call, oldest first."""
        if self._health is None:
            return ()
        if self._thread is None:
            if self._clock.now() < self._next_at:
                return ()
            self._next_at = self._clock.now() + self._every_s
            return (self._health.look(),)
        found = []
        while True:
            try:
                found.append(self._reports.get_nowait())
            except queue.Empty:
                return tuple(found)

    def close(self) -> None:
        """Stop looking; a look in flight ends by its own time-out."""
        self._stopped = True
        self._wake.set()

    def _run(self) -> None:
        assert self._health is not None  # noqa: S101 the thread exists only then
        while not self._stopped:
            self._reports.put(self._health.look())
            self._wake.wait(self._every_s)
