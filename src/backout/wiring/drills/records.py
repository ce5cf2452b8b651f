"""Where the history of drills is kept: in the project's journal, or in one of their own where there is no project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.journal.lock import FileLock, make_lock_path
from backout.journal.sqlite import SqliteJournal
from backout.providers.clock import SystemClock
from backout.wiring.records import find_actor, open_journal

if TYPE_CHECKING:
    from pathlib import Path

    from backout.config import Config
    from backout.journal.stored import StoredJournal

_LOCK: Final = "drills"


def open_history(config: Config | None, directory: Path) -> StoredJournal:
    """Return the journal of drills; reading it creates nothing.

    Args:
        config: of the project, None where there is none.
        directory: where drills take place.
    """
    if config is not None:
        return open_journal(config)
    return SqliteJournal(directory / "journal.sqlite", SystemClock())


def make_drill_lock(directory: Path) -> FileLock:
    """Return the lock of the place: one drill at a time."""
    return FileLock(make_lock_path(directory, _LOCK))


def read_actor() -> str:
    """Return the acting user, as user@host."""
    return find_actor()


def read_clock() -> float:
    """Return the time, Unix seconds."""
    return SystemClock().now()
