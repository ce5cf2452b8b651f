"""The one place where a test on real parts waits: polling with a deadline, never a bare sleep."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def until(predicate: Callable[[], T], timeout_s: float = 10.0, what: str = "the condition", every_s: float = 0.02) -> T:
    """Return the first truthy answer of `predicate`, or fail the test after `timeout_s` naming `what`."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > deadline:
            message = f"not within {timeout_s} s: {what} (last answer: {answer!r})"
            raise AssertionError(message)
        time.sleep(every_s)
