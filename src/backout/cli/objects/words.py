"""What the commands on objects say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.cli.db.backup_record import format_megabytes
from backout.escaping import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.objects.progress import ObjectProgress
    from backout.model.objects.surveys import ObjectsCompared, ObjectSurvey
    from backout.model.steps.objects import RestoreObjectsResult

_SHOWN = 10
"""The keys that are shown of a long list; `--json` has all."""


def describe_survey(survey: ObjectSurvey, *, would: bool) -> list[str]:
    """Return what is to be done, in lines."""
    if not survey.changes:
        lines = [f"{survey.objects:,} objects; all are as they were, nothing is to be done"]
    else:
        verb = "would be " if would else ""
        size = format_megabytes(survey.size_bytes)
        lines = [
            f"{survey.objects:,} objects in the bucket, of which {survey.changes - survey.same:,} {verb}brought back:",
            f"  {survey.undeleted:>9,}  were deleted: they are there again",
            f"  {survey.changed:>9,}  were changed: what they were is copied back ({size})",
            f"  {survey.removed:>9,}  were created: they are deleted, and can be brought back",
        ]
    if survey.same:
        what = "have the same content: copied only if their headers or metadata differ"
        lines.append(f"  {survey.same:>9,}  {what}")
    if survey.kept_newer:
        lines.append(f"  {survey.kept_newer:>9,}  were written after the damage, and stay")
    if survey.ambiguous_objects:
        what = "written within the second of the moment (or of the clocks' difference): taken as later than it"
        lines += _list_keys(f"{survey.ambiguous_objects:,} objects {what}", survey.ambiguous)
    if survey.archived_objects:
        what = "whose version is in the store's archive: left; request it there first"
        lines += _list_keys(f"{survey.archived_objects:,} objects {what}", survey.archived)
    return lines


def describe_end(survey: ObjectSurvey, restored: RestoreObjectsResult, compared: ObjectsCompared) -> list[str]:
    """Return what was done, and what the second listing said."""
    done = f"{restored.undeleted:,} undeleted, {restored.changed:,} changed back, {restored.removed:,} removed"
    same = f", {restored.same:,} were as they should be" if restored.same else ""
    lines = [f"objects restored: {done}{same}"]
    kept = survey.kept_newer + len(compared.put_back)
    if kept:
        lines.append(f"written after the damage, and kept: {kept:,}")
    if compared.put_back:
        lines += _list_keys("written while the restore ran, and kept as the newest", compared.put_back)
    if survey.ambiguous_objects:
        lines += _list_keys("written within the second of the moment, and taken as later", survey.ambiguous)
    if survey.archived_objects:
        lines += _list_keys("left in the store's archive", survey.archived)
    if restored.failures:
        shown = [f"{shorten(each.key)}: {shorten(each.why)}" for each in restored.failed]
        lines += _list_keys(f"{restored.failures:,} objects could not be brought back", shown)
    read = f", {compared.read:,} of them by reading both versions" if compared.read else ""
    lines.append(f"compared with a second listing: {compared.compared:,} as planned{read}")
    differing = [f"{shorten(each.key)}: {each.why}" for each in compared.differing]
    lines += _list_keys("NOT AS PLANNED", differing) if differing else []
    lines += _list_keys("not compared, too large to be read", compared.unread) if compared.unread else []
    return lines


def describe_progress(progress: ObjectProgress, elapsed_s: float, before: int = 0) -> str:
    """Return how far a step is.

    Args:
        before: how many were done when the time began.

    >>> from backout.model.objects.progress import ObjectProgress
    >>> describe_progress(ObjectProgress("restoring", 500, 2000), 2.0)
    'restoring 500 of 2,000 objects, 250 a second, 6.0 s left'
    >>> describe_progress(ObjectProgress("restoring", 1500, 2000), 2.0, 1000)
    'restoring 1,500 of 2,000 objects, 250 a second, 2.0 s left'
    >>> describe_progress(ObjectProgress("listing", 500), 0.0)
    'listing 500 objects'
    """
    from backout.report.times import format_duration

    rate = (progress.done - before) / elapsed_s if elapsed_s > 0 else 0.0
    of = f" of {progress.total:,}" if progress.total else ""
    speed = f", {rate:,.0f} a second" if rate else ""
    left = f", {format_duration((progress.total - progress.done) / rate)} left" if rate and progress.total else ""
    return f"{progress.what} {progress.done:,}{of} {progress.of}{speed}{left}"


def _list_keys(head: str, keys: Sequence[str]) -> list[str]:
    lines = [f"{head}:", *(f"  {shorten(key)}" for key in keys[:_SHOWN])]
    return [*lines, f"  and {len(keys) - _SHOWN:,} more (--json lists them)"] if len(keys) > _SHOWN else lines
