"""The last commit that a segment of WAL holds, wherever it lies, and what is read back of a whole archive."""

from __future__ import annotations

import struct

import pytest
from wal_records import PAGE, SEGMENT, commit, record, segment

from backout.model.database.wal import WalSegment
from backout.providers.archive.commits import find_last_commit
from backout.providers.archive.wal_reading import Reading


@pytest.mark.parametrize("at", [0, 4000, PAGE - 40 - 24, PAGE - 40, 3 * (PAGE - 24) - 16 - 8, SEGMENT // 2])
def test_the_last_commit_of_a_segment_is_dated(at: int) -> None:
    """Wherever it lies; prepared ones and those that name where they come from; no abort, and none that is torn."""
    made = segment((at, commit(1000.5)), (at + 200, commit(7777.0, info=0x20)), (at + 400, commit(8888.0)[:-1]))
    found = find_last_commit(made, 0x5000000)
    assert found is not None
    assert (found[1], made[found[0] - 0x5000000 :][:4]) == (1000.5, struct.pack("<I", 74))
    origin, prepared = commit(5.0, before=b"\xfd\x01\x00", info=0), commit(6.0, info=0x30)
    assert find_last_commit(segment((at, origin)), 0) == (found[0] - 0x5000000, 5.0)
    later = find_last_commit(segment((at, origin), (at + 600_000 // 16 * 8, prepared)), 0)
    assert later is not None
    assert later[1] == 6.0
    assert find_last_commit(segment((at, record(1))), 0) is None
    assert find_last_commit(b"", 0) is None


def test_what_looks_like_a_commit_within_a_row_is_none() -> None:
    """A row may hold the bytes of a commit, right to its checksum, thousands of times: records are followed."""
    rows = commit(2000.0, more=14).ljust(48, b"\0") * 5000
    row = struct.pack("<IIQBBH", 24 + len(rows), 755, 0, 0x10, 10, 0) + bytes(4) + rows
    assert find_last_commit(segment((4000, commit(1000.0)), (4080, row)), 0) == (4040, 1000.0)


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
