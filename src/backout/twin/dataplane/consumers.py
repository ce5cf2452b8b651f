"""Tail Workers: the Workers that take the tail events of others (`tail_consumers`), each fed in order and in batches.

As on the edge, an event is delivered once: events that a consumer does not take, because it is down or too slow, are
lost and counted.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LOG = logging.getLogger(__name__)
_QUEUE_EVENTS = 20_000
_BATCH_EVENTS = 100


class Consumers:
    """Which Workers consume which Workers' events.

    Args:
        deliver: gives lines of JSON to the live version of a Worker; raises OSError when that does not take them.
    """

    def __init__(self, deliver: Callable[[str, bytes], Awaitable[None]]) -> None:
        self._deliver = deliver
        self._of: dict[str, tuple[str, ...]] = {}
        self._queues: dict[str, asyncio.Queue[bytes]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.lost = 0

    def set(self, script: str, consumers: tuple[str, ...]) -> None:
        """Feed exactly these with the events of a script from now on."""
        self._of[script] = consumers
        for consumer in consumers:
            if consumer not in self._tasks:
                self._queues[consumer] = asyncio.Queue(_QUEUE_EVENTS)
                self._tasks[consumer] = asyncio.get_running_loop().create_task(self._feed(consumer))

    def of(self, script: str) -> tuple[str, ...]:
        """Return who takes the events of a script."""
        return self._of.get(script, ())

    def offer(self, script: str, line: bytes) -> None:
        """Queue an event of a script for those who take them."""
        for consumer in self.of(script):
            try:
                self._queues[consumer].put_nowait(line)
            except asyncio.QueueFull:
                self.lost += 1

    async def close(self) -> None:
        """Stop feeding consumers."""
        tasks = tuple(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _feed(self, consumer: str) -> None:
        queue = self._queues[consumer]
        while True:
            lines = [await queue.get()]
            while len(lines) < _BATCH_EVENTS and not queue.empty():
                lines.append(queue.get_nowait())
            try:
                await self._deliver(consumer, b"\n".join(lines))
            except OSError as error:
                self.lost += len(lines)
                _LOG.warning("the Tail Worker %s did not take %d events: %s", consumer, len(lines), error)
