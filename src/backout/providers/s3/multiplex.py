"""Many calls at once by one thread, over many kept-open connections.

A thread for each call costs more than the call: of a copy's processor time on this side, threads that wake one another
are the larger half. Here one thread waits for all connections.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, Generic, Protocol, Self, TypeVar

from backout.errors import BackoutError
from backout.providers.retry import Attempts, CallFailed
from backout.providers.s3.failures import make_no_answer
from backout.providers.s3.http import Answer
from backout.providers.s3.transport import BROKEN, MOST_READ
from backout.providers.sockets import ExchangeError, MalformedHead

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

    from backout.ports import Clock
    from backout.providers.s3.exchanges import Exchange
    from backout.providers.s3.transport import Line, S3Settings, Transport

    Work = Generator[Exchange, None, "R"]

R = TypeVar("R")

_READ_BYTES: Final = 64 * 1024
_LOOK_EVERY_S: Final = 1.0
"""How often it is looked whether an answer is late."""
_DIALS_AT_ONCE: Final = 8
_READ, _BOTH = selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE


class Pace(Protocol):
    """How many calls may be on their way at once."""

    @property
    def limit(self) -> int:
        """At least one."""
        ...

    def grow(self) -> None:
        """Hear of a work that ended well."""
        ...

    def check(self) -> None:
        """Raise BackoutError where no more calls may be made: those on their way are cut off."""
        ...


class Multiplexer:
    """Makes the calls of many works at once; made by `S3Client.multiplex`."""

    def __init__(self, transport: Transport, settings: S3Settings, clock: Clock, pace: Pace) -> None:
        self._transport = transport
        self._settings = settings
        self._clock = clock
        self._pace = pace

    def run(self, works: Iterable[Work[R]], hear: Callable[[int], None] = lambda _done: None) -> list[R]:
        """Return what each work returns, in their order.

        A failed call is tried again as the settings have it, while others are made.

        Args:
            works: each yields one call after the other, as `yield from asked`; errors are raised where it yielded.
            hear: is told after each work how many are done.

        Raises:
            BackoutError: of a work that did not catch it; nothing more was begun then, and what was is awaited.
        """
        with _Run(self._transport, self._settings, self._clock, self._pace, works, hear) as run:
            return run.finish()


class _Task(Generic[R]):
    """A work, and the call that it waits for."""

    def __init__(self, place: int, work: Work[R]) -> None:
        self.place = place
        self.work = work
        self.exchange: Exchange
        self.attempts: Attempts
        self.ready_at = self.begun = 0.0
        self.was_dropped = False


class _Wire(Generic[R]):
    """A connection, and the task whose call is on its way there."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.inner = line.socket.inner
        self.task: _Task[R] | None = None
        self.answer: Answer
        self.unsent = b""
        self.watched = _READ
        self.received = self.used = 0
        self.deadline = self.quiet_by = 0.0
        self.inner.setblocking(False)


class _Run(Generic[R]):
    """Some works on their way."""

    def __init__(
        self,
        transport: Transport,
        settings: S3Settings,
        clock: Clock,
        pace: Pace,
        works: Iterable[Work[R]],
        hear: Callable[[int], None],
    ) -> None:
        self._transport, self._settings, self._clock, self._pace = transport, settings, clock, pace
        self._works = enumerate(works)
        self._hear = hear
        self._results: dict[int, R] = {}
        self._error: BackoutError | None = None
        self._ready: deque[_Task[R]] = deque()
        self._later: list[tuple[float, int, _Task[R]]] = []
        self._busy: set[_Wire[R]] = set()
        self._free: list[_Wire[R]] = []
        self._dialling = 0
        self._dialled: deque[tuple[_Task[R], Future[Line]]] = deque()
        self._dialers = ThreadPoolExecutor(_DIALS_AT_ONCE, thread_name_prefix="dialling")
        self._selector = selectors.DefaultSelector()
        self._bell, self._ringing = socket.socketpair()
        self._selector.register(self._bell, _READ)
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._later_look = 0.0
        self._again = transport.not_yet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._dialers.shutdown(wait=True, cancel_futures=True)
        for wire in self._free:
            self._selector.unregister(wire.inner)
            self._transport.give_back(wire.line, reusable=True)
        for wire in self._busy:
            wire.line.close()
        for _task, dialled in self._dialled:
            if not dialled.cancelled() and dialled.exception() is None:
                dialled.result().close()
        self._selector.close()
        self._bell.close()
        self._ringing.close()

    def finish(self) -> list[R]:
        """Make all calls, and return what the works do."""
        while True:
            self._begin()
            if not (self._busy or self._dialling or self._later):
                break
            wait_s = min(_LOOK_EVERY_S, self._later[0][0] - time.monotonic()) if self._later else _LOOK_EVERY_S
            for key, _ in self._selector.select(max(0.0, wait_s)):
                if key.data is None:
                    self._take_dialled()
                else:
                    self._attend(key.data)
            self._end_late()
        if self._error is not None:
            raise self._error
        return [self._results[place] for place in range(len(self._results))]

    def _begin(self) -> None:
        """Send as many calls as may be on their way."""
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._ready.append(heappop(self._later)[2])
        while self._error is None and len(self._busy) + self._dialling < self._pace.limit:
            if not self._ready and len(self._busy) + self._dialling + len(self._later) >= self._pace.limit:
                break  # else all that the store refuses for now would wait, and be asked again, at once
            task = self._ready.popleft() if self._ready else self._start_next()
            if task is None:
                break
            task.begun = time.monotonic()
            task.attempts.leave_out(task.begun - task.ready_at)
            if self._free:
                self._send(self._free.pop(), task)
            elif (line := self._transport.take_idle()) is not None:
                self._send(self._add_wire(line, used=1), task)
            else:
                self._dial(task)

    def _start_next(self) -> _Task[R] | None:
        """Return the next work that has a call to make, None where there is none."""
        for place, work in self._works:
            self._advance(_Task(place, work))
            if self._ready:
                return self._ready.popleft()
            if self._error is not None:
                break
        return None

    def _advance(self, task: _Task[R], error: BackoutError | None = None) -> None:
        """Have a work go on, behind its call or with the error of it."""
        try:
            task.exchange = next(task.work) if error is None else task.work.throw(error)
        except StopIteration as done:
            self._results[task.place] = done.value
            self._pace.grow()
            self._hear(len(self._results))
        except BackoutError as uncaught:
            self._error = self._error or uncaught
            self._ready.clear()
            self._later.clear()
        else:
            task.attempts = Attempts(self._settings.retry, self._clock)
            task.was_dropped = False
            self._await_turn(task)

    def _await_turn(self, task: _Task[R]) -> None:
        task.ready_at = time.monotonic()
        self._ready.append(task)

    def _dial(self, task: _Task[R]) -> None:
        """Have a connection made, which may take long, and the task's call sent then."""
        deadline = time.monotonic() + (task.exchange.total_s or self._settings.total_s)

        def tell(dialled: Future[Line]) -> None:
            self._dialled.append((task, dialled))
            self._ringing.send(b"!")

        self._dialling += 1
        self._dialers.submit(self._transport.dial, deadline).add_done_callback(tell)

    def _take_dialled(self) -> None:
        self._bell.recv(_READ_BYTES)
        while self._dialled:
            task, dialled = self._dialled.popleft()
            self._dialling -= 1
            try:
                line = dialled.result()
            except ExchangeError as error:
                self._fail(task, make_no_answer(error, self._transport.where(task.exchange.call)))
            else:
                if self._error is None:
                    self._send(self._add_wire(line), task)
                else:
                    self._transport.give_back(line, reusable=True)

    def _add_wire(self, line: Line, used: int = 0) -> _Wire[R]:
        wire = _Wire[R](line)
        wire.used = used
        self._selector.register(wire.inner, _READ, wire)
        return wire

    def _send(self, wire: _Wire[R], task: _Task[R]) -> None:
        self._busy.add(wire)
        self._pace.check()
        call, now = task.exchange.call, time.monotonic()
        wire.task, wire.answer, wire.received = task, Answer(call.method), 0
        wire.deadline = now + (task.exchange.total_s or self._settings.total_s)
        wire.quiet_by = now + self._settings.timeout_s
        try:
            wire.unsent = self._transport.make_request(call)
            self._send_more(wire)
        except CallFailed as failed:
            self._rest(wire, reusable=True)
            self._fail(task, failed)
        except BROKEN as error:
            self._break(wire, error)

    def _send_more(self, wire: _Wire[R]) -> None:
        """Send what is left of a call; what the connection does not take yet is left again."""
        with suppress(*self._again):
            wire.unsent = wire.unsent[wire.inner.send(wire.unsent) :]
            wire.quiet_by = time.monotonic() + self._settings.timeout_s
        watched = _BOTH if wire.unsent else _READ
        if watched != wire.watched:
            wire.watched = watched
            self._selector.modify(wire.inner, watched, wire)

    def _attend(self, wire: _Wire[R]) -> None:
        """Do what a connection is ready for."""
        if wire.task is None:  # the server closes it, or says what nobody asked for
            self._free.remove(wire)
            self._drop(wire)
            return
        try:
            if wire.unsent:
                self._send_more(wire)
            self._receive(wire)
        except self._again:
            return
        except BROKEN as error:
            self._break(wire, error)

    def _receive(self, wire: _Wire[R]) -> None:
        answer = wire.answer
        while not answer.is_over:
            number = wire.inner.recv_into(self._buffer)
            wire.received += number
            wire.quiet_by = time.monotonic() + self._settings.timeout_s
            if wire.received > MOST_READ:
                raise MalformedHead("the answer is longer than it may be")
            if number:
                answer.feed(self._buffer[:number])
            else:
                answer.end()
        task = wire.task
        assert task is not None
        self._rest(wire, reusable=answer.is_kept and not answer.has_more)
        try:
            task.exchange.take(self._transport, answer.status, answer.headers, b"".join(answer.body))
        except CallFailed as failed:
            self._fail(task, failed)
        else:
            self._advance(task)

    def _rest(self, wire: _Wire[R], *, reusable: bool) -> None:
        """Have a connection wait for its next call, or close it."""
        self._busy.discard(wire)
        wire.task, wire.unsent = None, b""
        wire.used += 1
        if reusable:
            self._free.append(wire)
        else:
            self._drop(wire)

    def _drop(self, wire: _Wire[R]) -> None:
        self._selector.unregister(wire.inner)
        wire.line.close()

    def _break(self, wire: _Wire[R], error: Exception) -> None:
        """End a call whose connection failed; that the server had closed it meanwhile is once nobody's failure."""
        task, was_closed = wire.task, wire.used and not wire.received and not isinstance(error, TimeoutError)
        self._rest(wire, reusable=False)
        if task is not None and was_closed and not task.was_dropped and self._error is None:
            task.was_dropped = True
            self._await_turn(task)
        elif task is not None:
            self._fail(task, make_no_answer(error, self._transport.where(task.exchange.call)))

    def _fail(self, task: _Task[R], failed: CallFailed) -> None:
        """Have a call tried again later, or its work hear of the error."""
        failed.begun = task.begun
        self._settings.hear(failed)
        try:
            wait_s = task.attempts.find_wait_s(failed)
        except BackoutError as error:
            self._advance(task, error)
        else:
            if self._error is None:
                task.ready_at = time.monotonic() + wait_s
                heappush(self._later, (task.ready_at, task.place, task))

    def _end_late(self) -> None:
        """End the calls whose answers are late."""
        now = time.monotonic()
        if now >= self._later_look:
            self._later_look = now + _LOOK_EVERY_S
            for wire in [each for each in self._busy if now >= min(each.deadline, each.quiet_by)]:
                self._break(wire, TimeoutError())
