"""Keeping what a bucket without versions holds ("R2 Storage Recovery")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import UsageError
from backout.model.objects.progress import ObjectProgress
from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.objects.manifests import ManifestName
    from backout.runbook.objects.tools import ObjectTools


class Taken(Value, frozen=True):
    """A snapshot that was taken.

    Args:
        since_last_s: since the one before, None for the first.
        removed: how many older ones were removed.
    """

    manifest: ManifestName
    since_last_s: float | None
    removed: int


def take_snapshot(tools: ObjectTools, keep_s: float) -> Taken:
    """Take a snapshot, and remove those that are too old.

    Args:
        keep_s: a moment within so many seconds can be returned to.

    Raises:
        UsageError: there is no bucket for the history.
        BackoutError: see `Snapshots.take`.
    """
    if tools.snapshots is None:
        hint = "name a bucket for it: docs/objects.md"
        raise UsageError("the bucket has no history: storage.history is not set", where=tools.bucket, hint=hint)
    before = tools.snapshots.list_manifests()
    taken = tools.snapshots.take(lambda objects: tools.progress(ObjectProgress("storing", objects)))
    removed = tools.snapshots.prune(taken.at - keep_s)
    return Taken(taken, taken.at - before[-1].at if before else None, removed)
