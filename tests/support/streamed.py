"""The one place where a test reads what a child prints while it runs: line by line, with a deadline that says why."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import deque
from typing import TYPE_CHECKING

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

_SHOWN = 20
_PIPE_BYTES = 1 << 20
_END_S = 10.0
"""A child that has closed its stdout, or was killed, gets so long to end."""


def await_line(
    process: subprocess.Popen[str],
    wanted: str | Callable[[str], bool],
    *,
    stream: IO[str] | None = None,
    patience_s: float = PATIENCE_S,
) -> str:
    """Return the first line that has `wanted` in it, or fulfils it; what comes before it is read over.

    Args:
        wanted: "" is any line.
        stream: `process.stdout` where None.
        patience_s: for all lines up to that one together; a child that takes longer is killed.

    Raises:
        AssertionError: the child ended, or did not print it in time; with its last lines and what stands in its stderr.
    """
    source = stream if stream is not None else process.stdout
    assert source is not None
    is_wanted = wanted if callable(wanted) else lambda line: wanted in line
    last: deque[str] = deque(maxlen=_SHOWN)
    found: list[str] = []
    failed: list[Exception] = []

    def read() -> None:
        try:
            for line in iter(source.readline, ""):
                last.append(line)
                if is_wanted(line):
                    found.append(line)
                    return
        except Exception as error:  # noqa: BLE001 raised again where it is waited for
            failed.append(error)

    # A thread, since `select` does not see the lines that the stream has read ahead.
    reader = threading.Thread(target=read, name="await-line", daemon=True)
    reader.start()
    reader.join(patience_s)
    if failed:
        raise failed[0]
    if found:
        return found[0]
    why = f"within {patience_s:g} s" if reader.is_alive() else f"before its output ended (exit code {_code(process)})"
    said = "" if process.stderr is source else _waiting_in(process.stderr)
    if reader.is_alive():
        process.kill()  # the reader holds the stream: whoever closes it would wait for ever
        reader.join(_END_S)
    shown = "".join(last) or "(nothing)\n"
    raise AssertionError(f"no such line {why}; the last ones:\n{shown}stderr:\n{said or '(nothing)'}")


def _code(process: subprocess.Popen[str]) -> int | None:
    try:
        return process.wait(_END_S)
    except subprocess.TimeoutExpired:
        return None


def _waiting_in(stream: IO[str] | None) -> str:
    """Return what stands in a pipe, without waiting for more of it."""
    if stream is None or stream.closed:
        return ""
    os.set_blocking(stream.fileno(), False)
    try:
        return os.read(stream.fileno(), _PIPE_BYTES).decode(errors="replace")
    except BlockingIOError:
        return ""
    finally:
        os.set_blocking(stream.fileno(), True)
