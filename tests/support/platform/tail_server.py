"""A tail on loopback that sends what a test tells it to: `POST .../tails` and the websocket that it leads to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator


def event(version: str, at: float, status: int | None = 200, outcome: str = "ok", **more: object) -> dict[str, object]:
    """Return the event of a request that ended at that time, after 90 ms."""
    response = {} if status is None else {"response": {"status": status}}
    url = more.get("url", "https://x/")
    named = more.get("headers", {})
    headers = {"x-backout-probe": "1"} if more.get("probe") else named
    return {
        "outcome": outcome,
        "scriptName": "fm5",
        "scriptVersion": {"id": version},
        "eventTimestamp": round(at * 1000) - 90,
        "wallTime": 90,
        "executionModel": more.get("model", "stateless"),
        "event": {"request": {"url": url, "method": more.get("method", "GET"), "headers": headers}, **response},
    }


def notice(kind: str) -> dict[str, object]:
    """Return what a tail says of itself."""
    return {"outcome": "ok", "event": {"type": kind, "message": "too many"}}


@dataclass
class TailServer:
    """A tail.

    Attributes:
        refuse: the status that `POST .../tails` answers instead.
        address: where it says that the tail is; "": where it is.
        hellos: what the clients said first.
        there: ids of the tails that were opened, and not deleted.
        stays: whether deleting one is refused.
    """

    url: str = ""
    address: str = ""
    refuse: int = 0
    opened: int = 0
    there: set[str] = field(default_factory=set)
    stays: bool = False
    hellos: list[str] = field(default_factory=list)
    protocols: list[str | None] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)

    def send(self, *events: object) -> None:
        """Send events (texts as they are) to whoever listens."""
        texts = [each if isinstance(each, str) else json.dumps(each) for each in events]
        asyncio.run_coroutine_threadsafe(self._send(texts), self.loop).result(10)

    def hang_up(self) -> None:
        """Close all websockets."""
        asyncio.run_coroutine_threadsafe(self._hang_up(), self.loop).result(10)

    async def _send(self, texts: list[str]) -> None:
        for socket in self.sockets:
            for text in texts:
                await socket.send_str(text)

    async def _hang_up(self) -> None:
        for socket in self.sockets:
            await socket.close()

    async def open(self, request: web.Request) -> web.Response:
        """Answer the API's call."""
        if self.refuse:
            body = {"success": False, "errors": [{"code": 1, "message": "no"}], "result": None}
            return web.json_response(body, status=self.refuse)
        self.opened += 1
        self.there.add(f"t-{self.opened}")
        url = self.address or f"ws://{request.host}/socket"
        return web.json_response(
            {"success": True, "errors": [], "messages": [], "result": {"id": f"t-{self.opened}", "url": url}}
        )

    async def delete(self, request: web.Request) -> web.Response:
        """Answer the API's call."""
        if self.stays:
            body = {"success": False, "errors": [{"code": 1, "message": "no"}], "result": None}
            return web.json_response(body, status=500)
        self.there.discard(request.match_info["tail"])
        return web.json_response({"success": True, "errors": [], "messages": [], "result": None})

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one websocket."""
        socket = web.WebSocketResponse(protocols=("trace-v1",))
        await socket.prepare(request)
        self.protocols.append(socket.ws_protocol)
        self.hellos.append(await socket.receive_str())
        self.sockets.append(socket)
        async for _ in socket:
            pass
        self.sockets.remove(socket)
        return socket


@contextlib.contextmanager
def tail_server() -> Iterator[TailServer]:
    """Serve on a loopback port until the block ends."""
    server = TailServer()
    app = web.Application()
    app.router.add_post("/client/v4/accounts/{account}/workers/scripts/{script}/tails", server.open)
    app.router.add_delete("/client/v4/accounts/{account}/workers/scripts/{script}/tails/{tail}", server.delete)
    app.router.add_get("/socket", server.socket)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    server.loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    server.loop.run_until_complete(site.start())
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/client/v4"
    thread = threading.Thread(target=server.loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), server.loop).result(10)
        server.loop.call_soon_threadsafe(server.loop.stop)
        thread.join(PATIENCE_S)
        server.loop.close()
