"""New complete lines of a file since the last look, across rotation, truncation and half-written lines."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

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


Identity = tuple[int, int]
"""What tells a file from another one that has its name: device and inode."""


class Rotated(ProviderUnavailable):
    """Another file has the name of one that cannot be read any more: what came last in the old one is lost."""


class OpenedFile(Protocol):
    """A file that stays open when another one gets its name.

    Each method may raise OSError, ProviderUnavailable where the host is not reached, and Rotated.
    """

    @property
    def identity(self) -> Identity:
        """Which file it is."""
        ...

    def measure(self) -> int:
        """Return how long it is."""
        ...

    def read(self, at: int, most: int) -> bytes:
        """Return some bytes from there on, b"" at its end."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Disk(Protocol):
    """Where the file lies. Each method may raise OSError, and ProviderUnavailable where the host is not reached."""

    def open(self, path: Path) -> OpenedFile:
        """Open a file."""
        ...

    def find_identity(self, path: Path) -> Identity | None:
        """Return which file a path leads to, None where there is none."""
        ...


class _LocalFile:
    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        found = os.fstat(self._file.fileno())
        self.identity = (found.st_dev, found.st_ino)

    def measure(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def read(self, at: int, most: int) -> bytes:
        self._file.seek(at)
        return self._file.read(most)

    def close(self) -> None:
        self._file.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            self.close()


class LocalDisk:
    """This machine."""

    def open(self, path: Path) -> OpenedFile:
        """Open a file."""
        return _LocalFile(path)

    def find_identity(self, path: Path) -> Identity | None:
        """Return which file a path leads to."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino


class GrowingFile:
    """Follows one path; the first look begins a given number of bytes before the end.

    A file of another inode is the next one (rotation): what is left of the old one comes first, its last line even
    without an end. A file that is shorter than what was read of it, or begins with other bytes, was truncated.
    """

    def __init__(self, path: Path, *, first_bytes: int = _FIRST_BYTES, disk: Disk | None = None) -> None:
        self.path = path
        self._disk = disk or LocalDisk()
        self._first_bytes: int | None = first_bytes
        self._file: OpenedFile | None = None
        self._begins_with = b""
        self._at = 0
        self._rest = b""
        self._skips = False  # what comes up to the next line's end belongs to a line that was not seen whole

    def lines(self) -> Iterator[Line]:
        """Yield the whole lines since the last call, oldest first.

        Raises:
            ProviderUnavailable: there is no such file, or it cannot be read. After Rotated, the next call begins with
                the first line of the new file.
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
        except Rotated:
            self._file, self._first_bytes = None, None
            raise
        except OSError as error:
            what = f"the log cannot be read: {error.strerror or error}"
            raise ProviderUnavailable(what, where=str(self.path)) from error

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            with contextlib.suppress(ProviderUnavailable):
                self._file.close()
            self._file = None

    def _open(self, first_bytes: int | None) -> None:
        opened = self._disk.open(self.path)
        self.close()
        self._file = opened
        self._rest, self._at, self._skips = b"", 0, False
        self._begins_with = opened.read(0, _FINGERPRINT_BYTES)
        size = opened.measure()
        if first_bytes is not None and size > first_bytes:
            self._at = size - first_bytes
            self._skips = True

    def _has_been_replaced(self) -> bool:
        """Whether the path leads to another file now; a path that leads nowhere is a rotation in the middle."""
        assert self._file is not None
        there = self._disk.find_identity(self.path)
        return there is not None and there != self._file.identity

    def _new(self) -> Iterator[Line]:
        assert self._file is not None
        if self._was_truncated(self._file):
            self._rest, self._at, self._skips = b"", 0, False
            self._begins_with = b""
        while piece := self._file.read(self._at, _PIECE_BYTES):
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
            self._begins_with = self._file.read(0, _FINGERPRINT_BYTES)

    def _was_truncated(self, file: OpenedFile) -> bool:
        return file.measure() < self._at or file.read(0, len(self._begins_with)) != self._begins_with

    def _last(self) -> Iterator[Line]:
        """Yield the last line of a file that gets no more."""
        if self._rest and not self._skips:
            yield self._at - len(self._rest), self._rest
        self._rest = b""
