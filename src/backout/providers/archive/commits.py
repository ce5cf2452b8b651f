"""The time of the last commit in a WAL segment, so that "restorable up to" is a time read from the WAL itself.

Source: PostgreSQL 15 to 18, src/include/access/xlogrecord.h (the header of a record and of its data), xact.h
(XLOG_XACT_COMMIT, XLOG_XACT_COMMIT_PREPARED; their data begin with the time, microseconds since 2000).
"""

from __future__ import annotations

import re
import struct
from typing import Final

from backout.providers.archive.levels import is_whole, page_bytes, place

_HEADER: Final = 24
_KIND: Final = re.compile(rb"[\x00\x80\x30\xb0]\x01\x00\x00")
"""Of a commit (with or without more about it), of rmgr Transaction; then two bytes of padding."""
_KIND_AT: Final = 16
_LONGEST: Final = 1 << 20
_SHORT_DATA, _LONG_DATA, _ORIGIN, _TOP = 0xFF, 0xFE, 0xFD, 0xFC
_BEFORE: Final = {_ORIGIN: 3, _TOP: 5}
"""What may stand before a record's data, and how long it is with its own mark."""
_EPOCH_S: Final = 946_684_800
_PIECE: Final = 1 << 18


def last_commit(segment: bytes, begin_lsn: int) -> tuple[int, float] | None:
    """Return (position, Unix seconds) of the last commit that lies in a segment as a whole; None: it has none.

    Args:
        segment: as far as it was received; zeros behind.
        begin_lsn: where it begins.
    """
    stream = page_bytes(segment)
    end = len(stream)
    while end > 0:
        begin = max(0, end - _PIECE)
        for found in reversed(list(_KIND.finditer(stream, begin, min(len(stream), end + 3)))):
            at = found.start() - _KIND_AT
            made = _commit_at(stream, at) if at >= 0 and at % 8 == 0 else None
            if made is not None:
                return begin_lsn + place(at), made
        end = begin
    return None


def _commit_at(stream: bytes, at: int) -> float | None:
    """Return the time of the commit whose record begins there; None: there is no complete one."""
    (length,) = struct.unpack_from("<I", stream, at)
    if not _HEADER + 10 <= length <= min(_LONGEST, len(stream) - at):
        return None
    record = stream[at : at + length]
    if not is_whole(record):
        return None
    data = _HEADER
    while data < length and record[data] in _BEFORE:
        data += _BEFORE[record[data]]
    sizes = {_SHORT_DATA: 2, _LONG_DATA: 5}
    if data >= length or record[data] not in sizes or data + sizes[record[data]] + 8 > length:
        return None
    (micros,) = struct.unpack_from("<q", record, data + sizes[record[data]])
    return _EPOCH_S + int(micros) / 1e6
