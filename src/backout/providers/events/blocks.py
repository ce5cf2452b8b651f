"""Any source as blocks of whole lines in UTF-8, in bounded memory: gzip, UTF-16 and endless lines included."""

from __future__ import annotations

import codecs
import zlib
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK: Final = 1 << 18
"""Bytes that are read at once, into a buffer that is used again: what is searched is then in the processor's cache."""
LONGEST_LINE: Final = 8 << 20
"""Bytes of a line that is read; a longer one is passed over, and named."""
_PEEK: Final = 4096
_GZIP: Final = b"\x1f\x8b"
_WIDE: Final = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_TOO_LONG: Final = f"a line longer than {LONGEST_LINE >> 20} MiB"
_BROKEN_GZIP: Final = "broken gzip data"


class Stream(Protocol):
    """The input: a file, a pipe, or anything in memory."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer as far as it goes, and return how many bytes that were; none at the end."""
        ...


def read_blocks(stream: Stream, unreadable: Callable[[str], None], odd: Callable[[str], None]) -> Iterator[memoryview]:
    """Yield blocks of whole lines, the last one perhaps without an end; each is gone when the next one is asked for.

    Args:
        unreadable: told what could not be read.
        odd: told what was read although it is odd.
    """
    source = _Source(stream, unreadable, odd)
    buffer = bytearray(BLOCK)
    used = 0
    passing_over = False
    while True:
        filled = source.fill(memoryview(buffer)[used:])
        used += filled
        end = buffer.rfind(b"\n", 0, used) + 1
        begin = 0
        if passing_over and end:
            begin = buffer.index(b"\n") + 1
            passing_over = False
        if end > begin:
            yield memoryview(buffer)[begin:end]
        if passing_over:
            end = used
        if not filled:
            if used > end:
                yield memoryview(buffer)[end:used]
            return
        rest = buffer[end:used]
        if len(rest) > LONGEST_LINE:
            unreadable(_TOO_LONG)
            rest, passing_over = bytearray(), True
        used = len(rest)
        if used * 2 > len(buffer):
            buffer = bytearray(len(buffer) * 2)  # a new one: views of the old one may still be held
        elif len(buffer) > BLOCK and used < BLOCK // 2:
            buffer = bytearray(BLOCK)
        buffer[:used] = rest


class _Source:
    """The bytes of a stream, unpacked and in UTF-8."""

    def __init__(self, stream: Stream, unreadable: Callable[[str], None], odd: Callable[[str], None]) -> None:
        self._stream: Stream | None = stream
        first = _read(stream, _PEEK)
        self._pieces = iter((first,))
        self._rest = b""
        if first.startswith(_GZIP):
            self._pieces = _unpack(_read_pieces(first, stream), unreadable)
            self._stream = None
            first = next(self._pieces, b"")
            self._pieces = _read_again(first, self._pieces)
        for mark, encoding in _WIDE:
            if first.startswith(mark):
                odd(f"text in {encoding.upper()}")
                pieces = self._pieces if self._stream is None else _read_pieces(first, stream)
                self._pieces, self._stream = _decode(pieces, encoding), None
                return
        if first.startswith(codecs.BOM_UTF8):
            next(self._pieces)
            self._pieces = _read_again(first[len(codecs.BOM_UTF8) :], self._pieces)

    def fill(self, view: memoryview) -> int:
        """Fill the view as far as there is something, and return how many bytes that were."""
        done = 0
        while done < len(view):
            if not self._rest:
                self._rest = next(self._pieces, b"")
            if self._rest:
                taken = self._rest[: len(view) - done]
                view[done : done + len(taken)] = taken
                self._rest = self._rest[len(taken) :]
                done += len(taken)
                continue
            found = self._stream.readinto(view[done:]) if self._stream is not None else 0
            if not found:
                break
            done += found
        return done


def _read(stream: Stream, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: stream.readinto(memoryview(buffer)) or 0])


def _read_pieces(first: bytes, stream: Stream) -> Iterator[bytes]:
    while first:
        yield first
        first = _read(stream, BLOCK)


def _read_again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _unpack(pieces: Iterator[bytes], unreadable: Callable[[str], None]) -> Iterator[bytes]:
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


def _decode(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    begun = False
    for piece in pieces:
        text = decoder.decode(piece)
        text, begun = (text if begun else text.removeprefix("\ufeff")), begun or bool(text)
        if text:
            yield text.encode("utf-8", "replace")
    if text := decoder.decode(b"", final=True):
        yield text.encode("utf-8", "replace")
