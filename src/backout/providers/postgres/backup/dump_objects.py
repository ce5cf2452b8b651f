"""The bytes of dumps: objects of 32 MB in a folder, compressed, sealed when there is a key, each readable alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Final

from backout.errors import AuthError, BackoutError
from backout.model.names import parse_id
from backout.private import make_private_folder
from backout.providers.archive.holding import Holding
from backout.providers.archive.sealing import is_sealed, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from backout.providers.archive.sealing import Key
    from backout.providers.silence import Readable

_OBJECT_BYTES: Final = 32 * 1024 * 1024


class DumpObjects:
    """A folder of mode 0700 with files of mode 0600.

    Args:
        key: returns the sealing key, None: they are not sealed.

    Attributes:
        accepted: unsealed dumps that are accepted.
    """

    def __init__(self, directory: Path, key: Callable[[], Key | None]) -> None:
        self._directory = directory
        self._key = key
        self.accepted: frozenset[str] = frozenset()

    def write(self, dump: str, stream: Readable) -> tuple[int, str]:
        """Store all of a stream; return the bytes stored and the SHA-256 of what was read."""
        key, hashed, stored = self._key(), hashlib.sha256(), 0
        number = 0
        while (content := _read_chunk(stream)) or number == 0:
            hashed.update(content)
            path = self._path(dump, number)
            sealed = pack(path.name, content, key)
            self._put(path, sealed)
            stored += len(sealed)
            number += 1
        return stored, hashed.hexdigest()

    def read(self, dump: str) -> Iterator[bytes]:
        """Yield what was stored. Raises BackoutError naming the file that is missing or damaged, AuthError: the key."""
        key, number = self._key(), 0
        while (path := self._path(dump, number)).is_file():
            try:
                content = path.read_bytes()
                sealed = is_sealed(content) or dump not in self.accepted
                yield unpack(path.name, content, key if sealed else None)
            except AuthError:
                raise
            except BackoutError as error:
                raise BackoutError(f"the dump is damaged: {error.what}", where=str(path)) from None
            number += 1
        if number == 0:
            raise BackoutError("the dump's file is missing", where=str(path), hint="backout db dumps list")

    def check(self, dump: str, sha256: str) -> None:
        """Read a dump. Raises BackoutError: a file is missing or damaged."""
        hashed = hashlib.sha256()
        for content in self.read(dump):
            hashed.update(content)
        if hashed.hexdigest() != sha256:
            where = str(self._path(dump, 0))
            raise BackoutError("the dump is damaged: its files are not those that were written", where=where)

    def remove(self, dump: str) -> None:
        """Delete a dump's files; what is gone already is no error."""
        for path in self._directory.glob(f"{parse_id(dump)}.[0-9]*"):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Make the folder and work in it alone. Raises Busy: another process does. BackoutError: it cannot be made."""
        try:
            make_private_folder(self._directory)
            self._directory.chmod(0o700)
        except OSError as error:
            raise BackoutError(f"the folder of dumps: {error.strerror}", where=str(self._directory)) from error
        with Holding(self._directory.parent, self._directory.name).held():
            yield

    def sweep(self, known: Collection[str]) -> None:
        """Delete what belongs to no dump, scratch servers included: a kill left it."""
        for path in self._directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.partition(".")[0] not in known:
                path.unlink(missing_ok=True)

    def _path(self, dump: str, number: int) -> Path:
        return self._directory / f"{parse_id(dump)}.{number:05d}"

    def _put(self, path: Path, content: bytes) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise BackoutError(f"the dump cannot be written: {error.strerror}", where=str(path)) from error


def _read_chunk(stream: Readable) -> bytes:
    """Return as much as an object holds; a pipe gives less at a time."""
    content = bytearray()
    while len(content) < _OBJECT_BYTES and (chunk := stream.read(_OBJECT_BYTES - len(content))):
        content += chunk
    return bytes(content)
