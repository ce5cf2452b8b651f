"""A restore of objects that several processes work on: the same as by one, also when one is killed, or stopped and woken."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from damaged_lab import Damaged
from journal import toy
from journal_engines import journal_server
from spread_lab import Spread, finish
from store_lab import Store, open_store
from store_proxy import open_proxy

from polling import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["journal_server"]

CHUNK = 15


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("s3")) as found:
        yield found


class Slow:
    """A store that is asked through a proxy: each change takes a while, and none passes while it is `shut`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.changes = 0
        self.passing = 10**9
        self.pause_s = 0.02

    def shut(self, after: int) -> None:
        """Let only so many more changes pass."""
        self.changes, self.passing = 0, after
        self.gate.clear()

    def refuse(self, method: str, _path: str) -> None:
        if method in ("PUT", "DELETE"):
            time.sleep(self.pause_s)
            self.changes += 1
            if self.changes > self.passing:
                self.gate.wait(300)


class Lab:
    """A damaged bucket behind a slow proxy, with its journal on a server."""

    def __init__(self, store: Store, folder: Path, server: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
        monkeypatch.setenv(toy.SERVER, server)
        self.slow, self.store = Slow(), store
        self._proxy = open_proxy(store.access["endpoint"], self.slow.refuse)
        self.endpoint = self._proxy.__enter__()
        self.damaged = Damaged(store, folder, endpoint=self.endpoint, **more)
        self.spread = Spread(folder, toy.url_of(folder), CHUNK)

    def close(self) -> None:
        self.slow.gate.set()
        self._proxy.__exit__(None, None, None)

    def check(self, found: dict[str, Any]) -> None:
        """The bucket is as it was, key by key, and the figures are those of a restore by one machine."""
        third = self.damaged.objects // 3
        restored, compared = found["restored"], found["compared"]
        assert self.store.list_live(self.damaged.bucket) == self.damaged.then
        figures = [restored[name] for name in ("undeleted", "changed", "removed", "same", "newer", "failures")]
        assert figures == [third, third, 8, 0, 0, 0]
        assert (compared["verified"], compared["compared"]) == (True, 2 * third + 8)
        assert self.spread.ask("SELECT count(*) FROM backout_tasks.range") == [(0,)]

    def count_copies(self) -> int:
        """Return how many copies of older versions the bucket has, beside what the application wrote."""
        versions = [
            each for each in self.store.client.list_versions(self.damaged.bucket, "m/") if not each.is_delete_marker
        ]
        return len(versions) - self.damaged.objects - self.damaged.objects // 3

    def take_part(self, workers: list[subprocess.Popen[str]]) -> dict[int, int]:
        """Return how many ranges each of these processes has now, by pid."""
        taken = [int(pid) for pid, _ in self.spread.list_taken().values()]
        return {each.pid: taken.count(each.pid) for each in workers}


@pytest.fixture
def lab(store: Store, tmp_path: Path, journal_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    found = Lab(store, tmp_path, journal_server, monkeypatch, versions=True, objects=180)
    yield found
    found.close()


def wait_for_all(lab: Lab, workers: list[subprocess.Popen[str]]) -> None:
    """Wait until each of these has a range while the store lets nothing pass."""
    until(lambda: all(lab.take_part(workers).values()), 60, "each worker has a range")


def test_two_workers_and_the_driver_restore_what_one_does(lab: Lab) -> None:
    """Each of the three has a range at once; what each brought back is noted once, and copied once."""
    lab.slow.shut(after=5)
    with lab.spread.working(2) as workers:
        driver = lab.spread.drive(lab.damaged.to)
        wait_for_all(lab, [*workers, driver])
        lab.slow.gate.set()
        found = finish(driver)
    lab.check(found)
    assert lab.count_copies() == lab.damaged.objects // 3, "each was copied once"
