"""A log on another host, read as far as it has grown; nothing counts twice where a connection is made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import ProviderUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from backout.providers.caddy.machine import Machine
    from backout.providers.logs.growing import Identity, OpenedFile


class RemoteFile:
    """An opened file of a host."""

    def __init__(self, machine: Machine, path: Path) -> None:
        self._machine = machine
        self._path = path
        self._opened, self.identity = machine.open_file(path)

    def measure(self) -> int:
        """Return how long it is."""
        found = self._machine.measure(self._opened)
        if found is None:
            self._open_again()
            found = self._machine.measure(self._opened)
        return found or 0

    def read(self, at: int, most: int) -> bytes:
        """Return some bytes from there on."""
        found = self._machine.read_part(self._opened, at, most)
        if found is None:
            self._open_again()
            found = self._machine.read_part(self._opened, at, most)
        return found or b""

    def close(self) -> None:
        """Let go of it."""
        self._machine.close_file(self._opened)

    def _open_again(self) -> None:
        """Open it on a new connection. Raises ProviderUnavailable: another file has its name by now."""
        opened, identity = self._machine.open_file(self._path)
        if identity != self.identity:
            self._machine.close_file(opened)
            what = "the log was rotated while the host was not reached, so that not all of it can be counted"
            raise ProviderUnavailable(what, where=self._machine.describe(self._path))
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
