"""A bucket in memory that keeps versions, with a clock in whole seconds as S3 has it."""

from __future__ import annotations

import hashlib
from itertools import takewhile
from typing import TYPE_CHECKING

from backout.model.objects.versions import NOT_KNOWN, Carried, ChangeKind, ObjectVersion, Outcome, judge_hidden
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backout.model.objects.versions import Attempt, ObjectChange


class Content(Value, frozen=True):
    """What a version holds; `metadata` are its headers and the user's own together."""

    body: bytes
    metadata: tuple[tuple[str, str], ...] = ()


class MemoryBucket:
    """Port BucketVersions, and what an application does with its bucket.

    Args:
        now: the store's clock, in Unix seconds.
        call: makes a call of the port: it may raise before the effect, or after it.

    Attributes:
        refused: the keys that backout cannot change, each with why; an application can.
    """

    def __init__(self, now: Callable[[], float], call: Callable[[str, Callable[[], object]], object]) -> None:
        self.refused: dict[str, str] = {}
        self._now = now
        self._call = call
        self._kept: dict[str, list[tuple[ObjectVersion, Content | None]]] = {}
        self._made = 0

    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> str:
        """Write an object, as an application does; return the version's id."""
        return self._add(key, Content(body, tuple(sorted((metadata or {}).items()))))

    def delete(self, key: str) -> str:
        """Delete an object, as an application does; return the id of the delete marker."""
        return self._add(key, None)

    def forge(self, key: str, body: bytes) -> None:
        """Give the newest version other bytes, and keep what it says of itself: a store that lost what it was told."""
        version, found = self._kept[key][0]
        assert found is not None
        self._kept[key][0] = version, Content(body, found.metadata)

    def live(self) -> dict[str, Content]:
        """Return what an application sees."""
        newest = {key: kept[0][1] for key, kept in self._kept.items() if kept}
        return {key: content for key, content in newest.items() if content is not None}

    def contents(self) -> dict[tuple[str, str], Content]:
        """Return every version that is kept, by key and id; delete markers are none."""
        return {(key, each.version_id): found for key, kept in self._kept.items() for each, found in kept if found}

    def versions(self) -> Iterator[ObjectVersion]:
        """Yield every version and delete marker: by key, the newest of each first."""
        found = [each for key in sorted(self._kept) for each, _ in self._kept[key]]
        self._call("objects.versions", lambda: None)
        yield from found

    def carry_out(
        self,
        changes: Sequence[ObjectChange],
        *,
        again: bool,
        attempts: Sequence[Attempt] = (),
        hear: Callable[[int], None] = lambda _done: None,
    ) -> Sequence[Carried]:
        """Carry out changes one after the other."""
        found = []
        for each in changes:
            found.append(self._call_one(each, again or bool(attempts), attempts))
            hear(len(found))
        return found

    def put_back(self, newer: ObjectVersion) -> str:
        """Make a version, or a delete marker, the newest one again, and return the id of what was made."""
        made = self._call("objects.put_back", lambda: self._add(newer.key, self._find(newer.key, newer.version_id)))
        assert isinstance(made, str)
        return made

    def is_same(self, key: str, one: str, other: str, *, contents: bool) -> bool:  # noqa: ARG002 - it has them at hand
        """Whether two versions have the same metadata and bytes."""
        self._call("objects.is_same", lambda: None)
        return self._find(key, one) == self._find(key, other)

    def _call_one(self, change: ObjectChange, again: bool, attempts: Sequence[Attempt]) -> Carried:
        found = self._call("objects.carry_out", lambda: self._carry_out(change, again, attempts))
        assert isinstance(found, Carried)
        return found

    def _carry_out(self, change: ObjectChange, again: bool, attempts: Sequence[Attempt]) -> Carried:
        if change.key in self.refused:
            shown = change.version_id if change.kind is ChangeKind.UNDELETE else ""
            return Carried(Outcome.FAILED, shown, why=self.refused[change.key], maybe_made=bool(attempts))
        kept = self._kept[change.key]
        newest, content = kept[0]
        if change.kind is ChangeKind.UNDELETE:
            return self._undelete(change)
        is_untouched = newest.version_id == change.found
        if again or change.maybe_same:
            if change.kind is ChangeKind.REMOVE:
                if newest.is_marker:
                    markers = takewhile(lambda each: each.is_marker, (each for each, _ in kept))
                    return judge_hidden(((each.version_id, each.at) for each in markers), attempts)
            elif content == self._find(change.key, change.version_id) and (change.maybe_same or not is_untouched):
                is_ours = not is_untouched and attempts
                return Carried(Outcome.DONE if is_ours else Outcome.SAME, newest.version_id, newest.etag)
            if not is_untouched:
                return Carried(Outcome.NEWER) if change.found else Carried(Outcome.FAILED, why=NOT_KNOWN)
        if change.kind is ChangeKind.REMOVE:
            return Carried(Outcome.DONE, self._add(change.key, None))
        return Carried(Outcome.DONE, self._add(change.key, self._find(change.key, change.version_id)), change.etag)

    def _undelete(self, change: ObjectChange) -> Carried:
        kept = self._kept[change.key]
        newest = kept[0][0]
        if all(change.markers):
            kept[:] = [pair for pair in kept if pair[0].version_id not in change.markers]
            return Carried(Outcome.DONE, change.version_id, change.etag)
        if newest.is_marker:
            return Carried(Outcome.FAILED, why=NOT_KNOWN)
        return Carried(Outcome.SAME if newest.version_id == change.version_id else Outcome.NEWER)

    def _find(self, key: str, version_id: str) -> Content | None:
        return next(content for each, content in self._kept[key] if each.version_id == version_id)

    def _add(self, key: str, content: Content | None) -> str:
        self._made += 1
        version = ObjectVersion(
            key,
            f"v{self._made}",
            float(int(self._now())),
            "" if content is None else hashlib.md5(content.body, usedforsecurity=False).hexdigest(),
            0 if content is None else len(content.body),
            content is None,
        )
        self._kept.setdefault(key, []).insert(0, (version, content))
        return version.version_id
