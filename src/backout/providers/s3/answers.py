"""Parses an S3 server's answers; pure, and nothing a server sends can make it fetch or expand anything.

The bodies come from a server, so they are not trusted: expat without a DTD (no entities, no external references),
always as UTF-8, with a limit on the size, the depth and the number of elements. An answer counts only with the root
that belongs to its call, since a 200 can carry an error, or the page of a network that wants a login. The entries of
a listing keep the document's order, because nothing else distinguishes two versions of one second.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus
from xml.parsers import expat
from xml.sax.saxutils import escape

import msgspec

from backout.decoding import Undecodable, parse_http_date, parse_moment, parse_whole
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LONGEST_BODY_BYTES = 16 * 1024 * 1024
"""A page of 1000 keys of 1024 bytes, every byte percent-encoded, stays below a third of it."""
_DEEPEST = 16
_MOST_NODES = 100_000
"""A page of 1000 entries has less than a fifth of it."""
_LONGEST_CODE, _LONGEST_MESSAGE, _LONGEST_TAG = 100, 300, 40
_MOST_SIZE = 2**63 - 1
_META = "x-amz-meta-"
_ERROR = "Error"


class MalformedAnswer(ValueError):
    """The body is not XML of S3, or not what the call is answered with."""


class LateError(MalformedAnswer):
    """The answer began with 200, and its body is an error."""


@dataclass(slots=True)
class Node:
    """One XML element; the namespace is dropped, since S3 servers do not agree on it."""

    tag: str
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def all(self, tag: str) -> Iterator[Node]:
        """Yield the direct children of that name, in document order."""
        return (child for child in self.children if child.tag == tag)

    def value(self, tag: str, default: str = "") -> str:
        """Return the text of the first child of that name."""
        return next((child.text for child in self.all(tag)), default)


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


class VersionPage(Value, frozen=True):
    """One page of versions in the server's order: by key, newest first; `next_markers` is (key, version id) or None."""

    versions: tuple[ListedVersion, ...]
    prefixes: tuple[str, ...]
    next_markers: tuple[str, str] | None


class S3Error(Value, frozen=True):
    """An error body: the machine's word (`NoSuchKey`) and the server's sentence, cut where they are long."""

    code: str
    message: str


def parse_xml(body: bytes) -> Node:
    """Return the root element.

    Raises:
        MalformedAnswer: not well-formed in UTF-8, too large, too deep, of too many elements, or with a DTD.
    """
    if len(body) > LONGEST_BODY_BYTES:
        raise MalformedAnswer(f"{len(body)} bytes of XML")
    top = Node("")
    open_nodes, texts, made = [top], [[""]], 0

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal made
        made += 1
        if len(open_nodes) > _DEEPEST:
            raise MalformedAnswer("XML nested too deeply")
        if made > _MOST_NODES:
            raise MalformedAnswer(f"XML of more than {_MOST_NODES} elements")
        node = Node(name.rpartition(":")[2])
        open_nodes[-1].children.append(node)
        open_nodes.append(node)
        texts.append([])

    def end(_name: str) -> None:
        open_nodes.pop().text = "".join(texts.pop())

    def text(data: str) -> None:
        texts[-1].append(data)

    def doctype(*_: object) -> None:
        raise MalformedAnswer("XML with a DTD")

    # S3 writes UTF-8. A declared encoding would be looked up among Python's codecs, of which some are none for text.
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise MalformedAnswer(str(error)) from error
    return top.children[0]


def parse_result(body: bytes, tag: str) -> Node:
    """Return the root element of an answer, which has to be of that name.

    Raises:
        LateError: it is an error instead.
        MalformedAnswer: it is anything else, or no XML.
    """
    root = parse_xml(body)
    if root.tag == _ERROR:
        raise LateError("an error in an answer that had begun well")
    if root.tag != tag:
        raise MalformedAnswer(f"the answer is <{root.tag[:_LONGEST_TAG]}> and not {f'<{tag}>' if tag else 'empty'}")
    return root


def check_empty(body: bytes) -> None:
    """Look at the body of an answer that says everything in its headers.

    Raises:
        LateError: it is an error.
        MalformedAnswer: it is a page of somebody else.
    """
    if body.lstrip().startswith(b"<"):
        parse_result(body, "")


def parse_error(body: bytes) -> S3Error:
    """Return the error of a body; an empty or foreign body gives an empty code."""
    try:
        root = parse_xml(body)
    except MalformedAnswer:
        return S3Error("", body[:200].decode("utf-8", "replace"))
    return _read_error(root) if root.tag == _ERROR else S3Error("", "")


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
    root = parse_result(body, "ListBucketResult")
    objects = tuple(
        Listed(
            _get_key(entry),
            _parse_size(entry.value("Size", "0")),
            entry.value("ETag").strip('"'),
            _parse_time(entry.value("LastModified")),
        )
        for entry in root.all("Contents")
    )
    token = root.value("NextContinuationToken") if _is_truncated(root, "NextContinuationToken") else None
    return Page(objects, _list_prefixes(root), token)


def parse_version_page(body: bytes) -> VersionPage:
    """Return a page of ListObjectVersions, asked for with `encoding-type=url`.

    Raises:
        LateError, MalformedAnswer: it is none, or does not say where the next one begins.
        Undecodable: a size is none.
    """
    root = parse_result(body, "ListVersionsResult")
    versions = tuple(
        ListedVersion(
            key=_get_key(entry),
            version_id=entry.value("VersionId"),
            is_latest=entry.value("IsLatest") == "true",
            is_delete_marker=entry.tag == "DeleteMarker",
            last_modified=_parse_time(entry.value("LastModified")),
            etag=entry.value("ETag").strip('"'),
            size_bytes=_parse_size(entry.value("Size", "0")),
        )
        for entry in root.children
        if entry.tag in {"Version", "DeleteMarker"}
    )
    markers = None
    if _is_truncated(root, "NextKeyMarker"):
        markers = (unquote_plus(root.value("NextKeyMarker")), root.value("NextVersionIdMarker"))
    return VersionPage(versions, _list_prefixes(root), markers)


def parse_buckets(body: bytes) -> tuple[tuple[str, float], ...]:
    """Return (name, created at in Unix seconds) of each bucket. Raises LateError, MalformedAnswer."""
    return tuple(
        (bucket.value("Name"), _parse_time(bucket.value("CreationDate")))
        for buckets in parse_result(body, "ListAllMyBucketsResult").all("Buckets")
        for bucket in buckets.all("Bucket")
    )


def parse_delete_errors(body: bytes) -> tuple[tuple[str, S3Error], ...]:
    """Return (key, error) of what a batch deletion did not delete. Raises LateError, MalformedAnswer."""
    errors = parse_result(body, "DeleteResult").all(_ERROR)
    return tuple((entry.value("Key"), _read_error(entry)) for entry in errors)


def parse_versioning(body: bytes) -> str:
    """Return `Enabled`, `Suspended`, or "" where it never was on. Raises LateError, MalformedAnswer."""
    return parse_result(body, "VersioningConfiguration").value("Status")


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


def _get_key(entry: Node) -> str:
    # AWS writes a space as "+" in this encoding, so a literal plus always comes as %2B.
    return unquote_plus(entry.value("Key"))


def _list_prefixes(root: Node) -> tuple[str, ...]:
    return tuple(unquote_plus(entry.value("Prefix")) for entry in root.all("CommonPrefixes"))


def _parse_size(text: str) -> int:
    return parse_whole(text, most=_MOST_SIZE, what="the size of an object")


def _parse_time(text: str) -> float:
    try:
        return parse_moment(text)
    except Undecodable:
        return 0.0


def _parse_http_date(text: str | None) -> float:
    try:
        return parse_http_date(text) if text else 0.0
    except Undecodable:
        return 0.0
