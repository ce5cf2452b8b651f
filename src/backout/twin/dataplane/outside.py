"""What a sealed twin's Workers call outside of their bindings: the twin's own parts answer, all else is refused."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEME: Final = "X-Backout-Scheme"
"""The header in which workerd tells the scheme of a call."""
_MOST_NOTED = 200
_HEAD_BYTES = 64 * 1024
_OURS = "x-backout-"
_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"})


class Parts(Protocol):
    """The parts of the twin that a Worker may call by URL."""

    @property
    def email_api_url(self) -> str:
        """The outbox."""
        ...


class Outside:
    """Answers what workerd would send to the network.

    Args:
        parts: what is handed on; None: nothing is.
    """

    def __init__(self, parts: Parts | None) -> None:
        self._parts = parts
        self._refused: dict[str, None] = {}
        self._client: aiohttp.ClientSession | None = None
        self._door: asyncio.Server | None = None
        self._hub = ""

    @property
    def refused(self) -> tuple[str, ...]:
        """What was refused, `METHOD URL` without its query, each once, in the order of the first time."""
        return tuple(self._refused)

    def note(self, what: str) -> None:
        """Remember what was refused."""
        if len(self._refused) < _MOST_NOTED:
            self._refused.setdefault(what)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a call: by the part that it names, or 403."""
        origin = f"{request.headers.get(SCHEME, 'https')}://{request.host}"
        if self._parts is not None and origin == self._parts.email_api_url.rstrip("/"):
            return await self._hand_on(request, origin)
        self.note(f"{request.method} {origin}{request.raw_path.partition('?')[0]}")
        return _refuse(origin)

    async def start(self, hub: str) -> None:
        """Listen beside the hub, whose socket's path this is."""
        self._hub = hub
        self._door = await asyncio.start_unix_server(self._let_in, name_door(hub), limit=_HEAD_BYTES)

    async def close(self) -> None:
        """Stop listening, and close the connections to the parts."""
        if self._door is not None:
            self._door.close()
        if self._client is not None:
            await self._client.close()

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Refuse a raw connection; a request goes on to the hub, whose server takes no CONNECT as workerd sends it."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n")
            method, _, rest = head.partition(b" ")
            if method == b"CONNECT":
                self.note(f"CONNECT {rest.partition(b' ')[0].decode('ascii', 'replace')}")
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                inner, outer = await asyncio.open_unix_connection(self._hub)
                outer.write(head)
                await asyncio.gather(_pump(reader, outer), _pump(inner, writer), return_exceptions=True)
        writer.close()

    async def _hand_on(self, request: web.Request, origin: str) -> web.StreamResponse:
        if self._client is None:
            self._client = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        async with self._client.request(
            request.method,
            origin + request.raw_path,
            headers=_keep_headers(request.headers.items()),
            data=await request.read(),
            allow_redirects=False,
        ) as answer:
            headers = _keep_headers(answer.headers.items())
            handed = web.Response(status=answer.status, body=await answer.read(), headers=headers)
            handed.force_close()
            return handed


def name_door(hub: str) -> str:
    """Return the path of the socket that takes calls to the outside, beside the hub's."""
    return f"{hub}-outside"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on what comes, until its end."""
    try:
        while data := await reader.read(_HEAD_BYTES):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def _keep_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in _HOP and not name.lower().startswith(_OURS)}


def _refuse(what: str) -> web.Response:
    refused = web.Response(status=403, text=f"this twin is sealed: {what} is outside\n")
    refused.force_close()  # each connection begins with a request of its own, and the first line tells a raw one
    return refused
