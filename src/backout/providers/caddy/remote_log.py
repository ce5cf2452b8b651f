"""A log on another host, read as far as it has grown; nothing counts twice where a connection is made again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from backout.errors import ProviderUnavailable
from backout.providers.logs.growing import Rotated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.providers.caddy.machine import Machine
    from backout.providers.logs.growing import Identity, OpenedFile

T = TypeVar("T")


class RemoteFile:
    """An opened file of a host."""

    def __init__(self, machine: Machine, path: Path) -> None:
        self._machine = machine
        self._path = path
        self._opened, self.identity = machine.open_file(path)

    def measure(self) -> int:
        """Return how long it is."""
        return self._ask(self._machine.measure)

    def read(self, at: int, most: int) -> bytes:
        """Return some bytes from there on."""
        return self._ask(lambda opened: self._machine.read_part(opened, at, most))

    def close(self) -> None:
        """Let go of it."""
        self._machine.close_file(self._opened)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            self.close()

    def _ask(self, question: Callable[[str], T | None]) -> T:
        """Return the answer about the opened file; it is opened again where its connection is gone."""
        found = question(self._opened)
        if found is None:
            self._open_again()
            found = question(self._opened)
        if found is None:
            raise ProviderUnavailable("the connection was lost again", where=self._machine.describe(self._path))
        return found

    def _open_again(self) -> None:
        """Open it on a new connection. Raises Rotated: another file has its name by now."""
        opened, identity = self._machine.open_file(self._path)
        if identity != self.identity:
            self._machine.close_file(opened)
            what = "the log was rotated while the host was not reached, so that not all of it can be counted"
            raise Rotated(what, where=self._machine.describe(self._path))
        self._opened = opened


class RemoteDisk:
    """The files of a host."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def open(self, path: Path) -> OpenedFile:
        """Open a file."""
        return RemoteFile(self._machine, path)

    def find_identity(self, path: Path) -> Identity | None:
        """Return which file a path leads to."""
        return self._machine.find_identity(path)
