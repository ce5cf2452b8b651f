"""How far a step on objects is, with its rate and the time left, for a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from backout.cli.objects.words import describe_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.cli.guard.live import Live
    from backout.model.objects.progress import ObjectProgress

_SHOWN_EVERY_S: Final = 0.5


class Meter:
    """Shows how far a step is; the rate is that of this step, from when it began or went on.

    Args:
        now: in seconds, from any beginning.
    """

    def __init__(self, live: Live, now: Callable[[], float] = time.monotonic) -> None:
        self._live = live
        self._now = now
        self._what = ""
        self._began = self._shown = now()
        self._before = 0

    def show(self, progress: ObjectProgress) -> None:
        """Show it, twice a second at most."""
        now = self._now()
        if progress.what != self._what:
            self._what, self._began, self._shown = progress.what, now, now
            self._before = progress.done  # what an interrupted attempt had done, too
        if now - self._shown >= _SHOWN_EVERY_S:
            self._shown = now
            self._live.progress(describe_progress(progress, now - self._began, self._before), now)
