"""Whether a history is locked: by Object Lock on a real SeaweedFS, by R2's lock rules as its API documents them."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import pytest
from store_lab import Store, open_store

from backout.analysis.checkup.objects import describe_lock
from backout.errors import ProviderUnavailable
from backout.model.objects.checks import BucketFacts, HistoryLock, PermissionLook
from backout.model.objects.manifests import ManifestName
from backout.providers.cloudflare.bucket_lock import read_r2_lock
from backout.providers.cloudflare.client import ApiClient
from backout.providers.memory import WorldClock
from backout.runbook.objects.check import judge_bucket
from backout.runbook.objects.tools import ObjectTools

from scripted_server import answer
from twin_harness import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripted_server import ScriptedServer

DAY_S = 86_400.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("s3")) as found:
        yield found


def test_object_lock_is_read_with_its_days(store: Store) -> None:
    """A bucket without it is not locked."""
    assert store.client.read_lock_days(store.make(versions=False)) is None
    store.boto.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    retention = {"Mode": "GOVERNANCE", "Days": 30}
    store.boto.put_object_lock_configuration(
        Bucket="locked",
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}},
    )
    assert store.client.read_lock_days("locked") == 30


def rule(prefix: str | None, condition: dict[str, object], *, enabled: bool = True) -> dict[str, object]:
    return {"id": "r", "enabled": enabled, "prefix": prefix, "condition": condition}


AGE = {"type": "Age", "maxAgeSeconds": 2_592_000}


@pytest.mark.parametrize(
    ("rules", "lock"),
    [
        ([], HistoryLock(is_locked=False)),
        (None, HistoryLock(is_locked=False)),
        ([rule("", AGE)], HistoryLock(is_locked=True, for_s=30 * DAY_S)),
        ([rule(None, AGE), rule("backout/", {"type": "Indefinite"})], HistoryLock(is_locked=True, for_s=inf)),
        ([rule("other/", AGE)], HistoryLock(is_locked=False)),
        ([rule("", AGE, enabled=False)], HistoryLock(is_locked=False)),
        ([rule("", {"type": "Date", "date": "2027-01-01T00:00:00Z"})], HistoryLock(is_locked=False)),
    ],
)
def test_rules_of_r2(server: ScriptedServer, rules: object, lock: HistoryLock) -> None:
    """Those that are on and concern the history; one up to a date locks nothing that is written after it."""
    server.will(answer({"success": True, "result": {"rules": rules}}))
    client = ApiClient(f"{server.url}/client/v4", lambda: TOKEN)
    assert read_r2_lock(client, "acc", "history", "backout/production/") == lock
    assert server.asked[0].target == "/client/v4/accounts/acc/r2/buckets/history/lock"


class Look:
    """Port BucketLook of a bucket in which all is well."""

    def read(self) -> BucketFacts:
        return BucketFacts("off")

    def try_permissions(self) -> PermissionLook:
        return PermissionLook(list=True, read=True, write=True, delete=True)


class Taken:
    """Port Snapshots with one of a moment ago."""

    def list_manifests(self) -> tuple[ManifestName, ...]:
        return (ManifestName(name="n", at=900.0, objects=1, size_bytes=1, changed=1, deleted=0),)

    def take(self, hear: Callable[[int], None]) -> ManifestName:
        raise NotImplementedError

    def prune(self, before: float) -> int:
        raise NotImplementedError


def lost() -> HistoryLock:
    raise ProviderUnavailable("no answer")


@pytest.mark.parametrize(
    ("read", "words", "problems"),
    [
        (lambda: HistoryLock(is_locked=False), "no rule locks the history", 0),
        (lambda: HistoryLock(is_locked=True, for_s=30 * DAY_S), "locked for 30 d", 0),
        (lambda: HistoryLock(is_locked=True, for_s=60 * DAY_S), "locked for 60 d", 1),
        (lambda: HistoryLock(is_locked=True, for_s=inf), "locked for ever", 1),
        (lost, "not known: no answer", 0),
    ],
)
def test_a_lock_that_outlasts_the_snapshots_is_a_problem(
    read: Callable[[], HistoryLock], words: str, problems: int
) -> None:
    """None at all is said; what does not answer is not known."""
    unused: object = None
    tools = ObjectTools(
        "production", "me", "b", "", WorldClock(1000.0), unused, unused, Look(), unused, unused,  # type: ignore[arg-type]
        snapshots=Taken(), read_lock=read,
    )  # fmt: skip
    found = judge_bucket(tools)
    assert found.lock is not None
    assert words in describe_lock(found.lock)
    assert len(found.problems) == problems, found.problems
