"""What a database can be brought back to: positions in its WAL, backups, restore points, targets."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.backups import WalGap

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


def precedes(one: int, other: int) -> bool:
    """Whether a transaction's id was given away before another one; ids begin again behind 2^32.

    >>> precedes(5, 6), precedes(6, 6), precedes((1 << 32) - 1, 3)
    (True, False, True)
    """
    return (one - other) % (1 << 32) >= 1 << 31


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
        unsigned: whether it, or what it builds on, is not signed although there is a key, and a person named it.
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
    unsigned: bool = False


def in_wal_order(backups: Sequence[BaseBackup]) -> tuple[BaseBackup, ...]:
    """Return backups in the order in which they were taken.

    Between timelines and clusters it is that of their times; on one timeline the WAL says it, whatever clocks do.
    """
    by_time = sorted(backups, key=lambda each: each.began_at)
    branches: dict[tuple[str, int], list[BaseBackup]] = {}
    for each in sorted(backups, key=lambda each: each.end_lsn, reverse=True):
        branches.setdefault((each.system_identifier, each.timeline), []).append(each)
    return tuple(branches[each.system_identifier, each.timeline].pop() for each in by_time)


@dataclass(frozen=True, slots=True)
class WalSegment:
    """A piece of archived WAL: `[begin_lsn, end_lsn)`; of a `.partial` one, as far as it was received."""

    name: str
    timeline: int
    begin_lsn: int
    end_lsn: int
    partial: bool = False


def replayable(segments: Iterable[WalSegment], gaps: Sequence[WalGap]) -> tuple[WalSegment, ...]:
    """Return segments in order, without what lies in a gap: of the one in which it begins, as far as that.

    What follows a gap in the segment where it ends is of no use: a base backup begins with a segment of its own.
    """
    found = []
    for each in sorted(segments, key=lambda segment: (segment.timeline, segment.begin_lsn)):
        gap = next((gap for gap in gaps if gap.timeline == each.timeline and gap.begin_lsn < each.end_lsn
                    and each.begin_lsn < gap.end_lsn), None)  # fmt: skip
        if gap is None:
            found.append(each)
        elif gap.begin_lsn > each.begin_lsn:
            found.append(replace(each, end_lsn=gap.begin_lsn, partial=True))
    return tuple(found)


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
    LATEST = "latest"
    TRANSACTIONS = "transactions"
    WINDOW = "window"


@dataclass(frozen=True, slots=True)
class RecoveryTarget:
    """The exact end of a replay: everything that committed before `lsn`, nothing from it on.

    Args:
        kind, asked: how it was named. lsn: the first position that is not replayed.
        xid: the transaction whose commit stands there, None when it is a plain position. at: its time, when known.
        how: one sentence: where the position was found. inclusive: the record there is replayed, too.
    """

    kind: TargetKind
    asked: str
    lsn: int
    timeline: int
    xid: int | None = None
    at: float | None = None
    how: str = ""
    inclusive: bool = False


@dataclass(frozen=True, slots=True)
class ClusterThings:
    """What a cluster has beside the rows of the application's logged tables, which a swap of the whole does not keep.

    Args:
        databases: object ids and names of the other databases, templates left out. slots: of replication.
        unlogged: tables with rows, those of other databases with their name in front. altered: settings of ALTER
            SYSTEM, None where the role may not see them. unread: databases that the role may not look into.
        shared: file nodes and names of the catalogs that all databases share.
    """

    databases: tuple[tuple[int, str], ...]
    slots: tuple[str, ...]
    unlogged: tuple[str, ...]
    altered: tuple[str, ...] | None
    unread: tuple[str, ...] = ()
    shared: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Commit:
    """A transaction's end as its COMMIT record tells.

    Args:
        xid: of the whole transaction, a prepared one's own. lsn: where the record begins. timeline: on which it stands.
        subxids: of its savepoints. dropped: object ids of relations that it dropped, `database` the one they were in
            (0: it dropped none, or in none). changes_schema: whether it told other sessions to forget what they knew of
            the catalog; gathering statistics does not count.
    """

    xid: int
    lsn: int
    timeline: int
    at: float
    subxids: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    changes_schema: bool = False
    database: int = 0

    @property
    def xids(self) -> frozenset[int]:
        """Every id under which the transaction wrote rows."""
        return frozenset((self.xid, *self.subxids))


@dataclass(frozen=True, slots=True)
class WalSpan:
    """A stretch of WAL on one timeline: `[begin_lsn, end_lsn)`, in these segments."""

    timeline: int
    begin_lsn: int
    end_lsn: int
    names: tuple[str, ...] = ()


class SideState(StrEnum):
    """Where a side instance stands."""

    STOPPED = "stopped"
    READY = "ready"  # stopped, and a database of its own
    REPLAYING = "replaying"
    PAUSED = "paused"  # at its target
    PROMOTED = "promoted"  # it takes writes, and has a timeline of its own


@dataclass(frozen=True, slots=True)
class SideOrder:
    """What a side instance is to be made of.

    Args:
        name: the folder it gets. backup: the base. lsn: replay ends before the record there, or after it (`inclusive`).
        timeline: on which the target lies. wal: the names of the segments from the base to beyond the target.
        xid: the transaction that the target is before; prepared, it would come back as such and hold its locks, so it
            is rolled back when the instance is opened.
        place: where its data directory has to lie, when it is to be moved in later; "" leaves the choice.
        from_base: whether it is copied from the base that lies unpacked here, which somebody has looked at.
    """

    name: str
    backup: str
    lsn: int
    timeline: int
    wal: tuple[str, ...]
    inclusive: bool = False
    xid: int | None = None
    place: str = ""
    from_base: bool = False


@dataclass(frozen=True, slots=True)
class SideInstance:
    """A copy of the database at an earlier moment, on this machine, beside the live one.

    Args:
        how: `overlay` (on top of the base, nothing copied), `reflink`, or `copy`. dsn: through its unix socket, without
            a password; "" while it is stopped. replayed_lsn: how far, 0 when it does not say.
    """

    name: str
    state: SideState
    how: str
    data_directory: str
    target_lsn: int
    timeline: int
    dsn: str = ""
    pid: int = 0
    replayed_lsn: int = 0


@dataclass(frozen=True, slots=True)
class SideLook:
    """What a side instance shows.

    Args:
        relation_there: whether a table or column is there. relation_oid: the table's object id, 0 when it is not there.
        migration_there: whether a migration was applied. migration_head: the newest one, "" when there is none.
    """

    relation_there: bool
    relation_oid: int
    migration_there: bool
    migration_head: str


@dataclass(frozen=True, slots=True)
class DatabaseRead:
    """A database of which every row was read."""

    name: str
    tables: int
    rows: int


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """The live database: who it is, and where its WAL stands.

    Args:
        superuser: the cluster's own. migration_head: "" when there is none, or it cannot be read. databases: every one
            of the cluster, (object id, name); empty where nobody asked. flushed_lsn: how far the WAL is on the disk.
    """

    system_identifier: str
    server_version: int
    timeline: int
    lsn: int
    database: str
    superuser: str
    migration_head: str = ""
    databases: tuple[tuple[int, str], ...] = ()
    flushed_lsn: int | None = None

    def oid_of(self, database: str) -> int | None:
        """Return the object id of a database, None when it is not known."""
        return next((oid for oid, name in self.databases if name == database), None)


@dataclass(frozen=True, slots=True)
class DropClue:
    """What the live catalog tells of something that was dropped.

    Args:
        exists: whether the table is there. xids: the transactions that dropped columns of it, oldest first.
        present: the object ids of every relation that is there, to tell which are not.
    """

    exists: bool
    xids: tuple[int, ...] = ()
    present: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class MigrationClue:
    """Who last wrote the row of a migration, and in which relation ("TABLESPACE/DATABASE/FILENODE") it stands.

    Args:
        began_at, ended_at: Unix seconds as the migration tool noted them (Prisma alone does), None otherwise.
    """

    xid: int
    relation: str
    began_at: float | None = None
    ended_at: float | None = None
