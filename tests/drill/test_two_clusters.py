"""Two clusters whose backups lie in one store: each is listed, protected, pruned and restored by itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psycopg
import pytest
from backup_lab import Lab, running_lab
from kept import template
from small_cluster import SEGMENT

from backout.errors import Refused
from backout.model.database.recovery import BackupKind
from backout.providers.archive.record_store import RecordStore
from backout.providers.archive.records import FORMAT, Facts, Record
from backout.providers.archive.repository import Repository
from backout.providers.archive.stores import FolderStore
from backout.providers.postgres.server.binaries import find_binaries

from polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def repository(root: Path, taken: Sequence[tuple[float, str]], whose: Callable[[], str]) -> Repository:
    """A store with backups that were taken at these times of these clusters."""
    store = FolderStore(root)
    records = RecordStore(store, None)
    for at, system in taken:
        facts = Facts(id=f"2026{at:04.0f}-{system}00000", kind=BackupKind.FULL, parent=None, began_at=at, ended_at=at,
                      begin_lsn=40, end_lsn=90, timeline=1, system_identifier=system, server_version=180006,
                      segment_bytes=SEGMENT, size_bytes=1)  # fmt: skip
        records.write(Record(format=FORMAT, facts=facts, stored_bytes=1, index="0" * 64, verified_at=at))
    return Repository(store, find_binaries, incoming=root / "incoming", key=None, whose=whose)


def test_which_cluster_is_meant(tmp_path: Path) -> None:
    """The one that answers; without it the newest one's, unless both go on writing: then nobody guesses."""
    asked: list[str] = []

    def whose(answer: str) -> Callable[[], str]:
        return lambda: asked.append(answer) or answer

    assert repository(tmp_path / "0", [], whose("7")).cluster() == ""
    assert repository(tmp_path / "1", [(1, "7"), (2, "7")], whose("9")).cluster() == "7"
    assert asked == []  # nothing to be told apart
    replaced, side_by_side = [(1, "7"), (2, "7"), (3, "8")], [(1, "7"), (2, "8"), (3, "7"), (4, "8")]
    older = repository(tmp_path / "2", replaced, whose("7"))
    assert (older.cluster(), len(older.backups()), len(older.others())) == ("7", 2, 1)
    assert repository(tmp_path / "2", replaced, whose("9")).cluster() == "8"
    assert repository(tmp_path / "2", replaced, whose("")).cluster() == "8"
    assert repository(tmp_path / "3", side_by_side, whose("7")).cluster() == "7"
    with pytest.raises(Refused, match="several clusters write"):
        repository(tmp_path / "3", side_by_side, whose("")).backups()


def rows_of(lab: Lab) -> list[int]:
    """The rows just before the newest commit's end, in a side instance."""
    made = lab.backout("db", "restore", "latest", "--side", "--json")
    assert made.code == 0, made.err
    side = made.json["side"]
    try:
        with psycopg.connect(str(side["dsn"])) as connection:  # type: ignore[index,call-overload]
            return [row[0] for row in connection.execute("SELECT n FROM t ORDER BY n").fetchall()]
    finally:
        lab.backout("db", "restore", "--drop-side", str(side["name"]))  # type: ignore[index,call-overload]


@pytest.mark.long
def test_two_clusters_that_share_a_store_do_not_get_in_each_others_way(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The newest backup is of the other one; positions and names of segments are alike."""
    cache, limit = template(), {"max_slot_wal_keep_size": "64MB"}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with running_lab(tmp_path / "one", cache, limit) as one, running_lab(tmp_path / "two", cache, limit) as two:
        shared = f'directory = "{tmp_path / "shared"}"\nkeep = "1s"'
        one.configure(f'{shared}\nwal = "stream"', {"PATH": os.environ["PATH"]})
        two.configure(shared, {"PATH": os.environ["PATH"]})
        for lab in (one, two):
            lab.execute("CREATE TABLE t (n int PRIMARY KEY)")
        assert one.backout("db", "wal", "start").code == 0
        try:
            assert one.backout("db", "backup", "--full").code == 0
            one.execute("INSERT INTO t VALUES (1), (11)")
            two.execute("INSERT INTO t VALUES (2), (22), (222)")
            for lab in (one, two, one, two):
                taken = lab.backout("db", "backup", "--full")
                assert taken.code == 0, taken.err
            until(lambda: one.backout("db", "wal", "status", "--json").json["lag_bytes"] == 0, what="it is received")
            listed = one.backout("db", "backups", "list", "--json")
            assert listed.code == 0, listed.out
            ours = str(one.value("SELECT system_identifier FROM pg_control_system()"))
            theirs = str(two.value("SELECT system_identifier FROM pg_control_system()"))
            assert {each["system_identifier"] for each in listed.json["backups"]} == {ours}  # type: ignore[attr-defined,index]
            assert {each["system_identifier"] for each in listed.json["others"]} == {theirs}  # type: ignore[attr-defined,index]
            assert "two clusters write their backups into this store" in listed.err
            other = two.backout("db", "backups", "list", "--json")
            assert {each["system_identifier"] for each in other.json["backups"]} == {theirs}  # type: ignore[attr-defined,index]
            assert rows_of(one) == [1, 11]
            assert rows_of(two) == [2, 22, 222]
        finally:
            one.backout("db", "wal", "stop")
