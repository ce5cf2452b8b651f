"""The journal in a SQLite file, which needs nothing: one machine, one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backout.journal.sqlite_store import SqliteStore
from backout.journal.stored import StoredJournal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.journal.store import Mask
    from backout.ports import Clock


class SqliteJournal(StoredJournal):
    """The journal in `path`, created with its folder at the first write; its file locks lie beside it.

    Args:
        crash_point, busy_timeout_s: as of `SqliteStore`.
        mask: as of `Store`.
        more: as of `StoredJournal`.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        crash_point: Callable[[str], None] | None = None,
        busy_timeout_s: float = 15.0,
        mask: Mask = lambda value: value,
        **more: Any,
    ) -> None:
        store = SqliteStore(path, clock.now, mask=mask, busy_timeout_s=busy_timeout_s, crash_point=crash_point)
        super().__init__(store, clock, locks=path.parent, **more)
