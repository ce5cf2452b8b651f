"""What a listing of a bucket says about a restore, and what its verifier found."""

from __future__ import annotations

from typing import ClassVar

from backout.model.steps.base import Record

MOST_NAMES = 1000
"""The number of keys that a report names; the rest is counted."""


class ObjectSurvey(Record, frozen=True, kw_only=True):
    """How many objects are to be brought back to a moment, and how.

    Args:
        objects: how many keys the listing had.
        same: have the content of then in a newer version: they are copied only if their headers or metadata differ.
        size_bytes: of the versions that are to be copied.
        kept_newer: objects written after the damage, which stay.
        ambiguous: keys with a version so close to the moment that nothing says on which side; the first ones.
        archived: keys whose version has to be requested from the store's archive first; they are left.
        ambiguous_objects, archived_objects: how many there are of each.
        began: when the oldest version was written that was looked at, in Unix seconds; 0 for none.
    """

    objects: int = 0
    undeleted: int = 0
    changed: int = 0
    removed: int = 0
    same: int = 0
    size_bytes: int = 0
    kept_newer: int = 0
    ambiguous: tuple[str, ...] = ()
    archived: tuple[str, ...] = ()
    ambiguous_objects: int = 0
    archived_objects: int = 0
    began: float = 0.0

    @property
    def changes(self) -> int:
        """How many objects are to be looked at or changed."""
        return self.undeleted + self.changed + self.removed + self.same


class FailedObject(Record, frozen=True, kw_only=True):
    """An object that could not be brought back, and why."""

    key: str
    why: str


class ObjectsCompared(Record, frozen=True, kw_only=True):
    """What a second listing says about a restore.

    Args:
        verified: every change is as planned; None: some could not be compared.
        compared: how many are, by what the store says of their content.
        read: how many of them were read whole, since the store's own words do not tell.
        unread: keys that were too large to be read.
        differing: objects that are not as planned, and how; the first ones.
        differences: how many there are; of an older record 0.
        digest: of all of them, and how; "" where all are in `differing`.
        put_back: keys that the application wrote meanwhile, whose newer version is the newest again.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"differences", "digest"})
    verified: bool | None
    compared: int = 0
    read: int = 0
    unread: tuple[str, ...] = ()
    differing: tuple[FailedObject, ...] = ()
    differences: int = 0
    digest: str = ""
    put_back: tuple[str, ...] = ()
