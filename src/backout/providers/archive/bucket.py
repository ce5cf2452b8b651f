"""Objects in a bucket of S3 or a compatible store; an object appears there whole, and is replaced atomically."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

from backout.model.names import is_key, parse_key
from backout.providers.s3.failures import S3Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.providers.s3.client import S3Client

_MISSING: Final = 404


class BucketStore:
    """Port-like `Store` on a bucket; keys lie under a prefix. Each call raises as `S3Client` does."""

    def __init__(self, client: S3Client, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        weakref.finalize(self, client.close)  # its idle connections end with the store

    @property
    def name(self) -> str:
        """The bucket and the prefix in it."""
        return f"{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, key: str, data: bytes) -> None:
        """Store an object, large ones in parts."""
        self._client.put(self._bucket, self._prefix + parse_key(key), data)

    def get(self, key: str) -> bytes | None:
        """Return an object."""
        try:
            with self._client.get(self._bucket, self._prefix + parse_key(key)) as body:
                return b"".join(body)
        except S3Rejected as refused:
            if refused.status == _MISSING and refused.word in {"NoSuchKey", ""}:
                return None
            raise

    def keys(self, prefix: str, *, after: str = "") -> tuple[tuple[str, int], ...]:
        """List objects; a bucket lists them sorted."""
        behind = self._prefix + after if after else ""
        found = self._client.list_objects(self._bucket, self._prefix + prefix, start_after=behind)
        ours = ((each.key.removeprefix(self._prefix), each.size_bytes) for each in found)
        return tuple((key, size) for key, size in ours if is_key(key))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, a thousand a call: in a batch their order does not matter to a reader of records."""
        targets: list[tuple[str, str | None]] = [(self._prefix + parse_key(key), None) for key in keys]
        if targets:
            self._client.delete_many(self._bucket, targets)
