"""What a segment says of wal_level: records as Postgres writes them, wherever in a page they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from values import replace
from wal_records import PAGE, SEGMENT, record, segment

from backout.analysis.recovery.backups import judge_protection
from backout.errors import BackoutError
from backout.model.database.backups import Cluster, Slot, WalStatus
from backout.model.database.recovery import BackupKind, BaseBackup
from backout.model.database.wal import WalRead, WalSegment
from backout.providers.archive.levels import LevelChange, list_level_changes
from backout.providers.archive.readback import catch_up
from backout.providers.archive.sealing import Key
from backout.providers.archive.stores import FolderStore
from backout.providers.archive.wal import WalArchive
from backout.providers.archive.wal_reading import Reading

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("at", [0, 4000, PAGE - 40 - 20, PAGE - 40, 3 * (PAGE - 24) - 16 - 10, SEGMENT // 2])
def test_a_change_is_found_wherever_it_lies(at: int) -> None:
    """In the middle of a page, at its begin, and across two."""
    found = list_level_changes(segment((at, record(0)), (at + 104, record(1))), 0x5000000)
    assert [each.minimal for each in found] == [True, False]
    assert segment((at, record(0)))[found[0].lsn - 0x5000000 :].startswith(b"\x36")


def test_what_only_looks_like_a_change_is_none() -> None:
    """A row may hold the same bytes; the checksum would not be right, nor is it one of another record."""
    torn = bytearray(record(0))
    torn[-8] ^= 1
    other = bytearray(record(0))
    other[16] = 0x70
    assert list_level_changes(segment((64, bytes(torn)), (640, bytes(other))), 0) == ()
    assert list_level_changes(b"", 0) == ()
    assert list_level_changes(segment((64, record(1))), 0) == (LevelChange(104, minimal=False),)


def test_a_stretch_is_open_until_the_level_is_raised() -> None:
    """What was read twice counts once, and a segment elsewhere begins anew without forgetting it."""
    first, second = WalSegment("1", 1, 0, SEGMENT), WalSegment("2", 1, SEGMENT, 2 * SEGMENT)
    read = Reading(1, 0, 0).with_segment(first, segment((64, record(0))))
    assert read.minimal == ((1, 104, 1 << 64),)
    assert read.with_segment(first, segment((64, record(0)))) == read
    closed = read.with_segment(second, segment((0, record(1))))
    assert (closed.minimal, closed.end_lsn) == (((1, 104, SEGMENT + 40),), 2 * SEGMENT)
    elsewhere = closed.with_segment(WalSegment("9", 2, 9 * SEGMENT, 10 * SEGMENT), b"")
    assert (elsewhere.minimal, elsewhere.begin_lsn) == (closed.minimal, 9 * SEGMENT)


@pytest.mark.parametrize("before", [1, 20, 53])
def test_a_change_across_the_end_of_a_segment_is_found(before: int) -> None:
    """Whether the next segment is read whole at once, or as far as it was received first."""
    end = SEGMENT // PAGE * (PAGE - 24) - 16
    one, two = segment((end - before, record(0)[:before])), segment((0, record(0)[before:]), (800, record(1)))
    first, second = WalSegment("1", 1, 0, SEGMENT), WalSegment("2", 1, SEGMENT, 2 * SEGMENT)
    read = Reading(1, 0, 0).with_segment(first, one)
    assert read.minimal == ()
    received = replace(second, end_lsn=SEGMENT + 96, partial=True)
    coming = msgspec.json.decode(msgspec.json.encode(read.with_segment(received, two[:96])), type=Reading)
    assert coming.minimal == ((1, SEGMENT - before, 1 << 64),)
    for known in (read, coming, coming.with_segment(first, one)):
        whole = known.with_segment(second, two)
        assert whole.minimal == ((1, SEGMENT - before, SEGMENT + 840),)


def test_who_may_not_write_to_the_archive_reads_it_back_all_the_same(tmp_path: Path) -> None:
    """`status` of another user, or beside the receiver: what it has read it knows, and the next one reads it again."""

    class ReadOnly(FolderStore):
        def put(self, key: str, data: bytes) -> None:
            raise BackoutError("cannot be written: Permission denied", where=key)

    base = BaseBackup("b", BackupKind.FULL, None, 0, 1, 40, 90, 1, "7", 180006, 1, 1, verified_at=1.0)
    archive = WalArchive(FolderStore(tmp_path), "7", tmp_path / "incoming", None)
    archive.set_layout(SEGMENT)
    archive.keep(f"{1:024X}", segment((64, record(1))))
    wal = (WalSegment(f"{1:024X}", 1, 0, SEGMENT),)
    reader = WalArchive(ReadOnly(tmp_path), "7", tmp_path / "incoming", None)
    assert catch_up(reader, base, wal) == WalRead(1, 0, SEGMENT)
    assert archive.reading() == Reading()


def test_who_may_write_into_the_store_cannot_make_a_claim_of_it(tmp_path: Path) -> None:
    """With a key: what says how far WAL was read counts only as it was sealed, for this cluster."""
    store, key = FolderStore(tmp_path), Key(bytes(range(32)))
    archive = WalArchive(store, "7", tmp_path / "incoming", key)
    forged = Reading(1, 0, 1 << 40)
    store.put("wal/7/read.json", msgspec.json.encode(forged))
    assert archive.reading() == Reading()
    archive.set_reading(forged)
    assert archive.reading() == forged
    other = WalArchive(store, "8", tmp_path / "incoming", key)
    store.put("wal/8/read.json", store.get("wal/7/read.json") or b"")
    assert other.reading() == Reading()
    plain = WalArchive(FolderStore(tmp_path / "plain"), "7", tmp_path / "incoming", None)
    plain.set_reading(forged)
    assert plain.reading() == forged


def test_what_nobody_has_read_back_is_no_protection() -> None:
    """The WAL is there by its names; that is not enough."""
    base = BaseBackup("b", BackupKind.FULL, None, 0, 1, 40, 90, 1, "7", 180006, 1, 1, verified_at=1.0)
    slot = Slot("backout_lab", True, WalStatus.RESERVED, SEGMENT, 0)
    live = Cluster(2.0, "7", 1, 2 * SEGMENT, 180006, SEGMENT, 1, replication=True, summarize_wal=True,
                   slot_limit_bytes=SEGMENT, slot=slot)  # fmt: skip
    wal = (WalSegment("1", 1, 0, SEGMENT), WalSegment("2", 1, SEGMENT, 2 * SEGMENT))
    assert judge_protection(live, (base,), wal, (), WalRead(1, 0, 2 * SEGMENT)).protected
    for read in (WalRead(1, 0, SEGMENT), WalRead(2, 0, 2 * SEGMENT)):
        found = judge_protection(live, (base,), wal, (), read)
        assert (found.protected, "read back to" in found.why) == (False, True)
