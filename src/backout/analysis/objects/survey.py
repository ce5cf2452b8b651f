"""Counts what a restore of objects would do, while its changes are passed on one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.objects.surveys import MOST_NAMES, ObjectSurvey
from backout.model.objects.versions import ChangeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from backout.model.objects.versions import Judgement, ObjectChange

_EVERY = 1000


class Surveying:
    """A survey that is being taken.

    Args:
        hear: is told now and then how many objects were judged.
    """

    def __init__(self, hear: Callable[[int], None] = lambda _objects: None) -> None:
        self._hear = hear
        self._counts = dict.fromkeys(ChangeKind, 0)
        self._objects = self._newer = self._same = self._size_bytes = 0
        self._ambiguous_objects = self._archived_objects = 0
        self._ambiguous: list[str] = []
        self._archived: list[str] = []
        self._began = 0.0

    def pass_on(self, judgements: Iterable[Judgement]) -> Iterator[ObjectChange]:
        """Count judgements, and yield their changes."""
        for each in judgements:
            self._objects += 1
            self._newer += each.is_newer
            self._began = min(self._began, each.began) if self._began else each.began
            if each.is_ambiguous:
                self._ambiguous_objects += 1
                self._ambiguous += [each.key] if len(self._ambiguous) < MOST_NAMES else []
            if each.is_archived:
                self._archived_objects += 1
                self._archived += [each.key] if len(self._archived) < MOST_NAMES else []
            if self._objects % _EVERY == 0:
                self._hear(self._objects)
            if each.change is not None:
                self._count(each.change)
                yield each.change

    def _count(self, change: ObjectChange) -> None:
        if change.maybe_same:
            self._same += 1
            return
        self._counts[change.kind] += 1
        self._size_bytes += change.size_bytes if change.kind is ChangeKind.COPY else 0

    def finish(self) -> ObjectSurvey:
        """Return the survey; all judgements were passed on."""
        return ObjectSurvey(
            objects=self._objects,
            undeleted=self._counts[ChangeKind.UNDELETE],
            changed=self._counts[ChangeKind.COPY],
            removed=self._counts[ChangeKind.REMOVE],
            same=self._same,
            size_bytes=self._size_bytes,
            kept_newer=self._newer,
            ambiguous=tuple(sorted(self._ambiguous)),
            archived=tuple(sorted(self._archived)),
            ambiguous_objects=self._ambiguous_objects,
            archived_objects=self._archived_objects,
            began=self._began,
        )
