"""What a database can be brought back to: positions in its WAL, backups, restore points, targets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


def parse_lsn(text: str) -> int:
    """Return a WAL position from the form that Postgres prints, such as `0/C3A5C918`. Raises ValueError."""
    found = _LSN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"not a WAL position: {text!r}")
    return int(found[1], 16) << 32 | int(found[2], 16)


def show_lsn(lsn: int) -> str:
    """Return a WAL position as Postgres prints it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


class BackupKind(StrEnum):
    """A full backup stands alone; an incremental one needs its parent."""

    FULL = "full"
    INCREMENTAL = "incremental"


@dataclass(frozen=True, slots=True)
class BaseBackup:
    """A base backup that is complete.

    Args:
        id: sorts by time, unique in a repository. parent: what an incremental one builds on.
        begin_lsn, end_lsn: a restore replays from the first and is consistent from the second on.
        system_identifier: of the cluster. server_version: such as 180006.
        size_bytes: unpacked. stored_bytes: as kept. verified_at: when it was last read and found whole.
    """

    id: str
    kind: BackupKind
    parent: str | None
    began_at: float
    ended_at: float
    begin_lsn: int
    end_lsn: int
    timeline: int
    system_identifier: str
    server_version: int
    size_bytes: int
    stored_bytes: int
    encrypted: bool = False
    verified_at: float | None = None


@dataclass(frozen=True, slots=True)
class WalSegment:
    """A piece of archived WAL: `[begin_lsn, end_lsn)`; of a `.partial` one, as far as it was received."""

    name: str
    timeline: int
    begin_lsn: int
    end_lsn: int
    partial: bool = False


@dataclass(frozen=True, slots=True)
class RestorePoint:
    """A moment that was recorded when it was there, so that no search is needed later.

    Args:
        lsn: the position of the named record that Postgres wrote. xid: the next transaction's id then.
        why: `before deployment`, `after deployment`, `before migration`, `after migration`, `on demand`.
        deployment: the version or deployment it belongs to, "" without one. migration_head: "" when there is none.
    """

    name: str
    lsn: int
    timeline: int
    xid: int
    at: float
    why: str
    deployment: str = ""
    migration_head: str = ""


class TargetKind(StrEnum):
    """How a person named the moment to return to."""

    TIME = "time"
    POINT = "point"
    DEPLOYMENT = "deployment"
    MIGRATION = "before migration"
    DROP = "before drop of"
    LSN = "lsn"
    XID = "xid"


@dataclass(frozen=True, slots=True)
class RecoveryTarget:
    """The exact end of a replay: everything that committed before `lsn`, nothing from it on.

    Args:
        kind, asked: how it was named. lsn: the first position that is not replayed.
        xid: the transaction whose commit stands there, None when it is a plain position. at: its time, when known.
        how: one sentence: where the position was found.
    """

    kind: TargetKind
    asked: str
    lsn: int
    timeline: int
    xid: int | None = None
    at: float | None = None
    how: str = ""
