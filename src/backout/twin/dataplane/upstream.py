"""The connection to a Worker's process: its answer is read even where it no longer accepts the request's body.

workerd closes the connection of a request whose body its code did not read. asyncio drops a connection whose peer
accepts no more data, and with it an answer that has already arrived; one in five of such uploads was lost that way.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.tracing import Trace
    from typing_extensions import Buffer

_GONE = (BrokenPipeError, ConnectionResetError)


class _Upstream(socket.socket):
    """Drops data that the other side no longer accepts; reading detects its end. These are asyncio's write calls."""

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        try:
            return super().send(data, flags)
        except _GONE:
            return memoryview(data).nbytes

    def sendmsg(self, buffers: Iterable[Buffer], /) -> int:  # type: ignore[override]
        parts = tuple(buffers)
        try:
            return super().sendmsg(parts)
        except _GONE:
            return sum(memoryview(part).nbytes for part in parts)


class Connector(aiohttp.UnixConnector):
    """Connections to one process on its unix socket."""

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],  # noqa: ARG002 - aiohttp's signature
        timeout: ClientTimeout,  # noqa: ASYNC109 - same
    ) -> ResponseHandler:
        """Connect; aiohttp has no public way to bring a socket of one's own."""
        upstream = _Upstream(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            upstream.setblocking(False)
            async with asyncio.timeout(timeout.sock_connect):
                await self._loop.sock_connect(upstream, self.path)
            _, protocol = await self._loop.create_unix_connection(self._factory, sock=upstream)
        except OSError as error:
            upstream.close()
            if isinstance(error, TimeoutError):
                raise
            raise aiohttp.UnixClientConnectorError(self.path, req.connection_key, error) from error  # type: ignore[operator]
        except BaseException:
            upstream.close()
            raise
        return protocol
