"""One HTTP/1.1 exchange on a kept-open connection: the head of a request as bytes, and an answer parsed by llhttp.

A restore makes a million calls, and `http.client` spends two thirds of a call's time on the objects that it makes of a
head. httptools is llhttp, Node's parser, which reads strictly: a head that can be read in two ways is none.
"""

from __future__ import annotations

from collections import deque
from http.client import IncompleteRead, RemoteDisconnected
from typing import TYPE_CHECKING, Final

from httptools import HttpParserError, HttpResponseParser

from backout.providers.sockets import MalformedHead

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.providers.sockets import BoundedSocket

_HEAD_BYTES: Final = 256 * 1024
_MOST_HEADERS: Final = 200
_MOST_INTERIM: Final = 10
_READ_BYTES: Final = 64 * 1024
_NO_BODY: Final = frozenset({204, 304})


def make_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request. Raises ValueError: a line of it would be two, or is not Latin-1."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    text = "\r\n".join(lines)
    if text.count("\n") >= len(lines) or text.count("\r") >= len(lines) or "\0" in text or target.count(" "):
        raise ValueError("a header or a target has a line break, or a target has a space")
    return text.encode("latin-1") + b"\r\n\r\n"


class Response:
    """An answer whose head has come; the body is read from it piece by piece.

    Attributes:
        status: HTTP status.
        headers: names in lower case; of a repeated one the last.
        length: how many bytes the body has according to its head; None: it ends with its last chunk, or the connection.
        is_kept: whether the connection can be used again once the body was read.

    Raises:
        OSError, HTTPException: none came, or not in time.
        MalformedHead: it is no HTTP/1, or can be read in two ways.
    """

    def __init__(self, source: BoundedSocket, method: str) -> None:
        self._source = source
        self._parts = Answer(method)
        self._buffer = memoryview(bytearray(_READ_BYTES))
        received = 0
        while not self._parts.has_head:
            more = self._receive()
            received += more
            if not more:
                raise IncompleteRead(b"") if received else RemoteDisconnected("no answer")
            if received > _HEAD_BYTES and not self._parts.has_head:
                raise MalformedHead("the head of the answer is too long")
        self.status, self.headers = self._parts.status, self._parts.headers
        self.length, self.is_kept = self._parts.length, self._parts.is_kept

    @property
    def is_over(self) -> bool:
        """Whether the body was read to its end, and nothing came behind it."""
        return self._parts.is_over and not self._parts.body and not self._parts.has_more

    def read(self, most: int) -> bytes:
        """Return the next bytes of the body, as many as asked for unless it ends before; b"" at its end.

        Raises:
            OSError: it did not come in time.
            IncompleteRead: it broke off.
            MalformedHead: a chunk is none, or it is longer than was to be read.
        """
        pieces: list[bytes] = []
        body, wanted = self._parts.body, most
        while wanted:
            if body:
                piece = body.popleft()
                if len(piece) > wanted:
                    body.appendleft(piece[wanted:])
                    piece = piece[:wanted]
                pieces.append(piece)
                wanted -= len(piece)
            elif self._parts.is_over:
                break
            elif not self._receive():
                self._parts.end()
        return b"".join(pieces)

    def _receive(self) -> int:
        number = self._source.receive(self._buffer)
        if number:
            self._parts.feed(self._buffer[:number])
        return number


class Answer:
    """What llhttp finds in what came; it calls the methods whose names begin with `on_`.

    Attributes:
        body: the pieces that came and were not taken.
        is_over: the answer has come to its end.
        has_more: something came behind it.
        others: as of `Response`; of an answer that `has_head`.
    """

    def __init__(self, method: str) -> None:
        self._parser = HttpResponseParser(self)
        self._has_no_body = method == "HEAD"
        self._interim = 0
        self._count = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body: deque[bytes] = deque()
        self.length: int | None = None
        self.has_head = self.is_over = self.is_kept = self.has_more = self._is_chunked = False

    def feed(self, data: memoryview) -> None:
        """Take what came. Raises MalformedHead: it is no answer, or can be read in two ways."""
        if self.is_over:
            self.has_more = True
            return
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not self.is_over:
                raise MalformedHead("the answer is no HTTP/1") from (error.__context__ or error)
            self.has_more = True
        if self.has_head and self._has_no_body:
            self.has_more |= bool(self.body)
            self.body.clear()
            self.is_over = True

    def end(self) -> None:
        """Take the connection's end for the answer's.

        Raises:
            RemoteDisconnected: no answer had begun.
            IncompleteRead: it broke off.
        """
        if not self.has_head:
            raise RemoteDisconnected("no answer")
        if self.length is not None or self._is_chunked:
            raise IncompleteRead(b"")
        self.is_over = True

    def on_message_begin(self) -> None:
        """Another answer begins, behind one that only announced it, or where none should be."""
        self.has_more |= self.is_over

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; those behind the last chunk are passed over. Raises MalformedHead: there are too many."""
        self._count += 1
        if self._count > _MOST_HEADERS:
            raise MalformedHead("the head of the answer has too many lines")
        key = name.decode("latin-1").lower()
        if key == "transfer-encoding" and key in self.headers:
            raise MalformedHead("the answer has a length of an unknown kind")
        if not self.has_head:
            self.headers[key] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        """The head is there: of the answer, or of one that announces it (100 Continue and the like).

        Raises:
            MalformedHead: it is no HTTP/1, or does not say how long the answer is.
        """
        if self.is_over:
            return
        self.status = self._parser.get_status_code()
        if self._parser.get_http_version() not in {"1.0", "1.1"} or self.status == 101:
            raise MalformedHead("the answer is no HTTP/1")
        if self.status // 100 == 1:
            return
        coding = self.headers.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            raise MalformedHead("the answer has a length of an unknown kind")
        self._is_chunked = coding is not None
        self._has_no_body |= self.status in _NO_BODY
        told = self.headers.get("content-length")
        self.length = 0 if self._has_no_body else None if told is None else int(told)
        self.has_head = True
        self.is_kept = self._parser.should_keep_alive() and (self.length is not None or self._is_chunked)

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body."""
        if not self.is_over:
            self.body.append(piece)

    def on_message_complete(self) -> None:
        """The answer ends, or what announced it. Raises MalformedHead: it is announced again and again."""
        if self.has_head:
            self.is_over = True
            return
        self._interim += 1
        self.headers.clear()
        if self._interim > _MOST_INTERIM:
            raise MalformedHead("an answer is announced again and again")
