"""A folder as a stream of bytes in packs of some MB, so that small files cost little and a bucket sees few objects.

The files stand one behind the other in the order of their names; the stream is cut into blocks, the blocks into packs.
A file is found again by its offset in the stream. A file that is the same as in the backup before is not stored: its
entry names the backup whose stream holds it. Threads work side by side, since zstd and AES let go of Python's lock.
"""

from __future__ import annotations

import bisect
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import msgspec

from backout.errors import BackoutError
from backout.providers.archive.sealing import Damaged, Sealer, compressor, damaged, digest, expander, opened
from backout.providers.archive.stores import not_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from backout.providers.archive.sealing import Key
    from backout.providers.archive.stores import Store

BLOCK_BYTES: Final = 4 * 1024 * 1024
_BLOCKS_IN_PACK: Final = 16
_COMPARED_BYTES: Final = 16 * 1024 * 1024
"""Larger files are never left out: Postgres itself sends only their changed blocks."""


class File(msgspec.Struct, frozen=True, array_like=True):
    """One file: path in the folder, size, digest (b"": not compared), the backup whose stream holds it, where in it."""

    path: str
    size: int
    digest: bytes
    backup: str
    offset: int


class Pack(msgspec.Struct, frozen=True, array_like=True):
    """One object: where its part of the stream begins, how long that is, and how many bytes are kept."""

    offset: int
    size: int
    stored: int


class Index(msgspec.Struct, frozen=True):
    """What a backup holds: its files, its folders (empty ones count for Postgres), and its packs in their order."""

    files: list[File]
    folders: list[str]
    packs: list[Pack]


def pack_key(backup: str, number: int) -> str:
    """Return the key of a pack."""
    return f"base/{backup}/pack-{number:06d}"


class Source:
    """A folder that is going to be a stream; what the backup before holds already is only referred to."""

    def __init__(self, root: Path, backup: str, before: Mapping[str, File]) -> None:
        self._root = root
        self.files: list[File] = []
        self.folders: list[str] = []
        self._stored: list[File] = []
        self.size = 0
        for path, size in self._walk():
            mark = digest((root / path).read_bytes()) if 0 < size <= _COMPARED_BYTES else b""
            known = before.get(path)
            if known is not None and known.size == size and known.digest == mark and (mark or not size):
                self.files.append(known)
                continue
            self.files.append(File(path, size, mark, backup, self.size))
            self._stored.append(self.files[-1])
            self.size += size

    def _walk(self) -> Iterator[tuple[str, int]]:
        for place, folders, names in os.walk(self._root):
            folders.sort()
            at = os.path.relpath(place, self._root)
            if at != ".":
                self.folders.append(at)
            for name in sorted(names):
                path = os.path.join(place, name)  # noqa: PTH118 pathlib costs 10 us for each of many files
                yield name if at == "." else f"{at}/{name}", os.stat(path, follow_symlinks=False).st_size  # noqa: PTH116

    def blocks(self) -> Iterator[list[tuple[str, int, int]]]:
        """Yield each block as (path, offset in the file, length) pieces."""
        block, room = [], BLOCK_BYTES
        for file in self._stored:
            at = 0
            while at < file.size:
                piece = min(room, file.size - at)
                block.append((file.path, at, piece))
                at, room = at + piece, room - piece
                if not room:
                    yield block
                    block, room = [], BLOCK_BYTES
        if block:
            yield block

    def read(self, block: Sequence[tuple[str, int, int]]) -> bytes:
        """Return a block's bytes."""
        parts = []
        for path, at, length in block:
            with (self._root / path).open("rb", buffering=0) as file:
                parts.append(os.pread(file.fileno(), length, at))
                if len(parts[-1]) != length:
                    raise BackoutError("it became shorter while it was read", where=str(self._root / path))
        return b"".join(parts)


def write_packs(
    store: Store, source: Source, backup: str, key: Key | None, level: int, progress: Callable[[int, int], None]
) -> list[Pack]:
    """Store a source's stream and return its packs; `progress` hears (bytes so far, bytes in all)."""
    packs: list[Pack] = []
    blocks = source.blocks()
    with ThreadPoolExecutor(_threads()) as pool:
        at = 0
        while group := list(itertools.islice(blocks, _BLOCKS_IN_PACK)):
            name = pack_key(backup, len(packs))
            sealer = Sealer(name, key)

            def made(numbered: tuple[int, Sequence[tuple[str, int, int]]], sealer: Sealer = sealer) -> bytes:
                number, block = numbered
                frame = compressor(level)(source.read(block))
                return sealer.seal(number, frame, last=number == len(group) - 1)

            data = sealer.head + b"".join(pool.map(made, enumerate(group)))
            store.put(name, data)
            size = sum(length for block in group for _, _, length in block)
            packs.append(Pack(at, size, len(data)))
            at += size
            progress(at, source.size)
    return packs


def unpack_files(
    store: Store,
    backup: str,
    index: Index,
    wanted: Sequence[File],
    into: Path,
    key: Key | None,
    progress: Callable[[int], None],
) -> None:
    """Write the wanted files of one backup's own stream into a folder that has their folders already.

    Raises:
        BackoutError: a pack is damaged or missing, naming it; or there is no room.
    """
    wanted = sorted((file for file in wanted if file.size), key=lambda file: file.offset)
    begins, ends = [file.offset for file in wanted], [file.offset + file.size for file in wanted]
    spans = (
        (bisect.bisect_right(ends, pack.offset), bisect.bisect_left(begins, pack.offset + pack.size))
        for pack in index.packs
    )
    todo = [(number, wanted[begin:end]) for number, (begin, end) in enumerate(spans) if begin < end]

    def one(task: tuple[int, Sequence[File]]) -> None:
        number, files = task
        name, pack = pack_key(backup, number), index.packs[number]
        data = store.get(name)
        if data is None:
            raise damaged(f"{store.name}/{name}", "this part of the backup is missing")
        if len(data) != pack.stored:
            raise damaged(f"{store.name}/{name}", f"it has {len(data)} bytes instead of {pack.stored}")
        try:
            _write(data, name, pack, files, into, key, progress)
        except Damaged as error:
            raise damaged(f"{store.name}/{name}", str(error)) from None
        except OSError as error:
            raise not_kept(error, str(into)) from error

    with ThreadPoolExecutor(_threads()) as pool:
        try:
            for _ in pool.map(one, todo):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write(
    data: bytes,
    name: str,
    pack: Pack,
    files: Sequence[File],
    into: Path,
    key: Key | None,
    progress: Callable[[int], None],
) -> None:
    expand, at, which = expander(), pack.offset, 0
    handle, of = -1, None
    try:
        for frame in opened(name, data, key):
            content = memoryview(expand(frame))
            end = at + len(content)
            while which < len(files) and files[which].offset + files[which].size <= at:
                which += 1
            for file in itertools.takewhile(lambda file: file.offset < end, files[which:]):
                if file is not of:
                    if handle >= 0:
                        os.close(handle)
                    handle, of = os.open(into / file.path, os.O_WRONLY | os.O_CREAT, 0o600), file
                begin = max(file.offset, at)
                piece = content[begin - at : min(file.offset + file.size, end) - at]
                written, place = 0, begin - file.offset
                while written < len(piece):
                    written += os.pwrite(handle, piece[written:], place + written)
            progress(len(content))
            at = end
    finally:
        if handle >= 0:
            os.close(handle)
    if at != pack.offset + pack.size:
        raise Damaged(f"it holds {at - pack.offset} bytes instead of {pack.size}")


def _threads() -> int:
    return min(8, (os.cpu_count() or 1) + 1)
