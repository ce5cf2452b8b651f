"""The R2 gateway as a Worker sees it: a real workerd, its native binding, the real store behind."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any

import pytest

from backout.twin.faults import FaultKind

from twin_services import RunningServices, Worker, running_services, running_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULE = """
const MISSING = Symbol();
function show(o) {
  if (o === null || o === undefined) return null;
  return { key: o.key, version: o.version, size: o.size, etag: o.etag, httpEtag: o.httpEtag,
           uploaded: o.uploaded.getTime(), httpMetadata: o.httpMetadata, customMetadata: o.customMetadata,
           range: o.range, md5: o.checksums.toJSON().md5, sha256: o.checksums.toJSON().sha256 };
}
function options(o) {
  if (o?.httpMetadata?.cacheExpiry) o.httpMetadata.cacheExpiry = new Date(o.httpMetadata.cacheExpiry);
  for (const name of ["uploadedBefore", "uploadedAfter"])
    if (o?.onlyIf?.[name]) o.onlyIf[name] = new Date(o.onlyIf[name]);
  if (o?.headers) { o.onlyIf = new Headers(o.headers); delete o.headers; }
  if (o?.rangeHeaders) { o.range = new Headers(o.rangeHeaders); delete o.rangeHeaders; }
  return o;
}
const OPERATIONS = {
  async put(b, key, text, o) { return show(await b.put(key, text, options(o))); },
  async fill(b, key, size, o) { return show(await b.put(key, new Uint8Array(size).fill(120), options(o))); },
  async head(b, key) { return show(await b.head(key)); },
  async get(b, key, o) {
    const found = await b.get(key, options(o));
    if (found === null) return null;
    return { ...show(found), text: found.body === undefined ? null : await found.text() };
  },
  async length(b, key, o) { const found = await b.get(key, o); return (await found.arrayBuffer()).byteLength; },
  async delete(b, keys) { await b.delete(keys); return null; },
  async list(b, o) {
    const page = await b.list(o);
    return { objects: page.objects.map(show), truncated: page.truncated, cursor: page.cursor,
             prefixes: page.delimitedPrefixes };
  },
  async begin(b, key, o) { return (await b.createMultipartUpload(key, options(o))).uploadId; },
  async part(b, key, id, number, size, fill) {
    return await b.resumeMultipartUpload(key, id).uploadPart(number, new Uint8Array(size).fill(fill));
  },
  async complete(b, key, id, parts) { return show(await b.resumeMultipartUpload(key, id).complete(parts)); },
  async abort(b, key, id) { await b.resumeMultipartUpload(key, id).abort(); return null; },
};
export default { async fetch(request, env) {
  if (request.method === "GET") return new Response("up");
  const [name, ...args] = await request.json();
  try { return Response.json({ value: await OPERATIONS[name](env.BUCKET, ...args) }); }
  catch (error) { return Response.json({ error: error.message }); }
} };
"""
BUCKET = "models"
EXPIRY_MS = 1_893_456_000_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServices]:
    with running_services(tmp_path_factory.mktemp("r2")) as services:
        services.loop.run(services.services.create_bucket(BUCKET))
        yield services


@pytest.fixture(scope="module")
def worker(running: RunningServices) -> Iterator[Worker]:
    address = running.r2_address(BUCKET)
    services = f'(name = "r2", external = (address = "{address}", http = ()))'
    with running_worker(MODULE, '(name = "BUCKET", r2Bucket = "r2")', services) as made:
        yield made


class Bucket:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def __call__(self, *words: object) -> Any:
        answer = self._worker.call(words)
        assert isinstance(answer, dict)
        assert "error" not in answer, answer
        return answer.get("value")

    def error(self, *words: object) -> str:
        answer = self._worker.call(words)
        assert isinstance(answer, dict)
        return str(answer["error"])


@pytest.fixture
def bucket(worker: Worker) -> Bucket:
    return Bucket(worker)


def test_an_object_comes_back_with_everything_that_was_put(bucket: Bucket) -> None:
    """Bytes, HTTP metadata, custom metadata, etag and time survive the round trip."""
    http = {
        "contentType": "text/x-model",
        "contentLanguage": "de",
        "contentDisposition": "attachment",
        "contentEncoding": "identity",
        "cacheControl": "max-age=60",
        "cacheExpiry": EXPIRY_MS,
    }
    custom = {"author": "someone", "step": "12"}
    stored = bucket("put", "a/b.txt", "hello", {"httpMetadata": http, "customMetadata": custom})
    assert stored["etag"] == hashlib.md5(b"hello", usedforsecurity=False).hexdigest()
    assert stored["httpEtag"] == f'"{stored["etag"]}"'
    found = bucket("get", "a/b.txt")
    assert found["text"] == "hello"
    assert found["size"] == 5
    assert found["customMetadata"] == custom
    assert found["httpMetadata"] == {**http, "cacheExpiry": "2030-01-01T00:00:00.000Z"}
    assert found["range"] == {"offset": 0, "length": 5}
    assert abs(found["uploaded"] - stored["uploaded"]) <= 2000
    head = bucket("head", "a/b.txt")
    assert head["version"] == found["version"] == stored["version"]
    assert head["md5"] == found["etag"]


def test_each_put_is_a_version_of_its_own(bucket: Bucket) -> None:
    """The version in the Worker is the version of the store underneath."""
    first, second = (bucket("put", "versions.txt", text) for text in ("one", "two"))
    assert first["version"] != second["version"]
    assert bucket("get", "versions.txt")["text"] == "two"


def test_metadata_that_no_header_can_carry_survives(bucket: Bucket) -> None:
    """Capital letters, other scripts and spaces in custom metadata come back as they were."""
    custom = {"Author": "Ünïcode 日本", "spaces": "  two  ", "empty": ""}
    bucket("put", "custom.txt", "x", {"customMetadata": custom})
    assert bucket("head", "custom.txt")["customMetadata"] == custom


@pytest.mark.parametrize("key", ["with space", "ünï/日本.txt", "a+b&c=d?e#f", "double//slash", "%41%2F", "til~'(x)*!"])
def test_any_key_can_be_written_listed_and_read(bucket: Bucket, key: str) -> None:
    """Keys with characters that URLs treat specially are keys like any other."""
    bucket("put", key, key)
    assert bucket("get", key)["text"] == key
    assert [one["key"] for one in bucket("list", {"prefix": key})["objects"]] == [key]
    bucket("delete", key)
    assert bucket("head", key) is None


def test_a_missing_object_is_null(bucket: Bucket) -> None:
    """As in R2, nothing is thrown."""
    assert bucket("get", "nothing/here") is None
    assert bucket("head", "nothing/here") is None
    assert bucket("delete", "nothing/here") is None


def test_an_empty_object_is_an_object(bucket: Bucket) -> None:
    """No bytes, but there."""
    bucket("put", "empty", "")
    found = bucket("get", "empty")
    assert (found["size"], found["text"]) == (0, "")


@pytest.mark.parametrize(
    ("asked", "text", "answered"),
    [
        ({"offset": 2, "length": 3}, "234", {"offset": 2, "length": 3}),
        ({"offset": 7}, "789", {"offset": 7, "length": 3}),
        ({"length": 4}, "0123", {"offset": 0, "length": 4}),
        ({"suffix": 2}, "89", {"offset": 8, "length": 2}),
        ({"suffix": 99}, "0123456789", {"offset": 0, "length": 10}),
        ({"offset": 8, "length": 50}, "89", {"offset": 8, "length": 2}),
    ],
)
def test_a_range_gives_its_bytes(bucket: Bucket, asked: object, text: str, answered: object) -> None:
    """Offsets, lengths and suffixes, clamped at the end."""
    bucket("put", "digits", "0123456789")
    found = bucket("get", "digits", {"range": asked})
    assert (found["text"], found["range"], found["size"]) == (text, answered, 10)


def test_a_range_header_is_understood(bucket: Bucket) -> None:
    """A request's own headers can be handed on."""
    bucket("put", "digits", "0123456789")
    assert bucket("get", "digits", {"rangeHeaders": {"Range": "bytes=1-3"}})["text"] == "123"


def test_a_range_beyond_the_end_is_an_error(bucket: Bucket) -> None:
    """10039, as in R2."""
    bucket("put", "digits", "0123456789")
    assert "10039" in bucket.error("get", "digits", {"range": {"offset": 11}})


def test_a_read_under_a_condition(bucket: Bucket) -> None:
    """A met condition gives the body, an unmet one the object without its body."""
    etag = bucket("put", "conditional", "x")["etag"]
    assert bucket("get", "conditional", {"onlyIf": {"etagMatches": etag}})["text"] == "x"
    unmet = bucket("get", "conditional", {"onlyIf": {"etagDoesNotMatch": etag}})
    assert (unmet["etag"], unmet["text"]) == (etag, None)
    assert bucket("get", "conditional", {"headers": {"If-None-Match": f'"{etag}"'}})["text"] is None
    assert bucket("get", "conditional", {"onlyIf": {"uploadedAfter": EXPIRY_MS}})["text"] is None
    assert bucket("get", "conditional", {"onlyIf": {"uploadedBefore": EXPIRY_MS}})["text"] == "x"


def test_a_write_under_a_condition(bucket: Bucket) -> None:
    """An unmet condition gives null and changes nothing."""
    etag = bucket("put", "guarded", "first")["etag"]
    assert bucket("put", "guarded", "no", {"onlyIf": {"etagMatches": "0" * 32}}) is None
    assert bucket("put", "guarded", "no", {"headers": {"If-None-Match": "*"}}) is None
    assert bucket("get", "guarded")["text"] == "first"
    assert bucket("put", "guarded", "second", {"onlyIf": {"etagMatches": etag}}) is not None
    assert bucket("put", "guarded-new", "new", {"headers": {"If-None-Match": "*"}}) is not None
    assert bucket("get", "guarded")["text"] == "second"


def test_a_digest_is_checked_before_anything_is_stored(bucket: Bucket) -> None:
    """A wrong digest is 10037 and leaves no object; a right one is shown."""
    right = hashlib.sha256(b"content").hexdigest()
    assert bucket("put", "digest", "content", {"sha256": right})["sha256"] == right
    assert "10037" in bucket.error("put", "digest-wrong", "content", {"sha256": "00" * 32})
    assert bucket("head", "digest-wrong") is None
    md5 = hashlib.md5(b"content", usedforsecurity=False).hexdigest()
    assert bucket("put", "digest", "content", {"md5": md5})["md5"] == md5


def test_a_listing_goes_on_at_its_cursor(bucket: Bucket) -> None:
    """Pages of two give every key once, in order."""
    names = [f"page/{number}" for number in range(5)]
    for name in names:
        bucket("put", name, name)
    seen: list[str] = []
    cursor = None
    while True:
        page = bucket("list", {"prefix": "page/", "limit": 2, **({"cursor": cursor} if cursor else {})})
        seen += [one["key"] for one in page["objects"]]
        assert len(page["objects"]) <= 2
        if not page["truncated"]:
            break
        cursor = page["cursor"]
    assert seen == names
    assert [one["key"] for one in bucket("list", {"prefix": "page/", "startAfter": "page/2"})["objects"]] == names[3:]


def test_a_delimiter_groups_keys(bucket: Bucket) -> None:
    """What lies deeper is one prefix."""
    for name in ("tree/a", "tree/x/1", "tree/x/2", "tree/y/1"):
        bucket("put", name, "x")
    page = bucket("list", {"prefix": "tree/", "delimiter": "/"})
    assert [one["key"] for one in page["objects"]] == ["tree/a"]
    assert page["prefixes"] == ["tree/x/", "tree/y/"]


def test_a_listing_includes_metadata_when_asked(bucket: Bucket) -> None:
    """Without asking there is none, as in R2."""
    bucket("put", "meta/1", "x", {"httpMetadata": {"contentType": "text/x"}, "customMetadata": {"a": "b"}})
    plain = bucket("list", {"prefix": "meta/"})["objects"][0]
    assert (plain["httpMetadata"], plain["customMetadata"]) == ({}, {})
    full = bucket("list", {"prefix": "meta/", "include": ["httpMetadata", "customMetadata"]})["objects"][0]
    assert (full["httpMetadata"]["contentType"], full["customMetadata"]) == ("text/x", {"a": "b"})


def test_many_objects_are_deleted_at_once(bucket: Bucket) -> None:
    """One call, all gone; missing ones are fine."""
    names = [f"many/{number} & <x>" for number in range(5)]
    for name in names:
        bucket("put", name, "x")
    bucket("delete", [*names, "many/missing"])
    assert bucket("list", {"prefix": "many/"})["objects"] == []


def test_an_upload_in_parts_becomes_one_object(bucket: Bucket) -> None:
    """Parts sent in any order are joined by number, with the metadata of the beginning."""
    begun = {"customMetadata": {"a": "b"}, "httpMetadata": {"contentType": "text/p"}}
    upload = bucket("begin", "parts.bin", begun)
    size = 5 * 1024 * 1024
    second = bucket("part", "parts.bin", upload, 2, 10, 66)
    first = bucket("part", "parts.bin", upload, 1, size, 65)
    assert bucket("head", "parts.bin") is None
    done = bucket("complete", "parts.bin", upload, [first, second])
    assert done["size"] == size + 10
    assert re.fullmatch(r"[0-9a-f]{32}-2", done["etag"])
    tail = bucket("get", "parts.bin", {"range": {"suffix": 12}})
    assert tail["text"] == "AA" + "B" * 10
    assert (tail["customMetadata"], tail["httpMetadata"]["contentType"]) == ({"a": "b"}, "text/p")


def test_an_aborted_upload_is_gone(bucket: Bucket) -> None:
    """Its parts can no longer be completed: 10024."""
    upload = bucket("begin", "aborted.bin")
    part = bucket("part", "aborted.bin", upload, 1, 10, 65)
    bucket("abort", "aborted.bin", upload)
    assert "10024" in bucket.error("complete", "aborted.bin", upload, [part])
    assert bucket("head", "aborted.bin") is None


def test_a_large_object_streams_through(bucket: Bucket) -> None:
    """Twenty megabytes in one put."""
    size = 20 * 1024 * 1024
    assert bucket("fill", "large.bin", size)["size"] == size
    assert bucket("length", "large.bin") == size


def test_denied_storage_is_an_error_in_the_worker(running: RunningServices, bucket: Bucket) -> None:
    """The binding throws; once mended, what was there is there."""
    bucket("put", "denied", "x")
    running.break_(FaultKind.STORAGE_DENIED, BUCKET)
    try:
        assert "Access Denied" in bucket.error("get", "denied")
        assert "Access Denied" in bucket.error("put", "denied", "y")
    finally:
        running.mend()
    assert bucket("get", "denied")["text"] == "x"


def test_storage_that_is_down_is_an_error_in_the_worker(running: RunningServices, bucket: Bucket) -> None:
    """R2's internal error; once mended, what was there is there."""
    bucket("put", "down", "x")
    running.break_(FaultKind.SERVICE_DOWN, "storage")
    try:
        assert "10001" in bucket.error("get", "down")
    finally:
        running.mend()
    assert bucket("get", "down")["text"] == "x"


def test_custom_metadata_of_an_s3_client_is_seen(running: RunningServices, bucket: Bucket) -> None:
    """What was written by S3 reads as custom metadata in the Worker, base64 or not."""
    token = base64.b64encode(b"any").decode()

    async def write() -> None:
        await running.services.buckets.put(BUCKET, "by-s3", _chunks(b"s3"), 2, "text/plain")

    running.loop.run(write())
    found = bucket("get", "by-s3")
    assert (found["text"], found["customMetadata"], found["httpMetadata"]["contentType"]) == ("s3", {}, "text/plain")
    bucket("put", "plain", "x", {"customMetadata": {"token": token}})
    assert bucket("head", "plain")["customMetadata"] == {"token": token}


async def _chunks(*chunks: bytes) -> Any:
    for chunk in chunks:
        yield chunk
