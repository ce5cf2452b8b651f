"""Ports that restore a database: side instances, the swap of a cluster, the rescue of rows, and the second check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from backout.model.database.chains import Image, Stay
    from backout.model.database.comparison import Comparison, Evidence, Statistics
    from backout.model.database.recovery import DatabaseRead, SideInstance, SideLook, SideOrder
    from backout.model.database.removed import RemovedSince
    from backout.model.database.rescue import Damage, RescueReport
    from backout.model.database.sequences import Carried, PlacedSequence
    from backout.model.database.wal import WalSegment
    from backout.ports.backups import WalReader


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


class SideWalk(Protocol):
    """A side instance that can be read at successive moments."""

    def walk(self, order: SideOrder, stops: Sequence[Stay], look: Callable[[Stay, str], bool]) -> None:
        """Make one, take it to just behind the record at which each of these begins, and remove it in the end.

        Args:
            stops: in the order of the WAL.
            look: hears a stay, and the connection string, and returns whether it could read; where it could not, it is
                called again before the record at which the stay ends.

        Raises:
            BackoutError: as `SideInstances.start`, or what is to be read is locked in both places.
        """
        ...


class SideControl(Protocol):
    """Operations on an existing side instance."""

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


class SideBases(Protocol):
    """Base backups that lie unpacked on this machine: an instance on top of one is ready in about a second."""

    def prepare(self, backup: str, progress: Callable[[str, int, int], None]) -> None:
        """Unpack one ahead of time."""
        ...

    def list_unpacked(self) -> tuple[str, ...]:
        """Return those that lie under no instance."""
        ...

    def release(self) -> None:
        """Remove them."""
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
    """Prevents sequences from handing out values again that they handed out in a replaced data directory."""

    def settle(self, old: Path) -> bool:
        """Let a cluster that is down after a crash replay its WAL, so that its files tell all that it handed out.

        Returns:
            Whether it had crashed and did; where it cannot, `Carried.stopped_cleanly` says so.
        """
        ...

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
            superuser: the cluster's own.
            known: the sequences of `old` by database, where they could be asked for.

        Raises:
            BackoutError: `into` does not start.
        """
        ...


class Rescuer(Protocol):
    """Copies damaged rows back from a side instance."""

    def images(
        self,
    ) -> AbstractContextManager[Callable[[str, Mapping[int, Sequence[str]]], Mapping[tuple[int, str], Image]]]:
        """Yield what returns versions of rows by (file node, place).

        It takes the connection string of a side instance at the moment of these versions, and places by file node; it
        raises Busy where they are locked there.
        """
        ...

    def damage(self, damage: Damage, before: str, after: str, removed: RemovedSince | None = None) -> RescueReport:
        """Return what would be written, by table, without writing anything.

        Args:
            before, after: connection strings of the side instances just before and just after the damage.
            removed: reads which rows others made anew since and removed again; None where nothing tells, or a rescue
                did.
        """
        ...

    def rescue(
        self,
        damage: Damage,
        before: str,
        after: str,
        kept: Path,
        progress: Callable[[str, int, int], None],
        *,
        removed: RemovedSince | None = None,
    ) -> RescueReport:
        """Write it, keeping what each row was in the folder `kept`; doing it again finds nothing left to do."""
        ...

    def undo(self, kept: Path, progress: Callable[[str, int, int], None]) -> RescueReport:
        """Put back what `kept` holds, where it was not written to since."""
        ...


class RowComparer(Protocol):
    """The second check of a restore: by means other than the rescue's, in a process of its own."""

    def note(
        self, evidence: Evidence, before: str, after: str, into: Path, progress: Callable[[str, int, int], None]
    ) -> None:
        """Keep in a file which rows others have written since the damage; one that is there stays."""
        ...

    def compare(
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
            noted: what `note` kept.
            kept: the folder in which the rescue kept what it replaced, and who wrote.

        Raises:
            BackoutError: nothing could be compared.
        """
        ...

    def note_undo(self, noted: Path, into: Path) -> None:
        """Keep in a file what is there before an undo writes; one that is there stays.

        Args:
            noted: what `note` kept before the rescue.

        Raises:
            BackoutError: it kept nothing.
        """
        ...

    def compare_undone(
        self, noted: Path, before: Path, kept: Path, progress: Callable[[str, int, int], None]
    ) -> Comparison:
        """Compare the live database after an undo with its state before the rescue; `before`: of `note_undo`.

        Raises:
            BackoutError: nothing could be compared.
        """
        ...


class CopyComparer(Protocol):
    """The second check of a swap: a whole cluster, by means other than those of the copy, in a process of its own."""

    def note(self, dsn: str, into: Path, progress: Callable[[str, int, int], None], *, own: str = "") -> None:
        """Keep in a file what a server holds now.

        Args:
            dsn: of a side instance or a branch; "" for the live server.
            own: the application's database where a vendor has some beside it: what may not be read in those is named,
                and is no failure. "" where all of them are ours.
        """
        ...

    def compare(
        self,
        noted: Path,
        *,
        goes_on: bool,
        progress: Callable[[str, int, int], None],
        statistics: Statistics = ...,
    ) -> Comparison:
        """Compare the live server with what was noted.

        Args:
            goes_on: whether it goes on from that; else the copy was made of it, and only rows not written since
                are compared.
            statistics: how the server's stand to those noted (by default they continue): they tell rows that others
                removed since from rows that are missing.

        Raises:
            BackoutError: nothing could be compared, or nothing was noted.
        """
        ...
