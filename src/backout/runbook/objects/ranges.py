"""Working on a range of a restore: the same on every machine, the one that drives the restore included."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from backout.errors import BackoutError

if TYPE_CHECKING:
    from backout.model.objects.ranges import Claimed
    from backout.ports import RangeClaims
    from backout.runbook.objects.tools import Spread

_BEAT_S: Final = 1.0
_PATIENCE_S: Final = 8.0
"""Whoever could not say for so long that it is at work stops; another goes on after the longer `silent_s`."""
_WHY_CHARACTERS: Final = 300
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""It goes on while the machine sleeps, where the system has such a clock."""


class RangeLost(BackoutError):
    """The range is not this worker's any more, or the worker is to stop; another one goes on with it."""


class Hold:
    """Says every second that a range is worked on, from a thread of its own; and knows when it must not be any more.

    A process that was stopped for a while and is woken finds that out before it makes another call: by the time that
    passed, without asking anybody.

    Args:
        beating: a connection for the thread alone.
    """

    def __init__(self, beating: RangeClaims, claimed: Claimed, stop: threading.Event) -> None:
        self._beating = beating
        self._claimed = claimed
        self._stop = stop
        self._ended = threading.Event()
        self._is_lost = False
        self._done = 0
        self._heard = time.clock_gettime(_CLOCK)
        self._thread = threading.Thread(target=self._run, name="backout-range", daemon=True)

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for what is said right now."""
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Raise RangeLost where nothing more may be changed."""
        if self._stop.is_set():
            raise RangeLost("the worker was asked to stop", where=self._claimed.run)
        if self._is_lost or time.clock_gettime(_CLOCK) - self._heard > _PATIENCE_S:
            raise RangeLost("the range is not this worker's any more", where=self._claimed.run)

    def hear(self, done: int) -> None:
        """Hear how many changes are done. Raises RangeLost."""
        self._done = done
        self.check()

    def _run(self) -> None:
        while not self._ended.wait(_BEAT_S):
            asked = time.clock_gettime(_CLOCK)
            with suppress(BackoutError):  # a server that is away for a moment is asked again
                if not self._beating.beat(self._claimed, self._done):
                    self._is_lost = True
                    return
                self._heard = asked


def work_on(spread: Spread, ranges: RangeClaims, claimed: Claimed, stop: threading.Event) -> None:
    """Carry out the changes of a range, and keep what became of them for the driver.

    Raises:
        RangeLost: it is another's by now, or this process is to stop.
        BackoutError: as `BucketVersions.carry_out`; the range is given back.
    """
    work = claimed.work
    try:
        with spread.connect() as beating, Hold(beating, claimed, stop) as hold:
            bucket = spread.open(work.prefix, work.moment, hold.check)
            carried = bucket.carry_out(work.changes, again=work.again, attempts=claimed.attempts, hear=hold.hear)
            hold.check()
            is_kept = ranges.settle(claimed, carried)
    except BackoutError as error:
        with suppress(BackoutError):  # it is taken back when it was not heard of for a while
            ranges.release(
                claimed, "" if isinstance(error, RangeLost) else f"{spread.worker}: {error}"[:_WHY_CHARACTERS]
            )
        raise
    if not is_kept:
        raise RangeLost("the range is not this worker's any more", where=claimed.run)
