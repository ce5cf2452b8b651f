"""The versions of objects, and the changes that bring a bucket back to a moment."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WHOLE_S: Final = 2.0
"""A store tells its clock in whole seconds, and the answer takes a while."""
_LATE_S: Final = 10.0
"""An attempt is known to have been at work every few seconds, and a call that it made takes the store a while."""


class ObjectVersion(Value, frozen=True):
    """One version of an object, or a delete marker.

    Args:
        at: when it was written, by the store's clock, in Unix seconds; most stores tell whole seconds.
        storage_class: "" for the store's usual one.
    """

    key: str
    version_id: str
    at: float
    etag: str = ""
    size_bytes: int = 0
    is_marker: bool = False
    storage_class: str = ""


class ChangeKind(StrEnum):
    """How an object is brought back; none of them destroys a version."""

    UNDELETE = "undelete"
    """Its delete markers are removed."""
    COPY = "copy"
    """An older version is copied inside the store, and is the newest one then."""
    REMOVE = "remove"
    """It gets a delete marker."""


class ObjectChange(Value, frozen=True):
    """One object's way back.

    Args:
        found: id of the newest version, or marker, when the bucket was listed.
        version_id: of the version to bring back, "" for a removal.
        markers: ids of the delete markers above it; only of an undeletion.
        maybe_same: the newest version has the same content, so only its metadata can be other.
        found_etag, found_bytes: of the newest version, "" and 0 for a marker: what an undo brings back.
    """

    kind: ChangeKind
    key: str
    found: str
    version_id: str = ""
    etag: str = ""
    size_bytes: int = 0
    markers: tuple[str, ...] = ()
    maybe_same: bool = False
    found_etag: str = ""
    found_bytes: int = 0


class Moment(Value, frozen=True):
    """The moment to return to, in Unix seconds by the store's clock.

    Args:
        until: the end of the damage: what was written later stays.
        slack_s: how far apart the clock of the store and the one that the moment was read from may be.
    """

    to: float
    until: float
    slack_s: float = 0.0


class Judgement(Value, frozen=True):
    """What is to be done about one object.

    Args:
        change: None: nothing.
        is_newer: its newest version is later than the damage, and stays.
        is_ambiguous: a version was written so close to the moment that it cannot be said on which side of it.
        is_archived: the version to bring back has to be requested from the store's archive first.
        began: when the oldest version that was looked at was written.
    """

    key: str
    change: ObjectChange | None = None
    is_newer: bool = False
    is_ambiguous: bool = False
    is_archived: bool = False
    began: float = 0.0


class Outcome(StrEnum):
    """What became of a change."""

    DONE = "done"
    SAME = "same"
    """It was already as it should be, metadata included, and not by the restore: an undo leaves it."""
    NEWER = "newer"
    """It was written again meanwhile, and that stays."""
    FAILED = "failed"


class Attempt(Value, frozen=True):
    """When an attempt was at work on changes, in Unix seconds by this host's clock.

    Args:
        until: as far as is known: it was killed later.
        skew_s: how far apart the store's clock may be.
    """

    began: float
    until: float
    skew_s: float = 0.0

    def began_after(self, at: float) -> bool:
        """Whether what the store dates so was there before it."""
        return at < self.began - self.skew_s - _WHOLE_S

    def covers(self, at: float) -> bool:
        """Whether what the store dates so may be its work."""
        return not self.began_after(at) and at <= self.until + self.skew_s + _LATE_S


NOT_KNOWN: Final = "which version or delete marker the restore made is not known"
"""Why a change of it cannot be taken back."""


class Carried(Value, frozen=True):
    """What became of one change.

    Args:
        version_id: of the version, or marker, that was made; "" for none, and where the store did not tell it.
        etag: of a copy.
        why: of a failure.
        maybe_made: of a failure: an attempt before may have made the change, which could not be looked at.
    """

    outcome: Outcome
    version_id: str = ""
    etag: str = ""
    why: str = ""
    maybe_made: bool = False


def judge_hidden(markers: Iterable[tuple[str, float]], attempts: Sequence[Attempt]) -> Carried:
    """Return what became of a removal whose object is hidden already: a marker says when it was made, not by whom.

    Args:
        markers: ids and times (Unix seconds by the store's clock) of the delete markers above the object, newest first.

    >>> judge_hidden([("m1", 50.0)], ()).outcome, judge_hidden([("m1", 50.0)], [Attempt(70.0, 80.0)]).outcome
    (<Outcome.SAME: 'same'>, <Outcome.SAME: 'same'>)
    >>> judge_hidden([("m2", 99.0), ("m1", 75.0)], [Attempt(70.0, 80.0)])  # the application deleted it once more
    Carried(outcome=<Outcome.DONE: 'done'>, version_id='m1', etag='', why='', maybe_made=False)
    >>> judge_hidden([("m1", 99.0)], [Attempt(70.0, 80.0)])  # nobody knows: an undo has to tell it
    Carried(outcome=<Outcome.DONE: 'done'>, version_id='', etag='', why='', maybe_made=False)
    """
    found = tuple(markers)
    for marker, at in found:
        if any(each.covers(at) for each in attempts):
            return Carried(Outcome.DONE, marker)
    if all(each.began_after(at) for each in attempts for _, at in found):
        return Carried(Outcome.SAME)
    return Carried(Outcome.DONE)
