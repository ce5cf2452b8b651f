"""One HTTP exchange on a kept-open connection: every read and write is bounded by one deadline, every body by a size.

Standard library only. A server that sends a byte now and then cannot outlast the deadline. The only unbounded wait
is the system's own name resolution.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import quote, urlsplit

from backout.model.value import Value
from backout.providers.sockets import (
    HEADERS_BYTES,
    BoundedSocket,
    ExchangeError,
    Failure,
    describe_error,
    dial,
    is_local_name,
    read_announced_bytes,
    start_tls,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Answer", "Connection", "ExchangeError", "Exchanging", "Failure", "Limits", "Origin", "quote_segment"]

_CHUNK_BYTES = 64 * 1024


class Answer(Value, frozen=True):
    """A whole answer; header names in lower case, of a repeated one the first."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Limits(Value, frozen=True):
    """Bounds of one exchange: seconds to connect, between two pieces, and in all; bytes of the body."""

    connect_s: float = 5.0
    read_s: float = 15.0
    total_s: float = 30.0
    body_bytes: int = 16 * 1024 * 1024


class Origin(Value, frozen=True):
    """Where to connect: scheme, host and port; `address` is connected to instead of the host when given."""

    scheme: str
    host: str
    port: int
    address: str | None = None

    @classmethod
    def of(cls, url: str, *, in_the_open: bool = False) -> Origin:
        """Return the origin of a URL: https, or http on this machine, because what goes there is not for others.

        A host under `.localhost` is connected to at 127.0.0.1 (RFC 6761).

        Args:
            in_the_open: http is fine everywhere: no credential goes there, and the answer decides nothing alone.

        Raises:
            ValueError: the URL is not http(s), or names no host or no valid port; or what goes there could be read. No
                part of the URL is in its words, since some URLs are secrets.

        >>> Origin.of("http://app.localhost:8787/health").address
        '127.0.0.1'
        >>> Origin.of("http://api.example.com")
        Traceback (most recent call last):
        ValueError: not https, and http is for loopback alone
        """
        try:
            parts = urlsplit(url)
            given = parts.port
        except ValueError:
            raise ValueError("not a URL with a valid host and port") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http(s) URL with a host")
        port = given or (443 if parts.scheme == "https" else 80)
        local = is_local_name(parts.hostname)
        if not (in_the_open or parts.scheme == "https" or local or is_this_machine(parts.hostname)):
            raise ValueError("not https, and http is for loopback alone")
        return cls(parts.scheme, parts.hostname, port, "127.0.0.1" if local else None)

    @property
    def netloc(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


def is_this_machine(host: str) -> bool:
    """Whether a host is a loopback address as it is written, or a name that RFC 6761 keeps for one."""
    is_v4 = host.startswith("127.") and host.isascii() and host.replace(".", "").isdigit()
    return host == "::1" or is_local_name(host) or is_v4


class Exchanging(Protocol):
    """Carries a request to an origin and its answer back."""

    origin: Origin
    limits: Limits

    def exchange(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        within_s: float | None = None,
    ) -> Answer:
        """Return the whole answer. Raises ExchangeError when none came."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class Connection:
    """A connection to one origin, opened when needed and kept open; one exchange at a time, from any thread."""

    def __init__(self, origin: Origin, limits: Limits | None = None) -> None:
        self.origin = origin
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._socket: BoundedSocket | None = None

    def exchange(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        within_s: float | None = None,
    ) -> Answer:
        """Return the whole answer, within `within_s` seconds (None: `limits.total_s`).

        A GET on a kept-open connection that the server closed meanwhile is sent again on a new one.

        Raises:
            ExchangeError: no whole answer came within the limits.
        """
        with self._lock:
            deadline = time.monotonic() + (self.limits.total_s if within_s is None else within_s)
            kept = self._is_open()
            try:
                return self._once(method, target, headers, body, deadline)
            except ExchangeError as error:
                self._close()
                if not (kept and method == "GET" and error.failure is Failure.BROKEN and error.status is None):
                    raise
            try:
                return self._once(method, target, headers, body, deadline)
            except ExchangeError:
                self._close()
                raise

    def close(self) -> None:
        """Close the connection; the next exchange opens a new one."""
        with self._lock:
            self._close()

    def __del__(self) -> None:
        # A command ends without ceremony; the kept-open socket goes with the object, silently.
        self._close()

    def _close(self) -> None:
        connection, bounded = self._connection, self._socket
        self._connection = self._socket = None
        if connection is not None:
            connection.close()
        if bounded is not None:
            bounded.inner.close()  # also when a half-read answer still holds on to it

    def _is_open(self) -> bool:
        """Whether the kept connection can be used: an idle one that became readable was closed by the server."""
        if self._connection is None or self._socket is None:
            return False
        with contextlib.suppress(OSError, ValueError):
            if not select.select([self._socket.inner], [], [], 0)[0]:
                return True
        self._close()
        return False

    def _once(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, deadline: float
    ) -> Answer:
        sent = asked = False
        status: int | None = None
        try:
            connection = self._connection or self._connect(deadline)
            if self._socket is not None:
                self._socket.begin(deadline, most_bytes=2 * self.limits.body_bytes + HEADERS_BYTES)
            sent = True
            connection.request(method, target, body=body, headers={"Host": self.origin.netloc, **headers})
            asked = True
            response = connection.getresponse()
            status = response.status
            answer = Answer(status, _get_headers(response), self._body(response))
            if response.will_close:
                self._close()
        except ExchangeError:
            raise
        except TimeoutError as error:
            raise ExchangeError(Failure.TIMED_OUT, "no answer in time", sent=sent, status=status) from error
        except (OSError, http.client.HTTPException) as error:
            raise ExchangeError(Failure.BROKEN, describe_error(error), sent=sent, status=status) from error
        except (ValueError, OverflowError) as error:  # of http.client, which may quote the value
            ours = "a header or the path holds characters that HTTP does not allow"
            what = "the answer is not proper HTTP" if asked else ours
            raise ExchangeError(Failure.BROKEN, what, sent=asked, status=status) from error
        return answer

    def _connect(self, deadline: float) -> http.client.HTTPConnection:
        origin = self.origin
        until = min(deadline, time.monotonic() + self.limits.connect_s)
        plain = dial(origin.address or origin.host, origin.port, until, named=str(origin))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        inner = start_tls(plain, origin.host, until) if origin.scheme == "https" else plain
        self._socket = BoundedSocket(inner, deadline, self.limits.read_s)
        connection = http.client.HTTPConnection(origin.host, origin.port)
        connection.auto_open = 0
        connection.sock = cast("socket.socket", self._socket)
        self._connection = connection
        return connection

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        announced = read_announced_bytes(response)
        if announced is not None and announced > self.limits.body_bytes:
            raise self._too_large(response.status)
        body = bytearray()
        while chunk := response.read(_CHUNK_BYTES):
            body += chunk
            if len(body) > self.limits.body_bytes:
                raise self._too_large(response.status)
        if announced is not None and len(body) < announced:
            raise http.client.IncompleteRead(b"", announced - len(body))
        return bytes(body)

    def _too_large(self, status: int) -> ExchangeError:
        return ExchangeError(
            Failure.TOO_LARGE, f"the answer is larger than {self.limits.body_bytes} bytes", sent=True, status=status
        )


def quote_segment(text: str) -> str:
    """Return a name as one segment of a path.

    >>> quote_segment("../a b")
    '..%2Fa%20b'
    """
    return quote(text, safe="")


def _get_headers(response: http.client.HTTPResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        headers.setdefault(name.lower(), value)
    return headers
