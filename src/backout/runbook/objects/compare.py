"""The second listing after a restore: is each object as planned, and what did the application write meanwhile?"""

from __future__ import annotations

import hashlib
from itertools import groupby, islice
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.model.objects.progress import ObjectProgress
from backout.model.objects.surveys import MOST_NAMES, FailedObject, ObjectsCompared
from backout.model.objects.versions import ChangeKind, Outcome
from backout.model.steps.objects import (
    CompareObjectsResult,
    CompareObjectsStep,
    SnapshotObjectsStep,
    SurveyObjectsStep,
    UndoObjectsStep,
)
from backout.plan.objects import get_order
from backout.ports import Action

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.objects.versions import Carried, ObjectChange, ObjectVersion
    from backout.ports import BucketVersions, StepContext
    from backout.runbook.objects.tools import ObjectTools

READ_AT_MOST_BYTES: Final = 1_000_000_000
"""What is read in all of objects whose content the store's own words do not tell."""
_LOOKED_AT: Final = 60
"""The number of copies whose headers and metadata are compared, spread over all of them."""
_BATCH: Final = 500
_KEPT_VERSIONS: Final = 20
"""The newest versions of an object that are looked at; the application cannot have written more meanwhile."""


class CompareObjects(Action[CompareObjectsStep, CompareObjectsResult]):
    """Step `compare_objects` {bucket, prefix}: what was written meanwhile is made the newest again."""

    arguments = CompareObjectsStep

    def __init__(self, tools: ObjectTools) -> None:
        self._tools = tools

    def do(self, args: CompareObjectsStep, context: StepContext) -> CompareObjectsResult:
        """Return {compared}."""
        tools, run = self._tools, context.run
        total = count_noted(tools, run)
        survey = find_survey(tools, run)
        bucket = tools.versions(args.prefix, survey.moment)
        removed = sum(change.kind is ChangeKind.REMOVE for change, _ in tools.notes.settled(run))
        comparison = Comparison(bucket, max(1, total // _LOOKED_AT), survey.until)
        groups = _group(comparison.bucket.versions())
        seen = 0
        while batch := list(islice(groups, _BATCH)):
            noted = tools.notes.find(run, [versions[0].key for versions in batch])
            for versions in batch:
                if versions[0].key in noted:
                    seen += 1
                    removed -= noted[versions[0].key][0].kind is ChangeKind.REMOVE
                    comparison.compare(versions, *noted[versions[0].key])
            tools.progress(ObjectProgress("comparing", seen, total))
        return CompareObjectsResult(compared=comparison.finish(total - seen - removed, removed))


def count_noted(tools: ObjectTools, run: str) -> int:
    """Return how many changes are noted for a run. Raises BackoutError: they are not on this host any more."""
    total = tools.notes.count(run)
    if total is None:
        what = "what was to be brought back is not noted on this host any more"
        raise BackoutError(what, where=run, hint=f"backout runs abort {run}  # and type the restore again")
    return total


def find_survey(tools: ObjectTools, run: str) -> SurveyObjectsStep | UndoObjectsStep:
    """Return what a run was to do.

    Raises:
        BackoutError: it goes by versions, and the configuration has a history by now, or the other way round.
    """
    found = tools.runs.find(run)
    assert found is not None
    if found.plan.has(SnapshotObjectsStep) and tools.snapshots is None:
        what, hint = "by snapshots, and storage.history is not set any more", "set it again"
    elif not found.plan.has(SnapshotObjectsStep) and tools.snapshots is not None:
        what, hint = "by the bucket's versions, and storage.history is set by now", "take it out of the configuration"
    else:
        return get_order(found.plan)
    raise BackoutError(f"run {run} goes {what}", where=tools.bucket, hint=f"{hint}, and type the same command again")


class Comparison:
    """Compares the versions of each object with its change.

    Args:
        every: of so many copies, one has its headers and metadata compared, too.
        until: what was written from then on, the application wrote after the damage (Unix seconds).
    """

    def __init__(self, bucket: BucketVersions, every: int, until: float) -> None:
        self.bucket = bucket
        self._every = every
        self._until = until
        self._compared = self._read = self._copies = 0
        self._left_bytes = READ_AT_MOST_BYTES
        self._unread: list[str] = []
        self._differing: list[FailedObject] = []
        self._differences, self._digest = 0, hashlib.sha256()
        self._put_back: list[str] = []

    def compare(self, versions: Sequence[ObjectVersion], change: ObjectChange, carried: Carried | None) -> None:
        """Compare one object's newest versions, the newest first."""
        newest = versions[0]
        if carried is None or carried.outcome is Outcome.FAILED:
            if carried is not None and self._is_mended(newest, change):
                self._compared += 1
            else:
                self._add_difference(change.key, "it was not brought back")
            return
        if carried.outcome is Outcome.NEWER:
            self._put_back.append(change.key)
            return
        if _is_wanted(newest, change, carried):
            if hidden := _find_hidden(versions, change, carried):
                self._make_newest(hidden)
            elif self._has_contents(newest, change):
                self._compared += 1
        elif _is_later(versions, carried) or (newest.at >= self._until and newest.version_id != change.found):
            self._put_back.append(change.key)  # written after the restore: it is the newest anyway
        else:
            found = "a delete marker" if newest.is_marker else f"version {newest.version_id}"
            self._add_difference(change.key, f"the newest is {found}")

    def finish(self, missing: int, removed: int) -> ObjectsCompared:
        """Return what was found.

        Args:
            missing: objects to be there that the listing does not have at all.
            removed: objects to be removed that it does not have.
        """
        self._compared += removed
        if missing:
            self._add_difference("", f"{missing} objects that were to be brought back are not listed at all")
        verified = False if self._differing else None if self._unread else True
        return ObjectsCompared(
            verified=verified,
            compared=self._compared,
            read=self._read,
            unread=tuple(self._unread[:MOST_NAMES]),
            differing=tuple(self._differing),
            differences=self._differences,
            digest=self._digest.hexdigest()[:16] if self._differences > len(self._differing) else "",
            put_back=tuple(self._put_back[:MOST_NAMES]),
        )

    def _make_newest(self, hidden: ObjectVersion) -> None:
        """Bring back what the application wrote between the first listing and the change."""
        made = self.bucket.put_back(hidden)
        if not hidden.is_marker and not self.bucket.is_same(hidden.key, made, hidden.version_id, contents=False):
            self._add_difference(hidden.key, "what was written meanwhile could not be made the newest again")
            return
        self._put_back.append(hidden.key)

    def _has_contents(self, newest: ObjectVersion, change: ObjectChange) -> bool:
        """Whether a copy has the contents of its source; what is that very version, or is gone, needs no look."""
        if change.kind is ChangeKind.REMOVE or newest.version_id == change.version_id:
            return True
        self._copies += 1
        if newest.size_bytes != change.size_bytes:
            self._add_difference(change.key, f"the copy has {newest.size_bytes:,} bytes, not {change.size_bytes:,}")
            return False
        told = newest.etag == change.etag
        if told and self._copies % self._every:
            return True
        if not told:
            self._left_bytes -= 2 * change.size_bytes
            if self._left_bytes < 0:
                self._unread.append(change.key)
                return False
            self._read += 1
        if self.bucket.is_same(change.key, newest.version_id, change.version_id, contents=not told):
            return True
        self._add_difference(change.key, "the copy is not as the version that was to be brought back")
        return False

    def _is_mended(self, newest: ObjectVersion, change: ObjectChange) -> bool:
        """Whether what could not be brought back is as wanted by now: somebody did it in another way."""
        if change.kind is ChangeKind.REMOVE or newest.is_marker:
            return newest.is_marker and change.kind is ChangeKind.REMOVE
        self._read += 1
        return self.bucket.is_same(change.key, newest.version_id, change.version_id, contents=True)

    def _add_difference(self, key: str, why: str) -> None:
        self._differences += 1
        self._digest.update(f"{key}\n{why}\n".encode())
        if len(self._differing) < MOST_NAMES:
            self._differing.append(FailedObject(key=key, why=why))


def _group(versions: Iterator[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
    for _, each in groupby(versions, key=lambda version: version.key):
        yield list(islice(each, _KEPT_VERSIONS))


def _is_wanted(newest: ObjectVersion, change: ObjectChange, carried: Carried) -> bool:
    """Whether the newest version is the one that the restore brought back, or made."""
    if change.kind is ChangeKind.REMOVE:
        return newest.is_marker
    return newest.version_id == carried.version_id


def _find_hidden(versions: Sequence[ObjectVersion], change: ObjectChange, carried: Carried) -> ObjectVersion | None:
    """Return what was written after the first listing, and lies below what the restore made; None: nothing."""
    if change.kind is ChangeKind.UNDELETE or carried.outcome is Outcome.SAME:
        return None
    below = versions[1] if len(versions) > 1 else None
    # An attempt before this one may have made the same copy, which is not the application's.
    is_ours = below is not None and below.etag != "" and below.etag == carried.etag
    if below is None or is_ours or below.version_id in {change.found, change.version_id}:
        return None
    return None if below.is_marker and change.kind is ChangeKind.REMOVE else below


def _is_later(versions: Sequence[ObjectVersion], carried: Carried) -> bool:
    """Whether what the restore brought back is there, below what was written since."""
    return any(each.version_id == carried.version_id for each in versions[1:])
