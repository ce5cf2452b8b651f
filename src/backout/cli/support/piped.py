"""What is piped into a command, read so that Ctrl-C is never lost.

A signal that comes just before a read begins is otherwise noticed when that read ends, which may be never: Python looks
for signals before the call and when the call is interrupted, and this one is between the two.
"""

from __future__ import annotations

import io
import os
import select
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_STDIN = 0
_AT_ONCE = 1 << 16


def open_piped() -> io.BufferedReader:
    """Open what is piped in, buffered. Raises as `Piped`."""
    return io.BufferedReader(Piped(), _AT_ONCE)


class Piped(io.RawIOBase):
    """Standard input, unbuffered (main thread only); closing it leaves the descriptor open.

    It waits for input and for signals at once: each signal writes a byte into a pipe of its own (`set_wakeup_fd`).

    Raises:
        OSError: standard input is closed.
    """

    def __init__(self) -> None:
        os.fstat(_STDIN)
        self._woken, self._wakes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)

    def readable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Return standard input's descriptor."""
        return _STDIN

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read what there is into a buffer; raises what the handler of a signal raises."""
        view = memoryview(buffer).cast("B")
        while _STDIN not in select.select([_STDIN, self._woken], [], [])[0]:
            os.read(self._woken, len(view))  # the signal's handler has run
        found = os.read(_STDIN, len(view))
        view[: len(found)] = found
        return len(found)

    def close(self) -> None:
        """Have signals wake whoever they woke before."""
        if not self.closed:
            signal.set_wakeup_fd(self._before)
            os.close(self._woken)
            os.close(self._wakes)
        super().close()
