"""What a database can be restored to: positions in its WAL, backups, restore points, targets."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence


class BackupKind(StrEnum):
    """A full backup stands alone; an incremental one needs its parent."""

    FULL = "full"
    INCREMENTAL = "incremental"


class BaseBackup(Value, frozen=True):
    """A base backup that is complete.

    Args:
        id: sorts by time, unique in a repository.
        parent: what an incremental one builds on.
        begin_lsn, end_lsn: a restore replays from the first and is consistent from the second on.
        system_identifier: of the cluster.
        server_version: such as 180006.
        size_bytes: unpacked.
        stored_bytes: as kept.
        verified_at: when it was last read and found whole.
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


def sort_by_wal(backups: Sequence[BaseBackup]) -> tuple[BaseBackup, ...]:
    """Return backups in the order in which they were taken.

    Between timelines and clusters it is that of their times; on one timeline the WAL says it, whatever clocks do.
    """
    by_time = sorted(backups, key=lambda each: each.began_at)
    branches: dict[tuple[str, int], list[BaseBackup]] = {}
    for each in sorted(backups, key=lambda each: each.end_lsn, reverse=True):
        branches.setdefault((each.system_identifier, each.timeline), []).append(each)
    return tuple(branches[each.system_identifier, each.timeline].pop() for each in by_time)


class RestorePoint(Value, frozen=True):
    """A moment that was recorded as it happened, so that no search is needed later.

    Args:
        lsn: the position of the named record that Postgres wrote.
        xid: the next transaction id at that time.
        why: `before deployment`, `after deployment`, `before migration`, `after migration`, `on demand`.
        deployment: the version or deployment it belongs to, "" without one.
        migration_head: "" when there is none.
        branch: the vendor's branch that keeps what was there, "" where none was made.
    """

    name: str
    lsn: int
    timeline: int
    xid: int
    at: float
    why: str
    deployment: str = ""
    migration_head: str = ""
    branch: str = ""


class TargetKind(StrEnum):
    """How a person specified the moment to return to."""

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


class RecoveryTarget(Value, frozen=True):
    """The exact end of a replay: everything that committed before `lsn`, nothing from it on.

    Args:
        kind, asked: how it was named.
        lsn: the first position that is not replayed.
        xid: the transaction whose commit stands there, None when it is a plain position.
        at: its time, when known.
        how: one sentence: where the position was found.
        inclusive: the record there is replayed, too.
    """

    kind: TargetKind
    asked: str
    lsn: int
    timeline: int
    xid: int | None = None
    at: float | None = None
    how: str = ""
    inclusive: bool = False


class ClusterThings(Value, frozen=True):
    """What a cluster holds beside the rows of the application's logged tables, which a swap does not keep.

    Args:
        databases: object ids and names of the other databases, templates left out.
        slots: of replication.
        unlogged: tables with rows, those of other databases with their name in front.
        altered: settings of ALTER SYSTEM, None where the role may not see them.
        unread: databases that the role may not read.
        shared: file nodes and names of the catalogs that all databases share.
    """

    databases: tuple[tuple[int, str], ...]
    slots: tuple[str, ...]
    unlogged: tuple[str, ...]
    altered: tuple[str, ...] | None
    unread: tuple[str, ...] = ()
    shared: tuple[tuple[int, str], ...] = ()


class Commit(Value, frozen=True):
    """A transaction's end as its COMMIT record describes it.

    Args:
        xid: of the whole transaction, a prepared one's own.
        lsn: the start of the record.
        timeline: the record's timeline.
        subxids: of its savepoints.
        dropped: object ids of relations that it dropped, `database` the one they were in (0: it dropped none, or in
            none).
        changes_schema: whether it invalidated the catalog caches of other sessions; gathering statistics
            does not count.
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


class SideState(StrEnum):
    """The state of a side instance."""

    STOPPED = "stopped"
    READY = "ready"  # stopped, and a database of its own
    REPLAYING = "replaying"
    PAUSED = "paused"  # at its target
    PROMOTED = "promoted"  # it takes writes, and has a timeline of its own


class SideOrder(Value, frozen=True):
    """The order for a side instance.

    Args:
        name: its folder.
        backup: the base.
        lsn: replay ends before the record there, or after it (`inclusive`).
        timeline: the target's timeline.
        wal: the names of the segments from the base to past the target.
        xid: the transaction that the target is before; prepared, it would come back as such and hold its locks, so it
            is rolled back when the instance is opened.
        place: the required place of its data directory, when it is to be moved in later; "" for any.
        from_base: whether it is copied from the base that lies unpacked here, which was already opened.
        walks: whether it goes from one position to the next up to `lsn`, and is read at each.
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
    walks: bool = False


SWAP: Final = "swap-"
"""What the name of an instance begins with that is made to replace the live data directory."""
PROOF: Final = "proof"
"""The name of the instance of a proof: never one that a person keeps."""


def find_place(name: str, folder: str, live: str = "") -> str:
    """Return where the data directory of a side instance stands that is not in its own folder; "" for all others.

    It is computed wherever it is needed: what is noted of it may have been written by anyone, and it is removed whole.

    Args:
        folder: where side instances lie.
        live: the data directory that an instance would replace, "" where there is none.

    >>> find_place("swap-a1", "/x", "/data"), find_place("proof", "/x"), find_place("other", "/x", "/data")
    ('/data.backout-new-a1', '/x/proof', '')
    """
    if name == PROOF:
        return f"{folder}/{PROOF}"
    return f"{live}.backout-new-{name.removeprefix(SWAP)}" if live and name.startswith(SWAP) else ""


class SideInstance(Value, frozen=True):
    """A copy of the database at an earlier moment, on this machine, beside the live one.

    Args:
        how: `overlay` (on top of the base, nothing copied), `reflink`, or `copy`.
        dsn: through its unix socket, without a password; "" while it is stopped.
        replayed_lsn: how far it has replayed, 0 when unknown.
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


class SideLook(Value, frozen=True):
    """What was found in a side instance.

    Args:
        relation_there: whether a table or column exists.
        relation_oid: the table's object id, 0 when it does not exist.
        migration_there: whether a migration was applied.
        migration_head: the newest one, "" when there is none.
    """

    relation_there: bool
    relation_oid: int
    migration_there: bool
    migration_head: str


class DatabaseRead(Value, frozen=True):
    """A database whose every row was read."""

    name: str
    tables: int
    rows: int


class DatabaseFacts(Value, frozen=True):
    """The live database: its identity and the position of its WAL.

    Args:
        superuser: the cluster's own.
        migration_head: "" when there is none, or it cannot be read.
        databases: every one of the cluster, (object id, name); empty where that was not asked.
        flushed_lsn: how far the WAL has been flushed.
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


class DropClue(Value, frozen=True):
    """What the live catalog still shows of something that was dropped.

    Args:
        exists: whether the table exists.
        xids: the transactions that dropped columns of it, oldest first.
        present: the object ids of all relations that exist, to find those that do not.
    """

    exists: bool
    xids: tuple[int, ...] = ()
    present: frozenset[int] = frozenset()


class MigrationClue(Value, frozen=True):
    """Which transaction last wrote the row of a migration, and in which relation ("TABLESPACE/DATABASE/FILENODE").

    Args:
        began_at, ended_at: Unix seconds as the migration tool noted them (Prisma alone does), None otherwise.
        stored: what the history table calls it.
    """

    xid: int
    relation: str
    began_at: float | None = None
    ended_at: float | None = None
    stored: str = ""
