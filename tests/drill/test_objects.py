"""`backout objects` as it is typed, on a real SeaweedFS, with an application that writes, and killed with -9."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from damaged_lab import Damaged
from store_lab import Store, open_store

from extent import by_extent
from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Record

pytestmark = pytest.mark.rotating("objects", 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.mark.long
@pytest.mark.parametrize("versions", [True, False], ids=["versions", "snapshots"])
def test_a_bad_moment_is_taken_back_while_the_application_writes(store: Store, tmp_path: Path, versions: bool) -> None:
    """The dry run counts it, the restore does it, a second listing says so, and what is written meanwhile stays."""
    damaged = Damaged(store, tmp_path, versions=versions)
    third = damaged.objects // 3
    dry = damaged.run("restore", "--to", damaged.to, "--dry-run")
    counted = _json(dry)
    assert (counted["undeleted"], counted["changed"], counted["removed"]) == (third, third, 8), dry.stderr
    assert counted["verified"] is None
    before = store.list_live(damaged.bucket)
    stop = threading.Event()
    written: dict[str, bytes] = {}

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            body = b"live %d" % number
            damaged.put("live/now", body)
            written["live/now"] = body

    assert store.list_live(damaged.bucket) == before, "a dry run changes nothing"
    application = threading.Thread(target=write)
    application.start()
    try:
        done = damaged.run("restore", "--to", damaged.to, "--yes")
    finally:
        stop.set()
        application.join()
    found = _json(done)
    assert done.returncode == 0, done.stderr
    assert (found["undeleted"], found["changed"]) == (third, third)
    assert found["removed"] in {8, 9}, "what was written before the plan was made belongs to the damage"
    assert (found["verified"], found["failed"], found["ambiguous"]) == (True, [], [])
    live = store.list_live(damaged.bucket)
    assert {key: etag for key, etag in live.items() if not key.startswith("live/")} == damaged.then
    assert store.read(damaged.bucket, "m/0000") == (b"good 0", {"owner": "u0"})
    assert store.read(damaged.bucket, "live/now") == (written["live/now"], {})
    undone = damaged.run("restore", "--undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert _json(undone)["verified"] is True
    live = store.list_live(damaged.bucket)
    assert {key: etag for key, etag in live.items() if not key.startswith("live/")} == {
        key: etag for key, etag in before.items() if not key.startswith("live/")
    }


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_killed_at_random_moments_and_typed_again(store: Store, tmp_path: Path, proof: Record) -> None:
    """Kill -9 somewhere in the restore; the same command without its moment goes on, and everything is as it was."""
    rounds = by_extent(1, 1, proof=20)
    objects = by_extent(300, 300, proof=1500)
    chance = random.Random("objects")  # noqa: S311 - moments, no secret
    for number in range(rounds):
        folder = tmp_path / str(number)
        folder.mkdir()
        damaged = Damaged(store, folder, versions=number % 2 == 0, objects=objects)
        begun = subprocess.Popen(
            damaged.command("restore", "--to", damaged.to, "--yes"),
            cwd=folder,
            env=damaged.variables(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        journal = folder / ".backout" / "journal.sqlite"
        while not journal.exists() and begun.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, objects / 500))
        begun.send_signal(signal.SIGKILL)
        begun.wait()
        again = damaged.run("restore", "--yes")
        if again.returncode == 2:  # it had not begun, or had come to its end
            again = damaged.run("restore", "--to", damaged.to, "--yes")
        assert again.returncode == 0, (again.returncode, again.stderr)
        assert store.list_live(damaged.bucket) == damaged.then
        if number % 2 == 0:
            versions = list(store.client.list_versions(damaged.bucket, "m/"))
            copies = len([each for each in versions if not each.is_delete_marker])
            assert copies == objects + 2 * (objects // 3), "each was copied once"
    proof(
        "a restore of objects killed with -9, typed again: as it was, each object copied once",
        trials=rounds,
        failures=0,
    )


@pytest.mark.long
@pytest.mark.parametrize("versions", [True, False], ids=["versions", "snapshots"])
def test_killed_and_taken_back(store: Store, tmp_path: Path, versions: bool) -> None:
    """Kill -9 while it brings objects back; `--undo` takes back what it did, and does not go on with it."""
    damaged = Damaged(store, tmp_path, versions=versions, objects=90)
    before = store.list_live(damaged.bucket)
    begun = subprocess.Popen(
        damaged.command("restore", "--to", damaged.to, "--yes"),
        cwd=tmp_path,
        env=damaged.variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: store.list_live(damaged.bucket) != before or begun.poll() is not None, 120, "it restores")
    begun.kill()
    begun.wait()
    shown = damaged.run("restore", "--undo", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    undone = damaged.run("restore", "--undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert _json(undone)["verified"] is True
    assert store.list_live(damaged.bucket) == before
    assert damaged.run("restore", "--yes").returncode == 2, "nothing to go on with"


def _json(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.stdout, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
