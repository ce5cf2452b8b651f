"""The one wrapper that repeats a call to a provider; nothing else in the project retries.

An adapter raises `CallFailed` for each failed attempt and says whether it is permanent; everything else passes through.
"""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING, Final, TypeVar

from backout.decoding import Undecodable, parse_http_date
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.errors import BackoutError
    from backout.ports import Clock

T = TypeVar("T")

LONGEST_S: Final = 86_400.0
"""A provider that asks to wait for longer than a day has said no."""


class CallFailed(Exception):
    """One attempt failed.

    Args:
        error: raised to the caller if this was the last attempt.
        permanent: another attempt would end the same way.
        retry_after_s: the wait that the provider asked for, or None.

    Attributes:
        begun: when the attempt was, by `time.monotonic()`; set by what repeats it.
    """

    def __init__(self, error: BackoutError, *, permanent: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.permanent = permanent
        self.retry_after_s = retry_after_s
        self.begun = math.inf


class Retry(Value, frozen=True):
    """The number of attempts and the waits.

    Args:
        attempts: the maximum number of calls.
        first_wait_s: before the second attempt; doubles from then on, up to `longest_wait_s`.
        total_s: no attempt begins later than that after the first one.
    """

    attempts: int = 5
    first_wait_s: float = 0.2
    longest_wait_s: float = 10.0
    total_s: float = 60.0

    def waits(self) -> Iterator[float]:
        """Yield the upper bound of each wait between two attempts."""
        wait_s = self.first_wait_s
        for _ in range(self.attempts - 1):
            yield min(wait_s, self.longest_wait_s)
            wait_s *= 2


def retry_call(
    call: Callable[[], T],
    policy: Retry,
    clock: Clock,
    draw: Callable[[float, float], float] = random.uniform,
    hear: Callable[[CallFailed], None] = lambda _failed: None,
) -> T:
    """Return what `call` returns, repeating it while it raises a `CallFailed` that is not permanent.

    A wait is drawn between half and all of its bound, so that many clients do not return together; a wait that the
    provider asked for (Retry-After) is kept exactly. Where it would end after `total_s`, the error comes at once.

    Args:
        hear: is told of each failed attempt, before the wait.

    Raises:
        BackoutError: the `error` of the last attempt.
    """
    attempts = Attempts(policy, clock, draw)
    while True:
        begun = time.monotonic()
        try:
            return call()
        except CallFailed as failed:
            failed.begun = begun
            hear(failed)
            wait_s = attempts.find_wait_s(failed)
        clock.sleep(wait_s)


class Attempts:
    """The attempts of one call, the first of which begins now."""

    def __init__(self, policy: Retry, clock: Clock, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._policy = policy
        self._clock = clock
        self._draw = draw
        self._begun = clock.now()
        self._waits = policy.waits()

    def leave_out(self, seconds: float) -> None:
        """Do not count a time in which the call waited for its turn."""
        self._begun += seconds

    def find_wait_s(self, failed: CallFailed) -> float:
        """Return the wait before the next attempt, as `retry_call`. Raises BackoutError: there is none."""
        bound_s = next(self._waits, None)
        if failed.permanent or bound_s is None:
            raise failed.error from failed
        wait_s = self._draw(bound_s / 2, bound_s) if failed.retry_after_s is None else failed.retry_after_s
        if self._clock.now() - self._begun + wait_s > self._policy.total_s:
            raise failed.error from failed
        return wait_s


def retry_after_s(header: str | None, now: float) -> float | None:
    """Return the wait that a Retry-After header asks for (seconds, or an HTTP date); None without a readable one.

    >>> retry_after_s("7", 0.0), retry_after_s("Thu, 01 Jan 1970 00:00:09 GMT", 4.0), retry_after_s("soon", 0.0)
    (7.0, 5.0, None)
    """
    if header is None:
        return None
    if header.strip().isdecimal():
        return min(float(header), LONGEST_S)
    try:
        return min(max(0.0, parse_http_date(header) - now), LONGEST_S)
    except Undecodable:
        return None
