"""How far WAL was received, to the byte: its last record may end with zeros, which look like what has not come yet.

A server that is idle writes such a record every few seconds (of its running transactions, which ends with a number of
four bytes and up to seven of padding). So the record is followed by its length, and counts if its checksum holds.

Source: PostgreSQL 15 to 18, src/include/access/xlogrecord.h, xlog_internal.h (the header of a page: how much of it
belongs to a record that began before).
"""

from __future__ import annotations

import struct
from typing import Final

from backout.providers.archive.levels import PAGE, SHORT, find_first_record, is_whole

_ROUND: Final = 8
"""Records begin at multiples of this."""
_HEADER: Final = 24


def find_end(content: bytes, begin: int = 0) -> int:
    """Return where the last record ends, in bytes from the begin of the segment.

    Where that record cannot be followed, it is the last byte that is not zero, rounded up: at most what was received.

    Args:
        content: of a segment, to its last byte that is not zero.
        begin: where in the segment this content begins, at the begin of a page.
    """
    seen = _round_up(begin + len(content))
    first = _find_first(content, begin)
    if first is None:
        return seen
    stream = _join_pages_from(content, begin, first)
    at = 0
    while at + 4 <= len(stream):
        (length,) = struct.unpack_from("<I", stream, at)
        if length < _HEADER:
            break
        following = at + _round_up(length)
        if following < len(stream):
            at = following
            continue
        end = _find_place(first, following)
        page_end = begin + len(content) + -(begin + len(content)) % PAGE
        if end <= seen or end > page_end:  # nothing is hidden, or a page is missing
            break
        record = stream[at : at + length].ljust(length, b"\0")
        return end if is_whole(record) else seen
    return seen


def _round_up(length: int) -> int:
    return length + -length % _ROUND


def _find_first(content: bytes, begin: int) -> int | None:
    """Return where the first record begins of the last page in which one does."""
    end = begin + len(content)
    for page in range((end - 1) // PAGE * PAGE, begin - 1, -PAGE):
        first = find_first_record(content, page, begin)
        if first < min(page + PAGE, end):
            return first
    return None


def _join_pages_from(content: bytes, begin: int, first: int) -> bytes:
    """Return what the pages hold from a place on, without their headers."""
    next_page = first - first % PAGE + PAGE
    pages = range(next_page - begin, len(content), PAGE)
    return b"".join([content[first - begin : next_page - begin], *(content[at + SHORT : at + PAGE] for at in pages)])


def _find_place(first: int, length: int) -> int:
    """Return where so many bytes end that begin at a place."""
    room = PAGE - first % PAGE
    if length <= room:
        return first + length
    pages, rest = divmod(length - room, PAGE - SHORT)
    end = first + room + pages * PAGE
    return end + SHORT + rest if rest else end
