"""The history beside a bucket without versions, on a real SeaweedFS: what is stored, signed, read back, and removed."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from store_lab import Store, open_store
from values import replace

from backout.analysis.objects.moment import judge_objects
from backout.analysis.objects.undo import list_undos
from backout.errors import BackoutError, ProviderRejected, Refused
from backout.model.objects.manifests import ManifestEntry
from backout.model.objects.versions import ChangeKind, Moment, ObjectChange, Outcome
from backout.providers.objects.gate import Gate
from backout.providers.objects.manifests import Manifests
from backout.providers.objects.snapshots import ABSENT, SnapshotHistory, SnapshotVersions, copy_object
from backout.providers.objects.tables import Tables
from backout.providers.s3.answers import S3Object
from backout.runbook.objects.compare import Comparison

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = b"a key of thirty-two characters, ok"
ROOT = "backout/staging/"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("s3")) as found:
        yield found


class Kept:
    """A bucket and its history."""

    def __init__(self, store: Store, key: bytes | None = KEY) -> None:
        self.store, self.bucket, self.kept = store, store.make(versions=False), store.make(versions=False)
        self.history = self.opened(key)

    def opened(self, key: bytes | None, prefix: str = "") -> SnapshotHistory:
        """Return the history as it is read with a key, of what lies below a prefix."""
        manifests = Manifests(self.store.client, self.kept, ROOT, *([] if key is None else [key]))
        return SnapshotHistory(self.store.client, self.bucket, prefix, self.kept, ROOT, manifests, Gate())

    def put(self, key: str, body: bytes, **metadata: str) -> None:
        self.store.boto.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=metadata)

    def delete(self, key: str) -> None:
        self.store.boto.delete_object(Bucket=self.bucket, Key=key)

    def take(self) -> str:
        """Take a snapshot in a second of its own."""
        self.next_second()
        return self.history.take(lambda _objects: None).name

    def next_second(self) -> float:
        """Wait for the store's next second and return it."""
        before = self.store.client.read_clock(self.bucket)
        while (now := self.store.client.read_clock(self.bucket)) == before:
            time.sleep(0.1)
        assert now is not None
        return now

    def restore(self, to: float) -> list[Outcome]:
        """Bring everything back to a moment."""
        moment = Moment(to, self.next_second() + 60)
        versions = SnapshotVersions(self.history, moment)
        changes = [each.change for each in judge_objects(versions.versions(), moment) if each.change is not None]
        return [each.outcome for each in versions.carry_out(changes, again=False)]


@pytest.fixture
def kept(store: Store) -> Kept:
    return Kept(store)


def test_each_content_is_stored_once_and_the_manifest_counts(kept: Kept) -> None:
    kept.put("a", b"one", owner="me")
    kept.put("b", b"two")
    kept.take()
    kept.put("b", b"three")
    kept.put("c", b"new")
    kept.delete("a")
    kept.take()
    first, second = kept.history.list_manifests()
    assert (first.objects, first.changed, first.deleted, first.size_bytes) == (2, 2, 0, 6)
    assert (second.objects, second.changed, second.deleted, second.size_bytes) == (2, 2, 1, 8)
    contents = kept.store.list_live(kept.kept)
    assert len([key for key in contents if "/contents/" in key]) == 4
    assert [each.key for each in kept.history.manifests.read(second)] == ["b", "c"]


def test_everything_is_as_it_was_with_its_metadata(kept: Kept) -> None:
    kept.put("changed", b"good", owner="me")
    kept.put("deleted", b"here", owner="me")
    kept.put("same", b"same")
    kept.take()
    to = kept.next_second()
    kept.next_second()
    kept.put("changed", b"bad")
    kept.delete("deleted")
    kept.put("new", b"since")
    kept.take()
    assert kept.restore(to) == [Outcome.DONE] * 3
    assert kept.store.read(kept.bucket, "changed") == (b"good", {"owner": "me"})
    assert kept.store.read(kept.bucket, "deleted") == (b"here", {"owner": "me"})
    assert set(kept.store.list_live(kept.bucket)) == {"changed", "deleted", "same"}
    assert kept.restore(to) == [Outcome.SAME] * 2, "a second time there is nothing to do but to look"


ASK = """import os, pathlib
from backout.config import load
from backout.config.environment import Environment
from backout.wiring.objects_check import find_objects_check
print(find_objects_check(load(Environment(dict(os.environ)), start=pathlib.Path.cwd()))().why)
"""


@pytest.mark.long
def test_the_newest_snapshot_is_told_with_its_number_of_objects(kept: Kept, tmp_path: Path) -> None:
    """By what `status` asks, in a process of its own."""
    key = "k" * 32
    kept.store.configure(tmp_path, kept.bucket, history=kept.kept, history_key_env="HISTORY_KEY")
    kept.put("a", b"one")
    kept.put("b", b"two")
    kept.opened(key.encode()).take(lambda _objects: None)
    variables = {**os.environ, "HISTORY_KEY": key}
    told = subprocess.run(
        [sys.executable, "-c", ASK], cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip().endswith("of 2 objects")


@pytest.mark.long
def test_a_restore_is_taken_back_from_the_snapshot_before_it(kept: Kept) -> None:
    """What it overwrote and deleted is in that snapshot; what was written since, or is not in it, is left."""
    kept.put("changed", b"good", owner="me")
    kept.put("deleted", b"here")
    kept.put("since", b"good")
    kept.take()
    to = kept.next_second()
    kept.next_second()
    kept.put("changed", b"bad", owner="you")
    kept.put("since", b"bad")
    kept.delete("deleted")
    kept.put("new", b"since", owner="you")
    kept.take()
    before, name = kept.store.list_live(kept.bucket), kept.history.list_manifests()[-1]
    moment = Moment(to, kept.next_second() + 60)
    versions = SnapshotVersions(kept.history, moment)
    changes = [each.change for each in judge_objects(versions.versions(), moment) if each.change is not None]
    carried = versions.carry_out(changes, again=False)
    kept.put("since", b"written after it")
    undos = list(kept.history.find_contents(name, list_undos(zip(changes, carried, strict=True))))
    done = {each.key: found.outcome for each, found in zip(undos, versions.carry_out(undos, again=True), strict=True)}
    assert done == {"changed": Outcome.DONE, "deleted": Outcome.DONE, "new": Outcome.DONE, "since": Outcome.NEWER}
    after = kept.store.list_live(kept.bucket)
    assert after.pop("since") != before.pop("since")
    assert after == before
    assert kept.store.read(kept.bucket, "changed") == (b"bad", {"owner": "you"})
    strange = ObjectChange(ChangeKind.COPY, "changed", "x-1", "x-1", "x", 1)
    assert list(kept.history.find_contents(name, [strange])) == [strange], "not what the snapshot has"


@pytest.mark.long
def test_what_a_later_snapshot_knows_of_before_the_moment_counts(kept: Kept) -> None:
    """It was written after the snapshot before the moment, and before the moment."""
    kept.put("k", b"old")
    kept.put("l", b"old")
    kept.take()
    kept.put("k", b"good")
    kept.put("m", b"good")
    kept.next_second()
    to = kept.next_second()
    kept.take()
    kept.put("k", b"bad")
    kept.put("l", b"bad")
    kept.delete("m")
    kept.take()
    assert set(kept.restore(to)) == {Outcome.DONE}
    assert [kept.store.read(kept.bucket, key) for key in "klm"] == [(b"good", {}), (b"old", {}), (b"good", {})]


@pytest.mark.long
def test_what_was_written_since_the_listing_stays(kept: Kept) -> None:
    kept.put("k", b"good")
    name = kept.take()
    kept.put("k", b"newer")
    kept.put("new", b"newer")
    versions = SnapshotVersions(kept.history, Moment(kept.next_second(), 0.0))
    content = next(each for each in kept.history.manifests.read(kept.history.list_manifests()[0]))
    wanted = f"{name}-{content.etag}"
    changes = [
        ObjectChange(ChangeKind.COPY, "k", "other-4", wanted, content.etag, 4),
        ObjectChange(ChangeKind.UNDELETE, "k", ABSENT, wanted, content.etag, 4),
        ObjectChange(ChangeKind.REMOVE, "new", "other-4"),
        ObjectChange(ChangeKind.REMOVE, "gone", "other-4"),
    ]
    found = [each.outcome for each in versions.carry_out(changes, again=False)]
    assert found == [Outcome.NEWER, Outcome.NEWER, Outcome.NEWER, Outcome.SAME]
    assert kept.store.read(kept.bucket, "k") == (b"newer", {})
    assert kept.store.read(kept.bucket, "new") == (b"newer", {})


@pytest.mark.long
def test_a_manifest_that_is_damaged_or_of_another_key_is_refused(kept: Kept) -> None:
    kept.put("k", b"good")
    kept.take()
    (name,) = kept.history.list_manifests()
    for other, words in ((b"another key, of thirty-two letters!", "another key"), (None, "")):
        history = kept.opened(other)
        if other is None:
            assert list(history.manifests.read(name)), "without a key no signature is asked for"
        else:
            with pytest.raises(Refused, match=words):
                list(history.manifests.read(name))
    (key,) = [key for key in kept.store.list_live(kept.kept) if "/manifests/" in key]
    whole = kept.store.boto.get_object(Bucket=kept.kept, Key=key)["Body"].read()
    text = gzip.decompress(whole)
    for damaged in (
        whole[:-9],
        gzip.compress(text.replace(b'"size_bytes":4', b'"size_bytes":5')),
        gzip.compress(text.splitlines(keepends=True)[-1]),
        gzip.compress(b""),
        b"not gzip at all",
    ):
        kept.store.boto.put_object(Bucket=kept.kept, Key=key, Body=damaged)
        with pytest.raises(Refused, match="is damaged"):
            list(kept.history.manifests.read(name))
        with pytest.raises(Refused, match="is damaged"):
            kept.take()


@pytest.mark.long
def test_a_content_that_is_not_the_one_of_its_manifest_is_not_brought_back(kept: Kept) -> None:
    """Whoever can write to the history's bucket signs nothing; the others are brought back."""
    kept.put("k", b"good")
    kept.put("l", b"good too")
    kept.put("m", b"good as well")
    kept.take()
    to = kept.next_second()
    kept.next_second()
    for key in "klm":
        kept.put(key, b"bad")
    (name,) = kept.history.list_manifests()
    located = {each.key: kept.history.locate(each) for each in kept.history.manifests.read(name)}
    kept.store.boto.put_object(Bucket=kept.kept, Key=located["k"], Body=b"evil")
    kept.store.boto.delete_object(Bucket=kept.kept, Key=located["l"])
    moment = Moment(to, kept.next_second() + 60)
    versions = SnapshotVersions(kept.history, moment)
    changes = [each.change for each in judge_objects(versions.versions(), moment) if each.change is not None]
    found = {each.key: done for each, done in zip(changes, versions.carry_out(changes, again=False), strict=True)}
    assert {key: each.outcome for key, each in found.items()} == {
        "k": Outcome.FAILED,
        "l": Outcome.FAILED,
        "m": Outcome.DONE,
    }
    assert "not the one that the manifest names" in found["k"].why
    assert [kept.store.read(kept.bucket, key) for key in "klm"] == [(b"bad", {}), (b"bad", {}), (b"good as well", {})]


@pytest.mark.long
def test_what_was_deleted_is_compared_as_any_other_copy(kept: Kept) -> None:
    """In a bucket without versions there is no delete marker to take away."""
    kept.put("deleted", b"here", owner="me")
    kept.take()
    to = kept.next_second()
    kept.delete("deleted")
    moment = Moment(to, kept.next_second() + 60)
    versions = SnapshotVersions(kept.history, moment)
    (change,) = (each.change for each in judge_objects(versions.versions(), moment))
    assert change is not None
    assert change.kind is ChangeKind.UNDELETE
    (carried,) = versions.carry_out([change], again=False)
    for spoiled in (False, True):
        if spoiled:
            kept.put("deleted", b"here")  # a store that lost its metadata
        comparison = Comparison(versions, 1, moment.until)
        comparison.compare(list(versions.versions()), change, carried)
        assert comparison.finish(0, 0).verified is not spoiled


@dataclass
class LargeObject:
    """A store with one object of 6 GB, as a client has it."""

    etag: str = "it"
    size_bytes: int = 6 * 10**9
    copied: int = 0

    def head(self, _bucket: str, key: str) -> S3Object:
        return S3Object(key, self.size_bytes, self.etag, 0.0)

    def copy_in_parts(self, _source: object, _bucket: str, key: str, _part_bytes: int) -> S3Object:
        self.copied += 1
        return S3Object(key, self.size_bytes, "copy-12", 0.0)


@pytest.mark.parametrize(("etag", "size_bytes"), [("other", 6 * 10**9), ("it", 7 * 10**9), ("", 7 * 10**9)])
def test_a_large_object_that_is_another_one_is_not_copied(etag: str, size_bytes: int) -> None:
    large = LargeObject()
    client: Any = large
    with pytest.raises(ProviderRejected) as raised:
        copy_object(client, ("kept", "k"), ("bucket", "k"), etag, size_bytes)
    assert (raised.value.status, large.copied) == (412, 0)
    assert copy_object(client, ("kept", "k"), ("bucket", "k"), "it", large.size_bytes).etag == "copy-12"
    assert copy_object(client, ("kept", "k"), ("bucket", "k"), "", large.size_bytes).etag == "copy-12"


@pytest.mark.long
def test_a_content_of_an_upload_in_parts_is_known_as_well(kept: Kept) -> None:
    """Its copy has another etag than the object, which says nothing of the others."""
    boto, place = kept.store.boto, {"Bucket": kept.bucket, "Key": "k"}
    begun = boto.create_multipart_upload(**place)["UploadId"]
    part = boto.upload_part(**place, UploadId=begun, PartNumber=1, Body=b"good")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": part}]}
    boto.complete_multipart_upload(**place, UploadId=begun, MultipartUpload=parts)
    assert kept.store.list_live(kept.bucket)["k"].endswith('-1"')
    kept.take()
    to = kept.next_second()
    kept.next_second()
    kept.put("k", b"bad")
    (entry,) = kept.history.manifests.read(kept.history.list_manifests()[0])
    assert kept.restore(to) == [Outcome.DONE]
    assert kept.store.read(kept.bucket, "k") == (b"good", {})
    kept.put("k", b"bad")
    boto.put_object(Bucket=kept.kept, Key=kept.history.locate(entry), Body=b"evil")
    assert kept.restore(to) == [Outcome.FAILED]


def test_a_content_is_known_where_the_buckets_etags_are_no_hashes(kept: Kept) -> None:
    """As of a bucket that SSE-KMS encrypts, beside a history that nothing does."""
    kept.put("k", b"good")
    kept.take()
    (name,) = kept.history.list_manifests()
    (entry,) = kept.history.manifests.read(name)
    other = replace(entry, etag="0" * 32)
    source = {"Bucket": kept.kept, "Key": kept.history.locate(entry)}
    kept.store.boto.copy_object(Bucket=kept.kept, Key=kept.history.locate(other), CopySource=source)
    kept.history.manifests.write(name, [other], prefix="")
    to = kept.next_second()
    kept.next_second()
    kept.put("k", b"bad")
    assert kept.restore(to) == [Outcome.DONE]
    assert kept.store.read(kept.bucket, "k") == (b"good", {})


def test_an_unsigned_manifest_is_refused_where_there_is_a_key(store: Store) -> None:
    kept = Kept(store, key=None)
    kept.put("k", b"good")
    kept.take()
    (name,) = kept.history.list_manifests()
    with pytest.raises(Refused, match="is not signed"):
        list(kept.opened(KEY).manifests.read(name))


def test_a_key_is_changed_without_losing_the_past(kept: Kept) -> None:
    """The new key signs, and what the old one signed is read as long as both are there."""
    kept.put("k", b"good")
    kept.take()
    new = b"n" * 32
    both, alone = (Manifests(kept.store.client, kept.kept, ROOT, *keys) for keys in ((new, KEY), (new,)))
    (name,) = both.list_names()
    entries = list(both.read(name))
    assert [each.key for each in entries] == ["k"]
    with pytest.raises(Refused, match="another key"):
        list(alone.read(name))
    both.write(name, entries, prefix="")
    assert list(alone.read(name)) == entries


def test_a_missing_bucket_of_the_history_is_called_that(store: Store) -> None:
    with pytest.raises(ProviderRejected, match="there is no bucket 'no-such-history'") as refused:
        Manifests(store.client, "no-such-history", ROOT, KEY).list_names()
    assert "storage.history" in (refused.value.hint or "")


@pytest.mark.long
def test_a_manifest_cannot_stand_in_for_another(kept: Kept) -> None:
    """Its signature covers its name: an old one copied to a new name is no snapshot of then."""
    kept.put("k", b"good")
    kept.take()
    kept.take()
    first, second = sorted(key for key in kept.store.list_live(kept.kept) if "/manifests/" in key)
    source = {"Bucket": kept.kept, "Key": first}
    kept.store.boto.copy_object(Bucket=kept.kept, Key=second, CopySource=source)
    with pytest.raises(Refused, match="another key"):
        list(kept.history.manifests.read(kept.history.list_manifests()[1]))


@pytest.mark.long
def test_what_no_moment_needs_is_removed_and_the_rest_can_be_brought_back(kept: Kept) -> None:
    kept.put("k", b"one")
    kept.put("always", b"here")
    kept.take()
    kept.put("k", b"two")
    kept.take()
    kept.put("k", b"one")  # the same content again, after another
    third = kept.take()
    to = kept.next_second()
    kept.next_second()
    kept.put("k", b"bad")
    kept.delete("always")
    kept.take()
    names = {each.name: each.at for each in kept.history.list_manifests()}
    assert kept.history.prune(names[third]) == 2
    assert next(each.name for each in kept.history.list_manifests()) == third
    contents = [key for key in kept.store.list_live(kept.kept) if "/contents/" in key]
    assert len(contents) == 3, "one, here, bad"
    assert set(kept.restore(to)) == {Outcome.DONE}
    assert kept.store.read(kept.bucket, "k") == (b"one", {})
    assert kept.store.read(kept.bucket, "always") == (b"here", {})


@pytest.mark.long
def test_what_a_snapshot_did_not_cover_is_not_taken_for_created_since(kept: Kept) -> None:
    """The prefix of the configuration was widened since: nothing outside of it is judged, and later it is covered."""
    kept.put("models/a", b"good")
    kept.put("other/b", b"never covered")
    kept.history = kept.opened(KEY, "models/")
    kept.take()
    to = kept.next_second()
    kept.next_second()
    kept.put("models/a", b"bad")
    kept.history = kept.opened(KEY)
    with pytest.raises(Refused, match="covers only what lies below 'models/'") as raised:
        kept.restore(to)
    assert raised.value.options == ("Only that part: backout objects restore --prefix models/.",)
    assert set(kept.store.list_live(kept.bucket)) == {"models/a", "other/b"}
    kept.history = kept.history.narrow("models/")
    assert kept.restore(to) == [Outcome.DONE]
    kept.history = kept.opened(KEY)
    kept.take()
    assert kept.restore(kept.next_second()) == []


def test_a_narrower_snapshot_counts_nothing_as_deleted(kept: Kept) -> None:
    """What is not covered any more is not gone."""
    kept.put("models/a", b"one")
    kept.put("other/b", b"two")
    kept.take()
    kept.history = kept.opened(KEY, "models/")
    kept.take()
    newest = kept.history.list_manifests()[-1]
    assert (newest.objects, newest.changed, newest.deleted) == (1, 0, 0)


def test_a_manifest_of_before_that_does_not_say_what_it_covers(kept: Kept) -> None:
    """It is read as it was then, and its signature holds."""
    kept.put("a", b"good")
    kept.take()
    (name,) = kept.history.list_manifests()
    entries = list(kept.history.manifests.read(name))
    old = Manifests(kept.store.client, kept.kept, ROOT, KEY)
    old.write(name, entries, prefix="")
    (key,) = (each for each in kept.store.list_live(kept.kept) if "/manifests/" in each)
    lines = gzip.decompress(kept.store.read(kept.kept, key)[0]).splitlines(keepends=True)
    digest = hashlib.sha256(b"".join(lines[1:-1]))
    signed = hmac.new(KEY, key.encode() + b"\0" + digest.digest(), hashlib.sha256).hexdigest()
    seal = json.dumps({"sha256": digest.hexdigest(), "hmac": signed}, separators=(",", ":")).encode() + b"\n"
    kept.store.boto.put_object(Bucket=kept.kept, Key=key, Body=gzip.compress(b"".join([*lines[1:-1], seal])))
    with kept.history.manifests.open(name) as manifest:
        assert (manifest.prefix, list(manifest.entries)) == (None, entries)
    to = kept.next_second()
    kept.next_second()
    kept.put("a", b"bad")
    assert kept.restore(to) == [Outcome.DONE]


def test_a_moment_before_all_snapshots_is_an_error(kept: Kept) -> None:
    kept.put("k", b"good")
    kept.take()
    with pytest.raises(ProviderRejected, match="after the moment"):
        list(SnapshotVersions(kept.history, Moment(1000.0, 2000.0)).versions())


def test_two_snapshots_of_one_second_have_a_second_each(kept: Kept) -> None:
    """The steps of a recovery and of its undo follow each other at once: neither may end for being too quick."""
    kept.put("k", b"good")
    names = [kept.history.take(lambda _objects: None) for _ in range(3)]
    assert kept.history.list_manifests() == tuple(names)
    assert len({each.at for each in names}) == 3


def test_a_clock_that_was_set_back_is_not_waited_for(kept: Kept) -> None:
    """A manifest of an hour to come, which is what one that was taken before the clock was set right looks like."""
    kept.put("k", b"good")
    name = kept.take()
    (key,) = [each.key for each in kept.store.client.list_objects(kept.kept, f"{ROOT}manifests/")]
    later = key.replace(name, datetime.fromtimestamp(kept.next_second() + 3600, UTC).strftime("%Y%m%dT%H%M%SZ"))
    kept.store.boto.put_object(Bucket=kept.kept, Key=later, Body=b"")
    with pytest.raises(BackoutError, match="the store's clock says"):
        kept.history.take(lambda _objects: None)


def test_tables_are_sorted_by_the_bytes_of_the_key() -> None:
    keys = ["b", "a/b", "a-b", "é", "a\nb", "z"]
    with Tables() as tables:
        tables.fill("live", (ManifestEntry(key, "e", 1, 0.0, "s") for key in keys))
        assert list(tables.keys("live")) == sorted(keys, key=str.encode)
        assert tables.count("live") == (6, 6)
