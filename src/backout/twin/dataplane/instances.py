"""A version that is kept running: its process, connection pool, restarts, and its end after the last answer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING

import aiohttp

from backout.model.value import Value
from backout.twin.control.worker import StartupError
from backout.twin.dataplane.capnp_objects import list_hosted, list_namespaces
from backout.twin.dataplane.upstream import Connector
from backout.twin.dataplane.workerd import Workerd, control

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backout.twin.control.worker import WorkerVersion
    from backout.twin.dataplane.capnp_objects import Namespace

DRAIN_TIMEOUT_S = 30.0
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_STEADY_S = 10.0
_CRASH_NEWS_S = 0.2
_BREAK_S = 1.0
_LONGEST_HEADER_BYTES = 128 * 1024  # as Cloudflare allows for all response headers together
_KEEPALIVE_S = 3.0  # workerd closes an idle connection after 5 s; a POST sent just then would be lost
_LONGEST_SCHEDULE_S = 900.0
_LONGEST_RESET_S = 2.0
_TAKEN = 204
_OUT_OF_MEMORY = "heap out of memory"


class ObjectKey(Value, frozen=True):
    """One Durable Object: the Worker that has its class, the class, and its id in hexadecimal digits."""

    script: str
    class_name: str
    id: str


def crash_outcome(return_code: int, output: str) -> str:
    """Return the tail outcome for a process that ended by itself: `exceededMemory` or `unknown`.

    V8 says so when an isolate is over its limit; the kernel's out-of-memory killer says nothing and sends SIGKILL.
    """
    return "exceededMemory" if _OUT_OF_MEMORY in output or return_code == -signal.SIGKILL else "unknown"


class Instance:
    """One version kept running from `start` to `retire`.

    Args:
        make: builds a fresh, not started process of the version.
        on_crash: called with (instance, return code) whenever the process ended by itself.
        on_ready: called with the instance whenever a process of it answers again after a crash.
    """

    def __init__(
        self,
        version: WorkerVersion,
        make: Callable[[], Workerd],
        *,
        on_crash: Callable[[Instance, int], None],
        on_ready: Callable[[Instance], None],
    ) -> None:
        self.version = version
        self.crash = ""
        self.crashes = 0
        self.inflight = 0
        self.startup_ms = 0
        self.used_at = time.monotonic()
        self._make = make
        self._on_crash = on_crash
        self._on_ready = on_ready
        self._process: Workerd | None = None
        self._session: aiohttp.ClientSession | None = None
        self._tail_session: aiohttp.ClientSession | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._crashed = asyncio.Event()
        self._answers = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The process id of the running process."""
        return None if self._process is None else self._process.pid

    @property
    def output(self) -> str:
        """The last lines that the process wrote."""
        return "" if self._process is None else self._process.output

    @property
    def up(self) -> bool:
        """Whether the process answers."""
        return self._session is not None and self.pid is not None and not self.crash

    @property
    def session(self) -> aiohttp.ClientSession:
        """The pool of connections to the running process."""
        assert self._session is not None
        return self._session

    async def start(self) -> int:
        """Start the process and its supervision; the start-up time in milliseconds. Raises StartupError."""
        self.startup_ms = await self._launch()
        self._supervisor = asyncio.create_task(self._supervise(), name=f"supervise {self.version.id}")
        return self.startup_ms

    async def retire(self, timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        """Let the requests in flight end (`timeout_s` at most), then stop the process and remove its folder."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        if self.inflight == 0:
            await self._end_process(gently=True)
        else:  # what is still under way is cut short
            self.crash = "unknown"
            self._crashed.set()
            await self._end_process(gently=False)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), _BREAK_S)
        await self._close_pool()

    def kill(self) -> None:
        """Kill the process as a crash would; the supervisor restarts it."""
        if self._process is not None:
            self._process.kill_now()

    async def cause_of_death(self) -> str:
        """Return the outcome for a request whose connection broke, "" when the process turns out to be alive.

        The broken connection is seen some milliseconds before the process's end is.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._crashed.wait(), _CRASH_NEWS_S)
        return self.crash

    async def await_recovery(self, timeout_s: float) -> None:
        """Return when the process answers, after `timeout_s` at the latest; at once where it did not crash."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._answers.wait(), timeout_s)

    def enter(self) -> None:
        """Note that a request begins; `leave` must follow."""
        self.inflight += 1
        self.used_at = time.monotonic()
        self._idle.clear()

    def leave(self) -> None:
        """Note that a request ended."""
        self.inflight -= 1
        if not self.inflight:
            self._idle.set()

    async def want_all_events(self, wanted: bool) -> None:
        """Tell the tail worker whether every event is wanted."""
        if self._process is not None:
            with contextlib.suppress(OSError, EOFError):  # it is down; `_launch` tells the next one
                await control(self._process.around.control_socket, f"/all/{int(wanted)}")

    async def take_tail(self, lines: bytes) -> None:
        """Give other Workers' tail events, lines of JSON, to the `tail` handler.

        Raises:
            ConnectionError: there is no such handler, or it failed.
            OSError: any other failure, such as a timeout.
        """
        session = self._tail_session
        if not self.up or session is None:
            raise ConnectionError("it has no tail handler" if self.up else "its process is down")
        try:
            async with session.post("http://tail/", data=lines) as answer:
                if answer.status != _TAKEN:
                    raise ConnectionError("its tail handler failed")
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from error

    @property
    def calls_socket(self) -> str:
        """Where the running process takes calls of the objects that it hosts, "" while it is down."""
        return self._process.around.calls_socket if self.up and self._process is not None else ""

    async def reset_objects(self, why: str, keys: Iterable[ObjectKey]) -> None:
        """Reset objects that this process hosts; `why`: the message of the error that their callers get."""
        if self._process is not None:
            await _reset(self._process.around.socket, why, list_hosted(self.version), keys, only_live=False)

    async def reset_forwarding(self, why: str, keys: Iterable[ObjectKey]) -> None:
        """Let the calls of objects that are under way from here fail with `why`; the next ones look for them anew."""
        if self._process is not None:
            await _reset(self._process.around.objects_socket, why, list_namespaces(self.version), keys, only_live=True)

    async def run_schedule(self, cron: str, scheduled_at: float) -> str:
        """Run the `scheduled` handler to its end and return the outcome, as a tail shows it."""
        process = self._process
        if not self.up or process is None:
            return self.crash or "unknown"
        if not self.version.takes_schedule:
            return "exception"  # as the runtime does where the code exports no such handler
        asked = {"cron": cron, "time": str(round(scheduled_at * 1000))}
        timeout = aiohttp.ClientTimeout(total=_LONGEST_SCHEDULE_S)
        connector = aiohttp.UnixConnector(process.around.control_socket)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.post("http://tail/scheduled", params=asked) as answer,
            ):
                return str((await answer.json())["outcome"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            return await self.cause_of_death() or "unknown"

    async def _launch(self) -> int:
        process = self._make()
        try:
            startup_ms = await process.start()
        except BaseException:
            process.clean()
            raise
        self._process = process
        connector = Connector(process.around.socket, limit=0, keepalive_timeout=_KEEPALIVE_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            max_line_size=_LONGEST_HEADER_BYTES,
            max_field_size=_LONGEST_HEADER_BYTES,
        )
        # aiohttp would send a GET again when its connection breaks, and user code would run twice; there is no public
        # way to say no. What a retry is for, an idle connection closed by the other side, `_KEEPALIVE_S` excludes.
        self._session._retry_connection = False  # noqa: SLF001
        if self.version.takes_tail:
            takes_tail = aiohttp.UnixConnector(process.around.take_tail_socket, keepalive_timeout=_KEEPALIVE_S)
            self._tail_session = aiohttp.ClientSession(connector=takes_tail)
        self.crash = ""
        self._crashed.clear()
        self._answers.set()
        return startup_ms

    async def _end_process(self, *, gently: bool) -> None:
        if self._process is not None:
            await (self._process.stop() if gently else self._process.kill())
            self._process.clean()

    async def _close_pool(self) -> None:
        sessions = (self._session, self._tail_session)
        self._session = self._tail_session = None
        for session in sessions:
            if session is not None:
                await session.close()

    async def _supervise(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while self._process is not None:
            began = time.monotonic()
            code = await self._process.wait()
            self.crashes += 1
            self.crash = crash_outcome(code, self._process.output)
            self._crashed.set()
            self._answers.clear()
            self._on_crash(self, code)
            self._process.clean()
            await self._close_pool()
            if time.monotonic() - began > _STEADY_S:
                backoff_s = _FIRST_BACKOFF_S
            backoff_s = await self._relaunch(backoff_s)
            self._on_ready(self)

    async def _relaunch(self, backoff_s: float) -> float:
        """Start again until it answers; the next back-off."""
        while True:
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)
            with contextlib.suppress(StartupError):  # it started once, so what is missing now may come back
                await self._launch()
                return backoff_s


async def _reset(
    socket: str, why: str, spaces: Iterable[Namespace], keys: Iterable[ObjectKey], *, only_live: bool
) -> None:
    names = {(each.script, each.class_name): each.name for each in spaces}
    ids: dict[str, list[str]] = {}
    for key in keys:
        if (name := names.get((key.script, key.class_name))) is not None:
            ids.setdefault(name, []).append(key.id)
    if not ids:
        return
    body = {"why": why, "onlyLive": only_live, "ids": ids}
    timeout = aiohttp.ClientTimeout(total=_LONGEST_RESET_S)
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # it is down, or stuck in the code of an object
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket), timeout=timeout) as session,
            session.post("http://host/", json=body),
        ):
            pass
