"""Port BucketVersions and BucketLook: one suite on a bucket in memory and on a real SeaweedFS."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from store_lab import Store, open_store
from store_proxy import open_proxy
from values import replace

from backout.analysis.objects.undo import list_undos
from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.model.objects.versions import NOT_KNOWN, Attempt, ChangeKind, ObjectChange, ObjectVersion, Outcome
from backout.providers.clock import SystemClock
from backout.providers.memory.objects import MemoryBucket
from backout.providers.objects.gate import Gate
from backout.providers.objects.look import PROBE_PREFIX, S3BucketLook
from backout.providers.objects.versions import S3BucketVersions
from backout.providers.retry import CallFailed, Retry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.ports import BucketVersions

NASTY = ("a b+c", "ümlaut/日本", "quote\"'<&>%", "/".join(["x" * 200] * 4))
REFUSED = ("..", "a//b", "a/../b", "trailing/", "line\nbreak")
"""Keys of which SeaweedFS makes no objects with versions, and S3 does."""
MEGABYTE = 1024 * 1024


def attempts_of(ago_s: float, for_s: float) -> list[Attempt]:
    """Return an attempt that began some seconds ago, and was killed."""
    return [Attempt(time.time() - ago_s, time.time() - ago_s + for_s)]


@dataclass
class Side:
    """A bucket: the port, and what an application does."""

    bucket: BucketVersions
    application: Any
    names: int = field(default=0)

    def put(self, key: str, body: bytes, **metadata: str) -> str:
        return str(self.application.put(key, body, metadata))

    def delete(self, key: str) -> str:
        return str(self.application.delete(key))

    def read(self, key: str) -> tuple[bytes, dict[str, str]] | None:
        """Return what an application gets now."""
        return self.application.read(key)  # type: ignore[no-any-return]

    def of(self, key: str) -> list[ObjectVersion]:
        return [each for each in self.bucket.versions() if each.key == key]

    def copy_of(self, key: str, version_id: str, **more: Any) -> ObjectChange:
        found = self.of(key)
        wanted = next(each for each in found if each.version_id == version_id)
        return ObjectChange(
            ChangeKind.COPY, key, found[0].version_id, version_id, wanted.etag, wanted.size_bytes, **more
        )


class MemoryApplication:
    def __init__(self, bucket: MemoryBucket) -> None:
        self.put, self.delete = bucket.put, bucket.delete
        self._bucket = bucket

    def read(self, key: str) -> tuple[bytes, dict[str, str]] | None:
        found = self._bucket.live().get(key)
        return None if found is None else (found.body, dict(found.metadata))


@dataclass
class BotoApplication:
    """What an application does, by a client that is not ours."""

    boto: Any
    name: str

    def put(self, key: str, body: bytes, metadata: dict[str, str]) -> str:
        found = self.boto.put_object(Bucket=self.name, Key=key, Body=body, Metadata=metadata)
        return str(found["VersionId"])

    def delete(self, key: str) -> str:
        return str(self.boto.delete_object(Bucket=self.name, Key=key)["VersionId"])

    def read(self, key: str) -> tuple[bytes, dict[str, str]] | None:
        try:
            found = self.boto.get_object(Bucket=self.name, Key=key)
        except self.boto.exceptions.NoSuchKey:
            return None
        return found["Body"].read(), found["Metadata"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(params=["memory", "s3"])
def side(request: pytest.FixtureRequest) -> Side:
    if request.param == "memory":
        bucket = MemoryBucket(time.time, lambda _name, effect: effect())
        return Side(bucket, MemoryApplication(bucket))
    store: Store = request.getfixturevalue("store")
    name = store.make()
    return Side(S3BucketVersions(store.client, name, "", Gate()), BotoApplication(store.boto, name))


def test_versions_come_by_key_the_newest_first(side: Side) -> None:
    first, second = side.put("k", b"one"), side.put("k", b"two")
    marker = side.delete("k")
    other = side.put("a", b"x")
    found = list(side.bucket.versions())
    assert [(each.key, each.version_id, each.is_marker) for each in found] == [
        ("a", other, False),
        ("k", marker, True),
        ("k", second, False),
        ("k", first, False),
    ]
    assert [each.size_bytes for each in found] == [1, 0, 3, 3]
    assert abs(found[0].at - time.time()) < 60


def test_each_kind_of_change(side: Side) -> None:
    good, gone = side.put("changed", b"good", owner="me"), side.put("deleted", b"here", owner="me")
    side.put("changed", b"bad")
    markers = side.delete("deleted"), side.delete("deleted")
    new = side.put("new", b"since")
    kept = len(list(side.bucket.versions()))
    carried = side.bucket.carry_out(
        [
            ObjectChange(ChangeKind.REMOVE, "new", new),
            side.copy_of("changed", good),
            ObjectChange(ChangeKind.UNDELETE, "deleted", markers[1], gone, markers=markers[::-1]),
        ],
        again=False,
    )
    assert [each.outcome for each in carried] == [Outcome.DONE] * 3
    assert side.read("changed") == (b"good", {"owner": "me"})
    assert side.read("deleted") == (b"here", {"owner": "me"})
    assert side.read("new") is None
    assert side.of("changed")[0].version_id == carried[1].version_id
    assert side.of("changed")[0].etag == carried[1].etag
    assert len(list(side.bucket.versions())) == kept - 2 + 2, "a copy and a marker came, two markers went"


def test_again_does_nothing_twice_and_leaves_what_was_written_since(side: Side) -> None:
    good, more = side.put("k", b"good"), side.put("other", b"good")
    side.put("k", b"bad")
    side.put("other", b"bad")
    new = side.put("new", b"x")
    changes = [side.copy_of("k", good), side.copy_of("other", more), ObjectChange(ChangeKind.REMOVE, "new", new)]
    side.bucket.carry_out(changes, again=True)
    side.put("other", b"newer")
    before = len(list(side.bucket.versions()))
    carried = side.bucket.carry_out(changes, again=True, attempts=attempts_of(60, 60))
    assert [each.outcome for each in carried] == [Outcome.DONE, Outcome.NEWER, Outcome.DONE]
    assert len(list(side.bucket.versions())) == before
    assert side.read("other") == (b"newer", {})


def test_what_was_done_before_a_kill_is_taken_back_as_well(side: Side) -> None:
    """Who looks again finds what an attempt made that nobody noted: the copy, and the delete marker of a removal."""
    good = side.put("k", b"good")
    side.put("k", b"bad")
    new, beside = side.put("new", b"since"), side.put("new-beside", b"stays")
    changes = [
        replace(side.copy_of("k", good), found_etag=side.of("k")[0].etag, found_bytes=3),
        ObjectChange(ChangeKind.REMOVE, "new", new, found_etag=side.of("new")[0].etag, found_bytes=5),
    ]
    side.bucket.carry_out(changes, again=False)
    carried = side.bucket.carry_out(changes, again=True, attempts=attempts_of(60, 60))
    assert [each.version_id for each in carried] == [side.of(each.key)[0].version_id for each in changes]
    undos = list(list_undos(zip(changes, carried, strict=True)))
    assert [each.outcome for each in side.bucket.carry_out(undos, again=True)] == [Outcome.DONE] * 2
    assert (side.read("k"), side.read("new")) == ((b"bad", {}), (b"since", {}))
    assert [each.version_id for each in side.of("new")] == [new]
    assert [each.version_id for each in side.of("new-beside")] == [beside]


def test_only_a_delete_marker_of_its_own_is_taken_for_its_work(side: Side) -> None:
    """The application deletes, too: its marker is no work of a restore, and no undo removes it."""
    new = side.put("new", b"since")
    change = ObjectChange(ChangeKind.REMOVE, "new", new, found_etag=side.of("new")[0].etag, found_bytes=5)
    marker = side.delete("new")
    for attempts in ([], attempts_of(-60, 60)):
        (carried,) = side.bucket.carry_out([change], again=True, attempts=attempts)
        assert carried.outcome is Outcome.SAME
    (carried,) = side.bucket.carry_out([change], again=True, attempts=attempts_of(3600, 60))
    assert (carried.outcome, carried.version_id) == (Outcome.DONE, ""), "that attempt may have made it, or not"
    (undone,) = side.bucket.carry_out(list(list_undos([(change, carried)])), again=True)
    assert (undone.outcome, undone.why) == (Outcome.FAILED, NOT_KNOWN)
    assert side.of("new")[0].version_id == marker


def test_the_same_content_is_copied_only_for_other_metadata(side: Side) -> None:
    same, other = side.put("same", b"x", owner="me"), side.put("other", b"x", owner="me")
    side.put("same", b"x", owner="me")
    side.put("other", b"x", owner="you")
    changes = [side.copy_of("same", same, maybe_same=True), side.copy_of("other", other, maybe_same=True)]
    carried = side.bucket.carry_out(changes, again=False)
    assert [each.outcome for each in carried] == [Outcome.SAME, Outcome.DONE]
    assert side.read("other") == (b"x", {"owner": "me"})
    assert (len(side.of("same")), len(side.of("other"))) == (2, 3)


def test_what_was_written_is_made_the_newest_again(side: Side) -> None:
    side.put("k", b"good")
    newer = side.put("k", b"newer", owner="me")
    side.put("k", b"copy")
    side.bucket.put_back(next(each for each in side.of("k") if each.version_id == newer))
    assert side.read("k") == (b"newer", {"owner": "me"})
    marker = side.delete("k")
    side.put("k", b"copy")
    side.bucket.put_back(next(each for each in side.of("k") if each.version_id == marker))
    assert side.read("k") is None


def test_two_versions_are_compared_by_what_they_are(side: Side) -> None:
    one, same = side.put("k", b"one", owner="me"), side.put("k", b"one", owner="me")
    other, owned = side.put("k", b"two", owner="me"), side.put("k", b"one", owner="you")
    assert side.bucket.is_same("k", one, same, contents=True)
    assert not side.bucket.is_same("k", one, other, contents=True)
    assert not side.bucket.is_same("k", one, owned, contents=False)


@pytest.mark.parametrize("key", NASTY)
def test_keys_of_every_shape(side: Side, key: str) -> None:
    check_key(side, key)


@pytest.mark.parametrize("key", REFUSED)
def test_keys_that_not_every_store_takes(key: str) -> None:
    bucket = MemoryBucket(time.time, lambda _name, effect: effect())
    check_key(Side(bucket, MemoryApplication(bucket)), key)


def check_key(side: Side, key: str) -> None:
    """An object of that name is changed, deleted, and brought back from both."""
    good = side.put(key, b"good")
    side.put(key, b"bad")
    assert side.bucket.carry_out([side.copy_of(key, good)], again=False)[0].outcome is Outcome.DONE
    assert side.read(key) == (b"good", {})
    marker = side.delete(key)
    change = ObjectChange(ChangeKind.UNDELETE, key, marker, good, markers=(marker,))
    assert side.bucket.carry_out([change], again=False)[0].outcome is Outcome.DONE
    assert side.read(key) == (b"good", {})


def test_an_empty_object(side: Side) -> None:
    good = side.put("empty", b"")
    side.put("empty", b"bad")
    assert side.bucket.carry_out([side.copy_of("empty", good)], again=False)[0].outcome is Outcome.DONE
    assert side.read("empty") == (b"", {})


# --- what only a store over HTTP has ------------------------------------------------------------------------------


def test_a_large_object_is_copied_in_parts_with_its_metadata_and_tags(store: Store) -> None:
    name = store.make()
    body = b"".join(bytes([part]) * 5 * MEGABYTE for part in range(3)) + b"end"
    tags = "colour=blue&why=a%20test"
    made = store.boto.put_object(
        Bucket=name, Key="large", Body=body, Metadata={"owner": "me"}, ContentType="model/x", Tagging=tags
    )
    store.boto.put_object(Bucket=name, Key="large", Body=b"bad")
    bucket = S3BucketVersions(store.client, name, "", Gate(), copied_at_once_bytes=MEGABYTE, part_bytes=5 * MEGABYTE)
    found = next(each for each in bucket.versions() if each.version_id == made["VersionId"])
    change = ObjectChange(ChangeKind.COPY, "large", "x", found.version_id, found.etag, found.size_bytes)
    carried = bucket.carry_out([change], again=False)[0]
    assert carried.outcome is Outcome.DONE, carried.why
    assert carried.etag.endswith("-4"), "in parts"
    answer = store.boto.get_object(Bucket=name, Key="large")
    assert answer["Body"].read() == body
    assert (answer["Metadata"], answer["ContentType"]) == ({"owner": "me"}, "model/x")
    kept = store.boto.get_object_tagging(Bucket=name, Key="large")["TagSet"]
    assert {each["Key"]: each["Value"] for each in kept} == {"colour": "blue", "why": "a test"}
    assert bucket.is_same("large", carried.version_id, found.version_id, contents=True)


def test_a_version_that_is_gone_fails_alone(store: Store) -> None:
    name = store.make()
    side = Side(S3BucketVersions(store.client, name, "", Gate()), BotoApplication(store.boto, name))
    good, gone = side.put("k", b"good"), side.put("gone", b"good")
    side.put("k", b"bad")
    side.put("gone", b"bad")
    changes = [side.copy_of("gone", gone), side.copy_of("k", good)]
    store.boto.delete_object(Bucket=name, Key="gone", VersionId=gone)
    carried = side.bucket.carry_out(changes, again=False)
    assert [each.outcome for each in carried] == [Outcome.FAILED, Outcome.DONE]
    assert carried[0].why


def test_a_bucket_is_checked_and_nothing_of_the_check_stays(store: Store) -> None:
    name = store.make()
    look = S3BucketLook(store.client, name, "app/", SystemClock())
    facts, found = look.read(), look.try_permissions()
    assert (facts.versioning, facts.expires_after_s) == ("enabled", None)
    assert facts.clock_ahead_s is not None
    assert abs(facts.clock_ahead_s) < 30
    assert (found.list, found.read, found.write, found.delete, found.why, found.left) == (True,) * 4 + ((), "")
    assert found.kept_at is not None
    assert (found.read_version, found.copy_version, found.delete_version) == (True,) * 3
    assert not [each for each in store.client.list_versions(name) if PROBE_PREFIX in each.key]


class HeldClock(SystemClock):
    """Was asked a minute before the store's answer came: the machine is busy, or the store."""

    behind_s = 60.0

    def now(self) -> float:
        at, self.behind_s = super().now() - self.behind_s, 0.0
        return at


def test_a_store_that_answers_late_has_no_other_clock(store: Store) -> None:
    """Else what was written near the moment is ambiguous, and the plan of a dry run is not the one that runs."""
    assert S3BucketLook(store.client, store.make(), "", HeldClock()).read().clock_ahead_s == 0.0


@dataclass
class LateStore:
    """A store with this machine's clock, and that clock; how long each answer takes."""

    takes: list[float]
    at: float = 1000.2

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds

    def read_clock(self, _bucket: str) -> float:
        self.at += self.takes.pop(0)
        return float(int(self.at))

    def read_versioning(self, _bucket: str) -> str:
        return "Enabled"

    def read_kept_days(self, _bucket: str) -> None:
        return None


@pytest.mark.parametrize(
    ("takes", "left", "slack_s"),
    [([0.1], 0, 0.0), ([60.0, 0.1, 0.1], 1, 0.0), ([30.0, 2.0, 60.0], 0, 5.0), ([60.0] * 4, 1, 65.0)],
)
def test_a_store_whose_every_answer_is_late_may_have_another_clock(
    takes: list[float], left: int, slack_s: float
) -> None:
    """What a late answer leaves open the next one shows; where none does, the clocks are taken as that far apart."""
    late: Any = LateStore(takes)
    facts = S3BucketLook(late, "b", "", late).read()
    assert (facts.clock_ahead_s, facts.clock_slack_s, len(takes)) == (0.0, slack_s, left)


def test_a_bucket_without_versions_keeps_nothing(store: Store) -> None:
    name = store.make(versions=False)
    look = S3BucketLook(store.client, name, "", SystemClock())
    assert look.read().versioning == "off"
    found = look.try_permissions()
    assert (found.kept_at, found.left) == (None, "")
    assert set(found.allowed) == {"list", "read", "write", "delete"}


def test_a_missing_bucket_and_a_wrong_key_are_told_apart(store: Store) -> None:
    with pytest.raises(ProviderRejected, match="there is no bucket 'no-such-bucket'") as refused:
        S3BucketLook(store.client, "no-such-bucket", "", SystemClock()).read()
    assert "storage.bucket" in (refused.value.hint or "")
    with store.other(secret="wrong-secret", retry=Retry(attempts=1)) as client, pytest.raises(AuthError):
        S3BucketLook(client, store.make(), "", SystemClock()).read()


def damage_many(store: Store, number: int) -> tuple[str, list[ObjectChange]]:
    """Make a bucket of objects that were overwritten or deleted, and return what brings them back."""
    name = store.make()
    side = Side(S3BucketVersions(store.client, name, "", Gate()), BotoApplication(store.boto, name))
    changes = []
    for place in range(number):
        key = f"k{place:03}"
        good = side.put(key, b"good %d" % place)
        if place % 2:
            side.put(key, b"bad")
            changes.append(side.copy_of(key, good))
        else:
            marker = side.delete(key)
            changes.append(ObjectChange(ChangeKind.UNDELETE, key, marker, good, markers=(marker,)))
    return name, changes


@pytest.mark.long
def test_a_store_that_asks_to_slow_down_is_waited_for(store: Store) -> None:
    """Of each call the first attempt is refused: everything is brought back, with fewer calls at once."""
    name, changes = damage_many(store, 24)
    seen: set[tuple[str, str]] = set()
    lock = threading.Lock()

    def refuse(method: str, path: str) -> tuple[int, str] | None:
        with lock:
            if (method, path) in seen:
                return None
            seen.add((method, path))
        return 503, "SlowDown"

    gate = Gate(first=16)
    limits: list[int] = []

    def hear(failed: CallFailed) -> None:
        gate.hear(failed)
        limits.append(gate.limit)

    with open_proxy(store.access["endpoint"], refuse) as endpoint:
        retry = Retry(attempts=6, first_wait_s=0.01)
        with store.other(endpoint=endpoint, retry=retry, hear=hear) as client:
            carried = S3BucketVersions(client, name, "", gate).carry_out(changes, again=False)
    assert {each.outcome for each in carried} == {Outcome.DONE}
    assert [store.read(name, f"k{place:03}") for place in range(24)] == [(b"good %d" % n, {}) for n in range(24)]
    assert min(limits) < 16


def test_a_store_that_does_not_recover_ends_it_and_it_goes_on_later(store: Store) -> None:
    name, changes = damage_many(store, 12)
    calls = [0]

    def refuse(method: str, _path: str) -> tuple[int, str] | None:
        calls[0] += method == "PUT"
        return (503, "SlowDown") if calls[0] > 3 else None

    with open_proxy(store.access["endpoint"], refuse) as endpoint:
        retry = Retry(attempts=2, first_wait_s=0.01)
        with store.other(endpoint=endpoint, retry=retry) as client, pytest.raises(ProviderUnavailable):
            S3BucketVersions(client, name, "", Gate()).carry_out(changes, again=False)
    before = attempts_of(60, 60)
    carried = S3BucketVersions(store.client, name, "", Gate()).carry_out(changes, again=True, attempts=before)
    assert {each.outcome for each in carried} == {Outcome.DONE}
    side = Side(S3BucketVersions(store.client, name, "", Gate()), BotoApplication(store.boto, name))
    assert all(len(side.of(f"k{place:03}")) == 3 for place in range(1, 12, 2)), "good, bad, and one copy"


def test_a_key_that_may_only_read_changes_nothing_and_is_told(store: Store) -> None:
    name, changes = damage_many(store, 6)
    before = list(store.client.list_versions(name))

    def refuse(method: str, _path: str) -> tuple[int, str] | None:
        return None if method in {"GET", "HEAD"} else (403, "AccessDenied")

    with open_proxy(store.access["endpoint"], refuse) as endpoint, store.other(endpoint=endpoint) as client:
        found = S3BucketLook(client, name, "", SystemClock()).try_permissions()
        carried = S3BucketVersions(client, name, "", Gate()).carry_out(changes, again=False)
    assert {each.outcome for each in carried} == {Outcome.FAILED}
    assert (found.list, found.read, found.write, found.delete) == (True, None, False, None)
    assert dict(found.why)["write"]
    assert list(store.client.list_versions(name)) == before


@pytest.mark.parametrize(
    ("method", "refused", "tried"),
    [("DELETE", {"delete_version"}, None), ("HEAD", {"read_version"}, True)],
)
def test_a_key_without_the_right_to_versions_is_told(
    store: Store, method: str, refused: set[str], tried: bool | None
) -> None:
    """S3 has a right of its own for each: s3:DeleteObject makes a marker, and s3:DeleteObjectVersion removes it."""
    name = store.make()

    def refuse(asked: str, path: str) -> tuple[int, str] | None:
        return (403, "AccessDenied") if asked == method and "versionId=" in path else None

    with open_proxy(store.access["endpoint"], refuse) as endpoint, store.other(endpoint=endpoint) as client:
        found = S3BucketLook(client, name, "", SystemClock()).try_permissions()
    assert {each for each, is_allowed in found.allowed.items() if is_allowed is False} == refused == {*dict(found.why)}
    assert (found.kept_at is not None, found.copy_version) == (True, tried)
    left = list(store.client.list_versions(name))
    assert bool(left) == bool(found.left) == (method == "DELETE"), "what stays is told"
    assert not left or left[0].is_delete_marker


@pytest.mark.parametrize("again", [False, True])
def test_what_the_key_may_not_do_to_one_object_fails_alone(store: Store, again: bool) -> None:
    """As a policy has it, or a key of KMS: nothing else would be brought back, now or at any later attempt."""
    name, changes = damage_many(store, 6)

    def refuse(_method: str, path: str) -> tuple[int, str] | None:
        return (403, "AccessDenied") if "k001" in path else None

    with open_proxy(store.access["endpoint"], refuse) as endpoint, store.other(endpoint=endpoint) as client:
        carried = S3BucketVersions(client, name, "", Gate()).carry_out(changes, again=again)
        large = [each for each in changes if each.key == "k001"]
        parts = S3BucketVersions(client, name, "", Gate(), copied_at_once_bytes=1).carry_out(large, again=again)
    assert [each.outcome for each in carried] == [
        Outcome.FAILED if each.key == "k001" else Outcome.DONE for each in changes
    ]
    assert {each.why for each in [*carried, *parts]} == {"", "S3 answered 403 AccessDenied: as the test has it"}


def test_a_removal_whose_marker_may_not_be_listed_is_told_by_its_undo(store: Store) -> None:
    """It was made: as a failure, it would be nothing to take back."""
    name = store.make()
    side = Side(S3BucketVersions(store.client, name, "", Gate()), BotoApplication(store.boto, name))
    new = side.put("new", b"since")
    change = ObjectChange(ChangeKind.REMOVE, "new", new, found_etag=side.of("new")[0].etag, found_bytes=5)
    side.bucket.carry_out([change], again=False)

    def refuse(method: str, path: str) -> tuple[int, str] | None:
        return (403, "AccessDenied") if method == "GET" and "versions" in path else None

    with open_proxy(store.access["endpoint"], refuse) as endpoint, store.other(endpoint=endpoint) as client:
        bucket = S3BucketVersions(client, name, "", Gate())
        (carried,) = bucket.carry_out([change], again=True, attempts=attempts_of(60, 60))
    assert (carried.outcome, carried.version_id) == (Outcome.DONE, "")
    (undone,) = side.bucket.carry_out(list(list_undos([(change, carried)])), again=True)
    assert (undone.outcome, undone.why) == (Outcome.FAILED, NOT_KNOWN)


def test_what_may_have_been_made_before_a_refusal_is_no_failure_to_pass_over(store: Store) -> None:
    """An attempt was killed, and the key may not even look by now: whether it made the change is not known."""
    name = store.make()
    side = Side(S3BucketVersions(store.client, name, "", Gate()), BotoApplication(store.boto, name))
    changes = []
    for key in ("made", "not"):
        good = side.put(f"{key}-changed", b"good")
        side.put(f"{key}-changed", b"bad")
        back, new = side.put(f"{key}-deleted", b"good"), side.put(f"{key}-new", b"since")
        marker = side.delete(f"{key}-deleted")
        etag = side.of(f"{key}-new")[0].etag
        changes += [
            replace(side.copy_of(f"{key}-changed", good), found_etag=side.of(f"{key}-changed")[0].etag, found_bytes=3),
            ObjectChange(ChangeKind.UNDELETE, f"{key}-deleted", marker, back, markers=(marker,)),
            ObjectChange(ChangeKind.REMOVE, f"{key}-new", new, found_etag=etag, found_bytes=5),
        ]
    wanted = {each.key: side.read(each.key) for each in changes}
    side.bucket.carry_out(changes[:3], again=False)
    with (
        open_proxy(store.access["endpoint"], lambda _method, _path: (403, "AccessDenied")) as endpoint,
        store.other(endpoint=endpoint) as client,
    ):
        carried = S3BucketVersions(client, name, "", Gate()).carry_out(
            changes, again=True, attempts=attempts_of(60, 60)
        )
    assert {(each.outcome, each.maybe_made) for each in carried} == {(Outcome.FAILED, True)}
    undos = list(list_undos(zip(changes, carried, strict=True)))
    undone = {each.key: done for each, done in zip(undos, side.bucket.carry_out(undos, again=True), strict=True)}
    left = {key for key, before in wanted.items() if side.read(key) != before}
    assert left == {"made-changed", "made-new"} == {key for key, each in undone.items() if each.why == NOT_KNOWN}
    assert undone["made-deleted"].outcome is Outcome.DONE
    assert {undone[f"not-{what}"].outcome for what in ("changed", "deleted", "new")} == {Outcome.SAME}


@pytest.mark.parametrize(
    ("status", "word"),
    [(403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"), (400, "ExpiredToken"), (401, "Unauthorized")],
)
def test_a_key_that_is_not_accepted_any_more_ends_it(store: Store, status: int, word: str) -> None:
    name, changes = damage_many(store, 2)
    with (
        open_proxy(store.access["endpoint"], lambda _method, _path: (status, word)) as endpoint,
        store.other(endpoint=endpoint) as client,
    ):
        for again in (False, True):
            with pytest.raises(AuthError, match=str(status)):
                S3BucketVersions(client, name, "", Gate()).carry_out(changes, again=again)


# --- how many at once ---------------------------------------------------------------------------------------------


def test_the_gate_halves_when_the_store_asks_to_slow_down_and_grows_again() -> None:
    gate = Gate(first=16, most=20)
    gate.hear(CallFailed(ProviderRejected("no", status=404, where="x"), permanent=True))
    assert gate.limit == 16
    gate.hear(CallFailed(ProviderRejected("SlowDown", status=503, where="x")))
    gate.hear(CallFailed(ProviderRejected("SlowDown", status=503, where="x")))
    assert gate.limit == 4
    for _ in range(200):
        with gate.passing():
            pass
    assert gate.limit == 20
    for _ in range(20):
        gate.hear(CallFailed(ProviderRejected("SlowDown", status=503, where="x")))
    assert gate.limit == 1


def test_the_gate_halves_once_a_round() -> None:
    """Sixteen calls that are refused at once say one thing, and not that one call at a time is too many."""
    gate = Gate(first=16)
    begun = time.monotonic()
    for _ in range(16):
        failed = CallFailed(ProviderRejected("SlowDown", status=503, where="x"))
        failed.begun = begun
        gate.hear(failed)
    assert gate.limit == 8
    failed.begun = time.monotonic()
    gate.hear(failed)
    assert gate.limit == 4


def test_the_gate_opens_fast_until_the_store_asks_to_slow_down_and_slowly_from_then_on() -> None:
    gate = Gate(first=4, most=64)
    for _ in range(20):
        gate.grow()
    assert gate.limit == 24
    gate.hear(CallFailed(ProviderRejected("SlowDown", status=503, where="x")))
    for _ in range(12):
        gate.grow()
    assert gate.limit == 12, "a round of twelve adds one, nearly"
