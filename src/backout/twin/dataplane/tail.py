"""Tail events: joined with the router's record, filtered, fanned out to bounded queues, the last 1000 kept.

An event is what `wrangler tail --format json` prints; nothing waits for a slow reader, drops are counted.
"""

from __future__ import annotations

import asyncio
import collections
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from aiohttp import WSMsgType, web

from backout.decoding import decode_raw
from backout.model.value import Value
from backout.twin.dataplane.tail_events import (
    REQUEST_HEADER,
    RESET_HEADER,
    complete,
    enrich,
    format_text,
    get_object,
    get_trigger,
    get_version,
    is_of_object,
    is_quiet,
    make_blank,
    make_notice,
    make_request,
    redact_headers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backout.twin.dataplane.consumers import Consumers
    from backout.twin.dataplane.exchange import Event, Exchange


PROTOCOL = "trace-v1"
MOST_SESSIONS = 10
"""So many tails a Worker can have at a time, dashboards too (documentation, "Real-time logs", read 2026-12-01)."""
_RING_EVENTS = 1000
_QUEUE_EVENTS = 500
_SESSION_S = 6 * 3600.0
_PENDING = 20_000
_PENDING_S = 60.0


class Filters(Value, frozen=True):
    """A session's filters; an empty part passes everything.

    Source: wrangler 4.164 `POST /tails` filters.
    """

    sampling_rate: float = 1.0
    outcomes: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    headers: tuple[tuple[str, str], ...] = ()
    client_ips: frozenset[str] = frozenset()
    queries: tuple[str, ...] = ()
    versions: frozenset[str] = frozenset()

    def match(self, event: Event, draw: Callable[[], float]) -> bool:
        """Whether the event passes; `draw` gives a number in [0, 1) for the sampling."""
        request = make_request(event)
        headers = {str(k).lower(): str(v) for k, v in get_object(request.get("headers")).items()}
        return (
            (not self.outcomes or str(event.get("outcome")) in self.outcomes)
            and (not self.methods or str(request.get("method", "")).upper() in self.methods)
            and (not self.client_ips or headers.get("cf-connecting-ip") in self.client_ips)
            and (not self.versions or get_version(event) in self.versions)
            and all(key in headers and query in headers[key] for key, query in self.headers)
            and all(query in format_text(event) for query in self.queries)
            and (self.sampling_rate >= 1.0 or draw() < self.sampling_rate)
        )


def parse_filters(raw: object) -> Filters:
    """Return the filters of a `POST /tails` body's `filters` list; parts of unknown shape are ignored."""
    parts: dict[str, list[object]] = {}
    for entry in raw if isinstance(raw, list) else []:
        for key, value in get_object(entry).items():
            parts.setdefault(key, []).extend(value if isinstance(value, list) else [value])

    def texts(key: str) -> list[str]:
        return [str(value) for value in parts.get(key, [])]

    rates = [value for value in parts.get("sampling_rate", []) if isinstance(value, int | float)]
    headers = [get_object(value) for value in parts.get("header", [])]
    return Filters(
        sampling_rate=float(rates[0]) if rates else 1.0,
        outcomes=frozenset(texts("outcome")),
        methods=frozenset(text.upper() for text in texts("method")),
        headers=tuple((str(h.get("key", "")).lower(), str(h.get("query") or "")) for h in headers),
        client_ips=frozenset("127.0.0.1" if text == "self" else text for text in texts("client_ip")),
        queries=tuple(text for text in texts("query") if text),
        versions=frozenset(texts("scriptVersion")),
    )


@dataclass(slots=True)
class TailSession:
    """One open tail: events wait in a bounded queue from its opening on; `dropped` counts what did not fit.

    Source: wrangler 4.164 prints an event with a `type` "overload" when a tail begins to leave out events, and
    "overload-stop" when it has stopped to.
    """

    id: str
    script: str
    filters: Filters
    expires_at: float
    queue: asyncio.Queue[bytes | None] = field(repr=False)
    dropped: int = 0
    delivered: int = 0
    overloaded: bool = False

    def offer(self, line: bytes) -> None:
        """Queue an event, or count it as dropped; the reader is notified when that begins and ends."""
        if self.overloaded and self.queue.qsize() <= self.queue.maxsize // 2:
            self.overloaded = False
            self.queue.put_nowait(make_notice("overload-stop", "This tail shows every event again"))
        try:
            self.queue.put_nowait(line)
        except asyncio.QueueFull:
            self.dropped += 1
            if not self.overloaded:
                self.overloaded = True
                self.queue.get_nowait()
                self.dropped += 1
                self.queue.put_nowait(make_notice("overload", "This tail leaves out events: there are too many"))

    def close(self) -> None:
        """End the session's websocket after what is queued; a full queue loses its oldest event to make room."""
        if self.queue.full():
            self.queue.get_nowait()
            self.dropped += 1
        self.queue.put_nowait(None)


class TooManyTails(Exception):
    """A Worker has as many tails as it can have."""


class Tail:
    """All events and sessions of one twin.

    Args:
        on_amended: called with an exchange that had ended and whose outcome only its event told.
        on_trigger: called with (script, version, name, failed) when a schedule or a queue has run.
        on_object: called with each event of a Durable Object.
        on_demand: called with (script, wanted) when the first session of a script opens or the last closes.
        consumers: the Tail Workers; None: there are none.
        queue_events: how many events a session holds for its reader.
    """

    def __init__(
        self,
        *,
        on_amended: Callable[[Exchange], None],
        on_demand: Callable[[str, bool], None],
        on_trigger: Callable[[str, str, str, bool], None] | None = None,
        on_object: Callable[[Event], None] | None = None,
        consumers: Consumers | None = None,
        now: Callable[[], float] = time.time,
        queue_events: int = _QUEUE_EVENTS,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._on_amended = on_amended
        self._on_demand = on_demand
        self._on_trigger = on_trigger
        self._on_object = on_object
        self._consumers = consumers
        self._now = now
        self._queue_events = queue_events
        self._draw = draw
        self._ring: collections.deque[tuple[float, Event]] = collections.deque(maxlen=_RING_EVENTS)
        self._pending: collections.OrderedDict[str, Exchange] = collections.OrderedDict()
        self._sessions: dict[str, TailSession] = {}

    @property
    def sessions(self) -> tuple[TailSession, ...]:
        """The open sessions."""
        return tuple(self._sessions.values())

    def is_wanted(self, script: str) -> bool:
        """Whether every event of the script is wanted, not only failures."""
        if self._consumers is not None and self._consumers.of(script):
            return True
        return any(session.script == script for session in self._sessions.values())

    # --- events in ---------------------------------------------------------------------------------------------

    def begin(self, exchange: Exchange) -> None:
        """Expect an event of this exchange."""
        self._pending[exchange.id] = exchange
        if len(self._pending) > _PENDING:
            self._pending.popitem(last=False)

    def end(self, exchange: Exchange) -> None:
        """Publish what waited for the exchange's end; its own event may still come."""
        if exchange.event is not None:
            self._pending.pop(exchange.id, None)
            self._publish(exchange.script, enrich(exchange.event, exchange))
            exchange.event = None
        exchange.headers = {}  # the worker's own event brings them; thousands wait here for events that never come
        horizon = self._now() - _PENDING_S
        while self._pending:
            first = next(iter(self._pending.values()))
            if first.ended_at is None or first.ended_at > horizon:
                break
            self._pending.popitem(last=False)

    def tell(self, exchange: Exchange, *, exceptions: Sequence[Mapping[str, object]] = ()) -> None:
        """Publish an event that the router itself makes, where the worker cannot: it died, or a fault was injected."""
        self._pending.pop(exchange.id, None)
        request = {
            "url": exchange.url,
            "method": exchange.method,
            "headers": redact_headers(exchange.headers),
            "cf": {},
        }
        response = {} if exchange.status is None else {"response": {"status": exchange.status}}
        event = make_blank(exchange.script, exchange.version, exchange.outcome, self._now())
        event["exceptions"] = list(exceptions)
        event["event"] = {"request": request, **response}
        self._publish(exchange.script, enrich(event, exchange))

    def tell_crash(self, script: str, version: str, outcome: str, message: str) -> None:
        """Publish that the process of a version died, apart from the requests that died with it."""
        event = make_blank(script, version, outcome, self._now())
        stamp = event["eventTimestamp"]
        event["exceptions"] = [{"name": "Error", "message": message, "stack": "", "timestamp": stamp}]
        self._publish(script, event)

    def receive(self, body: bytes) -> None:
        """Take lines of JSON from a tail worker."""
        for line in body.split(b"\n"):
            if line:
                event = decode_raw(line, dict[str, object])
                self._receive(event)

    def _receive(self, event: Event) -> None:
        headers = get_object(make_request(event).get("headers"))
        request_id = str(headers.pop(REQUEST_HEADER, ""))
        if is_of_object(event):  # which may have got the headers of a request
            self._receive_of_object(event, headers)
            return
        exchange = self._pending.get(request_id)
        if exchange is None:
            script, name = str(event.get("scriptName")), get_trigger(event)
            if name and self._on_trigger is not None:
                self._on_trigger(script, get_version(event), name, event.get("outcome") != "ok")
            self._publish(script, complete(event))
            return
        outcome = str(event.get("outcome"))
        if exchange.second is None:
            exchange.event = event
            if exchange.outcome == "ok":
                exchange.outcome = outcome
            return
        del self._pending[exchange.id]
        if exchange.outcome == "ok" and outcome != "ok":
            exchange.outcome = outcome
            self._on_amended(exchange)
        self._publish(exchange.script, enrich(event, exchange))

    def _receive_of_object(self, event: Event, headers: Mapping[str, object]) -> None:
        if RESET_HEADER in headers:
            return
        if self._on_object is not None:
            self._on_object(event)
        script = str(event.get("scriptName"))
        if self.is_wanted(script) or not is_quiet(event):
            self._publish(script, complete(event))

    def _publish(self, script: str, event: Event) -> None:
        self._ring.append((self._now(), event))
        line = b""
        for session in self._sessions.values():
            if session.script == script and session.filters.match(event, self._draw):
                line = line or msgspec.json.encode(event)
                session.offer(line)
        if self._consumers is not None and self._consumers.of(script):
            self._consumers.offer(script, line or msgspec.json.encode(event))

    # --- events out --------------------------------------------------------------------------------------------

    def events(self, script: str | None, since: float, limit: int) -> tuple[tuple[float, Event], ...]:
        """Return the newest `limit` (arrival, event) pairs that arrived after `since`, oldest first."""
        found = [
            pair for pair in self._ring if pair[0] > since and (script is None or pair[1].get("scriptName") == script)
        ]
        return tuple(found[-limit:]) if limit > 0 else ()

    def open(self, script: str, filters: Filters) -> TailSession:
        """Open a session; its events queue up from now on.

        Raises:
            TooManyTails: the script has ten, those included that nobody reads and that have not expired.
        """
        for known in tuple(self._sessions.values()):
            if known.expires_at < self._now():
                self.close(known.id)
        if sum(known.script == script for known in self._sessions.values()) >= MOST_SESSIONS:
            raise TooManyTails(script)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(self._queue_events)
        session = TailSession(uuid.uuid4().hex, script, filters, self._now() + _SESSION_S, queue)
        first = not self.is_wanted(script)
        self._sessions[session.id] = session
        if first:
            self._on_demand(script, True)
        return session

    def close(self, session_id: str) -> bool:
        """Close a session; False when it is not there."""
        session = self._sessions.pop(session_id, None)
        if session is None:
            return False
        session.close()
        if not self.is_wanted(session.script):
            self._on_demand(session.script, False)
        return True

    def close_all(self) -> None:
        """Close every session."""
        for session_id in tuple(self._sessions):
            self.close(session_id)

    async def serve(self, request: web.Request, session_id: str) -> web.WebSocketResponse:
        """Send a session's events over the websocket until either side closes; the session ends with it.

        Raises:
            web.HTTPNotFound: no such session.
        """
        session = self._sessions.get(session_id)
        if session is None or session.expires_at < self._now():
            raise web.HTTPNotFound(text="no such tail")
        socket = web.WebSocketResponse(protocols=(PROTOCOL,), compress=False)
        await socket.prepare(request)
        sender = asyncio.create_task(_send(socket, session))
        try:
            async for message in socket:  # pings are answered by aiohttp, {"debug":false} needs no answer
                if message.type in (WSMsgType.ERROR, WSMsgType.CLOSE):
                    break
        finally:
            self.close(session_id)
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        return socket


async def _send(socket: web.WebSocketResponse, session: TailSession) -> None:
    while (line := await session.queue.get()) is not None:
        await socket.send_str(line.decode())
        session.delivered += 1
    await socket.close()
