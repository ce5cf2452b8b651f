"""How S3 calls travel: signed, over persistent connections, each through the retry wrapper.

A call whose answer is short has one deadline for all of it. One that moves an object has a deadline for its progress.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import select
import socket
import threading
import time
from http.client import HTTPException
from typing import IO, TYPE_CHECKING, Self
from urllib.parse import urlsplit

from msgspec import field

from backout.decoding import Undecodable
from backout.errors import ProviderUnavailable, UsageError
from backout.model.value import Value
from backout.providers.exchange import is_this_machine
from backout.providers.retry import CallFailed, Retry, retry_call
from backout.providers.s3.answers import parse_object
from backout.providers.s3.documents import LONGEST_BODY_BYTES, LateError, MalformedAnswer
from backout.providers.s3.failures import make_failure, make_no_answer
from backout.providers.s3.http import Response, make_head
from backout.providers.s3.sigv4 import EMPTY_SHA256, S3Credentials, S3Request, sign
from backout.providers.sockets import (
    HEADERS_BYTES,
    BoundedSocket,
    ExchangeError,
    MalformedHead,
    describe_error,
    dial,
    start_tls,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    from backout.ports import Clock
    from backout.providers.s3.answers import S3Object
    from backout.providers.s3.calls import Call

    T = TypeVar("T")

_GOOD = frozenset({200, 204, 206})
_CHUNK_BYTES = 256 * 1024
_ALL = 2**63 - 1
_ENDPOINT_HINT = "write https://host[:port], or http on loopback"


class S3Settings(Value, frozen=True):
    """Where and how.

    Args:
        endpoint: `https://host[:port]`, or http on loopback.
        timeout_s: for connecting, for each read, and for every 64 KiB of an object on its way.
        total_s: for a whole call whose answer is short, from connecting to its last byte.
        object_s: for a whole object on its way; None: as long as it moves on.
        multipart_above_bytes: larger bodies go up in parts.
        part_bytes: their size, at least 5 MiB.
        hear: is told of each failed attempt of a call, by the thread that made it.
    """

    endpoint: str
    credentials: S3Credentials
    region: str = "us-east-1"
    timeout_s: float = 30.0
    total_s: float = 60.0
    object_s: float | None = None
    multipart_above_bytes: int = 32 * 1024 * 1024
    part_bytes: int = 16 * 1024 * 1024
    retry: Retry = field(default_factory=Retry)
    hear: Callable[[CallFailed], None] = lambda _failed: None


class Slice(Value, frozen=True):
    """A part of an open file, as a body that can be sent again."""

    file: IO[bytes]
    start: int
    size_bytes: int

    @classmethod
    def of(cls, body: bytes | IO[bytes]) -> Slice:
        """Return all of the bytes, or the rest of the file from its present position."""
        if isinstance(body, bytes):
            return cls(io.BytesIO(body), 0, len(body))
        start = body.tell()
        return cls(body, start, body.seek(0, os.SEEK_END) - start)

    def part(self, offset: int, size_bytes: int) -> Slice:
        """Return a piece of it."""
        return Slice(self.file, self.start + offset, min(size_bytes, self.size_bytes - offset))

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes, from the start each time it is called.

        Raises:
            UsageError: the file became shorter while it was read.
        """
        self.file.seek(self.start)
        left = self.size_bytes
        while left:
            chunk = self.file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise UsageError("the file became shorter while it was read")
            left -= len(chunk)
            yield chunk

    def sha256(self) -> str:
        """Return the hex digest."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


class ObjectBody:
    """The bytes of an object on their way in; use it in a `with` block, read it to the end or leave it.

    Attributes:
        info: the object; its size is the whole object's, also of a ranged answer.
        length: how many bytes this answer has.
    """

    def __init__(self, info: S3Object, length: int, response: Response, done: Callable[[bool], None]) -> None:
        self.info = info
        self.length = length
        self._response = response
        self._done = done

    def read(self, size_bytes: int | None = None) -> bytes:
        """Return the next bytes, all that are left by default; b"" at the end.

        Raises:
            ProviderUnavailable: the connection broke before the end.
        """
        try:
            return self._response.read(_ALL if size_bytes is None else size_bytes)
        except BROKEN as error:
            raise ProviderUnavailable(f"the object broke off: {_describe_error(error)}", where=self.info.key) from error

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes in pieces."""
        left = self.length
        while chunk := self.read(_CHUNK_BYTES):
            left -= len(chunk)
            yield chunk
        if left:
            raise ProviderUnavailable(f"the object broke off {left} bytes before its end", where=self.info.key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._done(self._response.is_over and self._response.is_kept)


class Transport:
    """Sends calls to one endpoint; safe to use from several threads.

    Raises:
        UsageError: the endpoint is no URL of a host; it is quoted only where nothing in it can be a secret.
    """

    def __init__(self, settings: S3Settings, clock: Clock) -> None:
        try:
            parts = urlsplit(settings.endpoint)
            port = parts.port
        except ValueError:  # whose words quote the text
            raise UsageError("the bucket's endpoint has no valid host and port", hint=_ENDPOINT_HINT) from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise UsageError("the bucket's endpoint is no URL of a host alone", hint=_ENDPOINT_HINT)
        if parts.path.strip("/") or parts.query or parts.fragment:
            where = f"{parts.scheme}://{parts.netloc}"
            raise UsageError("there is more than a host in the bucket's endpoint", where=where, hint=_ENDPOINT_HINT)
        if parts.scheme == "http" and not is_this_machine(parts.hostname):
            what = "objects and signatures would travel unencrypted: http is for loopback alone"
            raise UsageError(what, where=settings.endpoint, hint="write https://host[:port]")
        self._settings = settings
        self._clock = clock
        self._secure = parts.scheme == "https"
        self._address = (parts.hostname, port)
        self._host = parts.netloc
        self._idle: list[Line] = []
        self._lock = threading.Lock()

    @property
    def not_yet(self) -> tuple[type[OSError], ...]:
        """What a connection raises that does not block and has to wait."""
        if not self._secure:
            return (BlockingIOError,)
        import ssl

        return (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

    def close(self) -> None:
        """Close the idle connections; the transport can still be used."""
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()

    def send(
        self,
        call: Call,
        parse: Callable[[Mapping[str, str], bytes], T],
        *,
        source: Slice | None = None,
        total_s: float | None = None,
    ) -> T:
        """Send a call whose answer is short; return what `parse` makes of its headers (lower case) and body.

        Args:
            total_s: in place of the settings', for a call over which the server works long.
        """
        total_s = total_s or self._settings.total_s
        return self._retry(lambda: self._attempt(call, parse, source, total_s))

    def open(self, call: Call, key: str) -> ObjectBody:
        """Send a call that answers an object's bytes."""
        return self._retry(lambda: self._open(call, key))

    def _retry(self, attempt: Callable[[], T]) -> T:
        return retry_call(attempt, self._settings.retry, self._clock, hear=self._settings.hear)

    def _attempt(
        self, call: Call, parse: Callable[[Mapping[str, str], bytes], T], source: Slice | None, total_s: float
    ) -> T:
        line, response = self._exchange(call, source, None if source is not None else total_s)
        body = self._read(line, response, call)
        return self.read_answer(call, response.status, response.headers, body, parse)

    def read_answer(
        self,
        call: Call,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        parse: Callable[[Mapping[str, str], bytes], T],
    ) -> T:
        """Return what `parse` makes of a whole answer. Raises CallFailed: a refusal, or no answer of S3."""
        if status not in _GOOD:
            raise make_failure(status, headers, body, self.where(call), self._clock.now())
        try:
            return parse(headers, body)
        except LateError as late:  # as a copy, or the end of an upload in parts: the 200 goes out before the work ends
            raise make_failure(status, headers, body, self.where(call), self._clock.now()) from late
        except (MalformedAnswer, Undecodable) as error:
            raise make_no_answer(error, self.where(call)) from error

    def _open(self, call: Call, key: str) -> ObjectBody:
        line, response = self._exchange(call, None, None)
        if response.status not in _GOOD:
            line.socket.begin(time.monotonic() + self._settings.total_s, most_bytes=MOST_READ)
            body = self._read(line, response, call)
            raise make_failure(response.status, response.headers, body, self.where(call), self._clock.now())
        try:
            length = response.length or 0
            line.socket.expect(length + HEADERS_BYTES)
            info = parse_object(key, response.headers)
        except (*BROKEN, MalformedAnswer, Undecodable) as error:
            line.close()
            raise make_no_answer(error, self.where(call)) from error
        return ObjectBody(info, length, response, lambda read: self.give_back(line, reusable=read and response.is_kept))

    def _read(self, line: Line, response: Response, call: Call) -> bytes:
        try:
            body = response.read(LONGEST_BODY_BYTES + 1)
        except BROKEN as error:
            line.close()
            raise make_no_answer(error, self.where(call)) from error
        self.give_back(line, reusable=response.is_over and response.is_kept)
        return body

    def _exchange(self, call: Call, source: Slice | None, total_s: float | None) -> tuple[Line, Response]:
        """Send a call and return its answer's head; `total_s` None: an object is on its way."""
        request = self.make_request(call, source)
        line = self._line(call, total_s)
        try:
            line.socket.sendall(request)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered no already
                for chunk in source.chunks() if source is not None else ():
                    line.socket.sendall(chunk)
            return line, Response(line.socket, call.method)
        except BROKEN as error:
            line.close()
            raise make_no_answer(error, self.where(call)) from error

    def make_request(self, call: Call, source: Slice | None = None) -> bytes:
        """Return a signed request, without the body that comes from a source.

        Raises:
            CallFailed: it cannot be written as HTTP.
        """
        body = call.body or b""
        sha256 = source.sha256() if source is not None else hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256
        request = S3Request(call.method, self._host, call.path, call.query, call.headers, sha256)
        headers = sign(request, self._settings.credentials, self._settings.region, self._clock.now())
        if call.method in {"PUT", "POST"}:
            headers["Content-Length"] = str(source.size_bytes if source is not None else len(body))
        try:
            return make_head(call.method, request.target, headers) + body
        except ValueError as error:
            raise make_no_answer(error, self.where(call)) from error

    def where(self, call: Call) -> str:
        """Return the address of a call, for a message."""
        return f"{self._settings.endpoint}{call.path}"

    def _line(self, call: Call, total_s: float | None) -> Line:
        """Return a connection with the deadline of this call: an idle one that is still open, or a new one."""
        now, progress_s = time.monotonic(), self._settings.timeout_s if total_s is None else None
        latest = math.inf if total_s is not None or self._settings.object_s is None else now + self._settings.object_s
        deadline = now + (total_s or self._settings.timeout_s)
        line = self.take_idle()
        if line is None:
            try:
                line = self.dial(deadline)
            except ExchangeError as error:
                raise make_no_answer(error, self.where(call)) from error
        line.socket.begin(deadline, most_bytes=MOST_READ, progress_s=progress_s, latest=latest)
        return line

    def take_idle(self) -> Line | None:
        """Return a connection that is open and not used, None where there is none."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                line = self._idle.pop()
            if line.is_open():
                return line
            line.close()

    def dial(self, deadline: float) -> Line:
        """Return a new connection, made until `deadline` (monotonic). Raises ExchangeError."""
        host, given = self._address
        port = given or (443 if self._secure else 80)
        until = min(deadline, time.monotonic() + self._settings.timeout_s)
        plain = dial(host, port, until, named=f"{host}:{port}")
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        inner = start_tls(plain, host, until) if self._secure else plain
        return Line(BoundedSocket(inner, deadline, self._settings.timeout_s))

    def give_back(self, line: Line, *, reusable: bool) -> None:
        """Keep a connection whose answer was read to the end, unless the server closes it."""
        if not reusable:
            line.close()
            return
        with self._lock:
            self._idle.append(line)


BROKEN = (OSError, HTTPException, ValueError, OverflowError)
MOST_READ = 2 * LONGEST_BODY_BYTES + HEADERS_BYTES


class Line(Value, frozen=True):
    """A connection."""

    socket: BoundedSocket

    def is_open(self) -> bool:
        """Whether an idle connection can be used: one that became readable was closed by the server."""
        try:
            return not select.select([self.socket.inner], [], [], 0)[0]
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        """Close it, also when an answer is read in half."""
        self.socket.inner.close()


def _describe_error(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "nothing more came in time"
    return str(error) if isinstance(error, MalformedHead) else describe_error(error)
