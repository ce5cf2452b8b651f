"""A deadline for programs that move much over the network: for progress, as the whole may take hours."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Protocol, Self

from backout.errors import ProviderUnavailable

if TYPE_CHECKING:
    import subprocess
    from io import BufferedReader
    from typing import Any

LONGEST_SILENCE_S: Final = 900.0
"""A server that answers and works says something within a quarter of an hour; a busy checkpoint takes minutes."""


class Readable(Protocol):
    """Bytes, some at a time; none at the end."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        ...


class EndedWhenSilent:
    """Ends a program that has made no progress for `limit_s`, and raises this instead of the program's own error.

    Raises:
        ProviderUnavailable: at the end of the block, when it was ended.
    """

    def __init__(self, process: subprocess.Popen[Any], what: str, limit_s: float = LONGEST_SILENCE_S) -> None:
        self._process = process
        self._what = what
        self._limit_s = limit_s
        self._heard_at = time.monotonic()
        self._ended = False
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()
        if self._ended:
            what = f"{self._what} made no progress for {self._limit_s:g} s, and was ended"
            raise ProviderUnavailable(what, where="database", hint="check that the server is reachable, then try again")

    def heard(self) -> None:
        """Note that there was progress."""
        self._heard_at = time.monotonic()

    def hearing(self, stream: BufferedReader) -> Readable:
        """Return the stream so that whatever comes out of it counts as progress."""
        return _Heard(stream, self)

    def _look(self) -> None:
        while not self._over.wait(min(self._limit_s / 4, 5.0)):
            if time.monotonic() - self._heard_at > self._limit_s:
                self._ended = True
                self._process.kill()
                return


class _Heard:
    def __init__(self, stream: BufferedReader, patience: EndedWhenSilent) -> None:
        self._stream = stream
        self._patience = patience

    def read(self, size: int, /) -> bytes:
        found = self._stream.read1(size)
        self._patience.heard()
        return found
