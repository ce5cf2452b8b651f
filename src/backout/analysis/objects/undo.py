"""What takes a restore of objects back: the opposite of each change that was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.objects.versions import ChangeKind, ObjectChange, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backout.model.objects.versions import Carried


def list_undos(settled: Iterable[tuple[ObjectChange, Carried | None]]) -> Iterator[ObjectChange]:
    """Yield the opposite of each change that was made, or may have been; what was left as it was needs none."""
    for change, carried in settled:
        if carried is not None and (carried.outcome is Outcome.DONE or carried.maybe_made):
            yield _make_undo(change, carried)


def _make_undo(change: ObjectChange, carried: Carried) -> ObjectChange:
    if change.kind is ChangeKind.REMOVE:
        return ObjectChange(
            ChangeKind.UNDELETE,
            change.key,
            carried.version_id,
            change.found,
            change.found_etag,
            change.found_bytes,
            (carried.version_id,),
        )
    if not change.found_etag:  # it was deleted
        return ObjectChange(
            ChangeKind.REMOVE,
            change.key,
            carried.version_id,
            found_etag=change.etag,
            found_bytes=change.size_bytes,
        )
    return ObjectChange(
        ChangeKind.COPY,
        change.key,
        carried.version_id,
        change.found,
        change.found_etag,
        change.found_bytes,
        found_etag=change.etag,
        found_bytes=change.size_bytes,
    )
