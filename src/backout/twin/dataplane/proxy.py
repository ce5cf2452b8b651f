"""One request through the router to a version's process: streamed both ways, counted once, joined to its tail event."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, hdrs, web
from multidict import CIMultiDict
from yarl import URL

from backout.model.guard.chosen import Choice, find_choice
from backout.model.guard.routes import make_template
from backout.model.outcomes import CANCELED, CUT_OFF
from backout.twin.dataplane.counts import Answer
from backout.twin.dataplane.exchange import Exchange
from backout.twin.dataplane.tail_events import REQUEST_HEADER, RESET_HEADER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backout.twin.dataplane.counts import CountBook
    from backout.twin.dataplane.instances import Instance
    from backout.twin.dataplane.tail import Tail

PROBE_HEADER = "x-backout-probe"
PROBE_ID_HEADER = "x-backout-probe-id"
_MOST_ID = 32
_CLIENT_GONE = 499
_UNAVAILABLE = 503
_CHUNK_BYTES = 64 * 1024
_WATCH_S = 0.05
_UNSENDABLE = (1005, 1006)  # close codes that no frame may carry, RFC 6455 section 7.4.1
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
_OURS = frozenset(
    (
        REQUEST_HEADER,
        RESET_HEADER,
        *("x-backout-cf", "x-backout-role", "x-backout-argument", "x-backout-secret"),
        *("cf-connecting-ip", "cf-ray", "x-forwarded-proto"),
        "expect",  # aiohttp has answered it, and workerd would not
    )
)
_CF = json.dumps({"colo": "TWN", "country": "XX", "httpProtocol": "HTTP/1.1", "city": "Loopback", "timezone": "UTC"})


@dataclass(slots=True)
class _InFlight:
    request: web.Request
    exchange: Exchange
    instance: Instance
    task: asyncio.Task[object]
    began: float
    gone: bool = False
    made_here: bool = False


class Proxy:
    """Forwards requests and records them."""

    def __init__(self, counts: CountBook, tail: Tail) -> None:
        self._counts = counts
        self._tail = tail
        self._inflight: dict[str, _InFlight] = {}

    async def forward(
        self, request: web.Request, instance: Instance, *, delay_s: float = 0.0, injected_status: int | None = None
    ) -> web.StreamResponse:
        """Answer the request from the instance, after `delay_s`; with `injected_status` without asking it at all.

        Raises:
            asyncio.CancelledError: the client has gone, or the answer broke off in the middle.
        """
        exchange = self._exchange(request, instance)
        task = asyncio.current_task()
        assert task is not None
        flight = _InFlight(request, exchange, instance, task, time.monotonic())
        self._inflight[exchange.id] = flight
        self._tail.begin(exchange)
        counts = not exchange.probe and exchange.choice is not Choice.SENDER
        if counts and not _is_websocket(request):  # how long people stay on one is up to them
            keyed = exchange.choice is Choice.KEYED
            self._counts.began(exchange.script, exchange.version, _get_route(exchange), keyed=keyed)
        instance.enter()
        try:
            return await self._answer(flight, delay_s, injected_status)
        except (asyncio.CancelledError, _ClientGone):
            exchange.outcome = CANCELED if exchange.status in (None, HTTPStatus.SWITCHING_PROTOCOLS) else CUT_OFF
            raise asyncio.CancelledError from None
        except _CutShort:
            raise asyncio.CancelledError from None
        finally:
            del self._inflight[exchange.id]
            instance.leave()
            self._finish(flight)

    async def watch_forever(self) -> None:
        """Cancel requests whose client went away: aiohttp tells a handler only when it writes."""
        while True:
            await asyncio.sleep(_WATCH_S)
            for flight in tuple(self._inflight.values()):
                transport = flight.request.transport
                if not flight.gone and (transport is None or transport.is_closing()):
                    flight.gone = True
                    flight.task.cancel()

    async def _answer(self, flight: _InFlight, delay_s: float, injected_status: int | None) -> web.StreamResponse:
        request, exchange, instance = flight.request, flight.exchange, flight.instance
        if delay_s:
            await asyncio.sleep(delay_s)
        if injected_status is not None:
            flight.made_here = True
            return await _send_plain(request, exchange, injected_status, "injected by `backout twin fault`")
        if not instance.up:
            flight.made_here = True
            exchange.outcome = instance.crash or "unknown"
            return await _send_plain(request, exchange, _UNAVAILABLE, "the worker's process is down, it is restarting")
        try:
            if _is_websocket(request):
                return await self._websocket(request, flight)
            return await self._http(request, flight)
        except (aiohttp.ClientError, ConnectionError) as error:
            return await _answer_broken(flight, error)

    def _exchange(self, request: web.Request, instance: Instance) -> Exchange:
        return Exchange(
            id=uuid.uuid4().hex[:16],
            script=instance.version.script,
            version=instance.version.id,
            method=request.method,
            url=f"{request.scheme}://{request.host}{request.raw_path}",
            headers=request.headers,
            started_at=time.time(),
            probe=request.headers.get(PROBE_HEADER) == "1",
            choice=find_choice(request.headers),
        )

    async def _http(self, request: web.Request, flight: _InFlight) -> web.StreamResponse:
        exchange = flight.exchange
        # A body that was begun cannot be sent again, and workerd may close an idle connection just as we use it.
        body = _read_body(request) if request.body_exists else None
        upstream = await flight.instance.session.request(
            request.method,
            URL(f"http://{request.host}{_get_target(request)}", encoded=True),
            headers=_make_request_headers(request, exchange),
            data=body,
            allow_redirects=False,
        )
        async with upstream:
            response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
            _copy_headers(upstream.headers, response, exchange)
            if hdrs.CONTENT_LENGTH not in upstream.headers and _has_body(request, upstream.status):
                if request.version >= aiohttp.HttpVersion11:
                    response.enable_chunked_encoding()
                else:
                    response.force_close()
            exchange.status = upstream.status
            exchange.content_type = upstream.headers.get(hdrs.CONTENT_TYPE, "")
            try:
                await response.prepare(request)
            except ConnectionError as error:
                raise _ClientGone from error
            await _pump(upstream, response, exchange)
        return response

    async def _websocket(self, request: web.Request, flight: _InFlight) -> web.StreamResponse:
        exchange = flight.exchange
        offered = [p.strip() for p in request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(",") if p.strip()]
        headers = _make_request_headers(request, exchange)
        for name in [name for name in headers if name.lower().startswith("sec-websocket-")]:
            headers.popall(name)
        url = URL(f"http://{request.host}{_get_target(request)}", encoded=True)
        session = flight.instance.session
        try:
            upstream = await session.ws_connect(url, headers=headers, protocols=offered, max_msg_size=0, autoping=False)
        except aiohttp.WSServerHandshakeError as error:
            return await _send_plain(request, exchange, error.status, error.message)
        chosen = (upstream.protocol,) if upstream.protocol else ()
        downstream = web.WebSocketResponse(protocols=chosen, max_msg_size=0, compress=False, autoping=False)
        async with upstream:
            exchange.status = 101
            exchange.latency_ms = _measure_since_ms(
                flight.began
            )  # of the handshake: how long people stay is no latency
            await downstream.prepare(request)
            await _pump_both(downstream, upstream)
        return downstream

    def _finish(self, flight: _InFlight) -> None:
        exchange = flight.exchange
        if exchange.latency_ms is None:
            exchange.latency_ms = _measure_since_ms(flight.began)
        exchange.ended_at = time.time()
        exchange.second = self._counts.count(make_answer(exchange))
        if flight.made_here:
            self._tail.tell(exchange, exceptions=_list_exceptions(exchange))
        else:
            self._tail.end(exchange)


def make_answer(exchange: Exchange) -> Answer:
    """Return an ended exchange as the counts take it; one that ended without a status gets 499 or 500."""
    missing = _CLIENT_GONE if exchange.outcome == CANCELED else 500
    status = missing if exchange.status is None else exchange.status
    return Answer(
        exchange.script,
        exchange.version,
        status,
        exchange.outcome,
        exchange.latency_ms or 0.0,
        exchange.probe,
        _get_route(exchange),
        exchange.size if exchange.method == hdrs.METH_GET and status == HTTPStatus.OK else None,
        exchange.content_type,
        exchange.choice,
        exchange.headers.get(PROBE_ID_HEADER, "")[:_MOST_ID] if exchange.probe else "",
    )


def _is_websocket(request: web.Request) -> bool:
    return request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def _get_route(exchange: Exchange) -> str:
    return make_template(exchange.method, exchange.url)


def _list_exceptions(exchange: Exchange) -> tuple[dict[str, object], ...]:
    """Return what a tail shows of a request whose isolate was over its memory limit."""
    if exchange.outcome != "exceededMemory" or exchange.ended_at is None:
        return ()
    stamp = round(exchange.ended_at * 1000)
    return ({"name": "Error", "message": "Worker exceeded memory limit.", "stack": "", "timestamp": stamp},)


class _ClientGone(Exception):
    """The client closed its connection before the answer's end."""


class _CutShort(Exception):
    """The worker failed after the answer had begun, so the client's connection was aborted."""


def _measure_since_ms(began: float) -> float:
    return (time.monotonic() - began) * 1000.0


def _get_target(request: web.Request) -> str:
    path = request.raw_path
    return path if path.startswith("/") else request.rel_url.raw_path_qs


def _has_body(request: web.Request, status: int) -> bool:
    return request.method != hdrs.METH_HEAD and status not in (204, 304)


def _make_request_headers(request: web.Request, exchange: Exchange) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in request.headers.items():
        lowered = name.lower()
        if lowered not in _HOP_BY_HOP and lowered not in _OURS:
            headers.add(name, value)
    headers[REQUEST_HEADER] = exchange.id
    headers["X-Backout-Cf"] = _CF
    headers["CF-Connecting-IP"] = request.remote or "127.0.0.1"
    headers["CF-Ray"] = f"{exchange.id}-TWN"
    headers["X-Forwarded-Proto"] = request.scheme
    return headers


def _copy_headers(source: aiohttp.typedefs.LooseHeaders, response: web.StreamResponse, exchange: Exchange) -> None:
    for name, value in CIMultiDict(source).items():
        lowered = name.lower()
        if lowered not in _HOP_BY_HOP and lowered != REQUEST_HEADER:
            response.headers.add(name, value)
    response.headers["CF-Ray"] = f"{exchange.id}-TWN"


async def _answer_broken(flight: _InFlight, error: Exception) -> web.StreamResponse:
    """Answer when the connection to the worker broke: its process died, its code failed, or the client left."""
    exchange, request = flight.exchange, flight.request
    if request.transport is None or request.transport.is_closing():
        raise _ClientGone from error
    exchange.latency_ms = _measure_since_ms(flight.began)  # without the waiting that follows
    crash = await flight.instance.cause_of_death()
    if crash:
        flight.made_here = True
        exchange.outcome = crash  # otherwise its code failed, and its own tail event will say how
    if exchange.status is None:
        status, why = (_UNAVAILABLE, "process died while it answered") if crash else (500, "code gave no answer")
        return await _send_plain(request, exchange, status, f"the worker's {why}")
    request.transport.abort()  # the answer had begun; cutting it short is all that can be said
    raise _CutShort from error


async def _send_plain(request: web.Request, exchange: Exchange, status: int, text: str) -> web.StreamResponse:
    """Send a short answer of our own."""
    exchange.status = status
    response = web.Response(status=status, text=text + "\n", headers={"CF-Ray": f"{exchange.id}-TWN"})
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError as error:
        raise _ClientGone from error
    return response


async def _read_body(request: web.Request) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_any():
        yield chunk


async def _pump(upstream: aiohttp.ClientResponse, response: web.StreamResponse, exchange: Exchange) -> None:
    content = upstream.content
    while True:
        chunk = await content.readany()
        try:
            if not chunk:
                await response.write_eof()
                return
            await response.write(chunk)
            exchange.size += len(chunk)
        except ConnectionError as error:
            raise _ClientGone from error


async def _pump_both(client: web.WebSocketResponse, worker: aiohttp.ClientWebSocketResponse) -> None:
    """Copy frames both ways until one side closes, then close the other with the same code."""
    ways = {asyncio.create_task(_copy_frames(client, worker)), asyncio.create_task(_copy_frames(worker, client))}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    code = client.close_code or worker.close_code or WSCloseCode.OK
    sendable = WSCloseCode.OK if code in _UNSENDABLE else code
    await worker.close(code=sendable)
    await client.close(code=sendable)


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _copy_frames(source: _Socket, target: _Socket) -> None:
    async for message in source:
        if message.type is WSMsgType.TEXT:
            await target.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await target.send_bytes(message.data)
        elif message.type is WSMsgType.PING:
            await target.ping(message.data)
        elif message.type is WSMsgType.PONG:
            await target.pong(message.data)
