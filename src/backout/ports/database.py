"""Ports on the database: backups, WAL, side instances, the rescue, dumps, a vendor's branches, trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from backout.model.backups import Cluster, Retention
    from backout.model.branch import BranchTarget, Finalized, SideBranch
    from backout.model.capability import ServerFacts, VendorState
    from backout.model.catalog import Catalog
    from backout.model.chains import Bad, Followed, Image
    from backout.model.comparison import Comparison, Evidence
    from backout.model.dump import Dump, Restored
    from backout.model.recovery import (
        BaseBackup,
        Carried,
        ClusterThings,
        Commit,
        Damage,
        DatabaseFacts,
        DatabaseRead,
        DropClue,
        MigrationClue,
        PlacedSequence,
        RescueReport,
        RestorePoint,
        SideInstance,
        SideLook,
        SideOrder,
        WalSegment,
        WalSpan,
        Written,
    )
    from backout.model.statements import Answer, ParameterUse, Statement
    from backout.model.transactions import Transaction


class SchemaCatalog(Protocol):
    """A database's schema, object by object."""

    def read(self) -> Catalog:
        """Return it, in the order of its creation. Raises AuthError, or ProviderUnavailable when it does not answer."""
        ...


class Backups(Protocol):
    """What can be restored: base backups and the WAL after them."""

    def backups(self) -> tuple[BaseBackup, ...]:
        """Return the complete ones, oldest first; one that was cut off half-way is none."""
        ...

    def wal(self) -> tuple[WalSegment, ...]:
        """Return the archived WAL in the order of its positions, timeline by timeline; the last one may be partial."""
        ...

    def unpack(self, backup: str, into: Path, progress: Callable[[int, int], None]) -> None:
        """Lay out a data directory in the empty folder `into`, an incremental one with all it builds on.

        `progress` hears (bytes so far, bytes in all). Raises BackoutError when a file is damaged or missing, naming it.
        """
        ...

    def fetch_wal(self, names: Sequence[str], into: Path, laid: Callable[[str], None] = ...) -> None:
        """Lay these segments into a folder under their names, whole and decrypted; every history file comes first.

        Args:
            laid: told of each segment when it is there.
        """
        ...


class WalReader(Protocol):
    """What archived WAL tells of transactions."""

    def history(self) -> Mapping[int, Sequence[tuple[int, int]]]:
        """Return of each timeline but the first the ones before it, and the position at which each was left."""
        ...

    def commits(self, spans: Sequence[WalSpan]) -> Iterator[Commit]:
        """Yield the commits in the order of the WAL. Raises BackoutError when it cannot be read."""
        ...

    def began(self, spans: Sequence[WalSpan], xid: int) -> int | None:
        """Return a position in this WAL from which on everything lies that a transaction wrote; None: it has none."""
        ...

    def touched(self, spans: Sequence[WalSpan], xids: Collection[int]) -> Mapping[tuple[int, int], Collection[str]]:
        """Return what these transactions wrote to: {(database, relation's file node): the kinds of records}."""
        ...

    def transactions(self, spans: Sequence[WalSpan], progress: Callable[[int, int], None]) -> Iterator[Transaction]:
        """Yield what each transaction wrote that was committed, in the order of the WAL.

        `progress` hears (bytes of WAL read so far, bytes in all).
        """
        ...

    def chains(self, spans: Sequence[WalSpan], bad: Bad) -> Followed:
        """Return the rows that some transactions wrote to, from version to version."""
        ...

    def last(self, spans: Sequence[WalSpan]) -> int | None:
        """Return the position of the last record that is whole, None where there is none."""
        ...

    def writers(self, spans: Sequence[WalSpan], relation: str) -> Iterator[tuple[int, str]]:
        """Yield (transaction, kind of record) of everything that was written to a relation, in order.

        `relation` is "TABLESPACE/DATABASE/FILENODE".
        """
        ...

    def written(self, spans: Sequence[WalSpan], *, apart_from: Collection[int]) -> Mapping[tuple[int, int], int]:
        """Return how many row versions were written: {(database, relation's file node): rows}.

        Args:
            apart_from: transactions that do not count; aborted ones do.
        """
        ...

    def databases_made(self, spans: Sequence[WalSpan]) -> frozenset[int]:
        """Return the object ids of the databases that were created."""
        ...


class SideInstances(Protocol):
    """Copies of the database at an earlier moment, on this machine, beside the live one."""

    @property
    def copies(self) -> bool:
        """Whether an instance copies its base; otherwise it is laid over it."""
        ...

    def list(self) -> tuple[SideInstance, ...]:
        """Return the instances there are, by name."""
        ...

    def find(self, name: str) -> SideInstance | None:
        """Return an instance, running or not; None when there is none, or it is only half made."""
        ...

    def start(self, order: SideOrder, progress: Callable[[str, int, int], None]) -> SideInstance:
        """Make it unless it is there, and return it waiting at its target.

        `progress` hears (what is done, bytes so far, bytes in all). Raises BackoutError when a file is damaged or
        replay ends before the target.
        """
        ...

    def drop(self, name: str) -> None:
        """Stop it and remove its files; of one whose data directory was moved away, what is left of it."""
        ...


class SideControl(Protocol):
    """What is done with a side instance that is there."""

    def resume(self, name: str, progress: Callable[[str, int, int], None]) -> SideInstance:
        """Start an instance that was stopped or killed, and return it where it was."""
        ...

    def promote(self, name: str) -> None:
        """Let it go on as a database of its own; until then what unfinished transactions had locked cannot be read."""
        ...

    def stop(self, name: str) -> None:
        """Stop it cleanly and keep it."""
        ...

    def look(self, name: str, database: str, relation: str, migration: str) -> SideLook:
        """Return what it shows, read-only. Raises Refused when that database is not there."""
        ...

    def read_all(self, name: str) -> tuple[DatabaseRead, ...]:
        """Read every row of every database of it. Raises BackoutError naming what cannot be read."""
        ...


class PointMarker(Protocol):
    """Writes a moment into the database's own log."""

    def mark(self, name: str) -> RestorePoint:
        """Write a restore point and return it; its `why` and what it belongs to are the caller's."""
        ...


class SideBases(Protocol):
    """Base backups that lie unpacked on this machine: an instance over one is there in about a second."""

    def prepare(self, backup: str, progress: Callable[[str, int, int], None]) -> None:
        """Unpack one ahead of time."""
        ...

    def unpacked(self) -> tuple[str, ...]:
        """Return those that lie under no instance."""
        ...

    def release(self) -> None:
        """Remove them."""
        ...


class LiveDatabase(Protocol):
    """The live database's catalog."""

    def facts(self, *, within_s: float = 0.0) -> DatabaseFacts:
        """Return who it is and where its WAL stands; one that does not answer is asked again for that long.

        Raises AuthError, ProviderUnavailable.
        """
        ...

    def cluster(self) -> ClusterThings:
        """Return what the cluster has beside the application's logged rows. Raises AuthError, ProviderUnavailable."""
        ...

    def sequences(self) -> Mapping[str, tuple[PlacedSequence, ...]]:
        """Return the sequences of each database that the role is let into. Raises AuthError, ProviderUnavailable."""
        ...

    def mark(self, name: str) -> RestorePoint:
        """Write a restore point and return it; its `why` and what it belongs to are the caller's."""
        ...

    def dropped(self, relation: str) -> DropClue:
        """Return what the catalog tells of the columns that a table lost, or that the table is gone."""
        ...

    def relations(self) -> Mapping[tuple[int, int], str]:
        """Return every relation by (database, file node): `schema.table` of a table, "" of what is none."""
        ...

    def tables(self) -> Mapping[tuple[int, int], str]:
        """Return the names of the application's tables by (database, file node)."""
        ...

    def migrated(self, name: str) -> MigrationClue | None:
        """Return who last wrote the row of a migration, and where; None when there is none."""
        ...

    def committed(self, xid: int) -> float | None:
        """Return when a transaction was committed (Unix seconds), None where the server does not record it."""
        ...

    def schema_changes(self, since: float, until: float) -> tuple[float, ...]:
        """Return when transactions that wrote to the catalog were committed, in order; () where it is not recorded."""
        ...


class DatabaseServer(Protocol):
    """The server whose whole data directory a restore replaces; its commands are the operator's."""

    @property
    def data_directory(self) -> Path:
        """Where it is."""
        ...

    def check(self, system_identifier: str, incoming: Path | None = None) -> None:
        """Look whether it can be exchanged, before anything is stopped.

        Args:
            incoming: the directory that would come, where that is there already.

        Raises:
            Refused: it is another cluster's, a mount point, not readable or not there, or `incoming` is gone.
        """
        ...

    def running(self) -> bool:
        """Whether a server works in it. Raises BackoutError when that cannot be seen."""
        ...

    def stop(self) -> None:
        """Run the command that stops it and return when it is down. Raises BackoutError."""
        ...

    def start(self) -> None:
        """Run the command that starts it. Raises BackoutError."""
        ...

    def exchange(self, incoming: Path, kept: Path) -> None:
        """Move the data directory to `kept` and `incoming` to its place; safe to repeat after a crash in between."""
        ...

    def waits_for(self, standby: str) -> int | None:
        """Return the last checkpoint's position where commits would wait for that standby once it runs, else None."""
        ...

    def wait_for_nobody(self) -> None:
        """While it is down: let its commits wait for no standby. Raises BackoutError."""
        ...

    def settings_changed(self, since: float) -> tuple[str, ...]:
        """Return the files of settings in the data directory that were changed since (Unix seconds)."""
        ...

    def settings_differ(self, incoming: Path) -> tuple[str, ...]:
        """Return the files of settings in the data directory that are others in `incoming`, or not there."""
        ...

    def wal_here(self, timeline: int, lsn: int) -> tuple[WalSegment, ...]:
        """Return the WAL of a timeline that lies in the data directory, up to a position."""
        ...

    def history_of(self, directory: Path) -> tuple[int, int, Sequence[tuple[int, int]]]:
        """Return of a data directory that is down its timeline, where its WAL ends, and the timelines before it."""
        ...

    def size_of(self, directory: str) -> int:
        """Return how many bytes a data directory takes on the disk; of one that is gone 0."""
        ...

    def discard(self, kept: str) -> None:
        """Remove a data directory that `exchange` kept. Raises BackoutError when something of it stays."""
        ...


class ReadsBeside(Protocol):
    """Reads archived WAL together with what lies in a data directory."""

    def __call__(self, segments: Sequence[WalSegment], *, alone: bool) -> tuple[tuple[WalSegment, ...], WalReader]:
        """Return the WAL there is with the data directory's own, and its reader; alone: without the archive."""
        ...


class SequenceCarrier(Protocol):
    """Lets no sequence hand out a value again that it handed out in a data directory which goes."""

    def carry(
        self,
        old: Path,
        into: Path,
        superuser: str,
        known: Mapping[str, Sequence[PlacedSequence]],
        progress: Callable[[str, int, int], None],
    ) -> Carried:
        """Advance the sequences of `into` past those of `old`, both stopped; doing it again changes nothing.

        Args:
            superuser: the cluster's own. known: the sequences of `old` by database, where somebody could ask.

        Raises:
            BackoutError: `into` does not start.
        """
        ...


class Rescuer(Protocol):
    """Copies damaged rows back from a side instance."""

    def images(self, side: str, places: Mapping[int, Sequence[str]]) -> Mapping[tuple[int, str], Image]:
        """Return versions of rows by (file node, place).

        Args:
            side: connection string of a side instance at the moment of these versions. places: by file node.
        """
        ...

    def damage(self, damage: Damage, before: str, after: str) -> RescueReport:
        """Return what would be written, by table, without writing anything.

        Args:
            before, after: connection strings of the side instances just before and just after the damage.
        """
        ...

    def rescue(
        self, damage: Damage, before: str, after: str, kept: Path, progress: Callable[[str, int, int], None]
    ) -> RescueReport:
        """Write it, keeping what each row was in the folder `kept`; doing it again finds nothing left to do."""
        ...

    def undo(self, kept: Path, progress: Callable[[str, int, int], None]) -> RescueReport:
        """Put back what `kept` holds, where nobody has written since."""
        ...


class RowComparer(Protocol):
    """The second check of a restore: by other means than the rescue has, in a process of its own."""

    def note(
        self, evidence: Evidence, before: str, after: str, into: Path, progress: Callable[[str, int, int], None]
    ) -> None:
        """Keep in a file which rows others have written since the damage; one that is there stays."""
        ...

    def compare(  # noqa: PLR0913 - each is one thing to say
        self,
        evidence: Evidence,
        before: str,
        after: str,
        *,
        noted: Path,
        kept: Path,
        progress: Callable[[str, int, int], None],
    ) -> Comparison:
        """Return how the rows that are live stand to those just before the damage.

        Args:
            before, after: connection strings of the side instances just before and just after the damage.
            noted: what `note` kept. kept: the folder in which the rescue kept what it replaced, and who wrote.

        Raises:
            BackoutError: nothing could be compared.
        """
        ...


class CopyComparer(Protocol):
    """The second check of a swap: a whole cluster, by other means than the copy was made, in a process of its own."""

    def note(self, dsn: str, into: Path, progress: Callable[[str, int, int], None]) -> None:
        """Keep in a file what a server holds now.

        Args:
            dsn: of a side instance; "" for the live server.
        """
        ...

    def compare(self, noted: Path, *, goes_on: bool, progress: Callable[[str, int, int], None]) -> Comparison:
        """Return how the live server stands to what was noted.

        Args:
            goes_on: whether it goes on from that; else the copy was made of it, and only rows that nobody wrote since
                are compared.

        Raises:
            BackoutError: nothing could be compared, or nothing was noted.
        """
        ...


class Statements(Protocol):
    """The statements that the application sends."""

    def read(self) -> tuple[Statement, ...]:
        """Return the different ones, most called first. Raises UsageError when nobody keeps them."""
        ...


class Trials(Protocol):
    """A database beside the live one, on which statements are tried."""

    def run(self, statement: Statement, uses: Sequence[ParameterUse]) -> Answer:
        """Return what the database says to it; nothing of it stays. Raises AuthError, ProviderUnavailable."""
        ...


class LiveCluster(Protocol):
    """The running cluster, as a backup has to know it."""

    def read(self) -> Cluster:
        """Return its state. Raises AuthError, or ProviderUnavailable when it does not answer."""
        ...


class BackupTaker(Protocol):
    """Takes a base backup onto this machine, where it waits to be stored."""

    def take(self, backup: str, parent: str | None, progress: Callable[[int, int], None]) -> None:
        """Take it whole, an incremental one against its parent's manifest; what a killed attempt left is removed.

        Raises Refused when the server cannot take it against that parent; AuthError, ProviderUnavailable, BackoutError.
        """
        ...

    def taken(self, backup: str) -> str | None:
        """Return the parent of the backup that waits here complete ("" of a full one), or None when none waits."""
        ...

    def verify(self, backup: str) -> None:
        """Check every file against the manifest. Raises BackoutError that names what is wrong."""
        ...

    def discard(self, apart_from: Collection[str] = ()) -> None:
        """Remove what waits here."""
        ...


class BackupKeeper(Protocol):
    """Stores what was taken, and removes what may go."""

    def store(self, backup: str, verified_at: float, progress: Callable[[int, int], None]) -> None:
        """Store the backup that waits; it exists when this returns, and not before."""
        ...

    def remove(self, retention: Retention) -> tuple[tuple[str, ...], int]:
        """Remove backups, WAL, and what killed attempts left; return the names of the WAL segments, and bytes freed."""
        ...

    def check(self, backup: str, progress: Callable[[int, int], None]) -> None:
        """Read everything of a stored backup again, and note that it is whole. Raises BackoutError."""
        ...


class ServerCheck(Protocol):
    """What the database's server lets us see of itself."""

    def read(self) -> ServerFacts:
        """Return it; what is refused is named in it. Raises AuthError, ProviderUnavailable when nobody answers."""
        ...


class Dumps(Protocol):
    """Logical copies of a database, kept on this machine."""

    def kept(self) -> tuple[Dump, ...]:
        """Return them, oldest first; one that was cut off half-way is none."""
        ...

    def take(self, *, checksums: bool) -> Dump:
        """Take one and count every table in the same snapshot. Raises AuthError where the role may not read it all."""
        ...

    def keep(self, dump: Dump) -> None:
        """Write what is known of it again."""
        ...

    def remove(self, dump: Dump) -> None:
        """Delete its files."""
        ...


class DumpRestores(Protocol):
    """Where dumps are restored into. Both raise BackoutError when a file is damaged or missing."""

    def tried(self, dump: Dump) -> Restored:
        """Restore it into a scratch server and return what that holds."""
        ...

    def restore(self, dump: Dump, url: str) -> Restored:
        """Restore it into an empty database and return what that holds. Raises Refused when it is not empty."""
        ...


class VendorBackups(Protocol):
    """The vendor's own copies: a branch at an earlier moment, beside the live one."""

    def capabilities(self) -> VendorState:
        """Return what the API offers now; a refused token or an API that is down is a state, not an error."""
        ...

    def branches(self) -> tuple[SideBranch, ...]:
        """Return all branches, newest first."""
        ...

    def restore(self, target: BranchTarget, name: str) -> SideBranch:
        """Make a branch of the live one at that moment, and return it when it can be connected to.

        Idempotent by `name`: a branch of that name is returned as it is. Raises Refused for a moment out of the
        vendor's window, or of a kind that the vendor does not take.
        """
        ...

    def url(self, branch: SideBranch, database: str, role: str) -> str:
        """Return the branch's connection string, which is a secret."""
        ...


class VendorCutover(Protocol):
    """What ends the life of a side branch: it becomes the live one, or it goes."""

    def hosts(self) -> frozenset[str]:
        """Return the host names at which the live branch answers; empty when the vendor does not say."""
        ...

    def finalize(self, branch: SideBranch, keep_as: str) -> Finalized:
        """Put its content in the live one's place, which stays under the name `keep_as`.

        Idempotent by `keep_as`. Raises Refused where the vendor has no such call.
        """
        ...

    def delete(self, branch: SideBranch) -> None:
        """Delete it; one that is gone already is no error. Raises Refused for the live one."""
        ...


class BranchReader(Protocol):
    """Reads side branches and never writes there: an id that a branch gave away would hide one of the live database."""

    def next_xid(self, url: str) -> int:
        """Return the first id (64 bits) that no transaction has got on the branch; waits for its compute to start."""
        ...

    def look(self, url: str, relation: str, migration: str) -> SideLook:
        """Return what it shows, read-only; "" is not looked for."""
        ...

    def committed_between(self, before: tuple[str, int], after: tuple[str, int]) -> tuple[Written, ...]:
        """Return what is committed in `after` and not in `before`, in the order of the ids.

        Args:
            before, after: (connection string, `next_xid` when the branch was made).

        Raises:
            Refused: too much lies between.
        """
        ...
