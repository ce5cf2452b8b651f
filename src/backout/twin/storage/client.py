"""The twin's own asynchronous client of its object store: the calls of providers.s3, sent by aiohttp, bodies streamed.

No retries: the store is on this machine, and a fault of a drill must be visible.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from backout.errors import ProviderUnavailable
from backout.providers.s3.answers import parse_error
from backout.providers.s3.documents import LONGEST_BODY_BYTES
from backout.providers.s3.failures import make_failure
from backout.providers.s3.sigv4 import EMPTY_SHA256, UNSIGNED_PAYLOAD, S3Credentials, S3Request, sign

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from backout.providers.s3.calls import Call
    from backout.twin.storage.objectstore import S3Access

_GOOD = frozenset({200, 204, 206})
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=2.0, sock_read=30.0)
_HINT = "the object store of the twin is down; backout twin status"


class StoreClient:
    """Sends calls to the store; open between `start` and `stop`."""

    def __init__(self) -> None:
        self._access: S3Access | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self, access: S3Access) -> None:
        """Remember where the store is."""
        self._access = access
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=64), timeout=_TIMEOUT, auto_decompress=False
            )

    async def stop(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self, call: Call, body: AsyncIterator[bytes] | None = None, size_bytes: int = 0
    ) -> tuple[Mapping[str, str], bytes]:
        """Send a call, its body streamed where `body` is given; return the headers (lower case) and the whole answer.

        Raises:
            AuthError, ProviderRejected: the store said no.
            ProviderUnavailable: it did not answer.
        """
        async with self.open(call, body, size_bytes) as response:
            answer = await response.content.read(LONGEST_BODY_BYTES)
            if b"<Error" in answer and parse_error(answer).code:  # the 200 of a copy goes out first
                raise make_failure(response.status, {}, answer, call.path, time.time()).error
            return _lower_headers(response), answer

    @asynccontextmanager
    async def open(
        self, call: Call, body: AsyncIterator[bytes] | None = None, size_bytes: int = 0
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a call and hand over the answer while it comes in.

        Raises:
            AuthError: the store denies access.
            ProviderRejected: the store said no.
            ProviderUnavailable: it is not running, or did not answer.
        """
        if self._session is None or self._access is None:
            raise ProviderUnavailable("the object store is not running", where=call.path, hint=_HINT)
        access = self._access
        payload = EMPTY_SHA256 if body is None and not call.body else UNSIGNED_PAYLOAD
        host = access.endpoint.removeprefix("http://")
        request = S3Request(call.method, host, call.path, call.query, call.headers, payload)
        credentials = S3Credentials(access.access_key_id, access.secret_access_key)
        headers = sign(request, credentials, access.region, time.time())
        if call.method == "PUT" and not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/octet-stream"  # else aiohttp picks one after the signature
        if body is not None:
            headers["Content-Length"] = str(size_bytes)
        url = URL(f"{access.endpoint}{request.target}", encoded=True)
        data = call.body or None if body is None else body
        try:
            async with self._session.request(call.method, url, headers=headers, data=data) as response:
                if response.status not in _GOOD:
                    answer = await response.content.read(LONGEST_BODY_BYTES)
                    raise make_failure(response.status, _lower_headers(response), answer, call.path, time.time()).error
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ProviderUnavailable(
                f"the object store did not answer: {error}", where=call.path, hint=_HINT
            ) from error


def _lower_headers(response: aiohttp.ClientResponse) -> Mapping[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
