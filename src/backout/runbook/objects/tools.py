"""What a procedure on objects works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.objects.checks import HistoryLock
    from backout.model.objects.progress import ObjectProgress
    from backout.model.objects.versions import Moment
    from backout.ports import BucketLook, BucketVersions, ChangeNotes, Clock, Journal, Runs, Snapshots


class ObjectTools(Value, frozen=True):
    """The ports of one environment's bucket.

    Args:
        prefix: the part of the bucket that snapshots are taken of, "" for all of it.
        versions: makes the port for the part of the bucket below a prefix, and for a moment.
        snapshots: the history of a bucket that keeps no versions itself; None: it keeps them, or has no history.
        snapshot_every_s: how often one is due.
        snapshot_keep_s: for how long one is kept.
        read_lock: asks whether the store locks the history; raises BackoutError where it does not tell.
        progress: is told the progress of a step.
    """

    environment: str
    actor: str
    bucket: str
    prefix: str
    clock: Clock
    journal: Journal
    runs: Runs
    look: BucketLook
    versions: Callable[[str, Moment], BucketVersions]
    notes: ChangeNotes
    snapshots: Snapshots | None = None
    snapshot_every_s: float = 3600.0
    snapshot_keep_s: float = 35 * 86400.0
    read_lock: Callable[[], HistoryLock] | None = None
    progress: Callable[[ObjectProgress], None] = lambda _progress: None
