"""A synchronous S3 client on the standard library: what backup and recovery of objects need, with versions.

Path-style addresses, persistent connections, every call through the one retry wrapper.
"""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING, Self

from msgspec.structs import replace

from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.providers.s3 import answers, calls, exchanges
from backout.providers.s3.answers import parse_object
from backout.providers.s3.exchanges import MISSING, SERVER_WORKS_S
from backout.providers.s3.multiplex import Multiplexer
from backout.providers.s3.paging import list_pages, list_version_pages
from backout.providers.s3.sigv4 import encode_query
from backout.providers.s3.transport import S3Settings, Slice, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeVar

    from backout.ports import Clock
    from backout.providers.s3.answers import Listed, ListedVersion, Page, S3Object, VersionPage
    from backout.providers.s3.calls import Attributes, Call, Conditions, Listing
    from backout.providers.s3.exchanges import Asked
    from backout.providers.s3.multiplex import Pace
    from backout.providers.s3.transport import ObjectBody

    T = TypeVar("T")

_OK = 200
_SMALLEST_PART_BYTES = 5 * 1024 * 1024
_MOST_PARTS = 10_000
_BATCH = 1000
_CLOSE_S = 2.0
_LOOK_AT_CLOCK_EVERY_S = 0.2
_LOOKS_AT_CLOCK = 20


class S3Client:
    """S3 in the words of its API; safe to use from several threads.

    Every method raises AuthError (key or permission), ProviderRejected (the server said no; `status` tells how) or
    ProviderUnavailable (no usable answer after the retries).
    """

    def __init__(self, settings: S3Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._transport = Transport(settings, clock)

    def close(self) -> None:
        """Close the idle connections; the client can still be used."""
        self._transport.close()

    def __enter__(self) -> Self:
        """Close the connections at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def multiplex(self, pace: Pace) -> Multiplexer:
        """Return what makes many calls at once, over the connections of this client."""
        return Multiplexer(self._transport, self._settings, self._clock, pace)

    # --- buckets -----------------------------------------------------------------------------------------------

    def list_buckets(self) -> tuple[tuple[str, float], ...]:
        """Return (name, created at in Unix seconds) of each bucket of the key's owner."""
        return self._send_and_parse(calls.list_buckets(), answers.parse_buckets)

    def create_bucket(self, bucket: str) -> None:
        """Create a bucket; ProviderRejected (409) when it exists."""
        self._send(calls.create_bucket(bucket))

    def delete_bucket(self, bucket: str) -> None:
        """Delete an empty bucket."""
        self._send(calls.delete_bucket(bucket))

    def versioning(self, bucket: str) -> bool:
        """Whether the bucket keeps versions now."""
        return self.read_versioning(bucket) == "Enabled"

    def read_versioning(self, bucket: str) -> str:
        """Return `Enabled`, `Suspended`, or "" where the bucket never kept versions."""
        return self._send_and_parse(calls.get_versioning(bucket), answers.parse_versioning)

    def read_kept_days(self, bucket: str) -> int | None:
        """Return for how many days the bucket's lifecycle keeps versions that are not the newest, None for ever."""
        try:
            return self._send_and_parse(calls.get_lifecycle(bucket), answers.parse_kept_days)
        except ProviderRejected as refused:
            if refused.status == MISSING:
                return None
            raise

    def read_lock_days(self, bucket: str) -> int | None:
        """Return for how many days the bucket locks what is written into it (Object Lock), None where it does not."""
        try:
            return self._send_and_parse(calls.get_lock(bucket), answers.parse_lock_days)
        except ProviderRejected as refused:
            if refused.status == MISSING:
                return None
            raise

    def read_clock(self, bucket: str) -> float | None:
        """Return the time of the store's clock in Unix seconds, whole ones; None where it tells none."""
        return answers.parse_date(self._send(calls.check_bucket(bucket)).get("date"))

    def await_clock(self, bucket: str, after: float) -> float | None:
        """Return the time of the store's clock once it is past a moment that it is about to reach.

        Args:
            after: Unix seconds; a clock that is seconds behind it was set back, and is not waited for.
        """
        told = self.read_clock(bucket)
        for _ in range(_LOOKS_AT_CLOCK):
            if told is None or not after - _CLOSE_S <= told <= after:
                break
            self._clock.sleep(_LOOK_AT_CLOCK_EVERY_S)
            told = self.read_clock(bucket)
        return told

    def set_versioning(self, bucket: str, *, enabled: bool) -> None:
        """Switch versions on, or suspend them (what exists stays)."""
        self._send(calls.put_versioning(bucket, enabled=enabled))

    # --- objects -----------------------------------------------------------------------------------------------

    def head(self, bucket: str, key: str, *, version_id: str | None = None) -> S3Object | None:
        """Return the object without its bytes; None if there is none (a delete marker is none)."""
        try:
            return self._ask(exchanges.head(bucket, key, version_id=version_id))
        except ProviderRejected as refused:
            if refused.status in exchanges.NO_OBJECT:
                return None
            raise
        except AuthError:
            with self.get(bucket, key, version_id=version_id, byte_range=(0, 0)):  # whose refusal says why
                raise

    def get(
        self,
        bucket: str,
        key: str,
        *,
        version_id: str | None = None,
        byte_range: tuple[int, int | None] | None = None,
        conditions: Conditions = calls.ALWAYS,
    ) -> ObjectBody:
        """Open an object, or a range (first, last) of it, both inclusive; (n, None) from n on, (-n, None) the end."""
        call = calls.get(bucket, key, version_id=version_id, byte_range=byte_range, conditions=conditions)
        return self._transport.open(call, key)

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes | IO[bytes],
        *,
        attributes: Attributes = calls.NONE,
        conditions: Conditions = calls.ALWAYS,
    ) -> S3Object:
        """Store bytes or a seekable binary file from its present position; large ones go up in parts.

        Conditions do not go with parts, so a large body under a condition is sent in one piece.
        """
        source = Slice.of(body)
        if source.size_bytes > self._settings.multipart_above_bytes and conditions == calls.ALWAYS:
            return self._put_in_parts(bucket, key, source, attributes)
        call = calls.put(bucket, key, None, attributes=attributes, conditions=conditions)
        return self._send_object(call, key, source)

    def copy(
        self,
        source: tuple[str, str, str | None],
        bucket: str,
        key: str,
        *,
        attributes: Attributes | None = None,
        if_match: str = "",
    ) -> S3Object:
        """Copy (bucket, key, version id or None) inside the server; `attributes` replace the source's.

        The answer of a copy tells no size; the object returned has 0. At most 5 GB, S3's own limit.

        Args:
            if_match: the etag that the source must have, else ProviderRejected (412); "" for any.
        """
        return self._ask(exchanges.copy(source, bucket, key, attributes=attributes, if_match=if_match))

    def copy_in_parts(self, source: tuple[str, str, str | None], bucket: str, key: str, part_bytes: int) -> S3Object:
        """Copy an object of any size inside the server, with its headers, metadata and tags.

        Args:
            source: bucket, key, version id or None.
            part_bytes: the size of a part, at most 5 GB; larger where there would be too many.

        Raises:
            ProviderRejected: there is no such version, or as for each call.
        """
        from_bucket, from_key, version_id = source
        found = self.head(from_bucket, from_key, version_id=version_id)
        if found is None:
            raise ProviderRejected("there is no such object to copy", status=MISSING, where=f"{from_bucket}/{from_key}")
        tags = self._send_and_parse(calls.get_tags(from_bucket, from_key, version_id=version_id), answers.parse_tags)
        headers = {**found.headers, **({"x-amz-tagging": encode_query(tags)} if tags else {})}
        attributes = calls.Attributes(headers, found.metadata)
        size = max(part_bytes, -(-found.size_bytes // _MOST_PARTS))
        with self._uploading(bucket, key, attributes) as upload_id:
            parts = []
            for number, begin in enumerate(range(0, found.size_bytes, size), start=1):
                last = min(begin + size, found.size_bytes) - 1
                call = calls.copy_part(source, bucket, key, (upload_id, number), (begin, last))
                etag = self._transport.send(
                    call, lambda _, body: answers.parse_copied_part(body), total_s=SERVER_WORKS_S
                )
                parts.append((number, etag))
            done = self.complete_upload(bucket, key, upload_id, parts)
            self._check_stored(bucket, done, found.size_bytes)
        return replace(done, size_bytes=found.size_bytes)

    def delete(self, bucket: str, key: str, *, version_id: str | None = None) -> str | None:
        """Delete an object, or one version for good; return the id of the delete marker that was made or removed."""
        return self._ask(exchanges.delete(bucket, key, version_id=version_id))

    def delete_many(self, bucket: str, targets: Sequence[tuple[str, str | None]]) -> None:
        """Delete any number of (key, version id or None), a thousand a call.

        Raises:
            ProviderRejected: the server kept some of them; the first one's reason is quoted.
        """
        for begin in range(0, len(targets), _BATCH):
            if kept := self.delete_batch(bucket, targets[begin : begin + _BATCH]):
                key, reason = kept[0]
                what = f"{len(kept)} objects were not deleted, the first because of {reason.code}: {reason.message}"
                raise ProviderRejected(what, status=_OK, where=f"{bucket}/{key}")

    def delete_batch(
        self, bucket: str, targets: Sequence[tuple[str, str | None]]
    ) -> tuple[tuple[str, answers.S3Error], ...]:
        """Delete at most a thousand of (key, version id or None) in one call; return those kept, and the reasons."""
        return self._send_and_parse(calls.delete_many(bucket, targets), answers.parse_delete_errors)

    # --- listings ----------------------------------------------------------------------------------------------

    def list_page(self, bucket: str, listing: Listing = calls.ALL, *, token: str | None = None) -> Page:
        """Return one page."""
        return self._send_and_parse(calls.list_page(bucket, listing, token=token), answers.parse_page)

    def list_objects(self, bucket: str, prefix: str = "", *, start_after: str = "") -> Iterator[Listed]:
        """Yield every object, by key; `start_after`: those whose key sorts behind it.

        A listing without an end is ProviderUnavailable, once that is noticed.
        """
        listing = calls.Listing(prefix=prefix, start_after=start_after)
        for page in list_pages(lambda token: self.list_page(bucket, listing, token=token), f"{bucket}/{prefix}"):
            yield from page.objects

    def version_page(
        self, bucket: str, listing: Listing = calls.ALL, *, markers: tuple[str, str] | None = None
    ) -> VersionPage:
        """Return one page of versions; it may hold delete markers alone."""
        return self._send_and_parse(
            calls.list_version_page(bucket, listing, markers=markers), answers.parse_version_page
        )

    def list_versions(self, bucket: str, prefix: str = "") -> Iterator[ListedVersion]:
        """Yield every version and delete marker in the server's order: by key, newest first; as `list_objects`."""
        listing = calls.Listing(prefix=prefix)
        for page in list_version_pages(
            lambda markers: self.version_page(bucket, listing, markers=markers), f"{bucket}/{prefix}"
        ):
            yield from page.versions

    # --- parts -------------------------------------------------------------------------------------------------

    def create_upload(self, bucket: str, key: str, *, attributes: Attributes = calls.NONE) -> str:
        """Begin an upload in parts and return its id."""
        return self._send_and_parse(calls.create_upload(bucket, key, attributes=attributes), answers.parse_upload_id)

    def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: bytes | IO[bytes]) -> str:
        """Send one part (numbers from 1; all but the last at least 5 MiB) and return its etag."""
        call = calls.upload_part(bucket, key, upload_id, number, None)
        return self._send_object(call, key, Slice.of(body)).etag

    def complete_upload(self, bucket: str, key: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> S3Object:
        """Join the parts, (number, etag) in ascending order; the answer tells no size, so the object returned has 0."""
        return self._transport.send(
            calls.complete_upload(bucket, key, upload_id, parts),
            lambda headers, body: parse_object(key, {**headers, "etag": answers.parse_completed(body)}, 0),
            total_s=SERVER_WORKS_S,
        )

    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Forget an unfinished upload and its parts."""
        self._send(calls.abort_upload(bucket, key, upload_id))

    def _put_in_parts(self, bucket: str, key: str, source: Slice, attributes: Attributes) -> S3Object:
        smallest = max(_SMALLEST_PART_BYTES, -(-source.size_bytes // _MOST_PARTS))
        part_bytes = max(self._settings.part_bytes, smallest)
        with self._uploading(bucket, key, attributes) as upload_id:
            parts = []
            for number, begin in enumerate(range(0, source.size_bytes, part_bytes), start=1):
                call = calls.upload_part(bucket, key, upload_id, number, None)
                parts.append((number, self._send_object(call, key, source.part(begin, part_bytes)).etag))
            done = self.complete_upload(bucket, key, upload_id, parts)
            self._check_stored(bucket, done, source.size_bytes)
        return replace(done, size_bytes=source.size_bytes)

    @contextlib.contextmanager
    def _uploading(self, bucket: str, key: str, attributes: Attributes) -> Iterator[str]:
        """Begin an upload in parts, and forget it where the block ends with an error."""
        upload_id = self.create_upload(bucket, key, attributes=attributes)
        try:
            yield upload_id
        except BaseException:
            with contextlib.suppress(ProviderRejected, ProviderUnavailable):
                self.abort_upload(bucket, key, upload_id)  # else the parts would stay, unseen and paid for
            raise

    def _check_stored(self, bucket: str, done: S3Object, size_bytes: int) -> None:
        """Ask for what was joined from parts. Raises ProviderUnavailable: it is not there, or not all of it."""
        found = self.head(bucket, done.key, version_id=done.version_id)
        if found is None or found.size_bytes != size_bytes:
            has = "is not there" if found is None else f"has {found.size_bytes} bytes instead of {size_bytes}"
            what = f"S3 said that it stored an object, and it {has}"
            raise ProviderUnavailable(what, where=f"{bucket}/{done.key}", hint="type the same command again")

    # --- transport ---------------------------------------------------------------------------------------------

    def _send_and_parse(self, call: Call, parse: Callable[[bytes], T]) -> T:
        return self._transport.send(call, lambda _, body: parse(body))

    def _send(self, call: Call) -> Mapping[str, str]:
        """Send a call that is answered in the headers."""
        return self._transport.send(call, exchanges.parse_headers)

    def _send_object(self, call: Call, key: str, source: Slice) -> S3Object:
        """Send a call that is answered with an object in the headers; what is sent gives the size."""
        asked = exchanges.ask_object(call, key, source.size_bytes)
        return self._transport.send(call, asked.parse, source=source)

    def _ask(self, asked: Asked[T]) -> T:
        return self._transport.send(asked.call, asked.parse, total_s=asked.total_s)
