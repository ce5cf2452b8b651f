"""The state of the live cluster and of the backups that protect it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from backout.model.clock import to_utc
from backout.model.database.wal import show_lsn
from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.database.recovery import BackupKind


class WalStatus(StrEnum):
    """The WAL that a replication slot still keeps, in Postgres' own words (pg_replication_slots)."""

    RESERVED = "reserved"
    EXTENDED = "extended"
    UNRESERVED = "unreserved"
    LOST = "lost"


class Slot(Value, frozen=True):
    """The slot of the WAL receiver as the server shows it.

    Args:
        active: whether it is in use by a receiver.
        retained_bytes: WAL that the server retains for it.
        flush_lsn: the position that the receiver has confirmed as flushed, None without a receiver.
        lag_s: how old that is, as the server measures it.
        sync: whether commits wait for it now.
    """

    name: str
    active: bool
    status: WalStatus | None
    restart_lsn: int | None
    retained_bytes: int
    flush_lsn: int | None = None
    lag_s: float | None = None
    sync: bool = False


class Cluster(Value, frozen=True):
    """The live cluster at a moment.

    Args:
        lsn: the end of its WAL.
        server_version: such as 180006.
        size_bytes: of all databases.
        slot_limit_bytes: max_slot_wal_keep_size, None when a slot may fill the disk.
        tablespaces: names of those beside Postgres' own.
        sync_names: synchronous_standby_names.
        slot: of the WAL receiver, None when there is none.
        wal_level: as it is set now, "" when unknown.
    """

    at: float
    system_identifier: str
    timeline: int
    lsn: int
    server_version: int
    segment_bytes: int
    size_bytes: int
    replication: bool
    summarize_wal: bool
    slot_limit_bytes: int | None
    tablespaces: tuple[str, ...] = ()
    sync_names: str = ""
    slot: Slot | None = None
    wal_level: str = ""


class Choice(Value, frozen=True):
    """The next backup's kind, and why."""

    kind: BackupKind
    parent: str | None
    why: str


class Retention(Value, frozen=True):
    """What may be pruned: backups, and the WAL that ends at or before `wal_before` (None: all of it stays).

    Args:
        others: the same position of other clusters' WAL, by system identifier.
    """

    keep: tuple[str, ...]
    remove: tuple[str, ...]
    wal_before: int | None
    others: tuple[tuple[str, int], ...] = ()


class Window(Value, frozen=True):
    """A range of positions on one timeline, each of which can be restored to: `[from_lsn, to_lsn]`.

    Args:
        base: the oldest backup in it.
        from_at: when that one ended.
    """

    base: str
    timeline: int
    from_at: float
    from_lsn: int
    to_lsn: int


class Protection(Value, frozen=True):
    """Whether the live cluster can be brought back now; `why` in one sentence.

    Args:
        base: the backup that a restore would start from, "" without one.
        reaches_lsn: the end of the WAL that was read back.
        reaches_at: when the last commit in it was made (Unix seconds), None where none is known.
        behind_bytes: WAL that the server has written since and that is stored nowhere else.
        proved_at: when a restore was last tried and found good (Unix seconds), None: never, as far as is known.
        alarm: what needs attention although it is protected, "" for nothing.
    """

    protected: bool
    why: str
    base: str = ""
    reaches_lsn: int | None = None
    proved_at: float | None = None
    alarm: str = ""
    reaches_at: float | None = None
    behind_bytes: int = 0

    @property
    def claim(self) -> str:
        """What a protected database can be brought back to, in words; nothing beyond what was read.

        >>> Protection(True, "from base backup b on", "b", 0x5000100, reaches_at=0.0).claim
        'restorable to any moment from base backup b on, up to 0/5000100 (last commit 1970-01-01 00:00:00 UTC)'
        >>> Protection(True, "from base backup b on", "b", 0x5000100, behind_bytes=4096).claim
        'restorable to any moment from base backup b on, up to 0/5000100; 4,096 bytes of WAL since are not received'
        """
        text = f"restorable to any moment {self.why}"
        if self.reaches_lsn is not None:
            text += f", up to {show_lsn(self.reaches_lsn)}"
        if self.reaches_at is not None:
            text += f" (last commit {to_utc(self.reaches_at):%Y-%m-%d %H:%M:%S} UTC)"
        if self.behind_bytes:
            text += f"; {self.behind_bytes:,} bytes of WAL since are not received"
        return text


class BackupProof(Value, frozen=True):
    """A successful proof: a backup was restored to the end of the WAL, and all of it was read.

    Args:
        at: when it was found good (Unix seconds).
        backup: the base.
        lsn, timeline: up to where it was replayed.
        rows: in all tables of all databases.
        took_s: restore and reading.
    """

    at: float
    backup: str
    lsn: int
    timeline: int
    databases: int
    tables: int
    rows: int
    took_s: float


class LastProof(Value, frozen=True):
    """The proofs in the journal: the newest good one (Unix seconds), and why a later one failed, or ""."""

    at: float | None = None
    failed: str = ""


class BackupProgress(Value, frozen=True):
    """How far a step is; `total_bytes` may be the server's estimate."""

    what: str
    done_bytes: int
    total_bytes: int
