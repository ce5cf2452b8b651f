"""Manifests: what a bucket held at a moment, for buckets that keep no versions themselves."""

from __future__ import annotations

from backout.model.steps.base import Record
from backout.model.value import Value


class ManifestEntry(Value, frozen=True):
    """One object of a manifest.

    Args:
        at: when it was written, by the store's clock, in Unix seconds.
        stored: the name of the manifest with which its content was stored.
        kept_etag: of that stored content, which is another one than the object's where the store encrypts, or the
            object went up in parts; "" in manifests of before 2026-12.
    """

    key: str
    etag: str
    size_bytes: int
    at: float
    stored: str
    kept_etag: str = ""


class ManifestName(Record, frozen=True, kw_only=True):
    """A manifest as the listing of the history's bucket names it.

    Args:
        at: when its listing began, by the store's clock, in Unix seconds; every object is at least as new as then.
        size_bytes: of the objects, not of the manifest.
        changed: objects whose content was stored with it; deleted: objects of the one before that were gone.
    """

    name: str
    at: float
    objects: int
    size_bytes: int
    changed: int
    deleted: int
