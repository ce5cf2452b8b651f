"""Bytes of any source as blocks of whole lines in UTF-8, in bounded memory: gzip, UTF-16 and endless lines included."""

from __future__ import annotations

import codecs
import zlib
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK: Final = 1 << 20
LONGEST_LINE: Final = 8 << 20
"""Bytes of a line that is read; a longer one is passed over, and named."""
_GZIP: Final = b"\x1f\x8b"
_WIDE: Final = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_BOM: Final = codecs.BOM_UTF8
_TOO_LONG: Final = f"a line longer than {LONGEST_LINE >> 20} MiB"
_BROKEN_GZIP: Final = "broken gzip data"


class Stream(Protocol):
    """What is read: a file, a pipe, or anything in memory."""

    def read(self, size: int, /) -> bytes:
        """Return at most that many bytes, none at the end."""
        ...


def blocks(stream: Stream, unreadable: Callable[[str], None], odd: Callable[[str], None]) -> Iterator[bytes]:
    """Yield blocks of whole lines; each ends with a line's end, the last one perhaps without.

    Args:
        unreadable: told what could not be read. odd: told what was read although it is odd.
    """
    rest: list[bytes] = []
    size = 0
    passing_over = False
    for piece in _plain(stream, unreadable, odd):
        end = piece.rfind(b"\n") + 1
        if not end:
            size += len(piece)
            if passing_over:
                continue
            rest.append(piece)
            if size > LONGEST_LINE:
                unreadable(_TOO_LONG)
                rest, size, passing_over = [], 0, True
            continue
        begin = 0
        if passing_over:
            begin = piece.index(b"\n") + 1
            passing_over = False
        block = b"".join((*rest, piece[begin:end])) if rest else piece[begin:end]
        rest, size = ([piece[end:]], len(piece) - end) if end < len(piece) else ([], 0)
        if block:
            yield block
    if rest:
        yield b"".join(rest)


def _plain(stream: Stream, unreadable: Callable[[str], None], odd: Callable[[str], None]) -> Iterator[bytes]:
    """Yield the pieces of a stream, unpacked and in UTF-8."""
    first = stream.read(BLOCK)
    pieces = _pieces(first, stream)
    if first.startswith(_GZIP):
        pieces = _unpacked(pieces, unreadable)
        first = next(pieces, b"")
        pieces = _again(first, pieces)
    for mark, encoding in _WIDE:
        if first.startswith(mark):
            odd(f"text in {encoding.upper()}")
            yield from _decoded(pieces, encoding)
            return
    if first.startswith(_BOM):
        next(pieces)
        yield first[len(_BOM) :]
    yield from pieces


def _pieces(first: bytes, stream: Stream) -> Iterator[bytes]:
    if first:
        yield first
    while piece := stream.read(BLOCK):
        yield piece


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _unpacked(pieces: Iterator[bytes], unreadable: Callable[[str], None]) -> Iterator[bytes]:
    """Yield what gzip members hold, at most a block at a time."""
    inflate = None
    for piece in pieces:
        packed = piece
        while packed:
            inflate = inflate or zlib.decompressobj(wbits=31)
            try:
                plain = inflate.decompress(packed, BLOCK)
            except zlib.error:
                unreadable(_BROKEN_GZIP)
                return
            if plain:
                yield plain
            packed = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            inflate = None if inflate.eof else inflate
    if inflate is not None:
        unreadable(_BROKEN_GZIP)


def _decoded(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    for index, piece in enumerate(pieces):
        text = decoder.decode(piece)
        yield (text.removeprefix("\ufeff") if index == 0 else text).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode()
