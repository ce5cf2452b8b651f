"""Port BucketVersions on S3 and compatible stores: everything is moved inside the store."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import takewhile
from typing import TYPE_CHECKING, Final, TypeVar

from backout.errors import AuthError, ProviderRejected
from backout.model.objects.versions import NOT_KNOWN, Carried, ChangeKind, ObjectVersion, Outcome, judge_hidden
from backout.providers.objects.listing import list_side_by_side
from backout.providers.s3 import exchanges
from backout.providers.s3.calls import Listing
from backout.providers.s3.failures import S3Denied, S3Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from backout.model.objects.versions import Attempt, ObjectChange
    from backout.providers.objects.gate import Gate
    from backout.providers.s3.answers import ListedVersion, S3Object
    from backout.providers.s3.client import S3Client
    from backout.providers.s3.exchanges import Exchange

T = TypeVar("T")
R = TypeVar("R")

COPIED_AT_ONCE_BYTES: Final = 5 * 10**9
"""S3 copies at most 5 GB in one call; what is larger is copied in parts."""
PART_BYTES: Final = 512 * 1024 * 1024
_THREADS: Final = 64
"""How many at most are copied in parts at once, or stored in a history."""
_NO_MARKER: Final = frozenset({"NoSuchVersion", "NoSuchKey"})


class S3BucketVersions:
    """A bucket of S3, or the part of it below a prefix.

    Args:
        gate: how many calls are made at once; it hears of the client's failures.
        copied_at_once_bytes: larger objects are copied in parts.
    """

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        prefix: str,
        gate: Gate,
        *,
        copied_at_once_bytes: int = COPIED_AT_ONCE_BYTES,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._gate = gate
        self._copied_at_once_bytes = copied_at_once_bytes
        self._part_bytes = part_bytes

    def versions(self) -> Iterator[ObjectVersion]:
        """Yield every version and delete marker: the newest of each key first, as the store has them."""
        for each in list_side_by_side(self._client, self._bucket, self._prefix):
            yield ObjectVersion(
                each.key,
                each.version_id,
                each.last_modified,
                each.etag,
                each.size_bytes,
                each.is_delete_marker,
                each.storage_class,
            )

    def carry_out(
        self,
        changes: Sequence[ObjectChange],
        *,
        again: bool,
        attempts: Sequence[Attempt] = (),
        hear: Callable[[int], None] = lambda _done: None,
    ) -> Sequence[Carried]:
        """Carry out changes, as many at once as the store keeps up with; `hear` is told how many are done.

        Raises:
            ProviderUnavailable: the store does not answer any more; what was begun is awaited first.
        """
        large = [place for place, change in enumerate(changes) if self._is_large(change)]
        again = again or bool(attempts)
        works = (self._carry_out(change, again, attempts) for change in changes if not self._is_large(change))
        carried = self._client.multiplex(self._gate).run(works, hear)
        done = len(carried)
        copied = run_all(
            lambda place: self._copy_large(changes[place], again, attempts), large, lambda more: hear(done + more)
        )
        for place, each in zip(large, copied, strict=True):
            carried.insert(place, each)
        return carried

    def put_back(self, newer: ObjectVersion) -> str:
        """Make a version, or a delete marker, the newest one again, and return the id of what was made."""
        if newer.is_marker:
            return self._client.delete(self._bucket, newer.key) or ""
        return _get_id(self._copy(newer.key, newer.version_id, newer.size_bytes))

    def is_same(self, key: str, one: str, other: str, *, contents: bool) -> bool:
        """Whether two versions have the same headers and metadata; `contents`: and the same bytes, which are read."""
        found = [self._client.head(self._bucket, key, version_id=version) for version in (one, other)]
        if not are_alike(*found):
            return False
        return not contents or hash_object(self._client, self._bucket, key, one) == hash_object(
            self._client, self._bucket, key, other
        )

    def _carry_out(
        self, change: ObjectChange, again: bool, attempts: Sequence[Attempt]
    ) -> Generator[Exchange, None, Carried]:
        maybe_made = bool(attempts)
        try:
            if change.kind is ChangeKind.UNDELETE:
                return (yield from self._undelete(change))
            if again or change.maybe_same:
                carried = yield from self._look(change, attempts)
                if carried is not None:
                    return carried
                maybe_made = False
            if change.kind is ChangeKind.REMOVE:
                made = yield from exchanges.delete(self._bucket, change.key)
                markers = () if made else (yield from _list_markers(self._bucket, change.key))
                return Carried(Outcome.DONE, made or (markers[0].version_id if markers else ""))
            source = self._bucket, change.key, change.version_id
            copied = yield from exchanges.copy(source, self._bucket, change.key)
        except (ProviderRejected, S3Denied) as refused:
            shown = change.version_id if change.kind is ChangeKind.UNDELETE else ""
            return Carried(Outcome.FAILED, shown, why=refused.what, maybe_made=maybe_made)
        return Carried(Outcome.DONE, _get_id(copied), copied.etag)

    def _undelete(self, change: ObjectChange) -> Generator[Exchange, None, Carried]:
        """Remove an object's delete markers; one that is gone already is fine.

        One by one, beside other calls: a store works through a batch alone, and SeaweedFS locks each object of one.
        """
        if not all(change.markers):  # a deletion without a version id would be another marker
            live = yield from _find(self._bucket, change.key)
            if live is None:
                return Carried(Outcome.FAILED, why=NOT_KNOWN)
            return Carried(Outcome.SAME if _get_id(live) == change.version_id else Outcome.NEWER, _get_id(live))
        for marker in change.markers:
            try:
                yield from exchanges.delete(self._bucket, change.key, version_id=marker)
            except S3Rejected as refused:
                if refused.word not in _NO_MARKER:
                    raise
        return Carried(Outcome.DONE, change.version_id, change.etag)

    def _look(self, change: ObjectChange, attempts: Sequence[Attempt]) -> Generator[Exchange, None, Carried | None]:
        """Return what became of a change that may have been made before; None: it is to be made."""
        live = yield from _find(self._bucket, change.key)
        if live is None:
            if change.kind is not ChangeKind.REMOVE:
                return None
            markers = yield from _list_markers(self._bucket, change.key)
            if markers is None:
                return Carried(Outcome.DONE if attempts else Outcome.SAME)
            return judge_hidden(((each.version_id, each.last_modified) for each in markers), attempts)
        is_untouched = _get_id(live) == change.found
        if is_untouched and not change.maybe_same:
            return None
        if change.kind is ChangeKind.COPY:
            wanted = yield from _find(self._bucket, change.key, change.version_id)
            if are_alike(live, wanted):
                is_ours = not is_untouched and attempts
                return Carried(Outcome.DONE if is_ours else Outcome.SAME, _get_id(live), live.etag)
        if not is_untouched and not change.found:
            return Carried(Outcome.FAILED, why=NOT_KNOWN)
        return None if is_untouched else Carried(Outcome.NEWER)

    def _is_large(self, change: ObjectChange) -> bool:
        return change.kind is ChangeKind.COPY and change.size_bytes > self._copied_at_once_bytes

    def _copy_large(self, change: ObjectChange, again: bool, attempts: Sequence[Attempt]) -> Carried:
        """Copy an object in parts, each of which may take the store minutes."""
        with self._gate.passing():
            maybe_made = bool(attempts)
            try:
                if again or change.maybe_same:
                    carried = self._client.multiplex(self._gate).run([self._look(change, attempts)])[0]
                    if carried is not None:
                        return carried
                    maybe_made = False
                copied = self._copy(change.key, change.version_id, change.size_bytes)
            except (ProviderRejected, S3Denied) as refused:
                return Carried(Outcome.FAILED, why=refused.what, maybe_made=maybe_made)
            return Carried(Outcome.DONE, _get_id(copied), copied.etag)

    def _copy(self, key: str, version_id: str, size_bytes: int) -> S3Object:
        source = (self._bucket, key, version_id)
        if size_bytes > self._copied_at_once_bytes:
            return self._client.copy_in_parts(source, self._bucket, key, self._part_bytes)
        return self._client.copy(source, self._bucket, key)


def _find(bucket: str, key: str, version_id: str | None = None) -> Generator[Exchange, None, S3Object | None]:
    """Return the object without its bytes, as `S3Client.head`."""
    try:
        return (yield from exchanges.head(bucket, key, version_id=version_id))
    except ProviderRejected as refused:
        if refused.status in exchanges.NO_OBJECT:
            return None
        raise
    except AuthError:
        yield from exchanges.try_read(bucket, key, version_id=version_id)
        raise


def _list_markers(bucket: str, key: str) -> Generator[Exchange, None, Sequence[ListedVersion] | None]:
    """Return the delete markers above an object's newest version, the newest first.

    None where the listing is refused: the object is deleted all the same, and an undo has to hear of it.
    """
    try:
        page = yield from exchanges.list_versions(bucket, Listing(prefix=key, delimiter="/"))
    except (ProviderRejected, S3Denied):
        return None
    return tuple(takewhile(lambda each: each.is_delete_marker, (each for each in page.versions if each.key == key)))


def run_all(act: Callable[[T], R], each: Sequence[T], hear: Callable[[int], None] = lambda _done: None) -> list[R]:
    """Do something with each, many at once, and return the results in order; after an error nothing more is begun.

    Args:
        hear: is told how many are done, one by one; not in their order, since one may wait long.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="objects") as threads:
        begun = [threads.submit(act, one) for one in each]
        try:
            for done, future in enumerate(as_completed(begun), start=1):
                future.result()
                hear(done)
            return [future.result() for future in begun]
        except BaseException:
            threads.shutdown(wait=True, cancel_futures=True)
            raise


def hash_object(client: S3Client, bucket: str, key: str, version_id: str | None = None) -> bytes:
    """Read an object whole and return its SHA-256."""
    digest = hashlib.sha256()
    with client.get(bucket, key, version_id=version_id) as body:
        for chunk in body:
            digest.update(chunk)
    return digest.digest()


def _get_id(found: S3Object) -> str:
    """Return the id of a version as listings have it: one from before the bucket kept versions is called "null"."""
    return found.version_id or "null"


def are_alike(one: S3Object | None, other: S3Object | None) -> bool:
    """Whether both are there, with the same content, headers and metadata, as far as the store's words tell."""
    if one is None or other is None:
        return one is other
    same = (one.size_bytes, dict(one.headers), dict(one.metadata)) == (
        other.size_bytes,
        dict(other.headers),
        dict(other.metadata),
    )
    return same and (one.etag == other.etag or "-" in one.etag + other.etag)
