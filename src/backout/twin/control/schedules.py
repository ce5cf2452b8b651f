"""Runs schedules: each cron expression of each Worker at its minute, and on demand."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from typing import TYPE_CHECKING, Protocol

from backout.model.value import Value
from backout.twin.control.cron import BadCron, parse_cron

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backout.twin.control.records import Script

_LOG = logging.getLogger(__name__)
_MINUTE_S = 60
_LATEST_S = 30.0


class ScheduleRun(Value, frozen=True):
    """One run: of which version, for which minute (Unix seconds), and its outcome as a tail shows it."""

    cron: str
    version: str
    scheduled_at: float
    outcome: str


class Runner(Protocol):
    """The runner of schedules: the data plane."""

    async def run_schedule(self, script: str, cron: str, scheduled_at: float) -> ScheduleRun | None:
        """Run it to its end; None where nothing of the script is live."""
        ...


class Scheduler:
    """Runs the due schedules.

    Args:
        scripts: returns the Workers with their current expressions.
        runner: runs them.
    """

    def __init__(self, scripts: Callable[[], Iterable[Script]], runner: Runner) -> None:
        self._scripts = scripts
        self._runner = runner
        self._running: set[asyncio.Task[ScheduleRun | None]] = set()

    async def run_forever(self) -> None:
        """Run at each minute what names it; a minute that was slept through is left out."""
        minute = int(time.time()) // _MINUTE_S + 1
        while True:
            await asyncio.sleep(max(0.0, minute * _MINUTE_S - time.time()))
            if time.time() >= minute * _MINUTE_S:
                if time.time() < minute * _MINUTE_S + _LATEST_S:
                    self.start_due(minute * _MINUTE_S)
                minute = max(minute, int(time.time()) // _MINUTE_S) + 1

    def start_due(self, minute: float) -> tuple[asyncio.Task[ScheduleRun | None], ...]:
        """Begin what is due in the minute that begins at these Unix seconds, and return the runs."""
        at = dt.datetime.fromtimestamp(minute, dt.UTC)
        begun = tuple(
            asyncio.create_task(self._runner.run_schedule(script.name, cron, minute))
            for script in self._scripts()
            for cron in script.crons
            if _takes(cron, at)
        )
        self._running.update(begun)
        for task in begun:
            task.add_done_callback(self._note_end)
        return begun

    async def close(self) -> None:
        """Give up what still runs."""
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _note_end(self, task: asyncio.Task[ScheduleRun | None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("a schedule could not be run: %r", error)


def _takes(cron: str, at: dt.datetime) -> bool:
    try:
        return parse_cron(cron).takes(at)
    except BadCron:  # kept by a twin that did not look
        return False
