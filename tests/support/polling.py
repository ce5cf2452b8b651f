"""The one place where a test on real parts waits: polling with a deadline, never a bare sleep."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

T = TypeVar("T")

PATIENCE_S = 240.0
"""How long a process, a thread or an answer is waited for before it counts as hung: a busy machine takes its time."""
BUSY = 12.0
"""A machine may be so much busier than the one that a test was written on."""


def until(
    predicate: Callable[[], T],
    timeout_s: float = 10.0,
    what: str = "the condition",
    every_s: float = 0.02,
    *,
    process: subprocess.Popen[str] | None = None,
) -> T:
    """Return the first truthy answer of `predicate`, or fail the test naming `what`.

    Args:
        timeout_s: long enough on a machine that does nothing else; a busy one gets several times that.
        process: the one that is to bring it about; if it ends before, the test fails with what it said.
    """
    timeout_s *= BUSY
    deadline = time.monotonic() + timeout_s
    while True:
        has_ended = process is not None and process.poll() is not None  # looked at first: its end may be what brings it
        answer = predicate()
        if answer:
            return answer
        if process is not None and has_ended:
            out, err = process.communicate()
            message = f"it ended with {process.returncode} before {what} (last answer: {answer!r})\n{out}{err}"
            raise AssertionError(message)
        if time.monotonic() > deadline:
            message = f"not within {timeout_s} s: {what} (last answer: {answer!r})"
            raise AssertionError(message)
        time.sleep(every_s)
