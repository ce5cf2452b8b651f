"""The time of the last commit in a WAL segment, so that "restorable up to" is a time read from the WAL itself.

The records are followed by their lengths, from the last page to the first: rows hold anything, so their bytes may look
like a commit a thousand times.

Source: PostgreSQL 15 to 18, src/include/access/xlogrecord.h (the header of a record and of its data), xact.h
(XLOG_XACT_COMMIT, XLOG_XACT_COMMIT_PREPARED; their data begin with the time, microseconds since 2000).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from backout.providers.archive.levels import LONG, PAGE, SHORT, find_first_record, find_place, is_whole, join_pages

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER: Final = 24
_LENGTH: Final = struct.Struct("<I")
_COMMIT: Final = frozenset(bytes((info, 1)) for info in (0x00, 0x80, 0x30, 0xB0))
"""Of a commit (with or without more about it, prepared or not), of rmgr Transaction."""
_LONGEST: Final = 1 << 20
_SHORT_DATA, _LONG_DATA, _ORIGIN, _TOP = 0xFF, 0xFE, 0xFD, 0xFC
_BEFORE: Final = {_ORIGIN: 3, _TOP: 5}
"""What may stand before a record's data, and how long it is with its own mark."""
_EPOCH_S: Final = 946_684_800


def find_last_commit(segment: bytes, begin_lsn: int) -> tuple[int, float] | None:
    """Return (position, Unix seconds) of the last commit that lies in a segment as a whole; None: it has none.

    Args:
        segment: as far as it was received; zeros behind.
        begin_lsn: where it begins.
    """
    stream = join_pages(segment)
    for page in range((len(segment) - 1) // PAGE, -1, -1):
        for at in reversed(list(_find_commits(stream, segment, page * PAGE))):
            made = _read_commit(stream, at)
            if made is not None:
                return begin_lsn + find_place(at), made
    return None


def _find_commits(stream: bytes, segment: bytes, page: int) -> Iterator[int]:
    """Yield where in the stream the commits begin that begin in a page.

    Args:
        page: where the page begins in the segment.
    """
    headers = LONG + page // PAGE * SHORT  # of the pages up to this one: the stream has none of them
    end = min(page + PAGE - headers, len(stream) - _HEADER + 1)
    at = find_first_record(segment, page) - headers
    while at < end:
        (length,) = _LENGTH.unpack_from(stream, at)
        if length < _HEADER:  # zeros: nothing was received from here on
            return
        if stream[at + 16 : at + 18] in _COMMIT:
            yield at
        at += length + -length % 8


def _read_commit(stream: bytes, at: int) -> float | None:
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
