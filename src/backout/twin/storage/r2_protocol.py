"""Parses and renders workerd's R2 protocol; pure.

A request is `{"version": 1, "method": "get", ...}`: in the header `cf-r2-request` of a GET, or at the begin of the body
of a PUT, whose length is in `cf-r2-metadata-size`. An answer's body begins with JSON of the same kind, then the bytes.
Source: workerd, src/workerd/api/r2-api.capnp (2026-11).
"""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import field

from backout.decoding import decode_raw
from backout.model.value import Value
from backout.providers.s3.calls import Attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.providers.s3.answers import S3Object

REQUEST = "cf-r2-request"
METADATA_SIZE = "cf-r2-metadata-size"
ERROR = "cf-r2-error"

LONGEST_KEY_BYTES = 1024
LONGEST_METADATA_BYTES = 8192
MOST_LISTED = 1000

_ENCODED = "backout-r2"
"""The one metadata name that holds, as base64 of JSON, custom metadata which S3 headers cannot carry as it is."""
_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_PLAIN_VALUE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
_HTTP_FIELDS: Mapping[str, str] = {
    "contentType": "content-type",
    "contentLanguage": "content-language",
    "contentDisposition": "content-disposition",
    "contentEncoding": "content-encoding",
    "cacheControl": "cache-control",
}

# workerd writes 64-bit numbers as text.
Number = Annotated[int, msgspec.Meta(ge=0)] | str


class R2Error(Exception):
    """A refusal with R2's own codes; `described` is the object whose condition failed."""

    def __init__(self, status: int, v4code: int, message: str, *, described: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.v4code = v4code
        self.message = message
        self.described = described

    def header(self) -> str:
        """Return the value of `cf-r2-error`."""
        return json.dumps({"version": 1, "v4code": self.v4code, "message": self.message})


def make_missing_key_error() -> R2Error:
    """10007: workerd makes null of it."""
    return R2Error(404, 10007, "The specified key does not exist.")


def make_precondition_error(described: bytes = b"") -> R2Error:
    """10031: workerd makes null of it, or an object without body."""
    return R2Error(412, 10031, "At least one of the pre-conditions you specified did not hold.", described=described)


def make_invalid_error(why: str) -> R2Error:
    """10029: the request is not of this protocol."""
    return R2Error(400, 10029, why)


class Record(msgspec.Struct, frozen=True):
    """One pair of custom metadata."""

    k: str
    v: str = ""


class HttpFields(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The stored HTTP headers; `cache_expiry` is Unix milliseconds."""

    content_type: str | None = None
    content_language: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    cache_control: str | None = None
    cache_expiry: Number | None = None


class Etag(msgspec.Struct, frozen=True):
    """One etag of a condition, without quotes; a wildcard has no value."""

    type: Literal["strong", "weak", "wildcard"]
    value: str = ""


class Conditional(msgspec.Struct, frozen=True, rename="camel"):
    """`onlyIf`; times are Unix milliseconds."""

    etag_matches: tuple[Etag, ...] = ()
    etag_does_not_match: tuple[Etag, ...] = ()
    uploaded_before: Number | None = None
    uploaded_after: Number | None = None
    seconds_granularity: bool = False

    def holds(self, found: S3Object | None) -> bool:
        """Whether an object, or its absence, meets the condition. Source: RFC 9110, section 13.2.2."""
        if found is None:
            return not self.etag_matches and self.uploaded_after is None
        matches = not self.etag_matches or _includes(self.etag_matches, found.etag, weak=False)
        differs = not self.etag_does_not_match or not _includes(self.etag_does_not_match, found.etag, weak=True)
        # The store's times are whole seconds, so any comparison is one of seconds.
        after = (
            self.uploaded_after is None
            or int(self.uploaded_after) // 1000 < found.last_modified
            or (bool(self.etag_does_not_match) and differs)
        )
        before = (
            self.uploaded_before is None
            or found.last_modified < -(-int(self.uploaded_before) // 1000)
            or (bool(self.etag_matches) and matches)
        )
        return matches and differs and after and before


class Range(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of an object's bytes."""

    offset: Number | None = None
    length: Number | None = None
    suffix: Number | None = None

    def resolve(self, size_bytes: int) -> tuple[int, int]:
        """Return (offset, length) inside an object of that size.

        Raises:
            R2Error: 10039, nothing of it is there.
        """
        if self.suffix is not None:
            length = min(int(self.suffix), size_bytes)
            offset = size_bytes - length
        else:
            offset = int(self.offset or 0)
            length = size_bytes - offset if self.length is None else min(int(self.length), size_bytes - offset)
        if length <= 0 or offset < 0:
            raise R2Error(416, 10039, "The requested range is not satisfiable")
        return offset, length


class Part(msgspec.Struct, frozen=True):
    """One uploaded part."""

    etag: str
    part: int


class R2Request(msgspec.Struct, frozen=True, rename="camel"):
    """Any request; each method uses its own fields. Digests are hex, but `md5` is base64."""

    method: str
    version: int = 1
    object: str | None = None
    objects: tuple[str, ...] = ()
    range: Range | None = None
    range_header: str | None = None
    only_if: Conditional | None = None
    custom_fields: tuple[Record, ...] = ()
    http_fields: HttpFields | None = None
    md5: str | None = None
    sha1: str | None = None
    sha256: str | None = None
    sha384: str | None = None
    sha512: str | None = None
    upload_id: str = ""
    part_number: int = 0
    parts: tuple[Part, ...] = ()
    limit: int | None = None
    prefix: str = ""
    cursor: str | None = None
    delimiter: str = ""
    start_after: str = ""
    include: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """The object's key.

        Raises:
            R2Error: 10020, there is none or it is too long.
        """
        if not self.object or len(self.object.encode()) > LONGEST_KEY_BYTES:
            raise R2Error(400, 10020, "The specified object name is not valid.")
        return self.object

    def attributes(self) -> Attributes:
        """Return what is stored beside the bytes.

        Raises:
            R2Error: 10012, the metadata is too large.
        """
        return Attributes(_encode_headers(self.http_fields), _encode_metadata(self.custom_fields))

    def digests(self) -> dict[str, str]:
        """Return the expected digests as hex, by the name hashlib knows."""
        given = {"sha1": self.sha1, "sha256": self.sha256, "sha384": self.sha384, "sha512": self.sha512}
        expected = {name: value.lower() for name, value in given.items() if value}
        if self.md5:
            expected["md5"] = base64.b64decode(self.md5).hex()
        return expected


def parse_request(data: bytes | str) -> R2Request:
    """Return a request.

    Raises:
        R2Error: 10029, it is none.
    """
    try:
        return decode_raw(data, R2Request)
    except msgspec.DecodeError as error:
        raise make_invalid_error(f"Metadata missing or invalid: {error}") from error


class Described(Value, frozen=True):
    """An object as workerd expects its description."""

    found: S3Object
    range: tuple[int, int] | None = None
    with_http: bool = True
    with_custom: bool = True
    checksums: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return the object of `R2HeadResponse`."""
        found = self.found
        checksums = {_CHECKSUM_NAMES[name]: value for name, value in self.checksums.items()}
        if re.fullmatch("[0-9a-f]{32}", found.etag):
            checksums["0"] = found.etag
        described: dict[str, object] = {
            "name": found.key,
            "version": found.version_id or found.etag,
            "size": found.size_bytes,
            "etag": found.etag,
            "uploaded": int(found.last_modified * 1000),
            "checksums": checksums,
            "httpFields": _decode_headers(found.headers) if self.with_http else {},
            "customFields": _decode_metadata(found.metadata) if self.with_custom else [],
        }
        if self.range is not None:
            described["range"] = {"offset": self.range[0], "length": self.range[1]}
        return described


_CHECKSUM_NAMES: Mapping[str, str] = {"md5": "0", "sha1": "1", "sha256": "2", "sha384": "3", "sha512": "4"}


def parse_range_header(text: str, size_bytes: int) -> tuple[int, int] | None:
    """Return (offset, length) of a Range header with one range; None (all of it) when it is none or has several."""
    match = re.fullmatch(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", text)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return Range(suffix=int(last)).resolve(size_bytes)
    length = None if not last else int(last) - int(first) + 1
    return Range(offset=int(first), length=length).resolve(size_bytes) if length is None or length > 0 else None


def _includes(etags: tuple[Etag, ...], etag: str, *, weak: bool) -> bool:
    return any(
        wanted.type == "wildcard" or (wanted.value == etag and (weak or wanted.type == "strong")) for wanted in etags
    )


def _encode_headers(fields: HttpFields | None) -> dict[str, str]:
    if fields is None:
        return {}
    known = msgspec.to_builtins(fields)
    headers = {header: str(known[name]) for name, header in _HTTP_FIELDS.items() if known.get(name)}
    if fields.cache_expiry is not None:
        expires = datetime.fromtimestamp(int(fields.cache_expiry) / 1000, UTC)
        headers["expires"] = format_datetime(expires, usegmt=True)
    return headers


def _decode_headers(headers: Mapping[str, str]) -> dict[str, object]:
    shown: dict[str, object] = {name: headers[header] for name, header in _HTTP_FIELDS.items() if header in headers}
    try:
        if "expires" in headers:
            shown["cacheExpiry"] = int(parsedate_to_datetime(headers["expires"]).timestamp() * 1000)
    except ValueError:
        pass  # S3 stores any text there
    return shown


def _encode_metadata(records: tuple[Record, ...]) -> dict[str, str]:
    """Return custom metadata as S3 stores it: plain where a header can carry it unchanged, else all of it encoded."""
    if sum(len(record.k.encode()) + len(record.v.encode()) for record in records) > LONGEST_METADATA_BYTES:
        raise R2Error(400, 10012, "Your metadata headers exceed the maximum allowed metadata size.")
    pairs = {record.k: record.v for record in records}
    if all(_PLAIN_NAME.fullmatch(name) and _PLAIN_VALUE.fullmatch(value) for name, value in pairs.items()):
        return pairs
    return {_ENCODED: base64.urlsafe_b64encode(json.dumps(pairs).encode()).decode("ascii")}


def _decode_metadata(metadata: Mapping[str, str]) -> list[dict[str, str]]:
    pairs = metadata
    if _ENCODED in metadata:
        try:
            pairs = decode_raw(base64.urlsafe_b64decode(metadata[_ENCODED]), dict[str, str])
        except (ValueError, msgspec.DecodeError):
            pairs = metadata
    return [{"k": name, "v": value} for name, value in pairs.items()]
