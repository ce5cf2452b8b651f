"""WAL that was read back: from where to where, and where wal_level was `minimal`; kept with the WAL itself.

The receiver reads each segment back when it is stored. A query reads the rest, up to a limit: WAL that was never read
back is no protection.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.model.database.wal import WalRead
from backout.providers.archive.wal_reading import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.database.recovery import BaseBackup
    from backout.model.database.wal import WalSegment
    from backout.providers.archive.wal import WalArchive

MOST_BYTES: Final = 256 << 20
"""What a command reads by itself, a second or two."""


def see(archive: WalArchive, segment: WalSegment, content: bytes) -> None:
    """Note that a whole segment was read, as it is stored; one behind what was not read yet is read in its turn."""
    known = archive.reading()
    if known.timeline == segment.timeline and known.end_lsn < segment.begin_lsn:
        return
    grown = known.with_segment(segment, content)
    if grown != known:
        archive.set_reading(grown)


def catch_up(
    archive: WalArchive, base: BaseBackup, segments: Sequence[WalSegment], most_bytes: int = MOST_BYTES
) -> WalRead:
    """Read back the unread WAL since a base backup, oldest first; return how far it is read.

    Args:
        segments: what there is, in order.
        most_bytes: then it ends, and the rest is not read.
    """
    known = archive.reading()
    here = [each for each in segments if each.timeline == base.timeline and each.end_lsn > base.begin_lsn]
    begin = here[0].begin_lsn if here else base.begin_lsn
    now = known
    if known.timeline != base.timeline or not known.begin_lsn <= begin <= known.end_lsn:
        now = Reading(base.timeline, begin, begin, known.minimal)
    durable = now
    for segment in here:
        if segment.end_lsn <= now.end_lsn or segment.begin_lsn > now.end_lsn:
            continue
        if most_bytes <= 0:
            break
        content = archive.read(segment.name) or b""  # what only the backup brought along was read with it
        most_bytes -= len(content)
        before, now = now, now.with_segment(segment, content)
        has_change = before.minimal != now.minimal
        if (not segment.partial or has_change) and now.begin_lsn == durable.begin_lsn:
            durable = now
    if durable != known and durable.end_lsn > durable.begin_lsn:
        with suppress(BackoutError):  # who only looks may not be allowed to write there, and knows it all the same
            archive.set_reading(durable)
    return WalRead(now.timeline, now.begin_lsn, now.end_lsn, now.commit_at or None)
