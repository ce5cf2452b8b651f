"""Sockets for `http.client` on which nothing waits and nothing grows without an end, whatever a server sends.

A small exchange has one deadline. A bulk transfer has one for its progress: some bytes, again and again, within some
seconds; a server that sends a byte now and then meets neither.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from enum import StrEnum
from typing import Final

from backout.decoding import Undecodable, parse_whole
from backout.providers.addresses import is_allowed

HEADERS_BYTES: Final = 8 * 1024 * 1024
"""The maximum number of bytes beside a body: `http.client` reads headers and the frames of chunks."""
PROGRESS_BYTES: Final = 64 * 1024
"""The number of bytes that count as progress of a bulk transfer."""
_NO_BODY: Final = frozenset({204, 304})


class Failure(StrEnum):
    """How an exchange failed."""

    NOT_REACHED = "not reached"  # refused, no route, no such name
    NOT_TRUSTED = "not trusted"  # the certificate does not hold
    NOT_ALLOWED = "not allowed"  # the name leads to an address that we never talk to
    TIMED_OUT = "timed out"
    BROKEN = "broken"  # reset, closed in the middle, not HTTP
    TOO_LARGE = "too large"


class ExchangeError(Exception):
    """No whole answer came.

    Attributes:
        failure: how.
        sent: whether the server may have received the request.
        status: when the answer had begun.
    """

    def __init__(self, failure: Failure, text: str, *, sent: bool, status: int | None = None) -> None:
        super().__init__(text)
        self.failure = failure
        self.sent = sent
        self.status = status


class MalformedHead(http.client.HTTPException):
    """The head of an answer contradicts itself, or says what no head can."""


class BoundedSocket:
    """What http.client needs of a socket, with each call bounded by the read limit and a deadline.

    Args:
        deadline: by `time.monotonic()`.
        read_s: the longest wait of one call.
    """

    def __init__(self, inner: socket.socket, deadline: float, read_s: float) -> None:
        self.inner = inner
        self._deadline = deadline
        self._read_s = read_s
        self._progress_s: float | None = None
        self._latest = math.inf
        self._moved = 0
        self._left_bytes = HEADERS_BYTES
        self._readers = 0
        self._closed = False

    def begin(
        self, deadline: float, *, most_bytes: int, progress_s: float | None = None, latest: float = math.inf
    ) -> None:
        """Begin an exchange: it ends at the deadline, and reads at most this many bytes.

        Args:
            progress_s: each `PROGRESS_BYTES` moved extend the deadline to this many seconds from then.
            latest: it is never put off beyond that.
        """
        self._deadline, self._progress_s, self._moved, self._latest = min(deadline, latest), progress_s, 0, latest
        self._left_bytes = most_bytes

    def expect(self, most_bytes: int) -> None:
        """Read at most this many bytes from now on."""
        self._left_bytes = most_bytes

    def wait(self) -> socket.socket:
        """Return the socket with the time that is left for its next call; TimeoutError when there is none."""
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.inner.settimeout(min(left_s, self._read_s))
        return self.inner

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        if self._progress_s is None:
            self.wait().sendall(data)
            return
        for begin in range(0, len(data), PROGRESS_BYTES):
            piece = memoryview(data)[begin : begin + PROGRESS_BYTES]
            self.wait().sendall(piece)
            self._has_moved(len(piece))

    def receive(self, buffer: memoryview) -> int:
        """Read what is there into a buffer and return how many bytes. Raises MalformedHead: more than was expected."""
        number = self.wait().recv_into(buffer)
        self._left_bytes -= number
        if self._left_bytes < 0:
            raise MalformedHead("the answer is longer than it may be")
        self._has_moved(number)
        return number

    def _has_moved(self, number: int) -> None:
        self._moved += number
        if self._progress_s is not None and self._moved >= PROGRESS_BYTES:
            self._moved = 0
            self._deadline = min(time.monotonic() + self._progress_s, self._latest)

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002 - http.client asks for "rb" only
        """Return a buffered reader whose every read is bounded."""
        self._readers += 1
        return io.BufferedReader(_BoundedReader(self))

    def close(self) -> None:
        """Close the socket once nothing reads from it any more (http.client closes before it has read the body)."""
        self._closed = True
        if self._readers == 0:
            self.inner.close()

    def release(self) -> None:
        """Forget one reader."""
        self._readers -= 1
        if self._closed:
            self.close()


class _BoundedReader(io.RawIOBase):
    """Reads from a bounded socket; closing it leaves the socket open for the next exchange."""

    def __init__(self, source: BoundedSocket) -> None:
        super().__init__()
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._source.receive(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.release()


def dial_socket(path: str, within_s: float) -> socket.socket:
    """Return a connection to a unix socket, whose calls last no longer than that either. Raises OSError."""
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        plain.settimeout(within_s)
        plain.connect(path)
    except OSError:
        plain.close()
        raise
    return plain


def dial(host: str, port: int, until: float, *, named: str) -> socket.socket:
    """Return a connection to one of a host's addresses, all of them together tried until `until` (monotonic).

    One that is never asked (`addresses`) is not even connected to, whatever name leads there. No resolver is asked for
    a name that stands for this machine: what may go there in the clear goes nowhere else.

    Raises:
        ExchangeError: none was reached; nothing was sent.
    """
    late = ExchangeError(Failure.TIMED_OUT, f"no connection to {named} in time", sent=False)
    try:
        found = socket.getaddrinfo("127.0.0.1" if is_local_name(host) else host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ExchangeError(Failure.NOT_REACHED, describe_error(error), sent=False) from error
    allowed = [each for each in found if is_allowed(str(each[4][0]))]
    if not allowed:
        raise ExchangeError(Failure.NOT_ALLOWED, f"{named} leads to an address that is never asked", sent=False)
    last: OSError | None = None
    for family, kind, protocol, _, address in allowed:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise late from last
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(left_s)
            plain.connect(address)
        except OSError as error:
            plain.close()
            last = error
        else:
            return plain
    if isinstance(last, TimeoutError) or last is None:
        raise late from last
    raise ExchangeError(Failure.NOT_REACHED, describe_error(last), sent=False) from last


def is_local_name(host: str) -> bool:
    """Return whether RFC 6761 keeps a name for this machine: localhost, and all below it.

    >>> [is_local_name(host) for host in ("s3.localhost", "LOCALHOST.", "localhost.example", "127.0.0.1")]
    [True, True, False, False]
    """
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def start_tls(plain: socket.socket, host: str, until: float) -> socket.socket:
    """Return the connection under TLS, the whole handshake done until `until`. Raises ExchangeError."""
    import ssl

    plain.settimeout(max(0.001, until - time.monotonic()))  # ssl bounds all of a handshake by it
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        plain.close()
        raise ExchangeError(Failure.NOT_TRUSTED, f"TLS: {error.verify_message}", sent=False) from error
    except TimeoutError as error:
        plain.close()
        raise ExchangeError(Failure.TIMED_OUT, "no TLS handshake in time", sent=False) from error
    except (OSError, ValueError) as error:
        plain.close()
        raise ExchangeError(Failure.NOT_REACHED, f"TLS: {describe_error(error)}", sent=False) from error


def read_announced_bytes(response: http.client.HTTPResponse) -> int | None:
    """Return how many bytes the body has according to Content-Length; None: it ends with its last chunk, or the line.

    Raises:
        MalformedHead: the header is no length, or stands there twice with two lengths.
    """
    if response.status in _NO_BODY or response.chunked:
        return response.length
    told = {part.strip() for value in response.headers.get_all("Content-Length") or () for part in value.split(",")}
    if not told:
        return response.length
    if len(told) > 1:
        raise MalformedHead("the answer has two lengths")
    try:
        length = parse_whole(told.pop(), most=2**63 - 1)
    except Undecodable:
        raise MalformedHead("the answer's Content-Length is not a length") from None
    return response.length if response.length is not None else length


def describe_error(error: Exception) -> str:
    """Return an error's words without any of the data that it may quote (a bad status line can hold anything)."""
    if isinstance(error, MalformedHead):
        return str(error)
    if isinstance(error, http.client.IncompleteRead):
        return "the answer ended in the middle"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the server closed the connection without an answer"
    if isinstance(error, http.client.HTTPException):
        return f"the answer is not proper HTTP ({type(error).__name__})"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
