"""One connection of the Hyperdrive proxy to the real Postgres, through its unix socket, where no password is asked."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backout.twin.database import pgwire
from backout.twin.database.pgwire import Message, Splitter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CONNECT_TIMEOUT_S = 5.0
_READ_BYTES = 64 * 1024
_MOVING_FUNCTIONS = b"""
SELECT proname FROM pg_catalog.pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
GROUP BY proname HAVING bool_and(provolatile <> 'i')
"""
"""Functions whose every variant is volatile or stable: by text alone the variants cannot be told apart."""


class OriginError(Exception):
    """The database cannot be reached, or refuses the session; `answer` is the message for the client."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("no connection to the database")
        self.answer = answer


@dataclass(slots=True)
class Origin:
    """An open session.

    Args:
        parameters: reported by the server.
        key: (process id, secret) to cancel with.
        statements: the session's current prepared statements.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    parameters: dict[str, str] = field(default_factory=dict)
    key: tuple[int, bytes] = (0, b"")
    statements: dict[bytes, pgwire.Parse] = field(default_factory=dict)
    splitter: Splitter = field(default_factory=Splitter)

    async def read(self) -> list[Message]:
        """Return the messages that came next; empty at the end of the connection."""
        while True:
            try:
                data = await self.reader.read(_READ_BYTES)
            except OSError:
                return []
            if not data:
                return []
            if messages := list(self.splitter.feed(data)):
                return messages

    async def ask(self, request: bytes) -> list[Message]:
        """Send a request that ends in ReadyForQuery and return its whole answer; empty when the connection broke."""
        self.writer.write(request)
        answer: list[Message] = []
        while messages := await self.read():
            answer += messages
            if answer[-1].type == b"Z":
                return answer
        return []

    async def moving_functions(self) -> frozenset[str]:
        """Return the names of the functions that make a statement uncacheable."""
        answer = await self.ask(pgwire.make_message(b"Q", _MOVING_FUNCTIONS + b"\0"))
        return frozenset(row.payload[6:].decode() for row in answer if row.type == b"D")

    def close(self) -> None:
        """Leave politely."""
        self.writer.write(pgwire.TERMINATE)
        self.writer.close()


async def connect(socket: Path | None, parameters: Mapping[str, str]) -> Origin:
    """Open a session.

    Raises:
        OriginError: the server is down, or said no.
    """
    if socket is None:
        raise OriginError(_make_unreachable("the database is down"))
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            origin = Origin(reader, writer)
            try:
                writer.write(pgwire.make_startup(parameters))
                await _greet(origin)
            except BaseException:
                writer.close()
                raise
            return origin
    except (OSError, TimeoutError) as error:
        raise OriginError(_make_unreachable(str(error) or "connection timed out")) from error


async def cancel(socket: Path, key: tuple[int, bytes]) -> None:
    """Ask the server to cancel what a session does now; whether it did is never answered."""
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_unix_connection(str(socket))
            writer.write(pgwire.cancel(*key))
            await writer.drain()
            writer.close()
    except (OSError, TimeoutError):
        return


async def _greet(origin: Origin) -> None:
    while messages := await origin.read():
        for one in messages:
            match one.type:
                case b"S":
                    name, value = one.payload[:-1].decode().split("\0")
                    origin.parameters[name] = value
                case b"K":
                    origin.key = (struct.unpack_from("!I", one.payload)[0], one.payload[4:])
                case b"E":
                    raise OriginError(one.raw)
                case b"Z":
                    return
    raise OriginError(_make_unreachable("the connection closed"))


def _make_unreachable(why: str) -> bytes:
    return pgwire.make_error("FATAL", "58000", f"Hyperdrive: failed to connect to the provided database: {why}")
