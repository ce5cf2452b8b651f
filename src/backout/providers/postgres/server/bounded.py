"""A connection on which no statement is waited for without an end: of a silent server no time-out of its own comes.

Loaded with the first connection, as psycopg is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

if TYPE_CHECKING:
    from psycopg.abc import PQGen

T = TypeVar("T")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when a statement has no answer within `limit_s`; raises psycopg.OperationalError."""

    limit_s = 60.0

    def wait(self, gen: PQGen[T], *more: Any, **named: Any) -> T:
        """Wait as psycopg does, up to the limit.

        Raises:
            psycopg.OperationalError: there was no answer by then.
        """
        try:
            return super().wait(_bound(gen, time.monotonic() + self.limit_s), *more, **named)
        except TimeoutError:
            self.pgconn.finish()  # what it would say next is the answer to an earlier question
            raise psycopg.OperationalError("no answer in time") from None


def _bound(gen: PQGen[T], until: float) -> PQGen[T]:
    """Yield as a generator of psycopg does, which is asked again several times a second. Raises TimeoutError."""
    try:
        state = next(gen)
        while True:
            ready = yield state
            if time.monotonic() > until:
                raise TimeoutError
            state = gen.send(ready)
    except StopIteration as end:
        found: T = end.value
        return found
