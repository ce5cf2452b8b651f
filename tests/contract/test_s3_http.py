"""The reading of HTTP/1.1 answers: every shape that a store may choose, and none that can be read in two ways."""

from __future__ import annotations

import socket
import time
from http.client import HTTPException
from typing import TYPE_CHECKING

import pytest

from backout.providers.s3.http import Response, make_head
from backout.providers.sockets import BoundedSocket

if TYPE_CHECKING:
    from collections.abc import Iterator

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def ends() -> Iterator[tuple[BoundedSocket, socket.socket]]:
    """Our end of a connection, and the server's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bounded = BoundedSocket(ours, time.monotonic() + 60.0, 60.0)
        bounded.begin(time.monotonic() + 60.0, most_bytes=10_000_000)
        yield bounded, theirs


def read(ends: tuple[BoundedSocket, socket.socket], said: bytes, method: str = "GET") -> tuple[Response, bytes]:
    """Have the server say something and close; return the answer and its body, read three bytes at a time."""
    ends[1].sendall(said)
    ends[1].shutdown(socket.SHUT_WR)
    response = Response(ends[0], method)
    pieces = []
    while piece := response.read(3):
        pieces.append(piece)
    return response, b"".join(pieces)


@pytest.mark.parametrize(
    ("said", "body", "is_kept"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
        (OK + b"content-length:5\r\nConnection: close\r\n\r\nhello", b"hello", False),
        (OK + b"Content-Length: 0\r\n\r\n", b"", True),
        (OK + b"\r\nto the end", b"to the end", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n01;x=y\r\no\r\n0\r\nX: y\r\n\r\n", b"hello", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
        (b"HTTP/1.0 200\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK + b"\r\nhello", b"hello", False),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"", True),
    ],
)
def test_answers_of_every_shape(
    ends: tuple[BoundedSocket, socket.socket], said: bytes, body: bytes, is_kept: bool
) -> None:
    response, found = read(ends, said)
    assert (found, response.is_kept, response.is_over) == (body, is_kept, True)


def test_the_head_of_an_object_has_no_body(ends: tuple[BoundedSocket, socket.socket]) -> None:
    response, body = read(ends, OK + b"Content-Length: 500\r\nETag: e\r\n\r\n", "HEAD")
    assert (body, response.headers["content-length"], response.is_over) == (b"", "500", True)


def test_what_comes_behind_an_answer_is_not_the_next_one(ends: tuple[BoundedSocket, socket.socket]) -> None:
    response, body = read(ends, OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 4\r\n\r\nevil")
    assert body == b"ok"
    assert not response.is_over, "such a connection is not used again"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"Content-Length: 5, 5\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 300,
        OK + b"X: y\r\n folded\r\n\r\n",
        OK + b"X : y\r\n\r\n",
        OK + b"no header\r\n\r\n",
        OK + b"X: y\n Content-Length: 5\r\n\r\nhello",
        OK + b"a: b\r\n" * 300 + b"\r\n",
        OK + b"a" * 300_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
    ],
)
def test_what_is_no_answer(ends: tuple[BoundedSocket, socket.socket], said: bytes) -> None:
    ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
    with pytest.raises((HTTPException, OSError)):
        read(ends, said)


def test_a_request_is_written_as_it_was_signed() -> None:
    assert (
        make_head("PUT", "/b/k?x=", {"Host": "h", "A": "b c"}) == b"PUT /b/k?x= HTTP/1.1\r\nHost: h\r\nA: b c\r\n\r\n"
    )


@pytest.mark.parametrize("value", ["a\r\nEvil: b", "a\nb", "a\rb", "a\0b", "日本"])
def test_no_header_becomes_two(value: str) -> None:
    with pytest.raises(ValueError, match=r"line break|latin-1"):
        make_head("PUT", "/b/k", {"x-amz-meta-a": value})
