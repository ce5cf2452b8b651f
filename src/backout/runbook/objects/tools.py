"""What a procedure on objects works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from backout.model.objects.checks import HistoryLock
    from backout.model.objects.progress import ObjectProgress
    from backout.model.objects.versions import Moment
    from backout.ports import BucketLook, BucketVersions, ChangeNotes, Clock, Journal, Ranges, Runs, Snapshots


class Spread(Value, frozen=True):
    """How ranges of a restore are worked on beside other machines.

    Args:
        place: the bucket, see `RangeWork`.
        worker: this process, as others read it.
        connect: opens a connection to the ranges, for one thread.
        open: makes the port as `ObjectTools.versions`, which calls a check before each call of the store.
        say: is told why other machines gave a range up.
        silent_s: a worker that was not heard of for so long does not work any more (more than it waits itself).
        lost_s: a range that nobody took for so long gets another job.
    """

    place: str
    worker: str
    connect: Callable[[], AbstractContextManager[Ranges]]
    open: Callable[[str, Moment, Callable[[], None]], BucketVersions]
    say: Callable[[str], None] = lambda _text: None
    silent_s: float = 12.0
    lost_s: float = 30.0


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
        chunk: how many changes of a restore are recorded as done at a time; so many are a range, too.
        spread: None: the journal is a file, which no other machine reaches.
        is_spread: whether ranges are left to other machines as well.
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
    chunk: int = 1000
    spread: Spread | None = None
    is_spread: bool = False
