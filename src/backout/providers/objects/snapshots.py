"""A history beside a bucket that keeps no versions: each content once, and a manifest for each look.

    contents/HASH OF THE KEY/MANIFEST-ETAG    the content, with its headers and metadata, copied inside the store
    manifests/TIME-COUNTS.jsonl.gz            what the bucket held then

A content that comes again after another one is stored again: so it is needed by manifests in a row, and may go when
the manifest after the last one that is removed does not name it.
"""

from __future__ import annotations

import hashlib
from itertools import islice, pairwise
from shlex import quote
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import BackoutError, ProviderRejected, Refused
from backout.model.objects.manifests import ManifestEntry, ManifestName
from backout.model.objects.versions import NOT_KNOWN, Carried, ChangeKind, ObjectVersion, Outcome
from backout.providers.objects.look import PROBE_PREFIX
from backout.providers.objects.manifests import make_stamp
from backout.providers.objects.tables import Tables
from backout.providers.objects.versions import COPIED_AT_ONCE_BYTES, PART_BYTES, are_alike, hash_object, run_all
from backout.providers.s3.failures import S3Denied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from backout.model.objects.versions import Attempt, Moment, ObjectChange
    from backout.providers.objects.gate import Gate
    from backout.providers.objects.manifests import Manifests
    from backout.providers.s3.answers import Listed, S3Object
    from backout.providers.s3.client import S3Client

_BATCH: Final = 500
_ANOTHER: Final = 412
_KEPT: Final = "@"
_GONE: Final = frozenset({404, _ANOTHER})
ABSENT: Final = "absent"
"""Stands for the id of the newest version where the bucket has no such object."""


class SnapshotHistory:
    """The history of a bucket, or of the part of it below a prefix.

    Args:
        history: the bucket of the history; it may not be the bucket itself.
        root: the key below which the history lies, with a slash at its end.
    """

    def __init__(
        self, client: S3Client, bucket: str, prefix: str, history: str, root: str, manifests: Manifests, gate: Gate
    ) -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = prefix
        self.history = history
        self.manifests = manifests
        self.gate = gate
        self._root = root

    def narrow(self, prefix: str) -> SnapshotHistory:
        """Return the same history for a part of what it covers."""
        return SnapshotHistory(self.client, self.bucket, prefix, self.history, self._root, self.manifests, self.gate)

    def list_manifests(self) -> tuple[ManifestName, ...]:
        """Return what was taken, oldest first."""
        return self.manifests.list_names()

    def take(self, hear: Callable[[int], None]) -> ManifestName:
        """Store what is new, and write a manifest; it is read back.

        A manifest is named by a second of the store's clock: where the newest one is of this second, the next is
        waited for, since the steps of a recovery and of its undo follow each other closer than that.

        Args:
            hear: is told now and then how many objects were looked at.

        Raises:
            BackoutError: the store tells no time, its clock is behind the newest manifest, or what was written reads
                differently.
            Refused: the newest manifest is damaged, or is not signed.
        """
        names = self.list_manifests()
        at = self.client.await_clock(self.bucket, names[-1].at if names else 0.0)
        if at is None:
            raise BackoutError("the store does not tell its time", where=self.bucket)
        stamp = make_stamp(at)
        if names and names[-1].at >= at:
            what = f"the newest manifest is of {names[-1].name}, and the store's clock says {stamp}"
            hint = "set the store's clock, or wait until it is past that manifest, and type the same command again"
            raise BackoutError(what, where=self.history, hint=hint)
        with Tables() as tables:
            before = self.manifests.read(names[-1]) if names else ()
            tables.fill("before", (each for each in before if each.key.startswith(self.prefix)))
            tables.fill("after", ())
            changed = self._store_new(tables, stamp, hear)
            objects, size_bytes = tables.count("after")
            deleted = tables.count_missing("after", of="before")
            name = ManifestName(
                name=stamp, at=at, objects=objects, size_bytes=size_bytes, changed=changed, deleted=deleted
            )
            self.manifests.write(name, tables.read("after"), prefix=self.prefix)
            tables.fill("read", self.manifests.read(name))
            if tables.count("read") != (objects, size_bytes) or tables.count_missing("read", of="after"):
                raise BackoutError("the manifest reads differently from what was written", where=self.history)
        return name

    def find_contents(self, name: ManifestName, undos: Iterable[ObjectChange]) -> Iterator[ObjectChange]:
        """Yield undos, each with the content by which a snapshot has what its object was before the restore.

        Raises:
            Refused: the manifest is damaged, or is not signed.
        """
        with Tables() as tables:
            tables.fill("kept", self.manifests.read(name))
            for each in undos:
                kept = tables.find("kept", each.key)
                is_it = kept is not None and (kept.etag, kept.size_bytes) == (each.etag, each.size_bytes)
                yield replace(each, version_id=make_content(kept)) if kept is not None and is_it else each

    def prune(self, before: float) -> int:
        """Remove what no moment from then on needs (Unix seconds); return how many manifests went."""
        older = [each for each in self.list_manifests() if each.at <= before]
        for each, following in pairwise(older):
            with Tables() as tables:
                tables.fill("old", self.manifests.read(each))
                tables.fill("new", self.manifests.read(following))
                superseded = tables.list_superseded("old", by="new")
                while batch := list(islice(superseded, 1000)):
                    targets: list[tuple[str, str | None]] = [(self.locate(entry), None) for entry in batch]
                    self.client.delete_many(self.history, targets)
            self.manifests.delete([each])  # after its contents: a kill between the two leaves nothing unnamed
        return max(0, len(older) - 1)

    def locate(self, entry: ManifestEntry) -> str:
        """Return the key of a content."""
        return self.locate_content(entry.key, make_content(entry))

    def locate_content(self, key: str, content: str) -> str:
        """Return the key of a content, which is named by its manifest and its object's etag."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        return f"{self._root}contents/{digest[:2]}/{digest}/{content.partition(_KEPT)[0]}"

    def list_live(self) -> Iterator[Listed]:
        """Yield what the bucket holds now, in the store's order, without backout's own objects."""
        for each in self.client.list_objects(self.bucket, self.prefix):
            if PROBE_PREFIX not in each.key and not (self.bucket == self.history and each.key.startswith(self._root)):
                yield each

    def _store_new(self, tables: Tables, stamp: str, hear: Callable[[int], None]) -> int:
        """Store the contents that the manifest before does not have; return how many."""
        changed = looked = 0
        listed = self.list_live()
        while batch := list(islice(listed, _BATCH)):
            known, new = [], []
            for each in batch:
                before = tables.find("before", each.key)
                if before is not None and (before.etag, before.size_bytes) == (each.etag, each.size_bytes):
                    known.append(replace(before, at=each.last_modified))
                else:
                    new.append(ManifestEntry(each.key, each.etag, each.size_bytes, each.last_modified, stamp))
            stored = [entry for entry in run_all(self._store, new) if entry is not None]
            tables.add("after", [*known, *stored])
            changed += len(stored)
            looked += len(batch)
            hear(looked)
        return changed

    def _store(self, entry: ManifestEntry) -> ManifestEntry | None:
        """Copy a content into the history; one that was written again since the listing as it is then, None: gone."""
        with self.gate.passing():
            for _ in range(5):
                try:
                    kept = copy_object(
                        self.client,
                        (self.bucket, entry.key),
                        (self.history, self.locate(entry)),
                        entry.etag,
                        entry.size_bytes,
                    )
                except ProviderRejected as refused:
                    if refused.status not in _GONE:
                        raise
                else:
                    return replace(entry, kept_etag=kept.etag)
                found = self.client.head(self.bucket, entry.key)
                if found is None:
                    return None
                entry = replace(entry, etag=found.etag, size_bytes=found.size_bytes, at=found.last_modified)
        what = "the object was written again each time that it was to be stored"
        raise BackoutError(what, where=f"{self.bucket}/{entry.key}", hint="type the same command again")


def copy_object(
    client: S3Client, source: tuple[str, str], target: tuple[str, str], etag: str, size_bytes: int
) -> S3Object:
    """Copy an object inside the store as it is listed. Raises ProviderRejected (412): it is another one by now."""
    if size_bytes > COPIED_AT_ONCE_BYTES:
        found = client.head(*source)  # a copy in parts has no condition
        if found is not None and (found.size_bytes != size_bytes or etag not in ("", found.etag)):
            raise ProviderRejected("the object is another one by now", status=_ANOTHER, where="/".join(source))
        return client.copy_in_parts((*source, None), *target, PART_BYTES)
    return client.copy((*source, None), *target, if_match=etag)


class SnapshotVersions:
    """Port BucketVersions on a bucket and its history: what it holds now, above what it held at a moment.

    What a manifest after the moment has, and was written before it, is what the object was at the moment; else it is
    what the manifest before the moment has.
    """

    def __init__(self, history: SnapshotHistory, moment: Moment) -> None:
        self._history = history
        self._moment = moment

    def versions(self) -> Iterator[ObjectVersion]:
        """Yield of each object what it is now, or a marker, and below it what it was.

        Raises:
            ProviderRejected: no manifest is old enough.
            Refused: a manifest is damaged, is not signed, or covers less than what is asked for.
        """
        history, to = self._history, self._moment.to
        names = history.list_manifests()
        older = [each for each in names if each.at <= to]
        if not older:
            begins = names[0].name if names else "nowhere"
            raise ProviderRejected(f"the history begins {begins}, after the moment", status=404, where=history.history)
        newer = next((each for each in names if each.at > to), None)
        with Tables() as tables:
            with history.manifests.open(older[-1]) as then_all:
                self._check_covered(older[-1], then_all.prefix)
                tables.fill("before", then_all.entries)
            after = history.manifests.read(newer) if newer else iter(())
            tables.fill("after", (each for each in after if each.at + 1 <= to))
            now = (
                ManifestEntry(each.key, each.etag, each.size_bytes, each.last_modified, "")
                for each in history.list_live()
            )
            tables.fill("live", now)
            gone_at = float(int(to + self._moment.slack_s) + 1)  # at some time since the moment; no manifest says when
            for key in tables.keys("before", "after", "live"):
                if not key.startswith(history.prefix):
                    continue
                live = tables.find("live", key)
                then = tables.find("after", key) or tables.find("before", key)
                if live is None:
                    yield ObjectVersion(key, ABSENT, gone_at, is_marker=True)
                else:
                    yield ObjectVersion(key, make_id(live), live.at, live.etag, live.size_bytes)
                if then is not None:
                    at = min(then.at, to - self._moment.slack_s - 2)  # the manifest says that it was there then
                    yield ObjectVersion(key, make_content(then), at, then.etag, then.size_bytes)

    def _check_covered(self, name: ManifestName, covered: str | None) -> None:
        """Refuse what the snapshot of then does not cover: all of it would look like what was created since."""
        asked = self._history.prefix
        if covered is None or asked.startswith(covered):
            return
        raise Refused(
            f"the snapshot {name.name} covers only what lies below {covered!r}, and {asked or 'the whole bucket'!r} is "
            "asked for: the other objects would look like ones that were created since",
            where=self._history.bucket,
            options=(f"Only that part: backout objects restore --prefix {quote(covered)}.",),
        )

    def carry_out(
        self,
        changes: Sequence[ObjectChange],
        *,
        again: bool,  # noqa: ARG002 - always
        attempts: Sequence[Attempt] = (),
        hear: Callable[[int], None] = lambda _done: None,
    ) -> Sequence[Carried]:
        """Carry out changes; each object is looked at first, since what is overwritten here is kept nowhere else.

        What is as it should be is done only where an attempt may have done it; nothing says when an object was deleted.
        """
        as_wanted = Outcome.DONE if attempts else Outcome.SAME
        return run_all(lambda change: self._carry_out(change, as_wanted), changes, hear)

    def put_back(self, newer: ObjectVersion) -> str:
        """Make a content of the history the newest one again, and return what stands for its id."""
        history = self._history
        if newer.is_marker:
            history.client.delete(history.bucket, newer.key)
            return ABSENT
        return f"{self._copy_back(newer.key, newer.version_id, newer.size_bytes).etag}-{newer.size_bytes}"

    def is_same(self, key: str, one: str, other: str, *, contents: bool) -> bool:  # noqa: ARG002 - `one` is the live one
        """Whether the object is as a content of the history, in headers and metadata; `contents`: and in its bytes."""
        history = self._history
        kept = history.locate_content(key, other)
        found = history.client.head(history.bucket, key), history.client.head(history.history, kept)
        if not are_alike(*found):
            return False
        return not contents or hash_object(history.client, history.bucket, key) == hash_object(
            history.client, history.history, kept
        )

    def _carry_out(self, change: ObjectChange, as_wanted: Outcome) -> Carried:
        history = self._history
        maybe_made = as_wanted is Outcome.DONE
        with history.gate.passing():
            try:
                live = history.client.head(history.bucket, change.key)
                found = ABSENT if live is None else f"{live.etag}-{live.size_bytes}"
                if change.kind is ChangeKind.REMOVE:
                    return self._remove(change, found, as_wanted)
                if live is not None and (found != change.found or change.maybe_same):
                    kept = history.client.head(history.history, history.locate_content(change.key, change.version_id))
                    if are_alike(live, kept):
                        return Carried(Outcome.SAME if found == change.found else as_wanted, found, live.etag)
                if found != change.found:
                    return _leave(change)
                maybe_made = False
                history.gate.check()
                copied = self._copy_back(change.key, change.version_id, change.size_bytes)
            except (ProviderRejected, S3Denied) as refused:
                return Carried(Outcome.FAILED, why=refused.what, maybe_made=maybe_made)
            return Carried(Outcome.DONE, f"{copied.etag}-{change.size_bytes}", copied.etag)

    def _remove(self, change: ObjectChange, found: str, as_wanted: Outcome) -> Carried:
        if found == ABSENT:
            return Carried(as_wanted, ABSENT)
        if found != change.found:
            return _leave(change)
        self._history.gate.check()
        self._history.client.delete(self._history.bucket, change.key)
        return Carried(Outcome.DONE, ABSENT)

    def _copy_back(self, key: str, content: str, size_bytes: int) -> S3Object:
        """Copy a content over the object. Raises ProviderRejected: it is not the one that its manifest names."""
        history = self._history
        source, target = (history.history, history.locate_content(key, content)), (history.bucket, key)
        try:
            return copy_object(history.client, source, target, content.partition(_KEPT)[2], size_bytes)
        except ProviderRejected as refused:
            if refused.status != _ANOTHER:
                raise
            what = "its content in the history is not the one that the manifest names"
            raise ProviderRejected(what, status=_ANOTHER, where="/".join(source)) from refused


def _leave(change: ObjectChange) -> Carried:
    """Return what becomes of an object that is another one by now."""
    return Carried(Outcome.NEWER) if change.found else Carried(Outcome.FAILED, why=NOT_KNOWN)


def make_content(entry: ManifestEntry) -> str:
    """Return the name of a content among those of its object, and by which etag it is known there."""
    name = f"{entry.stored}-{entry.etag}"
    return f"{name}{_KEPT}{entry.kept_etag}" if entry.kept_etag else name


def make_id(live: ManifestEntry) -> str:
    """Return what stands for a version's id of what the bucket holds now."""
    return f"{live.etag}-{live.size_bytes}"
