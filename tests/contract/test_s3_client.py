"""The S3 client on a real SeaweedFS, and boto3 beside it as the second opinion."""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from backout.errors import AuthError, ProviderRejected, ProviderUnavailable, UsageError
from backout.providers.retry import Retry
from backout.providers.s3.calls import Attributes, Conditions, Listing
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings
from backout.twin.storage.objectstore import ObjectStore

from extent import examples
from twin_services import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "contract"
MEGABYTE = 1024 * 1024


class WallClock:
    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Store:
    client: S3Client
    boto: Any
    access: dict[str, str]

    def other(self, **changes: Any) -> S3Client:
        return make_client(self.access | {k: v for k, v in changes.items() if k in self.access}, **changes)


def make_client(access: dict[str, str], **changes: Any) -> S3Client:
    credentials = S3Credentials(access["access_key_id"], access["secret_access_key"])
    known = {key: value for key, value in changes.items() if key not in access}
    return S3Client(S3Settings(access["endpoint"], credentials, access["region"], **known), WallClock())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    loop = Loop()
    server = ObjectStore(tmp_path_factory.mktemp("s3"))
    loop.run(server.start())
    access = json.loads(server.credentials_file.read_text(encoding="utf-8"))
    boto = boto3.client(
        "s3",
        endpoint_url=access["endpoint"],
        aws_access_key_id=access["access_key_id"],
        aws_secret_access_key=access["secret_access_key"],
        region_name=access["region"],
        config=Config(s3={"addressing_style": "path"}),
    )
    client = make_client(access)
    client.create_bucket(BUCKET)
    client.set_versioning(BUCKET, enabled=True)
    yield Store(client, boto, access)
    client.close()
    boto.close()
    loop.run(server.stop())
    loop.close()


def test_what_is_put_is_what_boto3_gets(store: Store) -> None:
    """Bytes, headers, metadata, etag and version are the same to both."""
    headers = {
        "Content-Type": "text/x-model",
        "Content-Language": "de",
        "Content-Disposition": "attachment",
        "Cache-Control": "max-age=60",
        "Content-Encoding": "identity",
    }
    metadata = {"author": "someone", "step": "12"}
    put = store.client.put(BUCKET, "a/b.txt", b"hello", attributes=Attributes(headers, metadata))
    seen = store.boto.get_object(Bucket=BUCKET, Key="a/b.txt")
    assert seen["Body"].read() == b"hello"
    assert (seen["ContentType"], seen["ContentLanguage"], seen["CacheControl"]) == ("text/x-model", "de", "max-age=60")
    assert seen["Metadata"] == metadata
    assert seen["ETag"].strip('"') == put.etag == hashlib.md5(b"hello", usedforsecurity=False).hexdigest()
    assert seen["VersionId"] == put.version_id
    with store.client.get(BUCKET, "a/b.txt") as body:
        assert body.read() == b"hello"
        assert body.info.metadata == metadata
        assert body.info.headers == {name.lower(): value for name, value in headers.items()}
        assert body.info.last_modified == seen["LastModified"].timestamp()
    head = store.client.head(BUCKET, "a/b.txt")
    assert head is not None
    assert (head.size_bytes, head.etag, head.version_id) == (5, put.etag, put.version_id)


KEYS = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1, max_size=30
)


@examples(40)
@given(
    key=KEYS.map(lambda text: "k/" + text.replace("/", "|").replace("\\", "|").strip() + "x"),
    content=st.binary(max_size=100),
)
def test_any_key_and_any_bytes_survive(store: Store, key: str, content: bytes) -> None:
    """Ours puts, both get, both list it, ours deletes."""
    store.client.put(BUCKET, key, content)
    with store.client.get(BUCKET, key) as body:
        assert body.read() == content
    assert store.boto.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content
    theirs = [one["Key"] for one in store.boto.list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents", [])]
    assert [one.key for one in store.client.list_objects(BUCKET, key)] == theirs
    assert key in theirs
    store.client.delete(BUCKET, key)
    assert store.client.head(BUCKET, key) is None


def test_ranges(store: Store) -> None:
    """From the begin, the middle, the end; the size told is the whole object's."""
    store.client.put(BUCKET, "digits", b"0123456789")
    for byte_range, expected in (((0, 3), b"0123"), ((7, None), b"789"), ((-2, None), b"89"), ((8, 100), b"89")):
        with store.client.get(BUCKET, "digits", byte_range=byte_range) as body:
            assert body.read() == expected
            assert (body.length, body.info.size_bytes) == (len(expected), 10)
    with pytest.raises(ProviderRejected) as refused:
        store.client.get(BUCKET, "digits", byte_range=(20, 30))
    assert refused.value.status == 416


def test_a_version_can_be_read_copied_back_and_deleted(store: Store) -> None:
    """The restore of an overwritten object: its old bytes, metadata and type become the newest version."""
    attributes = Attributes({"Content-Type": "text/old"}, {"kept": "yes"})
    first = store.client.put(BUCKET, "v/over written+é", b"old", attributes=attributes)
    second = store.client.put(BUCKET, "v/over written+é", b"new")
    with store.client.get(BUCKET, "v/over written+é", version_id=first.version_id) as body:
        assert body.read() == b"old"
    copied = store.client.copy((BUCKET, "v/over written+é", first.version_id), BUCKET, "v/over written+é")
    assert copied.etag == first.etag
    with store.client.get(BUCKET, "v/over written+é") as body:
        assert (body.read(), body.info.metadata, body.info.headers["content-type"]) == (
            b"old",
            {"kept": "yes"},
            "text/old",
        )
    store.client.delete(BUCKET, "v/over written+é", version_id=second.version_id)
    left = [one.version_id for one in store.client.list_versions(BUCKET, "v/over")]
    assert second.version_id not in left
    assert first.version_id in left


def test_a_copy_may_replace_the_metadata(store: Store) -> None:
    """As when a wrong content type is to be put right."""
    store.client.put(BUCKET, "copy-from", b"x", attributes=Attributes({"Content-Type": "text/a"}, {"a": "1"}))
    store.client.copy((BUCKET, "copy-from", None), BUCKET, "copy-to", attributes=Attributes({"Content-Type": "text/b"}))
    head = store.client.head(BUCKET, "copy-to")
    assert head is not None
    assert (head.headers["content-type"], head.metadata) == ("text/b", {})


def test_a_deletion_leaves_a_marker_whose_removal_brings_the_object_back(store: Store) -> None:
    """Undelete without a copy."""
    store.client.put(BUCKET, "undelete", b"here")
    marker = store.client.delete(BUCKET, "undelete")
    assert marker is not None
    assert store.client.head(BUCKET, "undelete") is None
    versions = list(store.client.list_versions(BUCKET, "undelete"))
    assert [(one.is_delete_marker, one.is_latest) for one in versions] == [(True, True), (False, False)]
    assert versions[0].version_id == marker
    assert store.client.head(BUCKET, "undelete", version_id=marker) is None
    store.client.delete_many(BUCKET, [("undelete", marker)])
    with store.client.get(BUCKET, "undelete") as body:
        assert body.read() == b"here"


def test_a_listing_has_the_keys_as_they_are(store: Store) -> None:
    """SeaweedFS is asked to encode the keys, and does it in one listing and not in the other."""
    keys = ["keys/a b+c", "keys/p%q", "keys/x%2By"]
    for key in keys:
        store.client.put(BUCKET, key, b"1")
    assert [one.key for one in store.client.list_objects(BUCKET, "keys/")] == keys
    assert [one.key for one in store.client.list_versions(BUCKET, "keys/")] == keys


def test_versions_are_listed_as_boto3_lists_them(store: Store) -> None:
    """Same versions, same markers, over several pages."""
    for number in range(7):
        store.client.put(BUCKET, f"many/{number % 3}", str(number).encode())
    store.client.delete(BUCKET, "many/1")
    ours = []
    markers = None
    while True:
        page = store.client.version_page(BUCKET, Listing("many/", limit=2), markers=markers)
        assert len(page.versions) <= 2
        ours += page.versions
        if (markers := page.next_markers) is None:
            break
    assert ours == list(store.client.list_versions(BUCKET, "many/"))
    theirs = store.boto.list_object_versions(Bucket=BUCKET, Prefix="many/")
    expected = {(one["Key"], one["VersionId"], False) for one in theirs["Versions"]}
    expected |= {(one["Key"], one["VersionId"], True) for one in theirs["DeleteMarkers"]}
    assert {(one.key, one.version_id, one.is_delete_marker) for one in ours} == expected
    assert len(ours) == len(expected) == 8
    assert [one.key for one in ours] == sorted(one.key for one in ours)


def test_listings_page_and_group(store: Store) -> None:
    """Two a page, every key once; a delimiter makes prefixes."""
    names = [f"list/{name}" for name in ("a", "b", "c d", "sub/x", "sub/y")]
    for name in names:
        store.client.put(BUCKET, name, name.encode())
    seen: list[str] = []
    token = None
    while True:
        page = store.client.list_page(BUCKET, Listing("list/", limit=2), token=token)
        seen += [one.key for one in page.objects]
        if (token := page.next_token) is None:
            break
    assert seen == names
    assert [one.key for one in store.client.list_objects(BUCKET, "list/")] == names
    grouped = store.client.list_page(BUCKET, Listing("list/", "/"))
    assert [one.key for one in grouped.objects] == names[:3]
    assert grouped.prefixes == ("list/sub/",)
    after = store.client.list_page(BUCKET, Listing("list/", start_after="list/c d"))
    assert [one.key for one in after.objects] == names[3:]


def test_a_large_file_goes_up_in_parts(store: Store, tmp_path: Path) -> None:
    """From a file, in the order of its bytes, with its metadata; boto3 reads the same."""
    content = b"".join(bytes([number]) * MEGABYTE for number in range(12))
    path = tmp_path / "large.bin"
    path.write_bytes(b"skipped" + content)
    client = store.other(multipart_above_bytes=6 * MEGABYTE, part_bytes=5 * MEGABYTE)
    with path.open("rb") as file:
        file.seek(len(b"skipped"))
        put = client.put(BUCKET, "large.bin", file, attributes=Attributes({"Content-Type": "x/y"}, {"a": "b"}))
    assert put.etag.endswith("-3")
    seen = store.boto.get_object(Bucket=BUCKET, Key="large.bin")
    assert hashlib.sha256(seen["Body"].read()).digest() == hashlib.sha256(content).digest()
    assert (seen["ContentType"], seen["Metadata"]) == ("x/y", {"a": "b"})
    with client.get(BUCKET, "large.bin") as body:
        assert hashlib.sha256(b"".join(body)).digest() == hashlib.sha256(content).digest()
    client.close()


def test_a_failed_upload_in_parts_leaves_nothing(store: Store) -> None:
    """The file ends too early: the upload is aborted, no object, no parts."""

    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return b"" if self.tell() > 7 * MEGABYTE else super().read(size)

    client = store.other(multipart_above_bytes=6 * MEGABYTE, part_bytes=5 * MEGABYTE)
    with pytest.raises(UsageError, match="shorter"):
        client.put(BUCKET, "shrinking", Shrinking(b"x" * 12 * MEGABYTE))
    assert client.head(BUCKET, "shrinking") is None
    assert not store.boto.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    client.close()


def test_parts_one_by_one(store: Store) -> None:
    """The three calls by themselves, and the abort."""
    upload = store.client.create_upload(BUCKET, "parts", attributes=Attributes(metadata={"m": "1"}))
    etags = [
        (1, store.client.upload_part(BUCKET, "parts", upload, 1, b"a" * 5 * MEGABYTE)),
        (2, store.client.upload_part(BUCKET, "parts", upload, 2, io.BytesIO(b"end"))),
    ]
    assert store.client.complete_upload(BUCKET, "parts", upload, etags).etag.endswith("-2")
    head = store.client.head(BUCKET, "parts")
    assert head is not None
    assert (head.size_bytes, head.metadata) == (5 * MEGABYTE + 3, {"m": "1"})
    aborted = store.client.create_upload(BUCKET, "aborted")
    store.client.abort_upload(BUCKET, "aborted", aborted)
    with pytest.raises(ProviderRejected, match="NoSuchUpload"):
        store.client.complete_upload(BUCKET, "aborted", aborted, [(1, "0" * 32)])


def test_conditions(store: Store) -> None:
    """Write only what is new, read and write only what is known."""
    etag = store.client.put(BUCKET, "conditional", b"1").etag
    with pytest.raises(ProviderRejected) as refused:
        store.client.put(BUCKET, "conditional", b"2", conditions=Conditions(if_none_match="*"))
    assert refused.value.status == 412
    with pytest.raises(ProviderRejected) as refused:
        store.client.get(BUCKET, "conditional", conditions=Conditions(if_none_match=etag))
    assert refused.value.status == 304
    store.client.put(BUCKET, "conditional", b"3", conditions=Conditions(if_match=etag))
    with store.client.get(BUCKET, "conditional") as body:
        assert body.read() == b"3"


def test_buckets(store: Store) -> None:
    """Created, listed with versions on or off, refused when it exists, deleted."""
    store.client.create_bucket("another")
    assert "another" in dict(store.client.list_buckets())
    assert store.client.versioning("another") is False
    store.client.set_versioning("another", enabled=True)
    assert store.client.versioning("another") is True
    assert store.boto.get_bucket_versioning(Bucket="another")["Status"] == "Enabled"
    with pytest.raises(ProviderRejected) as refused:
        store.client.create_bucket("another")
    assert refused.value.status == 409
    store.client.delete_bucket("another")
    assert "another" not in dict(store.client.list_buckets())


def test_many_objects_are_deleted_in_one_call(store: Store) -> None:
    """Names with markup too."""
    names = [f"batch/{number} <&> é" for number in range(5)]
    for name in names:
        store.client.put(BUCKET, name, b"x")
    store.client.delete_many(BUCKET, [(name, None) for name in names])
    assert list(store.client.list_objects(BUCKET, "batch/")) == []


def test_what_is_missing_is_a_404(store: Store) -> None:
    """An object, a bucket, a version."""
    assert store.client.head(BUCKET, "nothing") is None
    with pytest.raises(ProviderRejected, match="NoSuchKey") as refused:
        store.client.get(BUCKET, "nothing")
    assert refused.value.status == 404
    with pytest.raises(ProviderRejected, match="NoSuchBucket"):
        store.client.list_page("no-such-bucket")


def test_a_wrong_secret_is_an_authentication_error(store: Store) -> None:
    """Exit 4, and what to check."""
    with (
        store.other(secret_access_key="wrong") as client,
        pytest.raises(AuthError, match="SignatureDoesNotMatch") as refused,
    ):
        client.list_page(BUCKET)
    assert refused.value.hint == "check the secret access key"
    with store.other(access_key_id="NOBODY") as client, pytest.raises(AuthError, match="InvalidAccessKeyId"):
        client.list_page(BUCKET)


def test_nobody_there_is_unavailable(store: Store) -> None:
    """After the retries, naming the endpoint."""
    nobody = store.other(endpoint="http://127.0.0.1:9", retry=Retry(attempts=2, first_wait_s=0.01))
    with pytest.raises(ProviderUnavailable, match=r"127\.0\.0\.1:9"):
        nobody.list_buckets()


@pytest.mark.parametrize("endpoint", ["", "ftp://host", "host:9000", "http://", "https://host/path"])
def test_an_endpoint_that_is_none_is_a_usage_error(endpoint: str) -> None:
    """Said before anything is sent."""
    with pytest.raises(UsageError):
        S3Client(S3Settings(endpoint, S3Credentials("a", "b")), WallClock())
