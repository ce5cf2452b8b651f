"""The steps of a restore of objects; times are Unix seconds by the store's clock."""

from __future__ import annotations

from typing import ClassVar

from backout.model.objects.manifests import ManifestName
from backout.model.objects.surveys import FailedObject, ObjectsCompared, ObjectSurvey
from backout.model.objects.versions import Moment
from backout.model.steps.base import Arguments, Result


class SnapshotObjectsResult(Result, frozen=True, kw_only=True):
    """The manifest that was written and read back."""

    manifest: ManifestName


class SnapshotObjectsStep(Arguments[SnapshotObjectsResult], frozen=True, kw_only=True):
    """Store what the bucket holds now in its history: only of a bucket that keeps no versions."""

    action: ClassVar[str] = "snapshot_objects"
    bucket: str


class SurveyObjectsResult(Result, frozen=True, kw_only=True):
    """What is to be done, as it was listed."""

    survey: ObjectSurvey


class SurveyObjectsStep(Arguments[SurveyObjectsResult], frozen=True, kw_only=True):
    """List the bucket's versions, and note what brings each object back.

    Args:
        until: the end of the damage: what was written later stays.
        slack_s: see `Moment`.
    """

    action: ClassVar[str] = "survey_objects"
    bucket: str
    prefix: str
    to: float
    until: float
    slack_s: float

    @property
    def moment(self) -> Moment:
        """The moment to return to."""
        return Moment(self.to, self.until, self.slack_s)


class UndoObjectsStep(Arguments[SurveyObjectsResult], frozen=True, kw_only=True):
    """Note what takes a restore back, from what that one noted.

    Args:
        of: the restore's run.
        until: when that one was asked for: what was written later, but by the restore itself, stays.
        manifest: of the snapshot that it took first; None of a bucket that keeps versions.
    """

    action: ClassVar[str] = "undo_objects"
    omitted: ClassVar[frozenset[str]] = frozenset({"manifest"})
    bucket: str
    prefix: str
    of: str
    until: float
    manifest: ManifestName | None = None

    @property
    def moment(self) -> Moment:
        """The moment that it is compared with; nothing is judged by it."""
        return Moment(self.until if self.manifest is None else self.manifest.at, self.until)


class RestoreObjectsResult(Result, frozen=True, kw_only=True):
    """What was done: numbers of objects.

    Args:
        same: were as planned already.
        newer: were written again meanwhile, and stay.
        failed: the first ones that the store refused; `failures`: how many there are.
    """

    undeleted: int
    changed: int
    removed: int
    same: int
    newer: int
    failed: tuple[FailedObject, ...] = ()
    failures: int = 0


class RestoreObjectsStep(Arguments[RestoreObjectsResult], frozen=True, kw_only=True):
    """Bring the noted objects back; no version is destroyed."""

    action: ClassVar[str] = "restore_objects"
    bucket: str


class CompareObjectsResult(Result, frozen=True, kw_only=True):
    """What a second listing says."""

    compared: ObjectsCompared


class CompareObjectsStep(Arguments[CompareObjectsResult], frozen=True, kw_only=True):
    """List the bucket again, compare it with the plan, and put back what was written meanwhile."""

    action: ClassVar[str] = "compare_objects"
    bucket: str
    prefix: str
