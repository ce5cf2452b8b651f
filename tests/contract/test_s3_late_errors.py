"""What counts as stored in a bucket: an answer 200 is the begin of one, and what is behind it decides.

The server here stores as S3 does; each test says where it answers as S3 documents that it may.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from backout.errors import BackoutError, ProviderRejected, ProviderUnavailable
from backout.model.database.recovery import BackupKind
from backout.providers.archive.bucket import BucketStore
from backout.providers.archive.records import Facts
from backout.providers.archive.repository import Repository
from backout.providers.clock import SystemClock
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.retry import Retry
from backout.providers.s3 import answers
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings

from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LARGE: Final = 6 << 20
"""Two parts."""
HEAD: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'
BLANKS: Final = b" " * 400
"""What S3 sends every few seconds while it works."""
LATE: Final = (
    HEAD + BLANKS + b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
)
PAGE: Final = b"<html><body>Log in to this network</body></html>"


@dataclass
class Bucket:
    """An S3 server with one bucket.

    Attributes:
        complete: what the end of an upload in parts is answered; None: as S3 does.
        loses: how many bytes of what is joined are missing afterwards.
    """

    objects: dict[str, bytes] = field(default_factory=dict, repr=False)
    parts: dict[int, bytes] = field(default_factory=dict, repr=False)
    completions: int = 0
    complete: Callable[[int], bytes | None] = lambda _attempt: None
    loses: int = 0

    def answer(self, method: str, key: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes, int]:
        """Return the status, the body, and the size of the object that a HEAD tells."""
        if method == "POST" and "uploads" in query:
            self.parts.clear()
            return 200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>", 0
        if method == "POST":
            self.completions += 1
            said = self.complete(self.completions)
            if said is None:
                whole = b"".join(self.parts[number] for number in sorted(self.parts))
                self.objects[key] = whole[: len(whole) - self.loses]
                done = b"<CompleteMultipartUploadResult><ETag>&quot;e&quot;</ETag></CompleteMultipartUploadResult>"
                said = HEAD + BLANKS + done
            return 200, said, 0
        if method == "PUT":
            if "partNumber" in query:
                self.parts[int(query["partNumber"][0])] = body
            else:
                self.objects[key] = body
            return 200, b"", 0
        if method == "DELETE":
            return 204, b"", 0
        if not key:
            listed = "".join(
                f"<Contents><Key>{quote(each)}</Key><Size>{len(content)}</Size><ETag>e</ETag></Contents>"
                for each, content in sorted(self.objects.items())
                if each.startswith(query["prefix"][0])
            )
            return 200, f"<ListBucketResult>{listed}</ListBucketResult>".encode(), 0
        if key not in self.objects:
            return 404, b"" if method == "HEAD" else b"<Error><Code>NoSuchKey</Code></Error>", 0
        return 200, self.objects[key], len(self.objects[key])


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def client(bucket: Bucket) -> Iterator[S3Client]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            key = re.sub(r"^/b/?", "", url.path)
            status, said, size = bucket.answer(self.command, key, parse_qs(url.query, keep_blank_values=True), body)
            self.send_response(status)
            if status == 200:
                self.send_header("ETag", '"e"')
            if status != 204:
                self.send_header("Content-Length", str(size if self.command == "HEAD" else len(said)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 the names of the library

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        settings = S3Settings(
            f"http://127.0.0.1:{server.server_port}",
            S3Credentials("AKID", "secret"),
            multipart_above_bytes=1 << 20,
            part_bytes=5 << 20,
            retry=Retry(2, 0.01, 0.01),
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        with S3Client(settings, SystemClock()) as made:
            yield made
        server.shutdown()
        thread.join()


def keep(store: BucketStore, folder: Path) -> Repository:
    """Store a backup of one file that needs two parts."""
    (folder / "data").mkdir()
    (folder / "data" / "large").write_bytes(os.urandom(LARGE))
    facts = Facts(id="20261125-190203", kind=BackupKind.FULL, parent=None, began_at=1.0, ended_at=2.0,
                  system_identifier="7", timeline=1, begin_lsn=1 << 24, end_lsn=2 << 24, size_bytes=LARGE,
                  server_version=180000, segment_bytes=1 << 24, wal=(), boot="b")  # fmt: skip
    made = Repository(store, find_binaries, incoming=folder / "incoming", key=None)
    made.keep(folder / "data", facts, 3.0, lambda _done, _whole: None)
    return made


def test_a_backup_is_recorded_when_its_packs_are_there(bucket: Bucket, client: S3Client, tmp_path: Path) -> None:
    """The usual case: S3 says blanks for a while, then that it is done."""
    made = keep(BucketStore(client, "b", "kept"), tmp_path)
    assert [record.facts.id for record in made.records()] == ["20261125-190203"]
    assert len(bucket.objects["kept/base/20261125-190203/pack-000000"]) > LARGE


@pytest.mark.parametrize(
    "said",
    [LATE, PAGE, b"", b"<CompleteMultipartUploadResult/>", HEAD + BLANKS],
    ids=["late error", "page", "nothing", "no etag", "blanks alone"],
)
def test_a_backup_whose_pack_is_refused_late_is_not_recorded(
    bucket: Bucket, client: S3Client, tmp_path: Path, said: bytes
) -> None:
    """The 200 goes out before S3 has joined the parts; what it says then decides."""
    bucket.complete = lambda _attempt: said
    with pytest.raises(ProviderUnavailable):
        keep(BucketStore(client, "b", "kept"), tmp_path)
    assert not [key for key in bucket.objects if key.endswith("record.json")]


def test_a_late_error_that_passes_is_tried_again(bucket: Bucket, client: S3Client) -> None:
    """As S3's manual asks for."""
    bucket.complete = lambda attempt: LATE if attempt == 1 else None
    assert client.put("b", "k", os.urandom(LARGE)).size_bytes == LARGE
    assert bucket.completions == 2


def test_a_late_no_is_a_no(bucket: Bucket, client: S3Client) -> None:
    """What another attempt would not change is not tried again."""
    said = HEAD + BLANKS + b"<Error><Code>NoSuchUpload</Code><Message>Not there.</Message></Error>"
    bucket.complete = lambda _attempt: said
    with pytest.raises(ProviderRejected, match="NoSuchUpload: Not there"):
        client.put("b", "k", os.urandom(LARGE))
    assert bucket.completions == 1


@pytest.mark.parametrize("loses", [1, LARGE])
def test_an_object_that_was_not_joined_whole_is_not_stored(bucket: Bucket, client: S3Client, loses: int) -> None:
    """After the last part the object is asked for, with its size."""
    bucket.loses = loses
    with pytest.raises(ProviderUnavailable, match=f"has {LARGE - loses} bytes instead of {LARGE}"):
        client.put("b", "k", os.urandom(LARGE))


# --- each call knows its own answer ---------------------------------------------------------------------------------

CALLS: Final[dict[str, Callable[[S3Client], object]]] = {
    "list buckets": lambda client: client.list_buckets(),
    "create bucket": lambda client: client.create_bucket("b"),
    "versioning": lambda client: client.versioning("b"),
    "set versioning": lambda client: client.set_versioning("b", enabled=True),
    "head": lambda client: client.head("b", "k"),
    "get": lambda client: client.get("b", "k").read(),
    "put": lambda client: client.put("b", "k", b"x"),
    "copy": lambda client: client.copy(("b", "from", None), "b", "to"),
    "delete": lambda client: client.delete("b", "k"),
    "delete many": lambda client: client.delete_many("b", [("k", None)]),
    "list objects": lambda client: list(client.list_objects("b")),
    "list versions": lambda client: list(client.list_versions("b")),
    "create upload": lambda client: client.create_upload("b", "k"),
    "upload part": lambda client: client.upload_part("b", "k", "u", 1, b"x"),
    "complete upload": lambda client: client.complete_upload("b", "k", "u", [(1, "e")]),
    "abort upload": lambda client: client.abort_upload("b", "k", "u"),
}


@pytest.mark.parametrize("said", [PAGE, LATE], ids=["page", "late error"])
@pytest.mark.parametrize("call", CALLS)
def test_a_200_of_another_kind_is_no_answer(call: str, said: bytes) -> None:
    """The page of a network that wants a login, and an error behind a 200: to no call an empty listing, or a yes."""
    with scripted_server() as server:
        server.will(answer(said))
        settings = S3Settings(server.url, S3Credentials("AKID", "secret"), retry=Retry(attempts=1))
        with S3Client(settings, SystemClock()) as client, pytest.raises(BackoutError, match=r"S3 (did not|answered)"):
            CALLS[call](client)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda client: client.list_page("b"), b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"),
        (lambda client: client.list_page("b"), b"<ListVersionsResult/>"),
        (
            lambda client: client.version_page("b"),
            b"<ListVersionsResult><IsTruncated>true</IsTruncated></ListVersionsResult>",
        ),
        (CALLS["create upload"], b"<InitiateMultipartUploadResult/>"),
        (CALLS["copy"], b"<CopyObjectResult/>"),
    ],
    ids=["a page", "another page", "versions", "upload", "copy"],
)
def test_half_an_answer_is_none(call: Callable[[S3Client], object], said: bytes) -> None:
    """A listing that goes on without saying where, an upload without an id, a copy without an etag."""
    with scripted_server() as server:
        server.will(answer(said))
        settings = S3Settings(server.url, S3Credentials("AKID", "secret"), retry=Retry(attempts=1))
        with S3Client(settings, SystemClock()) as client, pytest.raises(ProviderUnavailable, match="S3 did not answer"):
            call(client)


def test_no_answer_is_read_without_its_name() -> None:
    """Only `documents.parse_result` takes a body apart, and it asks for the root that belongs to the call."""
    used = [
        str(path)
        for path in Path(answers.__file__).parents[2].rglob("*.py")
        if "parse_xml" in path.read_text(encoding="utf-8") and path.name not in {"answers.py", "documents.py"}
    ]
    assert used == []
    assert Path(answers.__file__).read_text(encoding="utf-8").count("parse_xml(body)") == 1  # an error
