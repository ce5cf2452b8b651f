"""The WAL receiver's own status, and whether it is still running."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.providers.archive.claim import Claim
from backout.providers.archive.stores import FolderStore

if TYPE_CHECKING:
    from pathlib import Path


STATUS_FILE: Final = "receiver.json"


class ReceiverStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The receiver's last status.

    Args:
        received_lsn: the end of what is on this machine.
        lag_bytes, lag_s: behind the server's end of WAL.
        retained_bytes: what the server keeps for it.
        shipped_lsn: the end of the complete segments in the store.
        trouble: the current problem, "" for none.
        protected: whether the database could be brought back when that was last looked at; None before the first look.
        protected_at, protected_lsn: the last moment and position at which it could, 0 before.
        why, alarm: as in `Protection`.
    """

    at: float
    pid: int
    started_at: float
    system_identifier: str
    timeline: int = 0
    server_lsn: int = 0
    received_lsn: int = 0
    lag_bytes: int = 0
    lag_s: float = 0.0
    retained_bytes: int = 0
    shipped_lsn: int = 0
    restarts: int = 0
    receiving: bool = False
    sync: bool = False
    trouble: str = ""
    protected: bool | None = None
    protected_at: float = 0.0
    protected_lsn: int = 0
    why: str = ""
    alarm: str = ""


def read_status(directory: Path) -> ReceiverStatus | None:
    """Return what the receiver of a folder last wrote, or None."""
    found = FolderStore(directory).get(STATUS_FILE)
    with contextlib.suppress(Undecodable):
        return None if found is None else decode_json(found, ReceiverStatus)
    return None


def carry_over_claim(before: ReceiverStatus | None, system_identifier: str) -> Claim:
    """Return the protection as an earlier receiver found it, so that a later one can report its end.

    Where another cluster answers since, it was protected all the same; the position alone means nothing any more.
    """
    if before is None:
        return Claim()
    lsn = before.protected_lsn if before.system_identifier == system_identifier else 0
    return Claim(before.protected, before.protected_at, lsn, before.why, before.alarm)
