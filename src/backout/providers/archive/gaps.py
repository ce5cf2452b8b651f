"""Gaps in the WAL as they were noticed: one JSON line each in this machine's backup folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import decode_json
from backout.model.database.wal import WalGap
from backout.providers.archive.stores import FolderStore

if TYPE_CHECKING:
    from pathlib import Path

_FILE: Final = "gaps.json"


def read_gaps(directory: Path) -> tuple[WalGap, ...]:
    """Return them, oldest first."""
    found = FolderStore(directory).get(_FILE)
    return () if found is None else decode_json(found, tuple[WalGap, ...], what="the list of gaps", where=_FILE)


def add_gap(directory: Path, gap: WalGap) -> None:
    """Record one, once; it is durable when this returns."""
    known = read_gaps(directory)
    if all(
        (each.timeline, each.begin_lsn, each.end_lsn) != (gap.timeline, gap.begin_lsn, gap.end_lsn) for each in known
    ):
        FolderStore(directory).put(_FILE, msgspec.json.encode((*known, gap)))
