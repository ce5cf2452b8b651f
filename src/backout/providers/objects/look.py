"""Port BucketLook on S3 and compatible stores."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from backout.errors import AuthError, ProviderRejected
from backout.model.objects.checks import BucketFacts, PermissionLook
from backout.providers.s3.calls import Listing

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import Clock
    from backout.providers.s3.client import S3Client

PROBE_PREFIX: Final = ".backout-check/"
"""Below which the object lies that is written, read and deleted again."""
_MISSING: Final = 404
_DAY_S: Final = 86_400.0
_WORDS: Final = {"Enabled": "enabled", "Suspended": "suspended", "": "off"}
_NOT_BUILT: Final = frozenset({400, 405, 501})


class S3BucketLook:
    """A bucket of S3, or the part of it below a prefix."""

    def __init__(self, client: S3Client, bucket: str, prefix: str, clock: Clock) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._clock = clock

    def read(self) -> BucketFacts:
        """Return what the bucket says of itself.

        Raises:
            ProviderRejected: there is no such bucket.
            AuthError: the access key may not ask for it.
        """
        sent = self._clock.now()
        told = self._read_clock()
        ahead_s = None if told is None else find_ahead(told, sent, self._clock.now())
        return BucketFacts(self._read_versioning(), self._read_expiry(), ahead_s)

    def try_permissions(self) -> PermissionLook:
        """Try each permission on an object of backout's own, under a random name; it is deleted again."""
        client, bucket = self._client, self._bucket
        key, body = f"{self._prefix}{PROBE_PREFIX}{os.urandom(8).hex()}", os.urandom(16)
        why: list[tuple[str, str]] = []

        def may(name: str, attempt: Callable[[], object]) -> bool:
            try:
                attempt()
            except (AuthError, ProviderRejected) as refused:
                why.append((name, refused.what))
                return False
            return True

        def read() -> None:
            with client.get(bucket, key) as found:
                if found.read() != body:
                    raise ProviderRejected("the object that was written reads differently", status=200, where=key)

        lists = may("list", lambda: client.list_page(bucket, Listing(prefix=self._prefix, limit=1)))
        writes = may("write", lambda: client.put(bucket, key, body))
        reads = may("read", read) if writes else None
        deletes = may("delete", lambda: self._remove(key)) if writes else None
        kept_at = self._find_kept(key) if lists and deletes else None
        return PermissionLook(lists, reads, writes, deletes, kept_at, tuple(why), key if deletes is False else "")

    def _find_kept(self, key: str) -> float | None:
        """Return when the version of a deleted object was written that the bucket kept, and remove what it kept."""
        try:
            found = tuple(self._client.list_versions(self._bucket, key))
            self._client.delete_batch(self._bucket, [(each.key, each.version_id) for each in found])
        except (AuthError, ProviderRejected):  # R2 lists no versions; a key for objects alone may not remove them
            return None
        return max((each.last_modified for each in found if not each.is_delete_marker), default=None)

    def _remove(self, key: str) -> None:
        """Delete the object and ask whether it is gone."""
        self._client.delete(self._bucket, key)
        if self._client.head(self._bucket, key) is not None:
            raise ProviderRejected("the object is still there after it was deleted", status=200, where=key)

    def _read_clock(self) -> float | None:
        """Return the time of the store's clock. Raises ProviderRejected: there is no such bucket."""
        try:
            return self._client.read_clock(self._bucket)  # a HEAD, whose answer has no body that says so
        except ProviderRejected as refused:
            if refused.status != _MISSING:
                raise
            what, hint = (
                f"there is no bucket {self._bucket!r} at this endpoint",
                "correct storage.bucket or storage.endpoint",
            )
            raise ProviderRejected(what, status=refused.status, where=refused.where, hint=hint) from refused

    def _read_versioning(self) -> str:
        try:
            return _WORDS.get(self._client.read_versioning(self._bucket), "unknown")
        except AuthError:
            return "unknown"
        except ProviderRejected as refused:
            if refused.status in _NOT_BUILT:  # R2: "not implemented", it keeps no versions
                return "off"
            raise

    def _read_expiry(self) -> float | None:
        try:
            days = self._client.read_kept_days(self._bucket)
        except AuthError:
            return None
        except ProviderRejected as refused:
            if refused.status in _NOT_BUILT:
                return None
            raise
        return None if days is None else days * _DAY_S


def find_ahead(told: float, sent: float, answered: float) -> float:
    """Return how far a store's clock is ahead, at least; it tells whole seconds, and an answer may take long.

    >>> find_ahead(100.0, 100.2, 107.0), find_ahead(109.0, 100.2, 107.0), find_ahead(95.0, 100.5, 107.0)
    (0.0, 2.0, -4.5)
    """
    return max(told - answered, min(told + 1.0 - sent, 0.0))
