"""One HTTP/1.1 exchange on a kept-open connection: the head of a request as bytes, and an answer that is read by bytes.

A restore makes a million calls, and `http.client` spends two thirds of a call's time on the objects that it makes of a
head. What is accepted is narrower: lines end with CRLF, and a head that can be read in two ways is none.
"""

from __future__ import annotations

from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected
from typing import TYPE_CHECKING, Final

from backout.decoding import Undecodable, parse_whole
from backout.providers.sockets import MalformedHead

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.providers.sockets import BoundedSocket

_HEAD_BYTES: Final = 256 * 1024
_LINE_BYTES: Final = 1024
"""Of a line between two chunks of a body."""
_MOST_HEADERS: Final = 200
_MOST_INTERIM: Final = 10
_READ_BYTES: Final = 64 * 1024
_LONGEST_BYTES: Final = 2**63 - 1
_END: Final = b"\r\n\r\n"
_NO_BODY: Final = frozenset({204, 304})
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


def make_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request. Raises ValueError: a line of it would be two, or is not Latin-1."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    text = "\r\n".join(lines)
    if text.count("\n") >= len(lines) or text.count("\r") >= len(lines) or "\0" in text or target.count(" "):
        raise ValueError("a header or a target has a line break, or a target has a space")
    return text.encode("latin-1") + _END


class Response:
    """An answer whose head has come; the body is read from it piece by piece.

    Attributes:
        status: HTTP status.
        headers: names in lower case; of a repeated one the last.
        length: how many bytes the body has according to its head; None: it ends with its last chunk, or the connection.
        is_kept: whether the connection can be used again once the body was read.

    Raises:
        OSError, HTTPException: none came, not in time, or it is no HTTP/1.
    """

    def __init__(self, source: BoundedSocket, method: str) -> None:
        self._source = source
        self._data = b""
        for _ in range(_MOST_INTERIM):
            status, version, headers = self._read_head()
            if status // 100 != 1:  # 100 Continue and the like announce an answer
                break
        else:
            raise MalformedHead("an answer is announced again and again")
        self.status, self.headers = status, headers
        self._is_chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self.length = self._find_length(method)
        self._left = 0 if self._is_chunked else self.length
        """What is left of the body, or of its chunk; None: up to the connection's end."""
        self._is_over = self._left == 0 and not self._is_chunked
        words = headers.get("connection", "").lower()
        keeps = "close" not in words if version == b"HTTP/1.1" else "keep-alive" in words
        self.is_kept = keeps and (self._is_chunked or self.length is not None)

    @property
    def is_over(self) -> bool:
        """Whether the body was read to its end, and nothing came behind it."""
        return self._is_over and not self._data

    def read(self, most: int) -> bytes:
        """Return the next bytes of the body, as many as asked for unless it ends before; b"" at its end.

        Raises:
            OSError, HTTPException: it broke off, did not come in time, or is longer than was to be read.
        """
        pieces, wanted = [], most
        while wanted and not self._is_over:
            if self._left == 0:
                self._begin_chunk()
                continue
            piece = self._take(wanted if self._left is None else min(wanted, self._left))
            if not piece:
                if self._left is not None:
                    raise IncompleteRead(b"")
                self._is_over = True
                break
            pieces.append(piece)
            wanted -= len(piece)
            if self._left is not None:
                self._left -= len(piece)
                self._end_piece()
        return b"".join(pieces)

    def _end_piece(self) -> None:
        if self._left:
            return
        if not self._is_chunked:
            self._is_over = True
        elif self._read_line():
            raise MalformedHead("a chunk of the answer is longer than it says")

    def _begin_chunk(self) -> None:
        size = self._read_line().partition(b";")[0].strip()
        if not size or len(size) > 16 or not _HEX.issuperset(size):
            raise MalformedHead("the size of a chunk of the answer is no number")
        self._left = int(size, 16)
        if self._left:
            return
        for _ in range(_MOST_HEADERS):
            if not self._read_line():
                self._is_over = True
                return
        raise MalformedHead("there is no end of what comes behind the answer")

    def _read_head(self) -> tuple[int, bytes, dict[str, str]]:
        """Return status, version and headers. Raises as `Response`."""
        data = self._data
        while (end := data.find(_END)) < 0:
            if len(data) > _HEAD_BYTES:
                raise MalformedHead("the head of the answer is too long")
            more = self._receive()
            if not more:
                raise IncompleteRead(b"") if data else RemoteDisconnected("no answer")
            data += more
        first, *lines = data[:end].split(b"\r\n")
        self._data = data[end + len(_END) :]
        version, _, rest = first.partition(b" ")
        status = rest[:3]
        if version not in {b"HTTP/1.1", b"HTTP/1.0"} or not status.isdigit() or len(status) < 3 or rest[3:4].strip():
            raise BadStatusLine("")
        if len(lines) > _MOST_HEADERS:
            raise MalformedHead("the head of the answer has too many lines")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.decode("latin-1").partition(":")
            name, value = name.lower(), value.strip()
            if not colon or not name or name != name.strip() or "\n" in line.decode("latin-1"):
                raise MalformedHead("the head of the answer has a line that is no header")
            if name in {"content-length", "transfer-encoding"} and headers.get(name, value) != value:
                raise MalformedHead("the answer has two lengths")
            headers[name] = value
        return int(status), version, headers

    def _find_length(self, method: str) -> int | None:
        if method == "HEAD" or self.status in _NO_BODY:
            self._is_chunked = False
            return 0
        told = self.headers.get("content-length")
        if "transfer-encoding" in self.headers:
            if not self._is_chunked or told is not None:
                raise MalformedHead("the answer has two lengths, or one of an unknown kind")
            return None
        if told is None:
            return None
        parts = {part.strip() for part in told.split(",")}
        if len(parts) > 1:
            raise MalformedHead("the answer has two lengths")
        try:
            return parse_whole(parts.pop(), most=_LONGEST_BYTES)
        except Undecodable:
            raise MalformedHead("the answer's Content-Length is not a length") from None

    def _read_line(self) -> bytes:
        while (end := self._data.find(b"\r\n")) < 0:
            if len(self._data) > _LINE_BYTES:
                raise MalformedHead("a line between two chunks of the answer is too long")
            more = self._receive()
            if not more:
                raise IncompleteRead(b"")
            self._data += more
        line, self._data = self._data[:end], self._data[end + 2 :]
        return line

    def _take(self, most: int) -> bytes:
        """Return up to so many of the next bytes, b"" at the connection's end."""
        data = self._data or self._receive()
        self._data = data[most:]
        return data[:most] if self._data else data

    def _receive(self) -> bytes:
        buffer = bytearray(_READ_BYTES)
        number = self._source.receive(memoryview(buffer))
        return bytes(memoryview(buffer)[:number])
