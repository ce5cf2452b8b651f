"""Positions in a server's WAL, and stretches of it: archived, read back, or lost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


MINIMAL: Final = 'wal_level was "minimal"'
"""Why a stretch of WAL is none that can be replayed, though it is there."""
NO_END: Final = 1 << 64
SEGMENT_SIZES: Final = tuple(1 << bits for bits in range(20, 31))
"""Bytes that a segment may have: 1 MB to 1 GB (`initdb --wal-segsize`)."""


def parse_lsn(text: str) -> int:
    """Return a WAL position from the form that Postgres prints, such as `0/C3A5C918`. Raises ValueError."""
    found = _LSN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"not a WAL position: {text!r}")
    return int(found[1], 16) << 32 | int(found[2], 16)


def show_lsn(lsn: int) -> str:
    """Return a WAL position as Postgres prints it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def find_segment_begin(name: str, segment_bytes: int) -> int:
    """Return the position at which a segment begins; how large segments are was chosen when the cluster was made.

    >>> show_lsn(find_segment_begin("00000001000000010000002A", 16 << 20)), show_lsn(
    ...     find_segment_begin("00000001000000010000002A", 1 << 20)
    ... )
    ('1/2A000000', '1/2A00000')
    """
    return (int(name[8:16], 16) << 32) + int(name[16:24], 16) * segment_bytes


def find_segment_size(positions: Iterable[tuple[str, int]]) -> int | None:
    """Return the bytes of a segment, None where that could be several sizes, or none that Postgres has.

    >>> find_segment_size([("000000010000000000000003", parse_lsn("0/3000028"))])
    16777216

    Args:
        positions: names of segments, each with a position within it.
    """
    known = [*positions]
    fits = [
        size
        for size in SEGMENT_SIZES
        if known and all(0 <= lsn - find_segment_begin(name, size) < size for name, lsn in known)
    ]
    return fits[0] if len(fits) == 1 else None


def precedes(one: int, other: int) -> bool:
    """Whether a transaction's id was given away before another one; ids begin again behind 2^32.

    >>> precedes(5, 6), precedes(6, 6), precedes((1 << 32) - 1, 3)
    (True, False, True)
    """
    return (one - other) % (1 << 32) >= 1 << 31


class WalSegment(Value, frozen=True):
    """A piece of archived WAL: `[begin_lsn, end_lsn)`; a `.partial` one as far as it was received."""

    name: str
    timeline: int
    begin_lsn: int
    end_lsn: int
    partial: bool = False


class WalSpan(Value, frozen=True):
    """A stretch of WAL on one timeline: `[begin_lsn, end_lsn)`, in these segments."""

    timeline: int
    begin_lsn: int
    end_lsn: int
    names: tuple[str, ...] = ()


class WalGap(Value, frozen=True):
    """WAL that was lost: `[begin_lsn, end_lsn)`, and why."""

    at: float
    timeline: int
    begin_lsn: int
    end_lsn: int
    why: str


class WalRead(Value, frozen=True):
    """WAL of one timeline that was read back and can be replayed, except for gaps: `[begin_lsn, end_lsn)`.

    Args:
        commit_at: when the last commit in it was made (Unix seconds), None where none was seen.
    """

    timeline: int
    begin_lsn: int
    end_lsn: int
    commit_at: float | None = None


def list_replayable(segments: Iterable[WalSegment], gaps: Sequence[WalGap]) -> tuple[WalSegment, ...]:
    """Return segments in order, without what lies in a gap: of the one in which it begins, as far as that.

    What follows a gap in the segment where it ends is of no use: a base backup begins with a segment of its own.
    """
    found = []
    for each in sorted(segments, key=lambda segment: (segment.timeline, segment.begin_lsn)):
        gap = next((gap for gap in gaps if gap.timeline == each.timeline and gap.begin_lsn < each.end_lsn
                    and each.begin_lsn < gap.end_lsn), None)  # fmt: skip
        if gap is None:
            found.append(each)
        elif gap.begin_lsn > each.begin_lsn:
            found.append(replace(each, end_lsn=gap.begin_lsn, partial=True))
    return tuple(found)
