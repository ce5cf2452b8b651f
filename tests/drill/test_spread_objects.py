"""A restore of objects by several processes: the same as by one, also when one is killed, or stopped and woken."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from damaged_lab import Damaged
from journal import toy
from journal_engines import journal_server
from spread_lab import Spread, finish
from store_lab import Store, open_store
from store_proxy import open_proxy

from polling import until
from streamed import await_line

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["journal_server"]


CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backout worker'"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("s3")) as found:
        yield found


class Slow:
    """A store that is asked through a proxy, which lets changes of a bucket pass as the test has it."""

    def __init__(self) -> None:
        self.bucket = ""
        self._passing = threading.Condition()
        self._left: float = float("inf")

    def shut(self) -> None:
        """Keep every change that comes from now on waiting."""
        self._left = 0

    def let(self, changes: float = float("inf")) -> None:
        """Let so many more pass, or all."""
        with self._passing:
            self._left += changes
            self._passing.notify_all()

    def refuse(self, method: str, path: str) -> None:
        if method in ("PUT", "DELETE") and path.startswith(f"/{self.bucket}/"):
            with self._passing:
                self._passing.wait_for(lambda: self._left > 0, 300)
                self._left -= 1


class Lab:
    """A damaged bucket behind a slow proxy, with its journal on a server."""

    def __init__(self, store: Store, folder: Path, objects: int, chunk: int, *, versions: bool) -> None:
        self.slow, self.store = Slow(), store
        self._proxy = open_proxy(store.access["endpoint"], self.slow.refuse)
        self.endpoint = self._proxy.__enter__()
        self.damaged = Damaged(store, folder, versions=versions, objects=objects, endpoint=self.endpoint)
        self.slow.bucket = self.damaged.bucket
        self.spread = Spread(folder, toy.url_of(folder), chunk)

    def close(self) -> None:
        self.slow.let()
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

    def list_busy(self, done: int = 0) -> set[int]:
        """Return the pids of those who have a range now, so many of its changes done, and some not."""
        return {pid for pid, made in self.spread.list_taken().values() if done <= made < self.spread.chunk}

    def wait_for_all(self, *processes: subprocess.Popen[str]) -> None:
        """Wait until each has a range, while the store lets no change pass."""
        until(lambda: {each.pid for each in processes} <= self.list_busy(), 60, "each process has a range")

    def bring_into(self, process: subprocess.Popen[str]) -> None:
        """Let changes pass until the process has made some of its range, and not all."""

        def is_inside() -> bool:
            if process.pid in self.list_busy(done=1):
                return True
            self.slow.let(1)
            return False

        until(is_inside, 60, "it is inside of a range", 0.3)


@pytest.fixture
def open_lab(
    store: Store, tmp_path: Path, journal_server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Lab]]:
    monkeypatch.setenv(toy.SERVER, journal_server)
    opened: list[Lab] = []

    def open_one(objects: int = 180, chunk: int = 15, *, versions: bool = True) -> Lab:
        opened.append(Lab(store, tmp_path, objects, chunk, versions=versions))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def test_two_workers_and_the_driver_restore_what_one_does(open_lab: Callable[..., Lab]) -> None:
    """Each of the three has a range at once; what each brought back is noted once, and copied once."""
    lab = open_lab()
    lab.slow.shut()
    with lab.spread.working(2) as workers:
        driver = lab.spread.drive(lab.damaged.to)
        lab.wait_for_all(*workers, driver)
        lab.slow.let()
        lab.check(finish(driver))
    assert lab.count_copies() == lab.damaged.objects // 3, "each was copied once"


@pytest.mark.long
@pytest.mark.rotating("spread restores", 3)
def test_of_four_workers_one_is_killed_in_the_middle_of_a_range(open_lab: Callable[..., Lab]) -> None:
    """Another goes on with its range, and tells what the dead one had made from what is to be made."""
    lab = open_lab(objects=360, chunk=15)
    lab.slow.shut()
    with lab.spread.working(4) as workers:
        driver = lab.spread.drive(lab.damaged.to)
        lab.wait_for_all(*workers, driver)
        lab.bring_into(workers[1])
        workers[1].kill()
        lab.slow.let()
        lab.check(finish(driver))
    assert lab.count_copies() == lab.damaged.objects // 3, "each was copied once"


@pytest.mark.long
@pytest.mark.rotating("spread restores", 3)
def test_of_two_workers_one_is_killed_in_a_bucket_without_versions(open_lab: Callable[..., Lab]) -> None:
    """Each object is looked at before it is changed, and what the dead one had changed is told as done."""
    lab = open_lab(versions=False)
    lab.slow.shut()
    with lab.spread.working(2) as workers:
        driver = lab.spread.drive(lab.damaged.to)
        lab.wait_for_all(*workers, driver)
        lab.bring_into(workers[0])
        workers[0].kill()
        lab.slow.let()
        lab.check(finish(driver))


@pytest.mark.long
@pytest.mark.rotating("spread restores", 3)
def test_a_worker_that_was_stopped_and_is_woken_changes_nothing_more(open_lab: Callable[..., Lab]) -> None:
    """The rest of its range was done by another, and the application has written every object since."""
    lab = open_lab(objects=180, chunk=40)  # more than it has calls on their way at once
    lab.slow.shut()
    with lab.spread.working(2) as workers:
        driver = lab.spread.drive(lab.damaged.to)
        lab.wait_for_all(*workers, driver)
        lab.bring_into(workers[0])
        workers[0].send_signal(signal.SIGSTOP)
        lab.slow.let()
        lab.check(finish(driver))
        for number in range(lab.damaged.objects):
            lab.damaged.put(f"m/{number:04}", b"since the restore")
        written = lab.store.list_live(lab.damaged.bucket)
        workers[0].send_signal(signal.SIGCONT)
        await_line(workers[0], "the range is not this worker's any more")
        assert lab.store.list_live(lab.damaged.bucket) == written


@pytest.mark.long
@pytest.mark.rotating("spread restores", 3)
@pytest.mark.parametrize("how", ["spread", "alone"])
def test_a_driver_that_was_killed_is_followed_by_another(open_lab: Callable[..., Lab], how: str) -> None:
    """What the workers had finished is taken over; what they were at is looked at first, by several or by one."""
    lab = open_lab()
    lab.slow.shut()
    with lab.spread.working(2) as workers:
        driver = lab.spread.drive(lab.damaged.to)
        lab.wait_for_all(*workers, driver)
        lab.bring_into(workers[0])
        driver.kill()
        driver.communicate()
        lab.slow.let()
        lab.check(finish(lab.spread.drive("", how)))
    assert lab.count_copies() == lab.damaged.objects // 3, "each was copied once"


@pytest.mark.long
@pytest.mark.rotating("spread restores", 3)
def test_a_restore_whose_driver_was_killed_is_taken_back(open_lab: Callable[..., Lab]) -> None:
    """What was done by any machine is taken back, and its workers do not go on with it."""
    lab = open_lab()
    before = lab.store.list_live(lab.damaged.bucket)
    lab.slow.shut()
    with lab.spread.working(2) as workers:
        driver = lab.spread.drive(lab.damaged.to)
        lab.wait_for_all(*workers, driver)
        lab.bring_into(workers[0])
        driver.kill()
        driver.communicate()
        lab.slow.let()
        found = finish(lab.spread.drive("", "undo"))
        assert found["compared"]["verified"] is True
        assert found["restored"]["failures"] == 0
    assert lab.store.list_live(lab.damaged.bucket) == before
    assert lab.spread.ask("SELECT count(*) FROM backout_tasks.range") == [(0,)]


@pytest.mark.long
@pytest.mark.rotating("spread restores", 3)
def test_a_range_whose_job_is_lost_is_done_all_the_same(open_lab: Callable[..., Lab]) -> None:
    """The workers are cut off besides, and connect again by themselves."""
    lab = open_lab()
    lab.slow.shut()
    with lab.spread.working(2) as workers:
        driver = lab.spread.drive(lab.damaged.to)
        lab.wait_for_all(*workers, driver)
        assert lab.spread.ask("DELETE FROM backout_tasks.procrastinate_jobs RETURNING id")
        assert lab.spread.ask(CUT)
        lab.slow.let()
        lab.check(finish(driver))


@pytest.mark.long
@pytest.mark.rotating("spread restores", 3)
def test_a_worker_outlives_a_server_that_is_away_for_a_while(open_lab: Callable[..., Lab], journal_server: str) -> None:
    """Procrastinate's own worker ends then; it is started anew, and takes ranges again."""
    lab = open_lab()
    name = lab.spread.url.rpartition("/")[2]
    lab.slow.shut()
    with lab.spread.working(1) as (worker,), psycopg.connect(journal_server, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        assert connection.execute(CUT.encode()).fetchall()
        await_line(worker, "no ranges of restores are taken")
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
        await_line(worker, "taking ranges")
        driver = lab.spread.drive(lab.damaged.to)
        lab.wait_for_all(worker, driver)
        lab.slow.let()
        lab.check(finish(driver))
        worker.terminate()
        assert (worker.wait(120), worker.communicate()[1]) == (0, "")
