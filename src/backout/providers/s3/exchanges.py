"""Calls with what reads their answers: for a caller that waits for each one, or for one that makes many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from backout.providers.s3 import answers, calls
from backout.providers.s3.answers import parse_object
from backout.providers.s3.documents import check_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from backout.providers.s3.answers import S3Object, VersionPage
    from backout.providers.s3.calls import Attributes, Call, Listing
    from backout.providers.s3.transport import Transport

T = TypeVar("T")

SERVER_WORKS_S = 900.0
"""A copy, and the end of an upload in parts: the server moves gigabytes before its answer ends."""
MISSING = 404
"""The status of what is not there: an object, its bucket, or a setting of a bucket that was never made."""
NO_OBJECT = frozenset({MISSING, 405})
"""The statuses that say that there is no object, or a delete marker instead."""


class Exchange(Protocol):
    """A call that is to be made, whatever its answer is.

    Attributes:
        total_s: for all of it; None: as the settings have it.
    """

    call: Call
    total_s: float | None

    def take(self, transport: Transport, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Take the answer. Raises CallFailed: it is a refusal, or none."""
        ...


class Asked(Generic[T]):
    """A call, and what its answer is read by; `yield from` it gives the answer once it came.

    Args:
        parse: from the headers, whose names are in lower case, and the body.
    """

    def __init__(
        self, call: Call, parse: Callable[[Mapping[str, str], bytes], T], total_s: float | None = None
    ) -> None:
        self.call = call
        self.parse = parse
        self.total_s = total_s
        self._answer: list[T] = []

    def take(self, transport: Transport, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Take the answer. Raises CallFailed: it is a refusal, or none."""
        self._answer.append(transport.read_answer(self.call, status, headers, body, self.parse))

    def __iter__(self) -> Generator[Exchange, None, T]:
        """Give the call away, and return its answer."""
        yield self
        return self._answer.pop()


def head(bucket: str, key: str, *, version_id: str | None = None) -> Asked[S3Object]:
    """HEAD Object."""
    return ask_object(calls.head(bucket, key, version_id=version_id), key)


def try_read(bucket: str, key: str, *, version_id: str | None = None) -> Asked[None]:
    """GET Object, of one byte: its refusal has words, as that of a HEAD has not."""
    call = calls.get(bucket, key, version_id=version_id, byte_range=(0, 0))
    return Asked(call, lambda _headers, _body: None)


def copy(
    source: tuple[str, str, str | None],
    bucket: str,
    key: str,
    *,
    attributes: Attributes | None = None,
    if_match: str = "",
) -> Asked[S3Object]:
    """PUT Object - Copy, as `calls.copy`; the answer tells no size."""
    call = calls.copy(source, bucket, key, attributes=attributes, if_match=if_match)

    def parse(headers: Mapping[str, str], body: bytes) -> S3Object:
        return parse_object(key, {**headers, "etag": answers.parse_copied(body)}, 0)

    return Asked(call, parse, SERVER_WORKS_S)


def delete(bucket: str, key: str, *, version_id: str | None = None) -> Asked[str | None]:
    """DELETE Object; answered with the id of the delete marker that was made or removed."""
    return Asked(calls.delete(bucket, key, version_id=version_id), _parse_marker)


def list_versions(bucket: str, listing: Listing) -> Asked[VersionPage]:
    """GET Bucket object versions, its first page."""
    call = calls.list_version_page(bucket, listing)
    return Asked(call, lambda _headers, body: answers.parse_version_page(body))


def ask_object(call: Call, key: str, size_bytes: int | None = None) -> Asked[S3Object]:
    """Return a call that is answered with an object in the headers; `size_bytes`: of what is sent."""

    def parse(headers: Mapping[str, str], body: bytes) -> S3Object:
        check_empty(body)
        return parse_object(key, headers, size_bytes)

    return Asked(call, parse)


def parse_headers(headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
    """Return the headers of an answer that says everything there. Raises as `check_empty`."""
    check_empty(body)
    return headers


def _parse_marker(headers: Mapping[str, str], body: bytes) -> str | None:
    check_empty(body)
    return headers.get("x-amz-version-id") if headers.get("x-amz-delete-marker") == "true" else None
