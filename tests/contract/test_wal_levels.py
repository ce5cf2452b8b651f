"""What a segment says of wal_level: records as Postgres writes them, wherever in a page they lie."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from backout.analysis.backups import protection
from backout.errors import BackoutError
from backout.model.backups import Cluster, Protection, Slot, WalRead, WalStatus
from backout.model.recovery import BackupKind, BaseBackup, WalSegment
from backout.providers.archive.claim import Claim, ClaimWatch
from backout.providers.archive.commits import last_commit
from backout.providers.archive.levels import LevelChange, crc32c, level_changes
from backout.providers.archive.readback import Reading, catch_up
from backout.providers.archive.receiving import ReceiverStatus, known_claim
from backout.providers.archive.stores import FolderStore
from backout.providers.archive.wal import WalArchive

if TYPE_CHECKING:
    from pathlib import Path

PAGE, SEGMENT = 8192, 1 << 20


def record(wal_level: int) -> bytes:
    """XLOG_PARAMETER_CHANGE, with its checksum."""
    data = b"\xff\x1c" + struct.pack("<6i4B", 100, 8, 10, 0, 64, wal_level, 0, 1, 0, 0)
    head = struct.pack("<IIQBBH", 54, 0, 0x3000028, 0x60, 0, 0)
    return head + struct.pack("<I", crc32c(data + head)) + data


def commit(at: float, *, info: int = 0x80, before: bytes = b"", more: int = 40) -> bytes:
    """XLOG_XACT_COMMIT of a transaction, or another record of rmgr Transaction."""
    body = struct.pack("<q", int((at - 946_684_800) * 1e6)) + bytes(range(more))
    mark = b"\xff" + bytes((len(body),)) if len(body) < 256 else b"\xfe" + struct.pack("<I", len(body))
    data = before + mark + body
    head = struct.pack("<IIQBBH", 24 + len(data), 755, 0x3000028, info, 1, 0)
    return head + struct.pack("<I", crc32c(data + head)) + data


def segment(*placed: tuple[int, bytes]) -> bytes:
    """A segment with records at these places of what its pages hold."""
    stream = bytearray(SEGMENT // PAGE * (PAGE - 24) - 16)
    for at, content in placed:
        stream[at : at + len(content)] = content
    made, rest = bytearray(40) + stream[: PAGE - 40], stream[PAGE - 40 :]
    while rest:
        made += bytearray(24) + rest[: PAGE - 24]
        rest = rest[PAGE - 24 :]
    return bytes(made)


@pytest.mark.parametrize("at", [0, 4000, PAGE - 40 - 20, PAGE - 40, 3 * (PAGE - 24) - 16 - 10, SEGMENT // 2])
def test_a_change_is_found_wherever_it_lies(at: int) -> None:
    """In the middle of a page, at its begin, and across two."""
    found = level_changes(segment((at, record(0)), (at + 104, record(1))), 0x5000000)
    assert [each.minimal for each in found] == [True, False]
    assert segment((at, record(0)))[found[0].lsn - 0x5000000 :].startswith(b"\x36")


def test_what_only_looks_like_a_change_is_none() -> None:
    """A row may hold the same bytes; the checksum would not be right, nor is it one of another record."""
    torn = bytearray(record(0))
    torn[-8] ^= 1
    other = bytearray(record(0))
    other[16] = 0x70
    assert level_changes(segment((64, bytes(torn)), (640, bytes(other))), 0) == ()
    assert level_changes(b"", 0) == ()
    assert level_changes(segment((64, record(1))), 0) == (LevelChange(104, minimal=False),)


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


@pytest.mark.parametrize("at", [0, 4000, PAGE - 40 - 24, PAGE - 40, 3 * (PAGE - 24) - 16 - 8, SEGMENT // 2])
def test_the_last_commit_of_a_segment_is_dated(at: int) -> None:
    """Wherever it lies; prepared ones and those that name where they come from; no abort, and none that is torn."""
    made = segment((at, commit(1000.5)), (at + 200, commit(7777.0, info=0x20)), (at + 400, commit(8888.0)[:-1]))
    found = last_commit(made, 0x5000000)
    assert found is not None
    assert (found[1], made[found[0] - 0x5000000 :][:4]) == (1000.5, struct.pack("<I", 74))
    origin, prepared = commit(5.0, before=b"\xfd\x01\x00", info=0), commit(6.0, info=0x30)
    assert last_commit(segment((at, origin)), 0) == (found[0] - 0x5000000, 5.0)
    later = last_commit(segment((at, origin), (at + 600_000 // 16 * 8, prepared)), 0)
    assert later is not None
    assert later[1] == 6.0
    assert last_commit(segment((at, record(1))), 0) is None
    assert last_commit(b"", 0) is None


def test_what_is_read_back_tells_its_last_commit() -> None:
    """A segment without one changes nothing, one that was read before neither; another timeline begins anew."""
    first, second = WalSegment("1", 1, 0, SEGMENT), WalSegment("2", 1, SEGMENT, 2 * SEGMENT)
    one, two = segment((64, commit(50.0))), segment((64, commit(60.0)))
    read = Reading(1, 0, 0).with_segment(first, one).with_segment(second, segment())
    assert (read.commit_lsn, read.commit_at) == (104, 50.0)
    newer = read.with_segment(second, two).with_segment(first, one)
    assert (newer.commit_lsn, newer.commit_at) == (SEGMENT + 104, 60.0)
    other = newer.with_segment(WalSegment("9", 2, 9 * SEGMENT, 10 * SEGMENT), b"")
    assert other.commit_at == 0.0


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


def test_what_nobody_has_read_back_is_no_protection() -> None:
    """The WAL is there by its names; that is not enough."""
    base = BaseBackup("b", BackupKind.FULL, None, 0, 1, 40, 90, 1, "7", 180006, 1, 1, verified_at=1.0)
    slot = Slot("backout_lab", True, WalStatus.RESERVED, SEGMENT, 0)
    live = Cluster(2.0, "7", 1, 2 * SEGMENT, 180006, SEGMENT, 1, replication=True, summarize_wal=True,
                   slot_limit_bytes=SEGMENT, slot=slot)  # fmt: skip
    wal = (WalSegment("1", 1, 0, SEGMENT), WalSegment("2", 1, SEGMENT, 2 * SEGMENT))
    assert protection(live, (base,), wal, (), WalRead(1, 0, 2 * SEGMENT)).protected
    for read in (WalRead(1, 0, SEGMENT), WalRead(2, 0, 2 * SEGMENT)):
        found = protection(live, (base,), wal, (), read)
        assert (found.protected, "read back to" in found.why) == (False, True)


class Asked:
    """What a watch asks, and what it tells."""

    def __init__(self, *answers: bool | None) -> None:
        self.answers = list(answers)
        self.heard: list[tuple[bool, float, int]] = []
        self.alarms: list[str] = []
        self.alarm = ""

    def judge(self) -> Protection:
        answer = self.answers.pop(0)
        if answer is None:
            raise ValueError("a mistake of ours")
        return Protection(answer, "because", reaches_lsn=77, alarm=self.alarm)

    def alarmed(self, alarm: str) -> None:
        self.alarms.append(alarm)

    def told(self, found: Protection, since: float, lsn: int) -> None:
        self.heard.append((found.protected, since, lsn))


class Ticking:
    """A clock that goes a second further with each look."""

    at = 0.0

    def now(self) -> float:
        self.at += 1
        return self.at

    def sleep(self, _seconds: float) -> None:
        """Nobody sleeps here."""


def test_the_end_of_the_protection_is_told_once_with_the_last_moment_of_it() -> None:
    """One look that finds nobody receiving is a restart; two are a loss, and its end is told, too."""
    asked = Asked(True, True, False, True, False, False, False, True)
    watch = ClaimWatch(Claim(), asked, Ticking())
    for _ in range(8):
        watch.look()
    assert asked.heard == [(False, 3.0, 77), (True, 6.0, 77)]


def test_an_overdue_proof_is_told_once_until_there_is_another_one() -> None:
    """Its words change each day; a receiver that is started again does not tell it anew."""
    asked = Asked(*[True] * 7)
    watch = ClaimWatch(Claim(), asked, Ticking())
    for alarm in ("", "9 days old", "10 days old"):
        asked.alarm = alarm
        watch.look()
    assert asked.alarms == ["9 days old"]
    said = ReceiverStatus(at=9.0, pid=1, started_at=1.0, system_identifier="7", alarm=watch.claim.alarm)
    watch = ClaimWatch(known_claim(said, "7"), asked, Ticking())
    for alarm in ("11 days old", "", "the last one failed"):
        asked.alarm = alarm
        watch.look()
    assert asked.alarms == ["9 days old", "the last one failed"]


def test_a_watch_goes_on_after_a_look_that_failed_and_after_another_cluster_has_taken_its_place() -> None:
    """A look that ends with an error says nothing; and what protected one cluster is told as over by the next."""
    said = ReceiverStatus(at=9.0, pid=1, started_at=1.0, system_identifier="7", protected=True, protected_at=8.0,
                          protected_lsn=55)  # fmt: skip
    assert known_claim(said, "7") == Claim(protected=True, at=8.0, lsn=55)
    assert known_claim(None, "7") == Claim()
    asked = Asked(None, False, None, False)
    watch = ClaimWatch(known_claim(said, "8"), asked, Ticking())
    for _ in range(4):
        watch.look()
    assert asked.heard == [(False, 8.0, 0)]
