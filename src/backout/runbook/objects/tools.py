"""What a procedure on objects works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.objects.progress import ObjectProgress
    from backout.ports import BucketLook, BucketVersions, ChangeNotes, Clock, Journal, Runs


class ObjectTools(Value, frozen=True):
    """The ports of one environment's bucket.

    Args:
        versions: makes the port for the part of the bucket below a prefix.
        progress: is told the progress of a step.
    """

    environment: str
    actor: str
    bucket: str
    clock: Clock
    journal: Journal
    runs: Runs
    look: BucketLook
    versions: Callable[[str], BucketVersions]
    notes: ChangeNotes
    progress: Callable[[ObjectProgress], None] = lambda _progress: None
