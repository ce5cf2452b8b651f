"""The object store as the API uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class StoredObject(Value, frozen=True):
    """One object being downloaded: `chunks` is consumed once."""

    size_bytes: int
    content_type: str
    etag: str
    chunks: AsyncIterator[bytes]


class Buckets(Protocol):
    """The object store behind the R2 part of the API; missing things are None, refusals are ApiError."""

    async def create(self, name: str) -> None:
        """Create the bucket; an existing one is fine."""
        ...

    async def names(self) -> tuple[str, ...]:
        """Return the buckets that the store has."""
        ...

    async def delete(self, name: str) -> None:
        """Delete an empty bucket. Raises ApiError 10008 when it is not empty."""
        ...

    async def put(self, bucket: str, key: str, body: AsyncIterator[bytes], size_bytes: int, content_type: str) -> str:
        """Store an object, streaming, and return its etag."""
        ...

    async def get(self, bucket: str, key: str) -> StoredObject | None:
        """Open an object for reading, or None."""
        ...

    async def remove(self, bucket: str, key: str) -> None:
        """Delete an object; a missing one is fine."""
        ...
