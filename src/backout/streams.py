"""Standard streams that never end a command: what cannot be written is dropped, and that is remembered.

A reader that went away (a closed pipe) is no error. A disk that is full, and a descriptor that was closed before the
program began, are: the output is lost. Python's own streams raise for all three, in whichever line happened to write,
and again when the interpreter ends.
"""

from __future__ import annotations

import io
import os
import sys

_OUT, _ERR = 1, 2


class SafeStream(io.TextIOWrapper):
    """A text stream on a file descriptor.

    Attributes:
        lost: why output was lost, "" while none was, and for a reader that went away.
        is_gone: whether any further output is lost.
        is_used: whether anything was written.
    """

    lost = ""
    is_gone = False
    is_used = False

    def write(self, text: str, /) -> int:
        """Write text; what cannot be written is dropped."""
        self.is_used = True
        try:
            return super().write(text)
        except UnicodeError:
            raise
        except (OSError, ValueError) as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Flush the buffer."""
        try:
            super().flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def _lose(self, error: OSError | ValueError) -> None:
        """Discard the rest, including the buffer."""
        self.is_gone = True
        if not isinstance(error, BrokenPipeError):
            self.lost = self.lost or getattr(error, "strerror", None) or "it is closed"
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            super().flush()
        except (OSError, ValueError):
            return


def make_safe() -> None:
    """Replace this process's streams with safe ones, and make sure that descriptors 0 to 2 are open.

    Otherwise the first file opened, such as a database, would get the number of a closed stream, and its output.
    """
    closed = [number for number in (0, _OUT, _ERR) if not _is_open(number)]
    for number in closed:  # the lowest free one is handed out
        os.open(os.devnull, os.O_WRONLY if number else os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = _make_safe(sys.stdout, _OUT, is_closed=_OUT in closed)
    sys.stderr = _make_safe(sys.stderr, _ERR, is_closed=_ERR in closed)


def is_gone() -> bool:
    """Return whether standard output is no longer read."""
    return isinstance(sys.stdout, SafeStream) and sys.stdout.is_gone


def settle_exit_code(code: int) -> int:
    """Return the exit code of a process that ends, and say when its answer could not be written."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    out = sys.stdout
    if not (isinstance(out, SafeStream) and out.lost and out.is_used):
        return code
    sys.stderr.write(f"error: the answer could not be written to standard output: {out.lost}\n")
    sys.stderr.flush()
    return code or 1


def _make_safe(stream: object, number: int, *, is_closed: bool) -> SafeStream:
    made = SafeStream(
        io.BufferedWriter(io.FileIO(number, "w", closefd=False)),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors=getattr(stream, "errors", None) or "strict",
        line_buffering=number == _ERR or os.isatty(number),
    )
    if is_closed:
        made.lost = "it is closed"
    return made


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
