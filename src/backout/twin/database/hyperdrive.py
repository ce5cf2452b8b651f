"""The twin's Hyperdrive: a proxy in front of its Postgres with Hyperdrive's query cache, one listener a configuration.

Clients log in with the target's password; the proxy itself needs none. The database is reached only when an answer is
not in the cache, so cached reads are still answered while it is down, as with the real one.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backout.model.value import Value
from backout.twin.database import pgwire
from backout.twin.database.origin import OriginError, cancel, connect
from backout.twin.database.querycache import Policy, QueryCache
from backout.twin.database.session import Session, revalidate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.twin.database.origin import Origin
    from backout.twin.database.querycache import Key

_LOGIN_TIMEOUT_S = 10.0
_DEFAULT_PARAMETERS = {"server_version": "18.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"}


@dataclass(frozen=True, slots=True)
class HyperdriveTarget:
    """The address that a Worker's Hyperdrive binding connects to; the password is the twin's, for loopback only."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)


class ProxyCounts(Value, frozen=True):
    """Counters of one proxy: sessions and database connections, current and total, and the cache's."""

    sessions: int
    sessions_ever: int
    origins: int
    origins_ever: int
    hits: int
    stale_hits: int
    misses: int
    uncacheable: int


class HyperdriveProxy:
    """One Hyperdrive configuration.

    Args:
        login: (database, user, password) that a client must give.
        find_socket: called for each connection to the database: its unix socket, None while it is down.
        policy: its cache and its pool.
        now: a monotonic clock in seconds.

    `role` is the role that it logs in as at the database, None: the client's.
    """

    def __init__(
        self,
        login: tuple[str, str, str],
        find_socket: Callable[[], Path | None],
        policy: Policy = Policy(),  # noqa: B008 - frozen
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._login = login
        self._find_socket = find_socket
        self.policy = policy
        self.role: str | None = None
        self.cache = QueryCache(policy, now)
        self.moving_functions: frozenset[str] | None = None
        self._parameters = dict(_DEFAULT_PARAMETERS)
        self._slots = asyncio.Semaphore(policy.most_origins)
        self._server: asyncio.Server | None = None
        self._sessions: dict[int, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing: set[Key] = set()
        self._origins = self._origins_ever = self._sessions_ever = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._opening = asyncio.get_running_loop().create_task(self._serve())

    @property
    def target(self) -> HyperdriveTarget:
        """Where a binding connects to; connections are accepted at once."""
        database, user, password = self._login
        return HyperdriveTarget("127.0.0.1", self._listener.getsockname()[1], database, user, password)

    @property
    def counts(self) -> ProxyCounts:
        """What it did so far."""
        cache = self.cache.counts
        return ProxyCounts(
            len(self._sessions), self._sessions_ever, self._origins, self._origins_ever,
            cache.hits, cache.stale_hits, cache.misses, cache.uncacheable,
        )  # fmt: skip

    async def stop(self) -> None:
        """Close the listener and all sessions."""
        await self._opening
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Cut all sessions, as when the database goes away."""
        for session in tuple(self._sessions.values()):
            session.cut()

    # --- for sessions ------------------------------------------------------------------------------------------

    async def open_origin(self, parameters: dict[str, str]) -> Origin:
        """Return a new session with the database.

        Raises:
            OriginError: it is down, said no, or no slot became free in time.
        """
        try:
            async with asyncio.timeout(self.policy.slot_timeout_s):
                await self._slots.acquire()
        except TimeoutError as error:
            text = "Hyperdrive: timed out while waiting for an open slot in the pool"
            raise OriginError(pgwire.make_error("FATAL", "53300", text)) from error
        try:
            as_role = {} if self.role is None else {"user": self.role}
            origin = await connect(self._find_socket(), {**parameters, **as_role})
            if self.moving_functions is None:
                self.moving_functions = await origin.moving_functions()
        except BaseException:
            self._slots.release()
            raise
        self._parameters = origin.parameters
        self._origins += 1
        self._origins_ever += 1
        return origin

    def close_origin(self, origin: Origin) -> None:
        """Give a session with the database back."""
        origin.close()
        self._origins -= 1
        self._slots.release()

    def renew(self, key: Key, parameters: dict[str, str]) -> None:
        """Read a stale answer anew in the background, once at a time."""
        if key not in self._renewing:
            self._renewing.add(key)
            task = asyncio.get_running_loop().create_task(revalidate(self, key, parameters))
            task.add_done_callback(lambda _: self._renewing.discard(key))
            self._keep(task)

    # --- listening ---------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._accept, sock=self._listener)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._keep(asyncio.get_running_loop().create_task(self._session(reader, writer)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = int.from_bytes(os.urandom(3))
        try:
            async with asyncio.timeout(_LOGIN_TIMEOUT_S):
                parameters = await self._log_in(reader, writer, number)
            if parameters is not None:
                session = Session(self, reader, writer, parameters)
                self._sessions[number] = session
                self._sessions_ever += 1
                await session.run()
        except (asyncio.IncompleteReadError, TimeoutError, OSError, pgwire.ProtocolError):
            pass  # a client that went away, or speaks another protocol: there is none to answer
        finally:
            self._sessions.pop(number, None)
            writer.close()

    async def _log_in(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> dict[str, str] | None:
        """Greet a client; return its parameters, None when there is no session to come."""
        code, body = await pgwire.read_startup(reader)
        while code in {pgwire.SSL_REQUEST, pgwire.GSS_REQUEST}:
            writer.write(b"N")
            code, body = await pgwire.read_startup(reader)
        if code == pgwire.CANCEL_REQUEST:
            await self._cancel(int.from_bytes(body[:4]))
            return None
        if code >> 16 != 3:
            raise pgwire.ProtocolError(f"protocol {code >> 16}")
        if code & 0xFFFF:
            writer.write(pgwire.NEGOTIATE_3_0)
        parameters = pgwire.parse_parameters(body)
        writer.write(pgwire.ASK_PASSWORD)
        given = (await pgwire.read_message(reader)).payload.rstrip(b"\0")
        database, user, password = self._login
        right = hmac.compare_digest(given, password.encode()) and parameters.get("user") == user
        if not right or parameters.get("database", user) != database:
            text = "Hyperdrive: invalid database credentials"
            writer.write(pgwire.make_error("FATAL", "28P01", text))
            await writer.drain()
            return None
        told = b"".join(pgwire.make_parameter_status(name, value) for name, value in self._parameters.items())
        key = pgwire.make_message(b"K", struct.pack("!II", number, 0))
        writer.write(pgwire.AUTHENTICATION_OK + told + key + pgwire.READY)
        return parameters

    async def _cancel(self, number: int) -> None:
        session, place = self._sessions.get(number), self._find_socket()
        if session is not None and session.origin is not None and place is not None:
            await cancel(place, session.origin.key)
