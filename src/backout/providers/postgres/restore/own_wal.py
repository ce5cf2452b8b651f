"""The archived WAL together with the WAL still in a data directory of this machine, to be read up to now."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.model.names import is_history
from backout.providers.child import is_running
from backout.providers.postgres.restore.wal_search import WalSearch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from backout.model.database.recovery import BaseBackup
    from backout.model.database.wal import WalSegment
    from backout.ports import Backups, ReadsBeside, WalReader
    from backout.providers.postgres.server.binaries import Binaries

_HERE: Final = "wal-here-"


def make_reads_beside(binaries: Binaries, kept: Backups, data: Path, folder: Path) -> ReadsBeside:
    """Return what takes the WAL that lies in a data directory, and returns that with the archive's and its reader.

    Args:
        folder: in which each process has one of its own for links; a link that leads nowhere would stop pg_waldump.
    """

    def beside(segments: Sequence[WalSegment], *, alone: bool) -> tuple[tuple[WalSegment, ...], WalReader]:
        for each in folder.glob(f"{_HERE}*"):
            number = each.name.removeprefix(_HERE)
            if number == str(os.getpid()) or not (number.isdecimal() and is_running(int(number))):
                shutil.rmtree(each, ignore_errors=True)
        both = WithOwnWal(None if alone else kept, data, segments)
        return both.wal(), WalSearch(binaries, both, folder / f"{_HERE}{os.getpid()}")

    return beside


class WithOwnWal:
    """Port Backups: the archive, plus the WAL that is still in the data directory.

    Args:
        kept: the archive, None where it must not be asked, because a server is down meanwhile.
        segments: those in the data directory, as returned by `wal_of`.
    """

    def __init__(self, kept: Backups | None, data: Path, segments: Sequence[WalSegment]) -> None:
        self._kept = kept
        self._data = data
        self._own: Mapping[str, WalSegment] = {each.name: each for each in segments}

    def backups(self) -> tuple[BaseBackup, ...]:
        """Return those of the archive."""
        return self._kept.backups() if self._kept is not None else ()

    def wal(self) -> tuple[WalSegment, ...]:
        """Return the archived WAL with the data directory's own, which goes further."""
        archived = self._kept.wal() if self._kept is not None else ()
        return add_own(archived, tuple(self._own.values()))

    def unpack(self, backup: str, into: Path, progress: Callable[[int, int], None]) -> None:
        """Lay out a data directory. Raises BackoutError: the archive is not asked."""
        if self._kept is None:
            raise BackoutError("the archive is not asked", where=backup)
        self._kept.unpack(backup, into, progress)

    def fetch_wal(self, names: Sequence[str], into: Path, laid: Callable[[str], None] = lambda _name: None) -> None:
        """Link what lies in the data directory, fetch the rest. Raises BackoutError: the archive may not be asked."""
        here = [name for name in names if name in self._own and (self._data / "pg_wal" / name).is_file()]
        rest = [name for name in names if name not in here]
        if self._kept is not None:
            self._kept.fetch_wal(rest, into, laid)
        elif rest:
            raise BackoutError(f"WAL does not lie in the data directory any more: {', '.join(rest)}")
        for name in here:
            (into / name).symlink_to(self._data / "pg_wal" / name)
            laid(name)
        for path in (self._data / "pg_wal").glob("*.history"):
            if is_history(path.name):
                (into / path.name).write_bytes(path.read_bytes())


def add_own(archived: Sequence[WalSegment], own: Sequence[WalSegment]) -> tuple[WalSegment, ...]:
    """Return archived WAL with a data directory's own; of its timeline nothing behind the end of that."""
    ends = {each.timeline: each.end_lsn for each in own}
    names = {each.name for each in own}
    kept = [each for each in archived if each.name not in names]
    kept = [each for each in kept if each.timeline not in ends or each.begin_lsn < ends[each.timeline]]
    return tuple(sorted((*kept, *own), key=lambda each: (each.timeline, each.begin_lsn)))
