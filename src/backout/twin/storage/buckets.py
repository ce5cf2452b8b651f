"""The R2 part of the twin's API on the real object store; every bucket is made with versions, which R2 itself lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import AuthError, BackoutError, ProviderRejected
from backout.providers.s3 import answers, calls
from backout.twin.api.answers import ApiError
from backout.twin.faults import FaultKind
from backout.twin.storage.port import StoredObject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backout.twin.faults import Faults
    from backout.twin.storage.client import StoreClient

_CHUNK_BYTES = 64 * 1024
_MISSING, _CONFLICT = 404, 409


class StoreBuckets:
    """Implements `backout.twin.storage.port.Buckets`."""

    def __init__(self, store: StoreClient, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    async def create(self, name: str) -> None:
        """Create the bucket with versions on; an existing one is fine."""
        await self._call(calls.create_bucket(name), fine=_CONFLICT)
        await self._call(calls.put_versioning(name, enabled=True))

    async def names(self) -> tuple[str, ...]:
        """Return the buckets that the store has."""
        body = await self._call(calls.list_buckets())
        return tuple(name for name, _ in answers.parse_buckets(body))

    async def delete(self, name: str) -> None:
        """Delete a bucket without objects; old versions and delete markers go with it.

        Raises:
            ApiError: 10008, it holds objects.
        """
        page = answers.parse_page(await self._call(calls.list_page(name, calls.Listing(limit=1))))
        if page.objects:
            raise ApiError(409, 10008, "The bucket you tried to delete is not empty.")
        await self._call(calls.delete_bucket(name), fine=_MISSING)

    async def put(self, bucket: str, key: str, body: AsyncIterator[bytes], size_bytes: int, content_type: str) -> str:
        """Store an object, streaming, and return its etag.

        Raises:
            ApiError: 403 where access is denied; 500 when the store does not answer; otherwise its own status.
        """
        self._check(bucket)
        call = calls.put(bucket, key, None, attributes=calls.Attributes({"Content-Type": content_type}))
        try:
            headers, _ = await self._store.send(call, body, size_bytes)
        except BackoutError as error:
            raise _make_api_error(error) from error
        return headers.get("etag", "")

    async def get(self, bucket: str, key: str) -> StoredObject | None:
        """Open an object for reading, or None.

        Raises:
            ApiError: as `put`.
        """
        self._check(bucket)
        opened = self._store.open(calls.get(bucket, key))
        try:
            response = await opened.__aenter__()
        except ProviderRejected as refused:
            if refused.status == _MISSING:
                return None
            raise _make_api_error(refused) from refused
        except BackoutError as error:
            raise _make_api_error(error) from error

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    yield chunk
            finally:
                await opened.__aexit__(None, None, None)

        headers = response.headers
        return StoredObject(
            size_bytes=int(headers.get("Content-Length", "0")),
            content_type=headers.get("Content-Type", "application/octet-stream"),
            etag=headers.get("ETag", ""),
            chunks=chunks(),
        )

    async def remove(self, bucket: str, key: str) -> None:
        """Delete an object (its versions stay behind a delete marker); a missing one is fine."""
        self._check(bucket)
        await self._call(calls.delete(bucket, key), fine=_MISSING)

    async def _call(self, call: calls.Call, *, fine: int | None = None) -> bytes:
        try:
            return (await self._store.send(call))[1]
        except ProviderRejected as refused:
            if refused.status == fine:
                return b""
            raise _make_api_error(refused) from refused
        except BackoutError as error:
            raise _make_api_error(error) from error

    def _check(self, bucket: str) -> None:
        if self._faults.active(FaultKind.STORAGE_DENIED, bucket):
            raise ApiError(403, 10002, "Access Denied")


def _make_api_error(error: BackoutError) -> ApiError:
    if isinstance(error, AuthError):
        return ApiError(403, 10002, "Access Denied")
    if isinstance(error, ProviderRejected):
        return ApiError(error.status, 10001, str(error))
    return ApiError(500, 10001, "We encountered an internal error. Please try again.")
