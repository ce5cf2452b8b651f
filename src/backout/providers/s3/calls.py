"""The S3 calls as data: each function returns a request without host and signature, which the client sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from backout.model.value import Value
from backout.providers.s3.answers import complete_body, compute_content_md5, delete_body
from backout.providers.s3.sigv4 import encode_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_VERSIONING = (
    b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>%s</Status>'
    b"</VersioningConfiguration>"
)


class Call(Value, frozen=True):
    """One request: path already encoded, query not; `body` is None where the caller streams it."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = b""


class Attributes(Value, frozen=True):
    """The metadata stored with an object.

    Args:
        headers: HTTP headers to keep (`Content-Type`, `Cache-Control`, ...).
        metadata: the user's own; ASCII, names are case-insensitive.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def as_headers(self) -> dict[str, str]:
        """Return them as request headers."""
        return {**self.headers, **{f"x-amz-meta-{name}": value for name, value in self.metadata.items()}}


class Conditions(Value, frozen=True):
    """Conditions of a request: etags without quotes, `*` is any."""

    if_match: str | None = None
    if_none_match: str | None = None

    def as_headers(self) -> dict[str, str]:
        """Return them as request headers."""
        pairs = (("If-Match", self.if_match), ("If-None-Match", self.if_none_match))
        return {name: etag if etag == "*" else f'"{etag}"' for name, etag in pairs if etag is not None}


class Listing(Value, frozen=True):
    """What to list: keys with this prefix, grouped at the delimiter, `limit` a page; `start_after` is for objects."""

    prefix: str = ""
    delimiter: str = ""
    start_after: str = ""
    limit: int = 1000

    def as_query(self) -> list[tuple[str, str]]:
        """Return what both listings share."""
        query = [("encoding-type", "url"), ("max-keys", str(self.limit)), ("prefix", self.prefix)]
        return [*query, ("delimiter", self.delimiter)] if self.delimiter else query


ALL = Listing()
NONE = Attributes()
ALWAYS = Conditions()


def list_buckets() -> Call:
    """GET Service."""
    return Call("GET", "/")


def create_bucket(bucket: str) -> Call:
    """PUT Bucket."""
    return Call("PUT", _make_path(bucket))


def delete_bucket(bucket: str) -> Call:
    """DELETE Bucket."""
    return Call("DELETE", _make_path(bucket))


def get_versioning(bucket: str) -> Call:
    """GET Bucket versioning."""
    return Call("GET", _make_path(bucket), (("versioning", ""),))


def check_bucket(bucket: str) -> Call:
    """HEAD Bucket."""
    return Call("HEAD", _make_path(bucket))


def get_lifecycle(bucket: str) -> Call:
    """GET Bucket lifecycle."""
    return Call("GET", _make_path(bucket), (("lifecycle", ""),))


def get_lock(bucket: str) -> Call:
    """GET Bucket object lock configuration."""
    return Call("GET", _make_path(bucket), (("object-lock", ""),))


def get_tags(bucket: str, key: str, *, version_id: str | None = None) -> Call:
    """GET Object tagging."""
    return Call("GET", _make_path(bucket, key), (("tagging", ""), *_make_version_query(version_id)))


def put_versioning(bucket: str, *, enabled: bool) -> Call:
    """PUT Bucket versioning: `Enabled` or `Suspended`."""
    body = _VERSIONING % (b"Enabled" if enabled else b"Suspended")
    return Call("PUT", _make_path(bucket), (("versioning", ""),), {"Content-MD5": compute_content_md5(body)}, body)


def head(bucket: str, key: str, *, version_id: str | None = None, conditions: Conditions = ALWAYS) -> Call:
    """HEAD Object."""
    return Call("HEAD", _make_path(bucket, key), _make_version_query(version_id), conditions.as_headers())


def get(
    bucket: str,
    key: str,
    *,
    version_id: str | None = None,
    byte_range: tuple[int, int | None] | None = None,
    conditions: Conditions = ALWAYS,
) -> Call:
    """GET Object; `byte_range` is (first, last), both inclusive, last None to the end; (-n, None) is the last n."""
    headers = conditions.as_headers()
    if byte_range is not None:
        first, last = byte_range
        headers["Range"] = f"bytes={first}" if first < 0 else f"bytes={first}-{'' if last is None else last}"
    return Call("GET", _make_path(bucket, key), _make_version_query(version_id), headers)


def put(
    bucket: str, key: str, body: bytes | None, *, attributes: Attributes = NONE, conditions: Conditions = ALWAYS
) -> Call:
    """PUT Object."""
    return Call("PUT", _make_path(bucket, key), (), {**attributes.as_headers(), **conditions.as_headers()}, body)


def copy(
    source: tuple[str, str, str | None],
    bucket: str,
    key: str,
    *,
    attributes: Attributes | None = None,
    if_match: str = "",
) -> Call:
    """PUT Object - Copy of (bucket, key, version id or None); `attributes` replace the source's, None keeps them.

    Args:
        if_match: the etag that the source must have, "" for any.
    """
    headers = {"x-amz-copy-source": _make_source(source)}
    if if_match:
        headers["x-amz-copy-source-if-match"] = f'"{if_match}"'
    if attributes is not None:
        headers |= {"x-amz-metadata-directive": "REPLACE", **attributes.as_headers()}
    return Call("PUT", _make_path(bucket, key), (), headers)


def delete(bucket: str, key: str, *, version_id: str | None = None) -> Call:
    """DELETE Object; without a version id a versioned bucket gets a delete marker."""
    return Call("DELETE", _make_path(bucket, key), _make_version_query(version_id))


def delete_many(bucket: str, targets: Sequence[tuple[str, str | None]]) -> Call:
    """POST delete: at most 1000 of (key, version id or None)."""
    body = delete_body(targets)
    return Call("POST", _make_path(bucket), (("delete", ""),), {"Content-MD5": compute_content_md5(body)}, body)


def list_page(bucket: str, listing: Listing = ALL, *, token: str | None = None) -> Call:
    """GET Bucket, version 2, one page."""
    query = [("list-type", "2"), *listing.as_query()]
    query += [("start-after", listing.start_after)] if listing.start_after else []
    query += [("continuation-token", token)] if token is not None else []
    return Call("GET", _make_path(bucket), tuple(query))


def list_version_page(bucket: str, listing: Listing = ALL, *, markers: tuple[str, str] | None = None) -> Call:
    """GET Bucket object versions, one page."""
    query = [("versions", ""), *listing.as_query()]
    if markers is not None:
        query += [("key-marker", markers[0])]
        query += [("version-id-marker", markers[1])] if markers[1] else []
    return Call("GET", _make_path(bucket), tuple(query))


def create_upload(bucket: str, key: str, *, attributes: Attributes = NONE) -> Call:
    """Initiate Multipart Upload."""
    return Call("POST", _make_path(bucket, key), (("uploads", ""),), attributes.as_headers())


def upload_part(bucket: str, key: str, upload_id: str, number: int, body: bytes | None) -> Call:
    """Upload Part; numbers are 1 to 10000."""
    return Call("PUT", _make_path(bucket, key), (("partNumber", str(number)), ("uploadId", upload_id)), {}, body)


def copy_part(
    source: tuple[str, str, str | None], bucket: str, key: str, upload: tuple[str, int], byte_range: tuple[int, int]
) -> Call:
    """Upload Part - Copy of (bucket, key, version id or None).

    Args:
        upload: its id, and the number of the part.
        byte_range: the first and the last byte of the source, both inclusive.
    """
    upload_id, number = upload
    headers = {
        "x-amz-copy-source": _make_source(source),
        "x-amz-copy-source-range": f"bytes={byte_range[0]}-{byte_range[1]}",
    }
    return Call("PUT", _make_path(bucket, key), (("partNumber", str(number)), ("uploadId", upload_id)), headers)


def complete_upload(bucket: str, key: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> Call:
    """Complete Multipart Upload of (number, etag), numbers ascending."""
    return Call("POST", _make_path(bucket, key), (("uploadId", upload_id),), {}, complete_body(parts))


def abort_upload(bucket: str, key: str, upload_id: str) -> Call:
    """Abort Multipart Upload."""
    return Call("DELETE", _make_path(bucket, key), (("uploadId", upload_id),))


def _make_path(bucket: str, key: str | None = None) -> str:
    return f"/{bucket}" if key is None else f"/{bucket}/{encode_key(key)}"


def _make_source(source: tuple[str, str, str | None]) -> str:
    bucket, key, version_id = source
    version = "" if version_id is None else f"?versionId={encode_key(version_id)}"
    return f"{_make_path(bucket, key)}{version}"


def _make_version_query(version_id: str | None) -> tuple[tuple[str, str], ...]:
    return () if version_id is None else (("versionId", version_id),)
