"""The live events of a tail: one private thread with its loop, seen from outside as an iterator with a bounded queue.

Source: wrangler 4.164, its tail command: `POST .../tails` answers the address of a websocket with the subprotocol
trace-v1, which takes one message first and then sends one JSON object for each event, and the id by which the tail is
deleted in the end. Its host is `tail.developers.workers.dev` (Cloudflare's API reference, "Start Tail", 2026). A Worker
can have ten tails at most (Cloudflare documentation, "Real-time logs"), so none is left behind.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp

from backout.errors import AuthError, BackoutError, ProviderRejected, ProviderUnavailable
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.providers.exchange import Origin

PROTOCOL: Final = "trace-v1"
_HOST: Final = "tail.developers.workers.dev"
_HERE: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_HELLO: Final = '{"debug":false}'
_HEARTBEAT_S: Final = 10.0
_CONNECT_S: Final = 10.0
_WAITS_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
_MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
_ENDED: Final = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


def check_address(address: str, api: Origin) -> str:
    """Return the address of a tail that an API answered: encrypted, and at the platform or the API's own host.

    Where the API is asked over http, which is on this machine, so may the tail be.

    Raises:
        ProviderUnavailable: it leads elsewhere; the address is not quoted, since it is the permission to listen.
    """
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").lower()
        is_whole = bool(host) and "@" not in parts.netloc and (parts.port is None or parts.port > 0)
    except ValueError:
        is_whole, host, parts = False, "", urlsplit("")
    ours = parts.scheme == "wss" and (host in {_HOST, api.host} or host.endswith(f".{api.host}"))
    here = api.scheme == "http" and parts.scheme == "ws" and host in _HERE
    if not is_whole or not (ours or here):
        what = "the API answered an address of a tail that is not the platform's, or not encrypted (wss)"
        raise ProviderUnavailable(what, where="tail", hint="check platform.api_base_url")
    return address


class Opened(Value, frozen=True):
    """A tail: the address of its events, and what deletes it."""

    address: str
    delete: Callable[[], None]


class Tailing:
    """Follows a tail, and opens another one whenever it ends; each is deleted, the last one when the process ends.

    Args:
        open_tail: makes a tail; called in the private thread.
        most: how many events wait to be read; what does not fit is counted in `dropped`.
        open_s: how long a connection may take to open, its handshake included.

    Attributes:
        dropped: events that did not fit.
        gaps: how often a connection ended; what happened meanwhile was not seen.
    """

    def __init__(self, open_tail: Callable[[], Opened], *, most: int = 20_000, open_s: float = 2 * _CONNECT_S) -> None:
        self._open_tail = open_tail
        self._open_s = open_s
        self._events: queue.Queue[str | bytes] = queue.Queue(most)
        self._settled = threading.Event()
        self._connected = False
        self._trouble: BackoutError | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0
        self.gaps = 0

    def ensure(self, within_s: float) -> None:
        """Begin when that has not happened yet, and wait at most that long for the first connection.

        Raises:
            AuthError, ProviderRejected: the API refused for good.
            ProviderUnavailable: it is not connected just now.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
            self._thread.start()
            atexit.register(self.close)
            self._settled.wait(within_s)
        if not self._connected:
            raise self._trouble or ProviderUnavailable("the tail is not connected yet", where="tail")

    def __iter__(self) -> Iterator[str | bytes]:
        """Yield the events that wait; it never waits for more."""
        while True:
            try:
                yield self._events.get_nowait()
            except queue.Empty:
                return

    def close(self) -> None:
        """End the connection and the thread, and delete the tail."""
        atexit.unregister(self.close)
        if self._thread is None:
            return
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(_CONNECT_S)

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._follow())
        self._connected = False
        self._settled.set()

    async def _follow(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        failures = 0
        while True:
            try:
                await self._listen_to(self._open_tail())
                self._trouble = ProviderUnavailable("the tail was closed", where="tail")
            except (AuthError, ProviderRejected) as error:
                self._trouble = error
                return
            except BackoutError as error:
                self._trouble = error
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                what = f"the tail broke off: {str(error) or type(error).__name__}"
                self._trouble = ProviderUnavailable(what, where="tail")
            if self._connected:
                self._connected = False
                self.gaps += 1
                failures = 0
            self._settled.set()
            await asyncio.sleep(_WAITS_S[min(failures, len(_WAITS_S) - 1)])
            failures += 1

    async def _listen_to(self, opened: Opened) -> None:
        try:
            await self._listen(opened.address)
        finally:  # also where it is cancelled: what is called here does not wait for the loop
            with contextlib.suppress(BackoutError):
                opened.delete()

    async def _listen(self, address: str) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            opening = session.ws_connect(
                address, protocols=(PROTOCOL,), heartbeat=_HEARTBEAT_S, max_msg_size=_MAX_EVENT_BYTES
            )
            async with await asyncio.wait_for(opening, self._open_s) as socket:
                await socket.send_str(_HELLO)
                self._connected = True
                self._settled.set()
                while (message := await socket.receive()).type not in _ENDED:
                    if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                        self._offer(message.data)

    def _offer(self, event: str | bytes) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self.dropped += 1
