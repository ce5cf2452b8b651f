"""The bytes behind the R2 part of the API: buckets and objects of the twin's object store, streaming both ways."""

from __future__ import annotations

import json
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from backout.providers.s3.sigv4 import UNSIGNED_PAYLOAD, S3Credentials, S3Request, encode_key, sign
from backout.twin.answers import ApiError
from backout.twin.api_context import StoredObject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

_CHUNK_BYTES = 64 * 1024
_VERSIONED = (
    b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status>'
    b"</VersioningConfiguration>"
)
_NOT_FOUND, _CONFLICT, _SERVER_ERROR, _FORBIDDEN = 404, 409, 500, 403


class S3Buckets:
    """The object store, spoken to as any S3 client does; implements `api_context.Buckets`.

    Args:
        credentials_file: JSON of access_key_id, secret_access_key, endpoint, region; read at each call, because the
            store writes it when it starts.
    """

    def __init__(self, credentials_file: Path) -> None:
        self._file = credentials_file
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def create(self, name: str) -> None:
        """Create the bucket with versioning on (what the store keeps is a drill's matter, R2 itself has none)."""
        await self._done(await self._send(_call("PUT", name)), accept=(_CONFLICT,))
        await self._done(await self._send(_call("PUT", name, query=(("versioning", ""),)), _VERSIONED))

    async def delete(self, name: str) -> None:
        """Delete an empty bucket, what its objects once were included.

        Raises:
            ApiError: 10008 when there are objects.
        """
        if await self._list(name, (("list-type", "2"), ("max-keys", "1")), ("Contents",)):
            raise ApiError(409, 10008, "The bucket you tried to delete is not empty.")
        while past := await self._list(name, (("versions", ""),), ("Version", "DeleteMarker")):
            for key, version in past:
                await self._done(await self._send(_call("DELETE", name, key, query=(("versionId", version),))))
        await self._done(await self._send(_call("DELETE", name)), accept=(_NOT_FOUND,))

    async def put(self, bucket: str, key: str, body: AsyncIterator[bytes], size_bytes: int, content_type: str) -> str:
        """Store an object, streaming, and return its etag."""
        headers = {"Content-Length": str(size_bytes), "Content-Type": content_type}
        response = await self._send(_call("PUT", bucket, key, headers=headers), body)
        etag = response.headers.get("ETag", "")
        await self._done(response)
        return etag

    async def get(self, bucket: str, key: str) -> StoredObject | None:
        """Open an object for reading, or None."""
        response = await self._send(_call("GET", bucket, key))
        if response.status == _NOT_FOUND:
            response.release()
            return None
        if response.status >= 300:  # noqa: PLR2004 - anything but a success
            await self._done(response)
        return StoredObject(
            size_bytes=response.content_length or 0,
            content_type=response.headers.get("Content-Type", "application/octet-stream"),
            etag=response.headers.get("ETag", ""),
            chunks=response.content.iter_chunked(_CHUNK_BYTES),
        )

    async def remove(self, bucket: str, key: str) -> None:
        """Delete an object; a missing one is fine."""
        await self._done(await self._send(_call("DELETE", bucket, key)), accept=(_NOT_FOUND,))

    async def _list(
        self, bucket: str, query: tuple[tuple[str, str], ...], tags: tuple[str, ...]
    ) -> list[tuple[str, str]]:
        """Return (key, version id) of the first page of a listing."""
        text = await self._done(await self._send(_call("GET", bucket, query=query)))
        root = ET.fromstring(text)  # noqa: S314 - our own store's answer
        found = [element for element in root.iter() if element.tag.rpartition("}")[2] in tags]
        return [(_child(element, "Key"), _child(element, "VersionId")) for element in found]

    async def _send(self, call: S3Request, data: bytes | AsyncIterator[bytes] | None = None) -> aiohttp.ClientResponse:
        access = json.loads(self._file.read_text(encoding="ascii"))
        endpoint = urlsplit(access["endpoint"])
        request = replace(call, host=endpoint.netloc)
        credentials = S3Credentials(access["access_key_id"], access["secret_access_key"])
        signed = sign(request, credentials, access["region"], time.time())
        url = URL(f"{endpoint.scheme}://{endpoint.netloc}{request.target}", encoded=True)
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False)
        try:
            return await self._session.request(request.method, url, headers=signed, data=data)
        except aiohttp.ClientError as error:
            raise ApiError(503, 10001, "The object store does not answer.") from error

    @staticmethod
    async def _done(response: aiohttp.ClientResponse, accept: tuple[int, ...] = ()) -> str:
        """Read the answer to its end; refusals of the store become refusals of the API."""
        text = await response.text()
        if response.status < 300 or response.status in accept:  # noqa: PLR2004 - a success
            return text
        if response.status == _FORBIDDEN:
            raise ApiError(403, 10003, "Access Denied")
        status = 502 if response.status >= _SERVER_ERROR else response.status
        raise ApiError(status, 10001, f"The object store answered {response.status}.")


def _call(
    method: str,
    bucket: str,
    key: str = "",
    query: tuple[tuple[str, str], ...] = (),
    headers: Mapping[str, str] | None = None,
) -> S3Request:
    path = f"/{bucket}/{encode_key(key)}" if key else f"/{bucket}"
    return S3Request(method, "", path, query, headers or {}, UNSIGNED_PAYLOAD)


def _child(element: ET.Element, name: str) -> str:
    return next((child.text or "" for child in element if child.tag.rpartition("}")[2] == name), "")
