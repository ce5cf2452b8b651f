"""The event stream: what is open on screens is read and drawn once for all who look at the same with like rights.

A message is the live part of a page, whole: who was away for a while misses nothing by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from backout.errors import BackoutError
from backout.model.login import Login, Permission
from backout.web import content
from backout.web.pages import parse_number
from backout.web.tail import Tail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from backout.web.pages import Pages
    from backout.web.sessions import Sessions
    from backout.wiring.serve import Site

LOOK_EVERY_S: Final = 0.05
"""How often the journal is asked whether anything is new: for one number."""
DRAW_WITHIN_S: Final = 0.25
"""So long after pages were drawn they are drawn again at the earliest: a watch records something every second."""
DRAW_EVERY_S: Final = 2.0
"""How often the pages are drawn while nothing is: what a worker keeps beside the journal is no event."""
CHECK_EVERY_S: Final = 2.0
"""How often it is looked whether a login still counts, beside before each message."""
ALIVE_EVERY_S: Final = 15.0
"""How often a sign of life is sent."""
MOST_CLIENTS: Final = 1000
_LOG: Final = logging.getLogger(__name__)


class Place(NamedTuple):
    """What a stream shows: the kind of page, the environment, and which of its kind; "" where there is none."""

    kind: str
    environment: str = ""
    which: str = ""


class Topic(NamedTuple):
    """A page as everybody sees it whose logins have these rights.

    Args:
        viewer: such a login, without a name: what is drawn for one goes to all.
    """

    place: Place
    viewer: Login


def make_topic(place: Place, login: Login) -> Topic:
    """Return what a login sees of a place, together with all who see the same."""
    return Topic(place, replace(login, id="", name="", expires_at=0.0, via=""))


class Stream:
    """The streams of all clients; of one event loop.

    Attributes:
        clients: how many there are.
        tail: the journal's new events.
    """

    def __init__(self, site: Site, sessions: Sessions, pages: Pages) -> None:
        self._site, self._sessions, self._pages = site, sessions, pages
        self._waiting: dict[Topic, set[asyncio.Queue[bytes]]] = {}
        self._last: dict[Topic, bytes] = {}
        self.clients = 0
        self.tail = Tail(site)

    async def answer(self, request: Request) -> Response:
        """Answer with the stream of one page.

        Raises:
            HTTPException: 401, 403, 404: see `Pages.find_login` and `check_rights`; 503: too many are open.
            BackoutError: there is no such page, or the journal is away.
        """
        place = _parse_place(str(request.path_params["place"]))
        login = await self._pages.find_login(request)
        if place.environment:
            self._pages.check(login, Permission.VIEWER, place.environment)
        if self.clients >= MOST_CLIENTS:
            raise HTTPException(503, "too many streams are open")
        headers = {"X-Accel-Buffering": "no"}
        topic = make_topic(place, login)
        message = self._last.get(topic) or make_message(await run_in_threadpool(self._read, topic))
        sent = self._send(request, topic, message)
        return StreamingResponse(sent, media_type="text/event-stream", headers=headers)

    async def _send(self, request: Request, topic: Topic, message: bytes) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._waiting.setdefault(topic, set()).add(queue)
        self._last.setdefault(topic, message)
        self.clients += 1
        try:
            yield b"retry: 2000\n\n"
            yield message
            async for each in self._follow(request, queue):
                yield each
        finally:
            self.clients -= 1
            waiting = self._waiting[topic]
            waiting.discard(queue)
            if not waiting:
                del self._waiting[topic]
                self._last.pop(topic, None)

    async def _follow(self, request: Request, queue: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
        """Yield what is drawn, as long as the login counts: it is looked before each message."""
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        while True:
            message = b""
            with contextlib.suppress(TimeoutError):
                message = await asyncio.wait_for(queue.get(), CHECK_EVERY_S)
            if not await self.counts_still(request):
                return
            if message or loop.time() - sent_at >= ALIVE_EVERY_S:
                sent_at = loop.time()
                yield message or b": alive\n\n"

    async def counts_still(self, request: Request) -> bool:
        """Whether the login that began a stream still counts; while the journal is away, it does."""
        with contextlib.suppress(BackoutError):
            return await run_in_threadpool(self._sessions.find, request) is not None
        return True  # the journal is away: what was drawn last stays, and gets old visibly

    async def run(self) -> None:
        """Read and draw what is looked at, until it is cancelled."""
        is_new, drawn_at = False, 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                is_new = await self.tail.look() or is_new
                if loop.time() - drawn_at < (DRAW_WITHIN_S if is_new else DRAW_EVERY_S):
                    continue
                is_new, drawn_at = False, loop.time()
            except BackoutError as error:
                _LOG.warning("the pages are not kept up to date: %s", error)
                continue
            for topic in list(self._waiting):
                await self._redraw(topic)

    async def _redraw(self, topic: Topic) -> None:
        """Draw a page for those who look at it; what goes wrong with one ends no other."""
        if topic not in self._waiting:  # who looked at it has left while another was drawn
            return
        try:
            await self._draw(topic)
        except BackoutError as error:
            _LOG.warning("a page is not kept up to date: %s", error)
        except Exception:  # noqa: BLE001 - a mistake in one page ends no stream
            _LOG.exception("a mistake in backout itself, in a stream")

    async def _draw(self, topic: Topic) -> None:
        """Draw a page and give it to everybody who looks at it."""
        part = await run_in_threadpool(self._read, topic)
        message = make_message(part)
        if topic in self._waiting and message != self._last.get(topic):
            self._last[topic] = message
            for queue in self._waiting.get(topic, ()):
                if queue.full():  # a client that is slow gets the newest, and not all that it missed
                    queue.get_nowait()
                queue.put_nowait(message)

    def _read(self, topic: Topic) -> str:
        site, (place, login) = self._site, topic
        found: content.Content
        if place.kind == "environments":
            found = content.show_environments(site, login)
        elif place.kind == "environment":
            found = content.show_environment(site, login, place.environment)
        elif place.kind == "request":
            found = content.show_request(site, login, place.environment, int(place.which))
        elif place.kind == "run":
            found = content.show_run(site, login, place.environment, place.which)
        else:
            found = content.show_incident(site, login, place.environment, place.which)
        return self._pages.render_part("incident" if place.kind == "run" else place.kind, login, found)


def make_message(text: str) -> bytes:
    r"""Return a message of an event stream, without a name: htmx puts it in the place of what was there.

    >>> make_message("<p>a\nb</p>")
    b'data: <p>a\ndata: b</p>\n\n'
    """
    return ("".join(f"data: {line}\n" for line in text.splitlines()) + "\n").encode()


def _parse_place(path: str) -> Place:
    """Return what a stream's address asks for. Raises HTTPException (404): there is nothing of the kind."""
    parts = path.split("/")
    if parts == ["environments"]:
        return Place("environments")
    if len(parts) == 2 and parts[0] == "environment":
        return Place("environment", parts[1])
    if len(parts) == 3 and parts[0] in ("request", "run", "incident"):
        if parts[0] == "request" and parse_number(parts[2]) is None:
            raise HTTPException(404)
        return Place(*parts)
    raise HTTPException(404)
