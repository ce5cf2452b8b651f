"""What is known of the live cluster and of the backups that protect it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from backout.model.clock import utc
from backout.model.recovery import show_lsn

if TYPE_CHECKING:
    from backout.model.recovery import BackupKind


MINIMAL: Final = 'wal_level was "minimal"'
"""Why a stretch of WAL is none that can be replayed, though it is there."""
NO_END: Final = 1 << 64


class WalStatus(StrEnum):
    """What a replication slot still keeps; Postgres' own words in pg_replication_slots."""

    RESERVED = "reserved"
    EXTENDED = "extended"
    UNRESERVED = "unreserved"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Slot:
    """The slot of the WAL receiver as the server shows it.

    Args:
        active: whether somebody receives. retained_bytes: WAL that the server keeps for it.
        flush_lsn: what the receiver has confirmed as safe, None when nobody receives. lag_s: how old that is, as the
            server measures it. sync: whether commits wait for it now.
    """

    name: str
    active: bool
    status: WalStatus | None
    restart_lsn: int | None
    retained_bytes: int
    flush_lsn: int | None = None
    lag_s: float | None = None
    sync: bool = False


@dataclass(frozen=True, slots=True)
class Cluster:
    """The live cluster at a moment.

    Args:
        lsn: the end of its WAL. server_version: such as 180006. size_bytes: of all databases.
        slot_limit_bytes: max_slot_wal_keep_size, None when a slot may fill the disk.
        tablespaces: names of those beside Postgres' own. sync_names: synchronous_standby_names.
        slot: of the WAL receiver, None when there is none. wal_level: as it is set now, "" when nobody says.
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


@dataclass(frozen=True, slots=True)
class Choice:
    """Which backup comes next, and why that kind."""

    kind: BackupKind
    parent: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Retention:
    """What may go: backups, and the WAL that ends at or before `wal_before` (None: all of it stays).

    Args:
        others: the same position of other clusters' WAL, by system identifier.
    """

    keep: tuple[str, ...]
    remove: tuple[str, ...]
    wal_before: int | None
    others: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class WalGap:
    """WAL that was lost: `[begin_lsn, end_lsn)`, and why."""

    at: float
    timeline: int
    begin_lsn: int
    end_lsn: int
    why: str


@dataclass(frozen=True, slots=True)
class WalRead:
    """WAL of one timeline that was read back and is as a replay needs it, but for gaps: `[begin_lsn, end_lsn)`.

    Args:
        commit_at: when the last commit in it was made (Unix seconds), None where none was seen.
    """

    timeline: int
    begin_lsn: int
    end_lsn: int
    commit_at: float | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Positions of one timeline that can be returned to, each of them: `[from_lsn, to_lsn]`.

    Args:
        base: the oldest backup in it. from_at: when that one ended.
    """

    base: str
    timeline: int
    from_at: float
    from_lsn: int
    to_lsn: int


@dataclass(frozen=True, slots=True)
class Protection:
    """Whether the live cluster can be brought back now; `why` in one sentence.

    Args:
        base: the backup that a restore would start from, "" without one. reaches_lsn: the end of the WAL that was read
            back. reaches_at: when the last commit in it was made (Unix seconds), None where none is known.
        behind_bytes: what the server has written since, and what is nowhere else.
        proved_at: when a restore was last tried and found good (Unix seconds), None: never that anybody knows.
        alarm: what somebody has to look at although it is protected, "" for nothing.
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
            text += f" (last commit {utc(self.reaches_at):%Y-%m-%d %H:%M:%S} UTC)"
        if self.behind_bytes:
            text += f"; {self.behind_bytes:,} bytes of WAL since are not received"
        return text


@dataclass(frozen=True, slots=True)
class BackupProof:
    """That a backup was restored to the end of the WAL, and all of it read.

    Args:
        at: when it was found good (Unix seconds). backup: the base. lsn, timeline: up to where it was replayed.
        rows: of all tables of all databases. took_s: restore and reading.
    """

    at: float
    backup: str
    lsn: int
    timeline: int
    databases: int
    tables: int
    rows: int
    took_s: float


@dataclass(frozen=True, slots=True)
class LastProof:
    """What the journal knows of proofs: the newest that was good (Unix seconds), and why a later one failed, or ""."""

    at: float | None = None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class BackupProgress:
    """How far a step is; `total_bytes` may be the server's estimate."""

    what: str
    done_bytes: int
    total_bytes: int
