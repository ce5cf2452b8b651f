"""What is known about a bucket before anything is restored in it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping


class History(StrEnum):
    """What a bucket's past is kept in."""

    VERSIONS = "versions"
    SNAPSHOTS = "snapshots"
    NONE = "none"


class BucketFacts(Value, frozen=True):
    """What a bucket says of itself.

    Args:
        versioning: "enabled", "suspended", "off", or "unknown" where the key may not ask.
        expires_after_s: how long a version that is not the newest is kept; None for ever, or where it is not said.
        clock_ahead_s: how far the store's clock is ahead of this machine's at least, None where its answer has no time.
        clock_slack_s: how far the two may be apart by answers that all took long; 0 after a quick one.
    """

    versioning: str
    expires_after_s: float | None = None
    clock_ahead_s: float | None = None
    clock_slack_s: float = 0.0


class HistoryLock(Value, frozen=True):
    """Whether the store lets nobody remove what the history's bucket holds, for a while.

    Args:
        is_locked: None where that is not known.
        for_s: for how long from when it was written, infinite for ever; None without a lock.
        why: why it is not known, "" where it is.
    """

    is_locked: bool | None
    for_s: float | None = None
    why: str = ""


class PermissionLook(Value, frozen=True):
    """What an access key may do with objects; None: it was not tried, as what it needs was refused before.

    Args:
        read_version, copy_version, delete_version: the same of a version that the bucket kept; None without one, too.
        kept_at: when the version was written, by the store's clock, that the bucket still had after it was deleted, in
            Unix seconds; None: it had none.
        why: the store's words for each refusal, (permission, words).
        left: the key of an object of backout's own that could not be removed again with its versions, or "".
    """

    list: bool | None = None
    read: bool | None = None
    write: bool | None = None
    delete: bool | None = None
    kept_at: float | None = None
    why: tuple[tuple[str, str], ...] = ()
    left: str = ""
    read_version: bool | None = None
    copy_version: bool | None = None
    delete_version: bool | None = None

    @property
    def allowed(self) -> Mapping[str, bool | None]:
        """Each permission by its name; those of versions where the bucket had kept one."""
        names = ["list", "read", "write", "delete"]
        names += ["read_version", "copy_version", "delete_version"] if self.read_version is not None else []
        return {name: getattr(self, name) for name in names}


def describe_permission(name: str) -> str:
    """Return what a permission allows, after "may".

    >>> describe_permission("write"), describe_permission("delete_version")
    ('write', 'delete versions')
    """
    return name.replace("_version", " versions")
