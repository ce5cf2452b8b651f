"""Port BucketLook on S3 and compatible stores."""

from __future__ import annotations

import os
from math import ceil
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import AuthError, ProviderRejected
from backout.model.objects.checks import BucketFacts, PermissionLook
from backout.providers.s3.calls import Listing
from backout.providers.s3.exchanges import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.ports import Clock
    from backout.providers.s3.client import S3Client

    May = Callable[[str, Callable[[], object]], bool]

PROBE_PREFIX: Final = ".backout-check/"
"""Below which the object lies that is written, read and deleted again."""
_DAY_S: Final = 86_400.0
_LOOKS: Final = 3
_QUICK_S: Final = 1.0
_SLACK_STEP_S: Final = 5.0
"""The slack of slow answers is rounded up, so that the same restore a moment later is the same plan."""
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
        ahead_s, slack_s = self._compare_clocks()
        return BucketFacts(self._read_versioning(), self._read_expiry(), ahead_s, slack_s)

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
        look = PermissionLook(lists, reads, writes, deletes, left=key if deletes is False else "")
        if lists and deletes:
            look = self._try_versions(key, look, may)
        return replace(look, why=tuple(why))

    def _try_versions(self, key: str, look: PermissionLook, may: May) -> PermissionLook:
        """Try what a restore does with versions on what the bucket kept of a deleted object, and remove all of it."""
        client, bucket = self._client, self._bucket
        try:
            found = tuple(client.list_versions(bucket, key))
        except (AuthError, ProviderRejected):  # R2 lists no versions
            return look
        kept = next((each for each in found if not each.is_delete_marker), None)
        if kept is not None:
            source = (bucket, key, kept.version_id)
            markers = [each.version_id for each in found if each.is_delete_marker]
            deletes = may("delete_version", lambda: self._undelete(key, markers))
            look = replace(
                look,
                kept_at=kept.last_modified,
                delete_version=deletes,
                read_version=may("read_version", lambda: self._find(key, kept.version_id)),
                copy_version=may("copy_version", lambda: client.copy(source, bucket, key)) if deletes else None,
            )
        return look if self._clear(key) else replace(look, left=key)

    def _undelete(self, key: str, markers: Sequence[str]) -> None:
        for marker in markers:
            self._client.delete(self._bucket, key, version_id=marker)
        self._find(key)

    def _find(self, key: str, version_id: str | None = None) -> None:
        """Ask for what is there. Raises ProviderRejected: it is not."""
        if self._client.head(self._bucket, key, version_id=version_id) is None:
            raise ProviderRejected("the store does not find the version that it listed", status=MISSING, where=key)

    def _clear(self, key: str) -> bool:
        """Remove every version of an object; where one cannot be, the object is deleted: whether none is left."""
        try:
            for each in tuple(self._client.list_versions(self._bucket, key)):
                self._client.delete(self._bucket, key, version_id=each.version_id)
        except (AuthError, ProviderRejected):  # a key for objects alone, or a lock
            self._client.delete(self._bucket, key)
            return False
        return True

    def _remove(self, key: str) -> None:
        """Delete the object and ask whether it is gone."""
        self._client.delete(self._bucket, key)
        if self._client.head(self._bucket, key) is not None:
            raise ProviderRejected("the object is still there after it was deleted", status=200, where=key)

    def _compare_clocks(self) -> tuple[float | None, float]:
        """Return as `BucketFacts` has them, by the quickest of a few answers: attempts and waits are in each."""
        looks: list[tuple[float, float, float]] = []
        while len(looks) < _LOOKS and (not looks or looks[-1][0] >= _QUICK_S):
            sent = self._clock.now()
            if (told := self._read_clock()) is None:
                return None, 0.0
            looks.append((self._clock.now() - sent, told, sent))
        took_s, told, sent = min(looks)
        ahead_s = find_ahead(told, sent, sent + took_s)
        if took_s < _QUICK_S:
            return ahead_s, 0.0
        most_s = max(abs(told - sent - took_s), abs(told + 1.0 - sent))
        return ahead_s, ceil(most_s / _SLACK_STEP_S) * _SLACK_STEP_S

    def _read_clock(self) -> float | None:
        """Return the time of the store's clock. Raises ProviderRejected: there is no such bucket."""
        try:
            return self._client.read_clock(self._bucket)  # a HEAD, whose answer has no body that says so
        except ProviderRejected as refused:
            if refused.status != MISSING:
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
