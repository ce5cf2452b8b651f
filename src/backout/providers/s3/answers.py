"""The contents of an S3 server's answers; pure. The entries of a listing keep the document's order.

Nothing else distinguishes two versions of one second.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus
from xml.sax.saxutils import escape

import msgspec

from backout.decoding import Undecodable, parse_http_date, parse_moment, parse_whole
from backout.model.value import Value
from backout.providers.s3.documents import ERROR, MalformedAnswer, parse_listing, parse_result, parse_xml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backout.providers.s3.documents import Node

_LONGEST_CODE, _LONGEST_MESSAGE = 100, 300
_MOST_SIZE = 2**63 - 1
_MOST_DAYS = 1_000_000
_MOST_YEARS = 100
_MARKER = "DeleteMarker"
_OBJECTS, _VERSIONS = frozenset({"Contents"}), frozenset({"Version", _MARKER})
_META = "x-amz-meta-"


class S3Object(Value, frozen=True):
    """One object as GET, HEAD and PUT describe it.

    Args:
        etag: without quotes.
        last_modified: Unix seconds, whole ones; 0 where the answer has none.
        version_id: None where the bucket has no versions.
        headers: the stored HTTP headers (`content-type`, `cache-control`, ...), names in lower case.
        metadata: the user's own, names in lower case as the server returns them.
    """

    key: str
    size_bytes: int
    etag: str
    last_modified: float
    version_id: str | None = None
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)


class Listed(Value, frozen=True):
    """One entry of a listing."""

    key: str
    size_bytes: int
    etag: str
    last_modified: float


class Page(Value, frozen=True):
    """One page of a listing; `next_token` is None on the last one."""

    objects: tuple[Listed, ...]
    prefixes: tuple[str, ...]
    next_token: str | None


class ListedVersion(Value, frozen=True):
    """One version or delete marker (which has neither etag nor size)."""

    key: str
    version_id: str
    is_latest: bool
    is_delete_marker: bool
    last_modified: float
    etag: str = ""
    size_bytes: int = 0
    storage_class: str = ""


class VersionPage(Value, frozen=True):
    """One page of versions in the server's order: by key, newest first; `next_markers` is (key, version id) or None."""

    versions: tuple[ListedVersion, ...]
    prefixes: tuple[str, ...]
    next_markers: tuple[str, str] | None


class S3Error(Value, frozen=True):
    """An error body: the machine's word (`NoSuchKey`) and the server's sentence, cut where they are long."""

    code: str
    message: str


def parse_error(body: bytes) -> S3Error:
    """Return the error of a body; an empty or foreign body gives an empty code."""
    try:
        root = parse_xml(body)
    except MalformedAnswer:
        return S3Error("", body[:200].decode("utf-8", "replace"))
    return _read_error(root) if root.tag == ERROR else S3Error("", "")


def parse_etag(etag: str) -> str:
    """Return an etag without its quotes. Raises MalformedAnswer: there is none, so nothing says what is stored."""
    if not etag.strip('"'):
        raise MalformedAnswer("the answer has no etag")
    return etag.strip('"')


def parse_object(key: str, headers: Mapping[str, str], size_bytes: int | None = None) -> S3Object:
    """Return an object from the headers of an answer (names in lower case); a ranged answer gives the whole size.

    Raises:
        Undecodable: a length is none.
        MalformedAnswer: there is no etag, so it is not S3 that answered.
    """
    total = headers.get("content-range", "").rpartition("/")[2]
    size = parse_whole(total, most=_MOST_SIZE) if total.isdecimal() else _parse_size(headers.get("content-length", "0"))
    version = headers.get("x-amz-version-id")
    return S3Object(
        key=key,
        size_bytes=size if size_bytes is None else size_bytes,
        etag=parse_etag(headers.get("etag", "")),
        last_modified=_parse_http_date(headers.get("last-modified")),
        version_id=None if version in {None, "null"} else version,
        headers={name: headers[name] for name in STORED_HEADERS if name in headers},
        metadata={name[len(_META) :]: value for name, value in headers.items() if name.startswith(_META)},
    )


STORED_HEADERS = (
    "content-type",
    "content-language",
    "content-disposition",
    "content-encoding",
    "cache-control",
    "expires",
)
"""The HTTP headers that an object keeps."""


def parse_page(body: bytes) -> Page:
    """Return a page of ListObjectsV2, asked for with `encoding-type=url`.

    Raises:
        LateError, MalformedAnswer: it is none, or does not say where the next one begins.
        Undecodable: a size is none.
    """
    root, entries = parse_listing(body, "ListBucketResult", _OBJECTS)
    read = _find_reader(root)
    objects = tuple(
        Listed(
            read(fields.get("Key", "")),
            _parse_size(fields.get("Size", "0")),
            fields.get("ETag", "").strip('"'),
            _parse_time(fields.get("LastModified", "")),
        )
        for _, fields in entries
    )
    token = root.value("NextContinuationToken") if _is_truncated(root, "NextContinuationToken") else None
    return Page(objects, _list_prefixes(root, read), token)


def parse_version_page(body: bytes) -> VersionPage:
    """Return a page of ListObjectVersions, asked for with `encoding-type=url`.

    Raises:
        LateError, MalformedAnswer: it is none, or does not say where the next one begins.
        Undecodable: a size is none.
    """
    root, entries = parse_listing(body, "ListVersionsResult", _VERSIONS)
    read = _find_reader(root)
    versions = tuple(
        ListedVersion(
            key=read(fields.get("Key", "")),
            version_id=fields.get("VersionId", ""),
            is_latest=fields.get("IsLatest") == "true",
            is_delete_marker=tag == _MARKER,
            last_modified=_parse_time(fields.get("LastModified", "")),
            etag=fields.get("ETag", "").strip('"'),
            size_bytes=_parse_size(fields.get("Size", "0")),
            storage_class=fields.get("StorageClass", ""),
        )
        for tag, fields in entries
    )
    markers = None
    if _is_truncated(root, "NextKeyMarker"):
        markers = (read(root.value("NextKeyMarker")), root.value("NextVersionIdMarker"))
    return VersionPage(versions, _list_prefixes(root, read), markers)


def parse_buckets(body: bytes) -> tuple[tuple[str, float], ...]:
    """Return (name, created at in Unix seconds) of each bucket. Raises LateError, MalformedAnswer."""
    return tuple(
        (bucket.value("Name"), _parse_time(bucket.value("CreationDate")))
        for buckets in parse_result(body, "ListAllMyBucketsResult").all("Buckets")
        for bucket in buckets.all("Bucket")
    )


def parse_delete_errors(body: bytes) -> tuple[tuple[str, S3Error], ...]:
    """Return (key, error) of what a batch deletion did not delete. Raises LateError, MalformedAnswer."""
    errors = parse_result(body, "DeleteResult").all(ERROR)
    return tuple((entry.value("Key"), _read_error(entry)) for entry in errors)


def parse_versioning(body: bytes) -> str:
    """Return `Enabled`, `Suspended`, or "" where it never was on. Raises LateError, MalformedAnswer."""
    return parse_result(body, "VersioningConfiguration").value("Status")


def parse_kept_days(body: bytes) -> int | None:
    """Return for how many days a lifecycle keeps versions that are not the newest, by its strictest rule.

    Raises:
        LateError, MalformedAnswer, Undecodable: it is no lifecycle.
    """
    rules = (
        rule for rule in parse_result(body, "LifecycleConfiguration").all("Rule") if rule.value("Status") == "Enabled"
    )
    days = [
        parse_whole(expiry.value("NoncurrentDays"), most=_MOST_DAYS, what="the days of a lifecycle")
        for rule in rules
        for expiry in rule.all("NoncurrentVersionExpiration")
    ]
    return min(days, default=None)


def parse_lock_days(body: bytes) -> int | None:
    """Return for how many days an object is locked unless it says otherwise, None where it is not.

    Raises:
        LateError, MalformedAnswer, Undecodable: it is no configuration of locks.
    """
    found = (
        rule
        for each in parse_result(body, "ObjectLockConfiguration").all("Rule")
        for rule in each.all("DefaultRetention")
    )
    days = [
        parse_whole(rule.value("Days") or "0", most=_MOST_DAYS, what="the days of a lock")
        + 365 * parse_whole(rule.value("Years") or "0", most=_MOST_YEARS, what="the years of a lock")
        for rule in found
    ]
    return max(days, default=None)


def parse_tags(body: bytes) -> tuple[tuple[str, str], ...]:
    """Return the tags of an object. Raises LateError, MalformedAnswer."""
    sets = parse_result(body, "Tagging").all("TagSet")
    return tuple((tag.value("Key"), tag.value("Value")) for each in sets for tag in each.all("Tag"))


def parse_copied_part(body: bytes) -> str:
    """Return the etag of a part that was copied. Raises LateError, MalformedAnswer: also without an etag."""
    return parse_etag(parse_result(body, "CopyPartResult").value("ETag"))


def parse_upload_id(body: bytes) -> str:
    """Return the id of an upload in parts that was begun. Raises LateError, MalformedAnswer: also without an id."""
    found = parse_result(body, "InitiateMultipartUploadResult").value("UploadId")
    if not found:
        raise MalformedAnswer("the answer has no UploadId")
    return found


def parse_completed(body: bytes) -> str:
    """Return the etag of an object whose parts were joined. Raises LateError, MalformedAnswer: also without an etag."""
    return parse_etag(parse_result(body, "CompleteMultipartUploadResult").value("ETag"))


def parse_copied(body: bytes) -> str:
    """Return the etag of a copy. Raises LateError, MalformedAnswer: also without an etag."""
    return parse_etag(parse_result(body, "CopyObjectResult").value("ETag"))


def delete_body(targets: Sequence[tuple[str, str | None]]) -> bytes:
    """Return the body of a batch deletion of (key, version id or None)."""
    entries = "".join(
        f"<Object><Key>{escape(key)}</Key>{f'<VersionId>{escape(version)}</VersionId>' if version else ''}</Object>"
        for key, version in targets
    )
    return f"<Delete><Quiet>true</Quiet>{entries}</Delete>".encode()


def complete_body(parts: Sequence[tuple[int, str]]) -> bytes:
    """Return the body that completes a multipart upload of (part number, etag)."""
    entries = "".join(
        f'<Part><PartNumber>{number}</PartNumber><ETag>"{escape(etag)}"</ETag></Part>' for number, etag in parts
    )
    return f"<CompleteMultipartUpload>{entries}</CompleteMultipartUpload>".encode()


def compute_content_md5(body: bytes) -> str:
    """Return the Content-MD5 header of a body; S3 wants it where a damaged body would delete the wrong things."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode("ascii")


def _read_error(entry: Node) -> S3Error:
    message = entry.value("Message")
    cut = message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]} ..."
    return S3Error(entry.value("Code")[:_LONGEST_CODE], cut)


def _is_truncated(root: Node, marker: str) -> bool:
    """Whether more follows. Raises MalformedAnswer: it does, and nothing says where; half a listing is none."""
    if root.value("IsTruncated") != "true":
        return False
    if not root.value(marker):
        raise MalformedAnswer(f"the listing goes on, and the answer has no {marker}")
    return True


def _find_reader(root: Node) -> Callable[[str], str]:
    """Return what makes keys of a listing's names: not every store encodes them, though it is asked to (SeaweedFS)."""
    # AWS writes a space as "+" in this encoding, so a literal plus always comes as %2B.
    return unquote_plus if root.value("EncodingType") == "url" else str


def _list_prefixes(root: Node, read: Callable[[str], str]) -> tuple[str, ...]:
    return tuple(read(entry.value("Prefix")) for entry in root.all("CommonPrefixes"))


def _parse_size(text: str) -> int:
    return parse_whole(text, most=_MOST_SIZE, what="the size of an object")


def _parse_time(text: str) -> float:
    try:
        return parse_moment(text)
    except Undecodable:
        return 0.0


def parse_date(text: str | None) -> float | None:
    """Return the time of an HTTP date in Unix seconds, None where there is none that can be read."""
    try:
        return parse_http_date(text) if text else None
    except Undecodable:
        return None


def _parse_http_date(text: str | None) -> float:
    return parse_date(text) or 0.0
