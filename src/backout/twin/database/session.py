"""One client's session with the Hyperdrive proxy: answers from the cache, and queries to the database.

Messages are handled in batches that end in Sync, Flush or a simple Query. A batch that reads once, outside of a
transaction, is looked up and kept; everything else passes through as it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from backout.twin.database import pgwire
from backout.twin.database.origin import OriginError
from backout.twin.database.pgwire import Bind, Message, Parse
from backout.twin.database.querycache import Entry, Key, changes_session, is_cacheable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.twin.database.origin import Origin
    from backout.twin.database.querycache import Policy, QueryCache

_BATCHED = frozenset({b"P", b"B", b"D", b"E", b"C"})
_ANSWERS_BESIDE = frozenset({b"S", b"A", b"N"})
"""What may come in between at any time; an answer with one of them is not kept."""


@dataclass(slots=True)
class _Expected:
    """How the pump treats the answers up to the next ReadyForQuery.

    Args:
        swallow: types of the first answers, to messages that the client did not send.
        hide_ready: the ReadyForQuery itself is one of them.
        keep: where the answer goes in the cache.
    """

    swallow: deque[bytes] = field(default_factory=deque)
    hide_ready: bool = False
    keep: Key | None = None
    seen: list[Message] = field(default_factory=list)


class Proxy(Protocol):
    """The session's proxy, `HyperdriveProxy`, as far as the session uses it."""

    policy: Policy
    cache: QueryCache
    moving_functions: frozenset[str] | None

    async def open_origin(self, parameters: dict[str, str]) -> Origin:
        """Return a new session with the database. Raises OriginError."""
        ...

    def close_origin(self, origin: Origin) -> None:
        """Close it."""
        ...

    def renew(self, key: Key, parameters: dict[str, str]) -> None:
        """Ask the database again, beside what goes on."""
        ...


class Session:
    """A client that has logged in."""

    def __init__(
        self,
        proxy: Proxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        parameters: dict[str, str],
    ) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._parameters = parameters
        self.origin: Origin | None = None
        self._pump: asyncio.Task[None] | None = None
        self._statements: dict[bytes, Parse] = {}
        self._expected: deque[_Expected] = deque()
        self._answered = asyncio.Event()
        self._answered.set()
        self._status = pgwire.IDLE
        self._half_sent = False  # messages without a Sync are with the database
        self._own_state = False  # this session differs from a fresh one

    def cut(self) -> None:
        """End it without a word."""
        self._writer.close()
        if self.origin is not None:
            self.origin.writer.close()

    async def run(self) -> None:
        """Serve the client until it leaves or the database goes away."""
        batch: list[Message] = []
        try:
            while (one := await pgwire.read_message(self._reader)).type != b"X":
                if one.type in _BATCHED:
                    batch.append(one)
                elif one.type == b"Q":
                    await self._simple(one)
                elif one.type in {b"S", b"H"}:
                    await self._run_extended([*batch, one])
                    batch = []
                else:
                    await self._pass(batch, one)
                    batch = []
        except OriginError as error:
            self._writer.write(error.answer)
            await self._writer.drain()
        finally:
            await self._leave()

    async def _leave(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        if self.origin is not None:
            self._proxy.close_origin(self.origin)
            self.origin = None

    # --- client to database ------------------------------------------------------------------------------------

    async def _simple(self, one: Message) -> None:
        sql = one.payload.rstrip(b"\0")
        key = self._key(Parse(b"", sql, ()), None)
        if key is not None and await self._from_cache(key, (b"D", b"E")):
            return
        self._statements.pop(b"", None)  # a simple query ends the unnamed statement
        origin = await self._connect()
        origin.statements.pop(b"", None)
        self._expect(_Expected(keep=key if self._status == pgwire.IDLE else None))
        await self._send(one.raw)

    async def _run_extended(self, batch: Sequence[Message]) -> None:
        statements = self._learn(batch)
        key = None
        if batch[-1].type == b"S":
            key = self._read_once(batch, statements)
            kinds = tuple(_get_kind(one) for one in batch[:-1])
            if key is not None and await self._from_cache(key, kinds):
                return
        if key is not None and self._status != pgwire.IDLE:
            key = None
        missing = await self._missing(batch, statements)
        await self._forward(batch, missing, key)

    async def _pass(self, batch: Sequence[Message], one: Message) -> None:
        """Hand on what is neither: copy data, function calls."""
        await self._connect()
        if one.type == b"F":
            self._expect(_Expected())
        await self._send(b"".join(each.raw for each in batch) + one.raw)

    async def _forward(self, batch: Sequence[Message], missing: Sequence[bytes], key: Key | None) -> None:
        origin = await self._connect()
        if not self._half_sent:
            swallow = deque(b"3" if each.startswith(b"C") else b"1" for each in missing)
            self._expect(_Expected(swallow=swallow, keep=key))
        self._half_sent = batch[-1].type == b"H"
        for one in batch:
            if one.type == b"P":
                statement = pgwire.parse_parse(one.payload)
                origin.statements[statement.name] = statement
            elif one.type == b"C" and one.payload.startswith(b"S"):
                origin.statements.pop(one.payload[1:-1], None)
        await self._send(b"".join(missing) + b"".join(one.raw for one in batch))

    def _learn(self, batch: Sequence[Message]) -> dict[bytes, Parse]:
        """Follow the client's prepared statements; return those that the batch binds or describes."""
        used: dict[bytes, Parse] = {}
        for one in batch:
            if one.type == b"P":
                statement = pgwire.parse_parse(one.payload)
                self._statements[statement.name] = statement
                self._own_state = self._own_state or changes_session(statement.sql.decode("utf-8", "replace"))
            elif one.type == b"C" and one.payload.startswith(b"S"):
                self._statements.pop(one.payload[1:-1], None)
            elif one.type in {b"B", b"D"}:
                name = _get_statement(one)
                if name is not None and name in self._statements:
                    used[name] = self._statements[name]
        return used

    async def _missing(self, batch: Sequence[Message], used: dict[bytes, Parse]) -> list[bytes]:
        """Return the messages that give the database the statements it has not seen, because the cache answered."""
        origin = await self._connect()
        parsed = {pgwire.parse_parse(one.payload).name for one in batch if one.type == b"P"}
        missing: list[bytes] = []
        for name, statement in used.items():
            there = origin.statements.get(name)
            if there == statement and name not in parsed:
                continue
            if there is not None and name:
                missing.append(pgwire.close_statement(name))
                del origin.statements[name]
            if name not in parsed:
                missing.append(pgwire.parse_message(statement))
                origin.statements[name] = statement
        if missing and self._half_sent:
            await self._settle()
        return missing

    # --- the cache ---------------------------------------------------------------------------------------------

    def _read_once(self, batch: Sequence[Message], used: dict[bytes, Parse]) -> Key | None:
        """Return the key of a batch that binds once and fetches all rows once; None for any other."""
        binds = [pgwire.parse_bind(one.payload) for one in batch if one.type == b"B"]
        runs = [pgwire.parse_execute(one.payload) for one in batch if one.type == b"E"]
        if len(binds) != 1 or len(runs) != 1 or runs[0] != (binds[0].portal, 0):
            return None
        statement = used.get(binds[0].statement)
        return None if statement is None else self._key(statement, binds[0])

    def _key(self, statement: Parse, bind: Bind | None) -> Key | None:
        counts = self._proxy.cache.counts
        sql = statement.sql.decode("utf-8", "replace")
        self._own_state = self._own_state or changes_session(sql)
        functions = self._proxy.moving_functions or frozenset()
        if not self._proxy.policy.enabled or self._own_state or not is_cacheable(sql, functions):
            counts.uncacheable += 1
            return None
        database, user = self._parameters.get("database", ""), self._parameters.get("user", "")
        if bind is None:
            return Key(database, user, statement.sql)
        return Key(database, user, statement.sql, statement.oids, bind.formats, bind.values, bind.result_formats)

    async def _from_cache(self, key: Key, kinds: Sequence[bytes]) -> bool:
        """Answer from the cache if it can; the client's earlier questions are answered first."""
        await self._settle()
        if self._status != pgwire.IDLE:
            return False
        counts = self._proxy.cache.counts
        found = self._proxy.cache.find(key)
        answer = None if found is None else _replay(found[0], kinds)
        if found is None or answer is None:
            counts.misses += 1
            return False
        if found[1]:
            counts.stale_hits += 1
            self._proxy.renew(key, self._parameters)
        else:
            counts.hits += 1
        self._writer.write(answer + pgwire.READY)
        await self._writer.drain()
        return True

    async def _settle(self) -> None:
        """Wait until everything that was asked is answered, ending a half-sent batch without the client's notice."""
        if self._half_sent:
            self._half_sent = False
            self._expected[-1].hide_ready = True
            await self._send(pgwire.SYNC)
        await self._answered.wait()

    # --- database to client ------------------------------------------------------------------------------------

    async def _connect(self) -> Origin:
        if self.origin is None:
            self.origin = await self._proxy.open_origin(self._parameters)
            self._pump = asyncio.get_running_loop().create_task(self._relay(self.origin))
        return self.origin

    def _expect(self, expected: _Expected) -> None:
        self._expected.append(expected)
        self._answered.clear()

    async def _send(self, data: bytes) -> None:
        origin = await self._connect()
        origin.writer.write(data)
        await origin.writer.drain()

    async def _relay(self, origin: Origin) -> None:
        """Hand the database's answers to the client."""
        try:
            while messages := await origin.read():
                self._writer.write(b"".join(one.raw for one in messages if self._is_for_client(one)))
                await self._writer.drain()
        finally:
            # The database is gone, or the client: neither side is of use without the other.
            self._answered.set()
            self._writer.close()

    def _is_for_client(self, one: Message) -> bool:
        expected = self._expected[0] if self._expected else None
        if expected is None:
            return True
        if expected.swallow:
            if one.type == expected.swallow[0]:
                expected.swallow.popleft()
                return False
            if one.type == b"E":
                expected.swallow.clear()
        if one.type != b"Z":
            if expected.keep is not None:
                expected.seen.append(one)
            return True
        self._status = one.payload
        self._expected.popleft()
        if expected.keep is not None and one.payload == pgwire.IDLE:
            _keep(self._proxy, expected.keep, expected.seen)
        if not self._expected:
            self._answered.set()
        return not expected.hide_ready


async def revalidate(proxy: Proxy, key: Key, parameters: dict[str, str]) -> None:
    """Ask the database again for a cached answer; nothing happens while it is down."""
    bind = Bind(b"", b"", key.formats, key.values, key.result_formats)
    request = (
        pgwire.parse_message(Parse(b"", key.sql, key.oids))
        + pgwire.bind_message(bind) + pgwire.describe_portal() + pgwire.execute() + pgwire.SYNC
    )  # fmt: skip
    try:
        origin = await proxy.open_origin(parameters)
    except OriginError:
        return
    try:
        _keep(proxy, key, await origin.ask(request))
    finally:
        proxy.close_origin(origin)


def _keep(proxy: Proxy, key: Key, seen: Sequence[Message]) -> None:
    """Store an answer, if it is one whole result of a read; the functions that forbid it may be known only now."""
    kinds = {one.type for one in seen}
    done = [one for one in seen if one.type == b"C"]
    whole = len(done) == 1 and done[0].payload.startswith(b"SELECT ")
    moving = proxy.moving_functions or frozenset()
    if (
        not whole
        or b"E" in kinds
        or kinds & _ANSWERS_BESIDE
        or not is_cacheable(key.sql.decode("utf-8", "replace"), moving)
    ):
        return
    begun = next((at for at, one in enumerate(seen) if one.type == b"t"), None)
    describe = b"" if begun is None else seen[begun].raw + seen[begun + 1].raw
    columns = [one.raw for at, one in enumerate(seen) if one.type == b"T" and (begun is None or at != begun + 1)]
    rows = b"".join(one.raw for one in seen if one.type in {b"D", b"C"})
    before = proxy.cache.find(key)
    if before is not None:  # each client asks for the descriptions it needs: keep those already known
        describe = describe or before[0].describe
        columns = columns or [before[0].columns]
    proxy.cache.store(key, Entry(columns[0] if columns else b"", rows, proxy.cache.now(), describe))


def _replay(entry: Entry, kinds: Sequence[bytes]) -> bytes | None:
    """Return the answer to a batch of these kinds of messages; None if the entry does not know all of it."""
    answers = {
        b"P": pgwire.PARSE_COMPLETE,
        b"B": pgwire.BIND_COMPLETE,
        b"C": pgwire.CLOSE_COMPLETE,
        b"D": entry.columns,
        b"DS": entry.describe,
        b"E": entry.rows,
    }
    parts = [answers[kind] for kind in kinds]
    return b"".join(parts) if all(parts) else None


def _get_kind(one: Message) -> bytes:
    return b"DS" if one.type == b"D" and one.payload.startswith(b"S") else one.type


def _get_statement(one: Message) -> bytes | None:
    """Return the statement that a Bind or a Describe names, None for a portal's."""
    if one.type == b"B":
        return pgwire.parse_bind(one.payload).statement
    return one.payload[1:-1] if one.payload.startswith(b"S") else None
