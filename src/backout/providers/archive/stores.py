"""Stores of objects: a folder, or (in `bucket`) a bucket. Each object exists whole or not at all.

Keys are relative paths of plain names, such as `base/20261125-190203/record.json`; a store accepts and lists no others.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Protocol

from backout.errors import BackoutError, Refused
from backout.model.names import is_key, parse_key
from backout.private import open_unlinked

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_UNFINISHED = ".part"
"""The suffix of a file while it is being written; if it remains, its writer was killed or is still at work."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Store(Protocol):
    """Objects by key; each call raises Refused for an invalid key (`parse_key`)."""

    def put(self, key: str, data: bytes) -> None:
        """Keep an object; it is durable when this returns, and replaces an earlier one at once or not at all."""
        ...

    def get(self, key: str) -> bytes | None:
        """Return an object, or None when there is none."""
        ...

    def keys(self, prefix: str, *, after: str = "") -> tuple[tuple[str, int], ...]:
        """Return (key, size in bytes) of each object whose key begins so, sorted; what has no such key is not ours.

        Args:
            after: only what sorts behind it.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, in this order; missing ones are ignored."""
        ...

    @property
    def name(self) -> str:
        """Where it is, for a person."""
        ...


class FolderStore:
    """Objects as files of a folder on this machine, readable by their owner alone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.directory)

    def put(self, key: str, data: bytes) -> None:
        """Write, sync, rename, sync the folder. Raises BackoutError when the disk is full or refuses."""
        path = self._path(key)
        unfinished = path.with_name(path.name + _UNFINISHED)
        try:
            self._make_folder(path.parent)
            with open(unfinished, "wb", opener=open_unlinked) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise make_not_kept_error(error, str(path)) from error

    def get(self, key: str) -> bytes | None:
        """Read a file. Raises BackoutError when it is there and cannot be read."""
        path = self._path(key)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BackoutError(f"cannot be read: {error.strerror}", where=str(path)) from error

    def keys(self, prefix: str, *, after: str = "") -> tuple[tuple[str, int], ...]:
        """Walk the folder; files still being written are left out."""
        folder = self._path(prefix.rpartition("/")[0]) if "/" in prefix else self.directory
        found = []
        for place, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(place, name)  # noqa: PTH118 pathlib costs 10 us for each of many files
                key = os.path.relpath(path, self.directory)
                if key.startswith(prefix) and key > after and not name.endswith(_UNFINISHED) and is_key(key):
                    found.append((key, os.stat(path).st_size))  # noqa: PTH116 same
        return tuple(sorted(found))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the files, and the folders that are empty then."""
        for key in keys:
            path = self._path(key)
            path.unlink(missing_ok=True)
            path.with_name(path.name + _UNFINISHED).unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self.directory or not folder.is_dir() or any(folder.iterdir()):
                    break
                folder.rmdir()

    def _path(self, key: str) -> Path:
        """Return where an object lies. Raises Refused: a link on the way leads out of the folder."""
        path = self.directory / parse_key(key)
        real, root = os.path.realpath(path.parent), os.path.realpath(self.directory)
        if real != root and not real.startswith(root + os.sep):
            raise Refused("a link leads out of the folder of backups", where=str(path.parent))
        return path

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def make_not_kept_error(error: OSError, where: str) -> BackoutError:
    """Return the error of a file that could not be written."""
    if error.errno in _NO_ROOM:
        return BackoutError(
            f"no room left: {error.strerror}", where=where, hint="make room, then type the same command again"
        )
    return BackoutError(f"cannot be written: {error.strerror}", where=where)
