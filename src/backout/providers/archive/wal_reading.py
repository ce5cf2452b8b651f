"""How far the WAL of a timeline was read back: from where to where, and where wal_level was `minimal`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.model.database.wal import MINIMAL, NO_END, WalGap
from backout.providers.archive.commits import find_last_commit
from backout.providers.archive.levels import get_end, list_level_changes

if TYPE_CHECKING:
    from backout.model.database.wal import WalSegment

_OPEN: Final = NO_END


class Reading(msgspec.Struct, frozen=True):
    """The WAL of `timeline` that was read back: `[begin_lsn, end_lsn)`. minimal: (timeline, from, to) on any timeline.

    Args:
        last_lsn, last: where the last whole segment ends that was read, and its last bytes: see `list_level_changes`.
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
        for change in list_level_changes(content, segment.begin_lsn, before):
            last = minimal[-1] if minimal and minimal[-1][0] == segment.timeline else None
            is_open = last is not None and last[2] == _OPEN
            if change.minimal and not is_open and (segment.timeline, change.lsn) not in {each[:2] for each in minimal}:
                minimal.append((segment.timeline, change.lsn, _OPEN))
            elif not change.minimal and is_open and last is not None and change.lsn > last[1]:
                minimal[-1] = (last[0], last[1], change.lsn)
        begin = self.begin_lsn if follows else segment.begin_lsn
        end = max(self.end_lsn, segment.end_lsn) if follows else segment.end_lsn
        is_old = segment.partial or (follows and segment.end_lsn < self.last_lsn)
        ended = (self.last_lsn, self.last) if is_old else (segment.end_lsn, get_end(content))
        commit = (self.commit_lsn, self.commit_at) if follows else (0, 0.0)
        if not follows or segment.end_lsn >= self.end_lsn:
            commit = find_last_commit(content, segment.begin_lsn) or commit
        return Reading(segment.timeline, begin, end, tuple(minimal), *ended, *commit)

    @property
    def gaps(self) -> tuple[WalGap, ...]:
        """What cannot be replayed, as gaps."""
        return tuple(WalGap(0.0, timeline, begin, end, MINIMAL) for timeline, begin, end in self.minimal)
