"""New complete lines of a file since the last look, across rotation, truncation and half-written lines."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, BinaryIO, Final

from backout.errors import ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_LINE_BYTES: Final = 1024 * 1024
_FIRST_BYTES: Final = 64 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024
_FINGERPRINT_BYTES: Final = 256

Line = tuple[int, bytes]
"""Where a line begins in its file, in bytes, and the line; one that is longer than a line may be comes cut."""


class GrowingFile:
    """Follows one path; the first look begins a given number of bytes before the end.

    A file of another inode is the next one (rotation): what is left of the old one comes first, its last line even
    without an end. A file that is shorter than what was read of it, or begins with other bytes, was truncated.
    """

    def __init__(self, path: Path, *, first_bytes: int = _FIRST_BYTES) -> None:
        self.path = path
        self._first_bytes = first_bytes
        self._file: BinaryIO | None = None
        self._begins_with = b""
        self._at = 0
        self._rest = b""
        self._skips = False  # what comes up to the next line's end belongs to a line that was not seen whole

    def lines(self) -> Iterator[Line]:
        """Yield the whole lines since the last call, oldest first.

        Raises:
            ProviderUnavailable: there is no such file, or it cannot be read.
        """
        try:
            if self._file is None:
                self._open(self._first_bytes)
            yield from self._new()
            while self._has_been_replaced():
                yield from self._new()  # written between the last look and the rotation
                yield from self._last()
                self._open(None)
                yield from self._new()
        except OSError as error:
            what = f"the log cannot be read: {error.strerror or error}"
            raise ProviderUnavailable(what, where=str(self.path)) from error

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, first_bytes: int | None) -> None:
        opened = self.path.open("rb")
        self.close()
        self._file = opened
        self._rest, self._at, self._skips = b"", 0, False
        self._begins_with = opened.read(_FINGERPRINT_BYTES)
        size = os.fstat(opened.fileno()).st_size
        if first_bytes is not None and size > first_bytes:
            self._at = size - first_bytes
            self._skips = True

    def _has_been_replaced(self) -> bool:
        """Whether the path leads to another file now; a path that leads nowhere is a rotation in the middle."""
        assert self._file is not None
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _new(self) -> Iterator[Line]:
        assert self._file is not None
        if self._was_truncated(self._file):
            self._rest, self._at, self._skips = b"", 0, False
            self._begins_with = b""
        self._file.seek(self._at)
        while piece := self._file.read(_PIECE_BYTES):
            begins = self._at - len(self._rest)
            self._at += len(piece)
            *whole, self._rest = (self._rest + piece).split(b"\n")
            for line in whole:
                if not self._skips:
                    yield begins, line[:MAX_LINE_BYTES]
                self._skips = False
                begins += len(line) + 1
            if len(self._rest) > MAX_LINE_BYTES:
                if not self._skips:
                    yield begins, self._rest[:MAX_LINE_BYTES]
                self._rest, self._skips = b"", True
        if len(self._begins_with) < _FINGERPRINT_BYTES:
            self._file.seek(0)
            self._begins_with = self._file.read(_FINGERPRINT_BYTES)

    def _was_truncated(self, file: BinaryIO) -> bool:
        if os.fstat(file.fileno()).st_size < self._at:
            return True
        file.seek(0)
        return file.read(len(self._begins_with)) != self._begins_with

    def _last(self) -> Iterator[Line]:
        """Yield the last line of a file that gets no more."""
        if self._rest and not self._skips:
            yield self._at - len(self._rest), self._rest
        self._rest = b""

    def __del__(self) -> None:
        """Let go of the file even when `close` was not called."""
        with contextlib.suppress(AttributeError, OSError):
            self.close()
