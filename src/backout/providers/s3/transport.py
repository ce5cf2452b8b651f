"""How S3 calls travel: signed, over persistent connections of the standard library, each through the retry wrapper."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import os
import threading
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Self
from urllib.parse import urlsplit

from backout.errors import ProviderUnavailable, UsageError
from backout.providers.retry import Retry, with_retry
from backout.providers.s3.answers import LONGEST_BODY_BYTES, MalformedAnswer, parse_object
from backout.providers.s3.failures import failure, no_answer
from backout.providers.s3.sigv4 import EMPTY_SHA256, S3Credentials, S3Request, sign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    from backout.ports import Clock
    from backout.providers.s3.answers import S3Object
    from backout.providers.s3.calls import Call

    T = TypeVar("T")

_GOOD = frozenset({200, 204, 206})
_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Where and how.

    Args:
        endpoint: `https://host[:port]`, or http on loopback.
        timeout_s: for connecting and for each read.
        multipart_above_bytes: larger bodies go up in parts. part_bytes: their size, at least 5 MiB.
    """

    endpoint: str
    credentials: S3Credentials
    region: str = "us-east-1"
    timeout_s: float = 30.0
    multipart_above_bytes: int = 32 * 1024 * 1024
    part_bytes: int = 16 * 1024 * 1024
    retry: Retry = field(default_factory=Retry)


@dataclass(frozen=True, slots=True)
class Slice:
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
        """Yield the bytes, from the start each time it is called."""
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

    def __init__(self, info: S3Object, response: http.client.HTTPResponse, done: Callable[[bool], None]) -> None:
        self.info = info
        self.length = int(response.headers.get("Content-Length", "0"))
        self._response = response
        self._done = done

    def read(self, size_bytes: int | None = None) -> bytes:
        """Return the next bytes, all that are left by default; b"" at the end.

        Raises:
            ProviderUnavailable: the connection broke before the end.
        """
        try:
            return self._response.read() if size_bytes is None else self._response.read(size_bytes)
        except (OSError, http.client.HTTPException) as error:
            raise ProviderUnavailable(f"the object broke off: {error}", where=self.info.key) from error

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
        self._done(self._response.isclosed())


class Transport:
    """Sends calls to one endpoint; safe to use from several threads.

    Raises:
        UsageError: the endpoint is no URL of a host.
    """

    def __init__(self, settings: S3Settings, clock: Clock) -> None:
        parts = urlsplit(settings.endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
            raise UsageError(
                "not an S3 endpoint", where=settings.endpoint, hint="write https://host or http://host:port"
            )
        self._settings = settings
        self._clock = clock
        self._secure = parts.scheme == "https"
        self._address = (parts.hostname, parts.port)
        self._host = parts.netloc.rpartition("@")[2]
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the idle connections; the transport can still be used."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def send(self, call: Call, parse: Callable[[Mapping[str, str], bytes], T], *, source: Slice | None = None) -> T:
        """Send a call whose answer is short; return what `parse` makes of its headers (lower case) and body."""
        return with_retry(lambda: self._attempt(call, parse, source), self._settings.retry, self._clock)

    def open(self, call: Call, key: str) -> ObjectBody:
        """Send a call that answers an object's bytes."""
        return with_retry(lambda: self._open(call, key), self._settings.retry, self._clock)

    def _attempt(self, call: Call, parse: Callable[[Mapping[str, str], bytes], T], source: Slice | None) -> T:
        connection, response = self._exchange(call, source)
        body = self._read(connection, response, call)
        headers = _lower(response)
        # A copy and the end of an upload in parts may answer 200 first and an error in the body.
        failed_late = call.method in {"PUT", "POST"} and b"<Error" in body[:200]
        if response.status not in _GOOD or failed_late:
            raise failure(response.status, headers, body, self._where(call), self._clock.now())
        try:
            return parse(headers, body)
        except MalformedAnswer as error:
            raise no_answer(error, self._where(call)) from error

    def _open(self, call: Call, key: str) -> ObjectBody:
        connection, response = self._exchange(call, None)
        headers = _lower(response)
        if response.status not in _GOOD:
            body = self._read(connection, response, call)
            raise failure(response.status, headers, body, self._where(call), self._clock.now())
        info = parse_object(key, headers)
        return ObjectBody(info, response, lambda read: self._give_back(connection, reusable=read))

    def _read(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, call: Call) -> bytes:
        try:
            body = response.read(LONGEST_BODY_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise no_answer(error, self._where(call)) from error
        missing = response.length  # what Content-Length promised and did not come; it is None for chunks
        self._give_back(connection, reusable=response.isclosed() and not missing)
        if missing and len(body) <= LONGEST_BODY_BYTES:
            raise no_answer(http.client.IncompleteRead(body, missing), self._where(call))
        return body

    def _exchange(
        self, call: Call, source: Slice | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        body = call.body or b""
        sha256 = source.sha256() if source is not None else hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256
        request = S3Request(call.method, self._host, call.path, call.query, call.headers, sha256)
        headers = sign(request, self._settings.credentials, self._settings.region, self._clock.now())
        if call.method in {"PUT", "POST"}:
            headers["Content-Length"] = str(source.size_bytes if source is not None else len(body))
        connection = self._connection()
        try:
            connection.putrequest(call.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered no already
                for chunk in source.chunks() if source is not None else ():
                    connection.send(chunk)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise no_answer(error, self._where(call)) from error

    def _where(self, call: Call) -> str:
        return f"{self._settings.endpoint}{call.path}"

    def _connection(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(*self._address, timeout=self._settings.timeout_s, blocksize=_CHUNK_BYTES)

    def _give_back(self, connection: http.client.HTTPConnection, *, reusable: bool) -> None:
        """Keep a connection whose answer was read to the end; a closed one opens itself again."""
        if not reusable:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)


def _lower(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}
