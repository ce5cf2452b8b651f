"""Options of the WAL receiver: its destination, its name, and its callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.database.backups import Protection


class ReceiverOptions(Value, frozen=True):
    """Options of the receiver.

    Args:
        directory: of the backups on this machine.
        slot: also the receiver's application_name at the server.
        sync: whether commits may wait for it; it receives in the same way either way, and reports this in its status.
        partial_every_s: how often the segment that is being received goes to the store, too; None where the store is
            on this machine anyway.
        say: hears events, one sentence each.
        judge: returns whether the database is protected now; None: this is not asked.
        told: hears of each change of that: the current state, since when (Unix seconds) and from which position.
        alarmed: hears what needs attention all the same.
    """

    directory: Path
    slot: str
    sync: bool = False
    partial_every_s: float | None = None
    say: Callable[[str], None] = lambda _text: None
    judge: Callable[[], Protection] | None = None
    told: Callable[[Protection, float, int], None] = lambda _now, _since, _lsn: None
    alarmed: Callable[[str], None] = lambda _alarm: None
