"""The hub: one unix socket of the twin that every workerd process calls; the injected role names the service.

Roles: `tail` delivers events, `assets` serves files, `d1` answers queries, `worker` reaches another Worker, `objects`
tells which process hosts a Durable Object, `outside` takes a sealed twin's calls, `refuse` names what is missing.
"""

from __future__ import annotations

import hmac
import logging
from typing import TYPE_CHECKING, Protocol

import msgspec
from aiohttp import web

from backout.twin.dataplane.instances import ObjectKey

if TYPE_CHECKING:
    from backout.twin.dataplane.outside import Outside
    from backout.twin.dataplane.tail import Tail

_LOG = logging.getLogger(__name__)
_BODY_LIMIT_BYTES = 64 << 20


class Callbacks(Protocol):
    """The data plane's callbacks for the hub."""

    async def to_worker(self, request: web.Request, script: str) -> web.StreamResponse:
        """Answer as the Worker `script` does."""
        ...

    async def find_object(self, key: ObjectKey) -> str:
        """Return the address of the process that hosts a Durable Object. Raises LookupError without one."""
        ...

    async def to_d1(self, request: web.Request, database: str) -> web.StreamResponse:
        """Answer a query to a D1 database."""
        ...

    async def to_assets(self, request: web.Request, version: str) -> web.StreamResponse:
        """Answer from the assets of a version."""
        ...


class Hub:
    """The server on the hub's socket.

    Args:
        socket: its path.
        secret: what callers must send.
        tail: takes the events.
        callbacks: the rest.
        outside: takes calls to the outside, None where processes make them themselves.
    """

    def __init__(
        self, socket: str, secret: str, tail: Tail, callbacks: Callbacks, outside: Outside | None = None
    ) -> None:
        self._socket = socket
        self._secret = secret
        self._tail = tail
        self._callbacks = callbacks
        self._outside = outside
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.UnixSite(self._runner, self._socket).start()
        if self._outside is not None:
            await self._outside.start(self._socket)

    async def stop(self) -> None:
        """Stop listening and close what is open."""
        if self._outside is not None:
            await self._outside.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if not hmac.compare_digest(request.headers.get("X-Backout-Secret", ""), self._secret):
            raise web.HTTPForbidden(text="the hub serves its own workers only\n")
        argument = request.headers.get("X-Backout-Argument", "")
        match request.headers.get("X-Backout-Role"):
            case "tail":
                return await self._take_events(request)
            case "assets":
                return await self._callbacks.to_assets(request, argument)
            case "objects":
                return await self._tell_host(request)
            case "d1":
                return await self._callbacks.to_d1(request, argument)
            case "worker":
                return await self._callbacks.to_worker(request, argument)
            case "outside" if self._outside is not None:
                return await self._outside.answer(request)
            case _:
                if self._outside is not None:
                    self._outside.note(argument)
                return _refuse(argument)

    async def _tell_host(self, request: web.Request) -> web.Response:
        asked = request.query
        try:
            key = ObjectKey(asked.get("script", ""), asked.get("name", ""), asked.get("id", ""))
            return web.Response(text=await self._callbacks.find_object(key))
        except LookupError as error:
            return web.Response(status=404, text=str(error.args[0]))

    async def _take_events(self, request: web.Request) -> web.StreamResponse:
        try:
            self._tail.receive(await request.read())
        except msgspec.DecodeError:
            _LOG.warning("a tail worker sent a line that is no JSON")
        return web.Response(status=204)


def _refuse(why: str) -> web.Response:
    """Say why a binding does not work, wherever the kinds of bindings look for a text.

    KV and D1 show the reason phrase in the exception that user code gets, R2 and queues headers of their own.
    """
    headers = {
        "CF-R2-Error": msgspec.json.encode({"version": 0, "v4code": 10001, "message": why}).decode(),
        "CF-Queues-Error-Code": "15001",
        "CF-Queues-Error-Cause": why,
    }
    return web.Response(status=501, reason=why[:200], text=why + "\n", headers=headers)
