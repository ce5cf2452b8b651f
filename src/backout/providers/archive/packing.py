"""A folder as a byte stream in packs of some MB, so that small files cost little and a bucket holds few objects.

The files follow one another, small ones first, by name; the stream is cut into blocks, the blocks into packs.
A file is located by its offset in the stream. A file that is unchanged since the previous backup is not stored: its
entry names the backup whose stream holds it. Threads run in parallel, since zstd and AES release Python's lock.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from backout.errors import BackoutError
from backout.model.names import parse_member
from backout.providers.archive.places import pack_key
from backout.providers.archive.sealing import (
    Damaged,
    Sealer,
    compute_digest,
    make_compressor,
    make_damaged_error,
    make_expander,
    open_frames,
)
from backout.providers.archive.stores import make_not_kept_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from backout.providers.archive.sealing import Key
    from backout.providers.archive.stores import Store

BLOCK_BYTES: Final = 4 * 1024 * 1024
_BLOCKS_IN_PACK: Final = 16
_SMALL_BYTES: Final = 1024 * 1024
_PUTS_AT_ONCE: Final = 3
_COMPARED_BYTES: Final = 16 * 1024 * 1024
"""Larger files are never left out: Postgres itself sends only their changed blocks."""


Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class File(msgspec.Struct, frozen=True, array_like=True):
    """One file: path in the folder, size, digest (b"": not compared), the backup whose stream holds it, where in it."""

    path: str
    size: Size
    digest: bytes
    backup: str
    offset: Size


class Pack(msgspec.Struct, frozen=True, array_like=True):
    """One object: where its part of the stream begins, how long that is, and how many bytes are kept."""

    offset: Size
    size: Size
    stored: Size


class Index(msgspec.Struct, frozen=True):
    """The content of a backup: its files, its folders (Postgres needs empty ones too), and its packs in order."""

    files: list[File]
    folders: list[str]
    packs: list[Pack]


class Source:
    """A folder to be turned into a stream; files that the previous backup already holds are only referred to."""

    def __init__(self, root: Path, backup: str, before: Mapping[str, File]) -> None:
        self._root = root
        self.files: list[File] = []
        self.folders: list[str] = []
        self._stored: list[File] = []
        self.size = 0
        # Small files first: those are what a later backup refers to, so it reads few packs of this one.
        for path, size in sorted(self._walk(), key=lambda each: (each[1] > _SMALL_BYTES, each[0])):
            mark = compute_digest((root / parse_member(path)).read_bytes()) if 0 < size <= _COMPARED_BYTES else b""
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
        """Return a block's bytes.

        Raises:
            BackoutError: a file shrank while it was being read.
        """
        parts = []
        for path, at, length in block:
            with (self._root / parse_member(path)).open("rb", buffering=0) as file:
                parts.append(os.pread(file.fileno(), length, at))
                if len(parts[-1]) != length:
                    raise BackoutError("it shrank while it was being read", where=path)
        return b"".join(parts)


class Packs:
    """The packs of a store, written and read by several threads at once."""

    def __init__(self, store: Store, key: Key | None) -> None:
        self._store = store
        self._key = key

    def write(self, source: Source, backup: str, level: int, progress: Callable[[int, int], None]) -> list[Pack]:
        """Store a source's stream and return its packs; `progress` hears (bytes so far, bytes in all)."""
        packs: list[Pack] = []
        under_way: deque[Future[None]] = deque()
        blocks, at = source.blocks(), 0
        with ThreadPoolExecutor(_count_threads()) as workers, ThreadPoolExecutor(_PUTS_AT_ONCE) as puts:
            while group := list(itertools.islice(blocks, _BLOCKS_IN_PACK)):
                name = pack_key(backup, len(packs))
                sealer = Sealer(name, self._key)
                todo = [(number, block, number == len(group) - 1) for number, block in enumerate(group)]
                data = sealer.head + b"".join(workers.map(functools.partial(_make_object, sealer, source, level), todo))
                while len(under_way) >= _PUTS_AT_ONCE:
                    under_way.popleft().result()
                under_way.append(puts.submit(self._store.put, name, data))
                size = sum(length for block in group for _, _, length in block)
                packs.append(Pack(at, size, len(data)))
                at += size
                progress(at, source.size)
            for put in under_way:
                put.result()
        return packs

    def read(
        self, backup: str, index: Index, wanted: Sequence[File], into: Path, progress: Callable[[int], None]
    ) -> None:
        """Write the wanted files of one backup's own stream into a folder that has their folders already.

        Raises:
            BackoutError: a pack is damaged or missing, naming it; or there is no room.
        """
        wanted = sorted((file for file in wanted if file.size), key=lambda file: file.offset)
        begins, ends = [file.offset for file in wanted], [file.offset + file.size for file in wanted]
        todo: list[tuple[str, Pack, Sequence[File]]] = []
        for number, part in enumerate(index.packs):
            begin, end = bisect.bisect_right(ends, part.offset), bisect.bisect_left(begins, part.offset + part.size)
            if begin < end:
                todo.append((pack_key(backup, number), part, wanted[begin:end]))
        with ThreadPoolExecutor(_count_threads()) as pool:
            try:
                for _ in pool.map(lambda task: self._lay(task[0], task[1], task[2], into, progress), todo):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _lay(self, name: str, part: Pack, files: Sequence[File], into: Path, progress: Callable[[int], None]) -> None:
        where = f"{self._store.name}/{name}"
        data = self._store.get(name)
        if data is None:
            raise make_damaged_error(where, "this part of the backup is missing")
        if len(data) != part.stored:
            raise make_damaged_error(where, f"it has {len(data)} bytes instead of {part.stored}")
        try:
            with contextlib.closing(_Writer(into)) as writer:

                def write(file: File, at: int, piece: memoryview) -> None:
                    size = len(piece)
                    writer.write(file, at, piece)
                    progress(size)

                self._write(name, data, part, files, write)
        except Damaged as error:
            raise make_damaged_error(where, str(error)) from None
        except OSError as error:
            raise make_not_kept_error(error, str(into)) from error

    def _write(
        self, name: str, data: bytes, part: Pack, files: Sequence[File], write: Callable[[File, int, memoryview], None]
    ) -> None:
        expand, at, which, whole = make_expander(), part.offset, 0, part.offset + part.size
        for frame in open_frames(name, data, self._key):
            while which < len(files) and files[which].offset + files[which].size <= at:
                which += 1
            end = min(at + BLOCK_BYTES, whole)
            if which == len(files) or files[which].offset >= end:
                at = end  # nothing of it is wanted
                continue
            content = memoryview(expand(frame))
            if len(content) != end - at:
                raise Damaged(f"a block of it holds {len(content)} bytes instead of {end - at}")
            for number in range(which, len(files)):
                file = files[number]
                if file.offset >= end:
                    break
                begin = max(file.offset, at)
                write(file, begin - file.offset, content[begin - at : min(file.offset + file.size, end) - at])
            at = end
        if at != whole:
            raise Damaged(f"it holds {at - part.offset} bytes instead of {part.size}")


def _make_object(
    sealer: Sealer, source: Source, level: int, task: tuple[int, Sequence[tuple[str, int, int]], bool]
) -> bytes:
    number, block, last = task
    return sealer.seal(number, make_compressor(level)(source.read(block)), last=last)


class _Writer:
    """Writes pieces of files, and keeps the last file open: the next piece is mostly of the same one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file: File | None = None
        self._handle = -1

    def write(self, file: File, at: int, piece: memoryview) -> None:
        """Write a piece of a file."""
        if file is not self._file:
            self.close()
            path = self._root / parse_member(file.path)
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            self._file = file
        while piece:
            written = os.pwrite(self._handle, piece, at)
            piece, at = piece[written:], at + written

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
        self._file, self._handle = None, -1


def _count_threads() -> int:
    return min(8, (os.cpu_count() or 1) + 1)
