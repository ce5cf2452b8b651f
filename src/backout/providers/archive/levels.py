"""Changes of wal_level in the WAL: from `minimal` on it lacks what a replay needs, and Postgres refuses it.

Source: PostgreSQL 15 to 18, src/include/access/xlogrecord.h (24 bytes before a record's data), xlog_internal.h (the
header of a page has 24 bytes, of a segment's first one 40), catalog/pg_control.h (XLOG_PARAMETER_CHANGE);
xl_parameter_change has six integers and two booleans, wal_level is the sixth. Only a record whose checksum (CRC-32C)
is right counts.
"""

from __future__ import annotations

import struct
from typing import Final

from backout.model.value import Value

PAGE: Final = 8192
SHORT, LONG = 24, 40
_GOES_ON: Final = 0x0001
"""A page begins with the rest of a record."""
_BEGINS: Final = bytes((54, 0, 0, 0, 0, 0, 0, 0))
"""Its length (header, two bytes, 28 of data), and no transaction."""
_LENGTH: Final = 54
_IS_CHANGE: Final = b"\x60\x00"
_DATA: Final = b"\xff\x1c"
_MINIMAL: Final = 0


class LevelChange(Value, frozen=True):
    """A start of the server with another wal_level (or another size setting), at a position."""

    lsn: int
    minimal: bool


def list_level_changes(segment: bytes, begin_lsn: int, before: bytes = b"") -> tuple[LevelChange, ...]:
    """Return the changes that a segment names, in order.

    Args:
        segment: as far as it was received; zeros behind.
        begin_lsn: where it begins.
        before: `get_end` the segment before it, so that a record that lies across is seen; without it that one is not.
    """
    stream = before + join_pages(segment)
    found = []
    at = stream.find(_BEGINS)
    while at >= 0:
        record = stream[at : at + _LENGTH]
        if _is_change(record):
            (level,) = struct.unpack_from("<i", record, 26 + 5 * 4)
            inside = at - len(before)
            found.append(LevelChange(begin_lsn + (find_place(inside) if inside >= 0 else inside), level == _MINIMAL))
        at = stream.find(_BEGINS, at + 1)
    return tuple(found)


def get_end(segment: bytes) -> bytes:
    """Return the end of a whole segment, in which a record may begin that goes on in the next one."""
    return segment[1 - _LENGTH :]


def _is_change(record: bytes) -> bool:
    if len(record) < _LENGTH or record[16:18] != _IS_CHANGE or record[24:26] != _DATA:
        return False
    return is_whole(record)


def is_whole(record: bytes) -> bool:
    """Whether a record's checksum is right: it lies behind the first 20 bytes, and counts the data first."""
    (stored,) = struct.unpack_from("<I", record, 20)
    return compute_crc32c(record[24:] + record[:20]) == int(stored)


def find_first_record(segment: bytes, page: int, begin: int = 0) -> int:
    """Return where the first record of a page begins: behind its header, and the rest of a record that began before.

    Args:
        segment: of a segment, what was received of it from `begin` on.
        page: where the page begins in the segment.
    """
    header = segment[page - begin : page - begin + SHORT].ljust(SHORT, b"\0")
    (flags,), (rest,) = struct.unpack_from("<H", header, 2), struct.unpack_from("<I", header, 16)
    return page + (SHORT if page else LONG) + (rest + -rest % 8 if flags & _GOES_ON else 0)


def join_pages(segment: bytes) -> bytes:
    """Return what the pages of a segment hold, one after the other, without their headers."""
    pages = [segment[at + SHORT : at + PAGE] for at in range(PAGE, len(segment), PAGE)]
    return b"".join([segment[LONG:PAGE], *pages])


def find_place(at: int) -> int:
    """Return the place in the segment of a place in what its pages hold."""
    first = PAGE - LONG
    if at < first:
        return at + LONG
    page, rest = divmod(at - first, PAGE - SHORT)
    return (page + 1) * PAGE + SHORT + rest


def compute_crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes.

    >>> hex(compute_crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _compute_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE: Final = tuple(_compute_entry(byte) for byte in range(256))
