"""A fenced lease for each environment in Postgres, and the beats of whoever holds it.

Each write is one statement, which the server judges by its own clock: a beat is written only while the lease is held
under the same fence and has not run out. So a worker that was frozen or cut off can write nothing afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SCHEMA = """
CREATE TABLE lease (environment text PRIMARY KEY, holder text NOT NULL DEFAULT '', fence bigint NOT NULL DEFAULT 0,
                    expires timestamptz NOT NULL DEFAULT '-infinity');
CREATE TABLE beat (environment text NOT NULL, fence bigint NOT NULL, holder text NOT NULL,
                   at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX ON beat (environment, fence, at);
"""
BEAT_S = 1.0
POLL_S = 1.0
ANSWER_WITHIN_S = 3.0
_EXPIRES = "clock_timestamp() + make_interval(secs => %(lease)s)"
_NOTE = "INSERT INTO beat (environment, fence, holder) SELECT environment, fence, holder FROM mine"
_TAKE = (
    f"WITH mine AS (UPDATE lease SET holder = %(holder)s, fence = fence + 1, expires = {_EXPIRES}"  # noqa: S608
    " WHERE environment IN (SELECT environment FROM lease WHERE expires <= clock_timestamp()"
    " AND (%(environment)s::text IS NULL OR environment = %(environment)s) ORDER BY random() LIMIT %(limit)s"
    f" FOR UPDATE SKIP LOCKED) RETURNING environment, fence, holder) {_NOTE} RETURNING environment, fence"
)
_HELD = "environment = %(environment)s AND holder = %(holder)s AND fence = %(fence)s AND expires > clock_timestamp()"
_BEAT = (
    f"WITH mine AS (UPDATE lease SET expires = {_EXPIRES} WHERE {_HELD} RETURNING environment, fence, holder)"  # noqa: S608
    f" {_NOTE}"
)
_RELEASE = (
    f"WITH mine AS (UPDATE lease SET expires = '-infinity' WHERE {_HELD} RETURNING environment, fence, holder)"  # noqa: S608
    f" {_NOTE}"
)
_FREE = "SELECT environment FROM lease WHERE expires <= clock_timestamp()"


class Unreachable(Exception):
    """The server did not answer in time, or the connection is gone."""


class Guard:
    """One worker's connection to the leases, and the environments that it watches.

    Args:
        url: of the database; through a pooler as well.
        say: is told of each event with an environment and a fence.
        answer_within_s: a connection that does not answer for so long counts as cut: a black hole sends no error.
    """

    def __init__(
        self,
        url: str,
        holder: str,
        lease_s: float,
        say: Callable[[str, str, int], None],
        *,
        answer_within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self.stopping = asyncio.Event()
        self.freezes = False
        self._url = url
        self._holder = holder
        self._lease_s = lease_s
        self._say = say
        self._answer_within_s = answer_within_s
        self._connection: psycopg.AsyncConnection | None = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def take(self, limit: int, environment: str | None = None) -> list[tuple[str, int]]:
        """Take free leases; return each environment with its fence. Raises Unreachable."""
        rows = await self._run(_TAKE, limit=limit, environment=environment)
        return [(str(name), int(str(fence))) for name, fence in rows]

    async def list_free(self) -> list[str]:
        """Return the environments that nobody holds. Raises Unreachable."""
        return [str(name) for (name,) in await self._run(_FREE)]

    async def watch(self, environment: str, fence: int) -> None:
        """Beat until the lease is lost or the worker stops, which gives it back. Raises Unreachable."""
        self._say("took", environment, fence)
        while not await self.wait(BEAT_S):
            if self.freezes:
                await self._freeze_holding(environment, fence)
            if not await self._write(_BEAT, environment, fence):
                self._say("refused", environment, fence)
                return
        await self._write(_RELEASE, environment, fence)
        self._say("released", environment, fence)

    async def wait(self, seconds: float) -> bool:
        """Wait; return whether the worker stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()

    async def _write(self, query: str, environment: str, fence: int) -> bool:
        return bool(await self._run(f"{query} RETURNING 1", environment=environment, fence=fence))

    async def _freeze_holding(self, environment: str, fence: int) -> None:
        """Stop this process in the middle of a transaction that has the lease's row locked."""
        self.freezes = False
        connection = await self._connect()
        with contextlib.suppress(psycopg.Error):  # once it is woken, the server has ended the transaction
            async with connection.transaction():
                await connection.execute("SELECT 1 FROM lease WHERE environment = %s FOR UPDATE", [environment])
                os.kill(os.getpid(), signal.SIGSTOP)
                await connection.execute(
                    "INSERT INTO beat (environment, fence, holder) VALUES (%s, %s, %s)",
                    [environment, fence, self._holder],
                )

    async def _run(self, query: str, **values: object) -> Sequence[tuple[object, ...]]:
        task = asyncio.ensure_future(self._ask(query, {"holder": self._holder, "lease": self._lease_s, **values}))
        done, _ = await asyncio.wait({task}, timeout=self._answer_within_s)
        connection = self._connection
        if not done and connection is not None and not connection.closed:
            # To cancel it would wait for the server's word. The socket's end is noticed at once.
            with socket.socket(fileno=os.dup(connection.fileno())) as cut:
                cut.shutdown(socket.SHUT_RDWR)
        try:
            return await asyncio.wait_for(task, self._answer_within_s)
        except (psycopg.Error, TimeoutError, OSError) as error:
            raise Unreachable from error

    async def _ask(self, query: str, values: dict[str, object]) -> Sequence[tuple[object, ...]]:
        connection = await self._connect()
        cursor = await connection.execute(query.encode(), values)
        return await cursor.fetchall()

    async def _connect(self) -> psycopg.AsyncConnection:
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                self._connection = await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=2, prepare_threshold=None
                )
            return self._connection
