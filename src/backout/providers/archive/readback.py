"""WAL that was read back: from where to where, and where wal_level was `minimal`; kept with the WAL itself.

Whoever receives WAL reads each segment when it is stored. Whoever asks reads the rest, up to a limit: what nobody has
read is no protection.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from backout.errors import BackoutError
from backout.model.backups import MINIMAL, NO_END, WalGap, WalRead
from backout.providers.archive.commits import last_commit
from backout.providers.archive.levels import end_of, level_changes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.recovery import BaseBackup, WalSegment
    from backout.providers.archive.wal import WalArchive

MOST_BYTES: Final = 256 << 20
"""What a command reads by itself, a second or two."""
_OPEN: Final = NO_END


class Reading(msgspec.Struct, frozen=True):
    """The WAL of `timeline` that was read: `[begin_lsn, end_lsn)`. minimal: (timeline, from, to) on any timeline.

    Args:
        last_lsn, last: where the last whole segment ends that was read, and its last bytes: see `level_changes`.
        commit_lsn, commit_at: of the last commit that was read on this timeline; 0 where none was.
    """

    timeline: int = 0
    begin_lsn: int = 0
    end_lsn: int = 0
    minimal: tuple[tuple[int, int, int], ...] = ()
    last_lsn: int = 0
    last: bytes = b""
    commit_lsn: int = 0
    commit_at: float = 0.0

    def with_segment(self, segment: WalSegment, content: bytes) -> Reading:
        """Return it with one segment more, which begins where it ends (or anew, where it does not)."""
        follows = segment.timeline == self.timeline and self.begin_lsn <= segment.begin_lsn <= self.end_lsn
        minimal = list(self.minimal)
        before = self.last if follows and self.last_lsn == segment.begin_lsn else b""
        for change in level_changes(content, segment.begin_lsn, before):
            last = minimal[-1] if minimal and minimal[-1][0] == segment.timeline else None
            is_open = last is not None and last[2] == _OPEN
            if change.minimal and not is_open and (segment.timeline, change.lsn) not in {each[:2] for each in minimal}:
                minimal.append((segment.timeline, change.lsn, _OPEN))
            elif not change.minimal and is_open and last is not None and change.lsn > last[1]:
                minimal[-1] = (last[0], last[1], change.lsn)
        begin = self.begin_lsn if follows else segment.begin_lsn
        end = max(self.end_lsn, segment.end_lsn) if follows else segment.end_lsn
        is_old = segment.partial or (follows and segment.end_lsn < self.last_lsn)
        ended = (self.last_lsn, self.last) if is_old else (segment.end_lsn, end_of(content))
        commit = (self.commit_lsn, self.commit_at) if follows else (0, 0.0)
        if not follows or segment.end_lsn >= self.end_lsn:
            commit = last_commit(content, segment.begin_lsn) or commit
        return Reading(segment.timeline, begin, end, tuple(minimal), *ended, *commit)

    @property
    def gaps(self) -> tuple[WalGap, ...]:
        """What cannot be replayed, as gaps."""
        return tuple(WalGap(0.0, timeline, begin, end, MINIMAL) for timeline, begin, end in self.minimal)


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
    """Read what nobody has read of the WAL since a base backup, the oldest first; return how far it is read.

    Args:
        segments: what there is, in order. most_bytes: then it ends, and the rest is not read.
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
