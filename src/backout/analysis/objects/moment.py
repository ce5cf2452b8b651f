"""From the versions of each object to what brings it back to a moment.

The order of the listing is the truth: most stores tell times in whole seconds, and two versions of one second are
ordered by nothing else.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from backout.model.objects.versions import ChangeKind, Judgement, ObjectChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backout.model.objects.versions import Moment, ObjectVersion

ARCHIVED: Final = frozenset({"GLACIER", "DEEP_ARCHIVE", "ARCHIVE"})
"""Storage classes whose objects cannot be copied before somebody has requested them from the archive."""


def judge_objects(versions: Iterable[ObjectVersion], moment: Moment) -> Iterator[Judgement]:
    """Yield a judgement on each object, from a listing of each key in one piece, its newest version first."""
    for _, each in groupby(versions, key=lambda version: version.key):
        yield judge_object(each, moment)


def judge_object(versions: Iterable[ObjectVersion], moment: Moment) -> Judgement:
    """Return what brings one object back to the moment.

    A version about which it cannot be said on which side of the moment it was written counts as later: nothing that
    may be damage stays, no version is destroyed, and a person is told.

    Args:
        versions: of this object, the newest first, as the store lists them; at least one.
    """
    newest, then, markers = None, None, []
    data_between = is_ambiguous = False
    began = 0.0
    for version in versions:
        newest, began = newest or version, version.at
        if _is_before(version, moment):
            then = version
            break
        is_ambiguous |= not _is_after(version, moment)
        if version.is_marker:
            markers.append(version.version_id)
        else:
            data_between = True
    assert newest is not None
    if then is newest:
        return Judgement(newest.key, began=began)
    if newest.at > moment.until:
        return Judgement(newest.key, is_newer=True, began=began)
    if then is None or then.is_marker:
        change = ObjectChange(
            ChangeKind.REMOVE,
            newest.key,
            newest.version_id,
            found_etag=newest.etag,
            found_bytes=newest.size_bytes,
        )
        change_or_none = None if newest.is_marker else change
        return Judgement(newest.key, change_or_none, is_ambiguous=is_ambiguous, began=began)
    if then.storage_class in ARCHIVED and data_between:
        return Judgement(newest.key, is_ambiguous=is_ambiguous, is_archived=True, began=began)
    change = ObjectChange(
        ChangeKind.COPY if data_between else ChangeKind.UNDELETE,
        newest.key,
        newest.version_id,
        then.version_id,
        then.etag,
        then.size_bytes,
        () if data_between else tuple(markers),
        not newest.is_marker and (newest.etag, newest.size_bytes) == (then.etag, then.size_bytes),
        newest.etag,
        newest.size_bytes,
    )
    return Judgement(newest.key, change, is_ambiguous=is_ambiguous, began=began)


def _is_before(version: ObjectVersion, moment: Moment) -> bool:
    """Whether it was certainly written before the moment: at its second's end, as the store's clock has it."""
    return version.at + _get_precision(version.at) + moment.slack_s <= moment.to


def _is_after(version: ObjectVersion, moment: Moment) -> bool:
    return version.at - moment.slack_s >= moment.to


def _get_precision(at: float) -> float:
    """Return how much later than its time a version may have been written: a store that tells fractions is exact."""
    return 1.0 if at == int(at) else 0.001
