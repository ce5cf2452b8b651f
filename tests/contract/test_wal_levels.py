"""What a segment says of wal_level: records as Postgres writes them, wherever in a page they lie."""

from __future__ import annotations

import struct

import pytest

from backout.analysis.backups import protection
from backout.model.backups import Cluster, Protection, Slot, WalRead, WalStatus
from backout.model.recovery import BackupKind, BaseBackup, WalSegment
from backout.providers.archive.claim import Claim, ClaimWatch
from backout.providers.archive.levels import LevelChange, _crc32c, level_changes
from backout.providers.archive.readback import Reading

PAGE, SEGMENT = 8192, 1 << 20


def record(wal_level: int) -> bytes:
    """XLOG_PARAMETER_CHANGE, with its checksum."""
    data = b"\xff\x1c" + struct.pack("<6i4B", 100, 8, 10, 0, 64, wal_level, 0, 1, 0, 0)
    head = struct.pack("<IIQBBH", 54, 0, 0x3000028, 0x60, 0, 0)
    return head + struct.pack("<I", _crc32c(data + head)) + data


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

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.heard: list[tuple[bool, float, int]] = []

    def judge(self) -> Protection:
        return Protection(self.answers.pop(0), "because", reaches_lsn=77)

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
