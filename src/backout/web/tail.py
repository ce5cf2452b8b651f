"""The journal's new events, read once for everybody who follows them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.concurrency import run_in_threadpool

from backout.report.event_records import make_event_record
from backout.report.records import encode, make_envelope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backout.model.incident.incident import Event
    from backout.model.login import Login
    from backout.wiring.serve import Site

MOST_WAITING: Final = 2000
"""Messages that a client may be behind; then it is cut off, and goes on from `Last-Event-ID` when it comes again."""
_PAGE: Final = 500
IDLE_S: Final = 2.0
"""How often somebody who follows is told that nothing is new."""


class Message(NamedTuple):
    """An event as it is sent."""

    seq: int
    environment: str
    text: bytes


class Tail:
    """What is new in the journal; of one event loop.

    Attributes:
        newest: the place of the newest event that was read, -1 before the first look.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._following: set[asyncio.Queue[Message | None]] = set()
        self.newest = -1

    async def look(self) -> bool:
        """Read what is new and hand it on; return whether anything was. Raises JournalUnavailable."""
        newest = await run_in_threadpool(self._site.journal.find_newest)
        if newest == self.newest:
            return False
        if self.newest >= 0 and self._following:
            for message in await run_in_threadpool(self._read, self.newest):
                newest = max(newest, message.seq)
                self._hand_on(message)
        self.newest = newest
        return True

    def _hand_on(self, message: Message) -> None:
        for queue in list(self._following):
            if queue.qsize() >= MOST_WAITING:
                self._following.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(message)

    def _read(self, after: int, most: int = 10 * _PAGE) -> list[Message]:
        found = []
        for event in self._site.journal.events(after=after):
            found.append(make_message(event))
            if len(found) >= most:
                break
        return found

    async def follow(self, login: Login, after: int) -> AsyncIterator[bytes | None]:
        """Yield each event behind that place which a login may see, first those of before; None: nothing for a while.

        It ends for a client that is too far behind.
        """
        queue: asyncio.Queue[Message | None] = asyncio.Queue()
        self._following.add(queue)
        try:
            while found := await run_in_threadpool(self._read, after, _PAGE):
                for message in found:
                    after = message.seq
                    if _is_seen(message, login):
                        yield message.text
            while True:
                try:
                    new = await asyncio.wait_for(queue.get(), IDLE_S)
                except TimeoutError:
                    yield None
                    continue
                if new is None:
                    return
                if new.seq > after:
                    after = new.seq
                    if _is_seen(new, login):
                        yield new.text
        finally:
            self._following.discard(queue)


def _is_seen(message: Message, login: Login) -> bool:
    """Whether a login may see an event: logins and tokens themselves are of no environment, and nobody's to see."""
    return bool(message.environment) and login.sees(message.environment.partition("/")[0])


def make_message(event: Event) -> Message:
    """Return an event as a message of an event stream: its number as id, its kind as name."""
    record = {"environment": event.environment, **make_event_record(event)}
    text = encode(make_envelope("event", record))
    kind = "".join(each for each in event.kind if each.isprintable())
    return Message(event.seq, event.environment, f"id: {event.seq}\nevent: {kind}\ndata: {text}\n\n".encode())
