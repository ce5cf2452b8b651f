"""Looking at something at a pace beside other measurements."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from backout.providers.clock import SystemClock
from backout.runbook.probing.prober import Prober

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = 5


def test_the_pace_may_change_from_look_to_look() -> None:
    """The first five follow each other at once, then an hour passes: no sixth one is made, and closing ends it."""
    made = threading.Semaphore(0)
    looks: list[int] = []

    def paces() -> Iterator[float]:
        yield from [0.0] * (QUICK - 1)
        made.release()
        while True:
            yield 3600.0

    pace = paces()
    prober = Prober("test", lambda: looks.append(1), SystemClock(), lambda: next(pace), in_background=True)
    assert made.acquire(timeout=PATIENCE_S)
    prober.close()
    assert len(looks) == QUICK
