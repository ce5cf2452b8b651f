"""A database server on paper: data directories that are real folders, what is in them in memory, and its restore.

The application writes at every call of a port, whenever it is let in: what was acknowledged is in the `ledger`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backout.errors import ProviderUnavailable
from backout.model.database.comparison import Comparison
from backout.model.database.recovery import (
    BackupKind,
    BaseBackup,
    ClusterThings,
    DatabaseFacts,
    RestorePoint,
    SideInstance,
    SideLook,
    SideState,
    find_place,
)
from backout.model.database.wal import WalSegment
from backout.providers.memory.fence import MemoryCluster
from backout.runbook.recovery.tools import RestoreTools

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from backout.model.database.recovery import SideOrder
    from backout.ports import Journal
    from backout.providers.memory import World

IDENTIFIER = "7000000000000000001"


@dataclass
class PaperCluster:
    """What a data directory holds.

    Attributes:
        way: the timelines before its own, each with the position at which it was left.
    """

    held: MemoryCluster
    timeline: int = 1
    way: tuple[tuple[int, int], ...] = ()

    @property
    def end(self) -> int:
        """The end of its WAL."""
        return len(self.held.writes) + 1


@dataclass
class PaperSide:
    """A side instance."""

    cluster: PaperCluster
    state: SideState
    folder: Path
    target: int


@dataclass
class PaperServer:
    """A server, its archive and its side instances: every port of a restore.

    Attributes:
        ledger: the writes that were acknowledged, each with the cluster that did.
        through: those that were acknowledged by a cluster whose fence stood.
        told: what the second check finds after the exchange, None: what there is.
    """

    world: World
    folder: Path
    on_disk: dict[str, PaperCluster] = field(default_factory=dict)
    sides: dict[str, PaperSide] = field(default_factory=dict)
    noted: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    ledger: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    told: Comparison | None = None
    is_up: bool = True
    copies: bool = False

    def __post_init__(self) -> None:
        self.data_directory = self.folder / "data"
        (self.data_directory / "global").mkdir(parents=True)
        (self.data_directory / "global" / "pg_control").touch()
        self._lay(self.data_directory, PaperCluster(self.world.fence.live))
        self.began = self.world.clock.now()

    # --- what happens outside ---

    def write(self) -> bool:
        """Write as the application does; return whether that was acknowledged."""
        fence = self.world.fence
        if not self.is_up or not fence.write():
            return False
        name = f"w{len(self.ledger)}"
        fence.live.writes[-1] = (fence.live.writes[-1][0], name)
        self.ledger.append(name)
        return True

    def rows(self) -> list[str]:
        """Return what the live database holds."""
        return [name for _, name in self.world.fence.live.writes]

    def rows_of(self, folder: str) -> list[str]:
        """Return what a data directory holds that is down."""
        return [name for _, name in self.on_disk[self._read(folder)].held.writes]

    # --- data directories ---

    def _lay(self, folder: Path, cluster: PaperCluster) -> None:
        name = f"c{len(self.on_disk)}"
        self.on_disk[name] = cluster
        (folder / "cluster").write_text(name, encoding="utf-8")

    def _read(self, folder: Path | str) -> str:
        return (self.folder / str(folder) / "cluster").read_text(encoding="utf-8")

    @property
    def _live(self) -> PaperCluster:
        return self.on_disk[self._read(self.data_directory)]

    def _call(self, name: str, effect: Callable[[], Any]) -> Any:
        return self.world.call(name, effect)

    # --- port DatabaseServer ---

    def check(self, system_identifier: str, incoming: Path | None = None) -> None:
        assert system_identifier == IDENTIFIER
        assert incoming is None or incoming.is_dir(), incoming

    def running(self) -> bool:
        return bool(self._call("server.running", lambda: self.is_up))

    def stop(self) -> None:
        def stop() -> None:
            self.is_up = False
            self.world.fence.live = MemoryCluster()

        self._call("server.stop", stop)

    def start(self) -> None:
        def start() -> None:
            self.is_up = True
            self.world.fence.live = self._live.held

        self._call("server.start", start)

    def exchange(self, incoming: Path, kept: Path) -> None:
        if not kept.exists():
            self._call("server.move_out", lambda: self.data_directory.rename(kept))
        if not self.data_directory.exists():
            self._call("server.move_in", lambda: self._move_in(incoming))

    def _move_in(self, incoming: Path) -> None:
        incoming.rename(self.data_directory)
        self.moved.append(incoming.name)

    def waits_for(self, standby: str) -> int | None:
        del standby
        return None

    def wait_for_nobody(self) -> None:
        pass

    def settings_changed(self, since: float) -> tuple[str, ...]:
        del since
        return ()

    def settings_differ(self, incoming: Path) -> tuple[str, ...]:
        del incoming
        return ()

    def wal_here(self, timeline: int, lsn: int) -> tuple[WalSegment, ...]:
        del timeline, lsn
        return ()

    def history_of(self, directory: Path) -> tuple[int, int, Sequence[tuple[int, int]]]:
        cluster = self.on_disk[self._read(directory)]
        return cluster.timeline, cluster.end, cluster.way

    def size_of(self, directory: str) -> int:
        del directory
        return 1

    def discard(self, kept: str) -> None:
        shutil.rmtree(kept)

    # --- ports Backups and WalReader ---

    def backups(self) -> tuple[BaseBackup, ...]:
        at = self.began
        return (BaseBackup("base", BackupKind.FULL, None, at, at, 0, 1, 1, IDENTIFIER, 180006, 1, 1, verified_at=at),)

    def wal(self) -> tuple[WalSegment, ...]:
        ends: dict[int, int] = {}
        for cluster in self.on_disk.values():
            ends[cluster.timeline] = max(ends.get(cluster.timeline, 0), cluster.end + 1)
        return tuple(
            WalSegment(f"{timeline:08X}0000000000000000", timeline, 0, end, partial=True)
            for timeline, end in sorted(ends.items())
        )

    def history(self) -> Mapping[int, Sequence[tuple[int, int]]]:
        return {each.timeline: each.way for each in self.on_disk.values() if each.way}

    def written(self, spans: Sequence[Any], *, apart_from: object) -> Mapping[tuple[int, int], int]:
        del apart_from
        return {(5, 1): sum(span.end_lsn - span.begin_lsn for span in spans)}

    def databases_made(self, spans: Sequence[Any]) -> frozenset[int]:
        del spans
        return frozenset()

    # --- ports SideInstances and SideControl ---

    def list(self) -> tuple[SideInstance, ...]:
        return tuple(self._describe(name) for name in self.sides)

    def find(self, name: str) -> SideInstance | None:
        return self._describe(name) if name in self.sides and self.sides[name].folder.exists() else None

    def begin(self, order: SideOrder, progress: Callable[[str, int, int], None]) -> SideInstance:
        progress("replaying", 80_000_000, 90_000_000)

        def begin() -> None:
            if order.name in self.sides:
                return
            folder = self.folder / (order.place or order.name)
            folder.mkdir(parents=True, exist_ok=True)
            origin = next(each for each in self.on_disk.values() if each.timeline == order.timeline)
            held = origin.held.copy()
            held.writes = [each for each in held.writes if each[0] < order.lsn]
            newest = max(each.timeline for each in self.on_disk.values())
            cluster = PaperCluster(held, newest + 1, (*origin.way, (origin.timeline, order.lsn)))
            self.sides[order.name] = PaperSide(cluster, SideState.PAUSED, folder, order.lsn)
            self.world.fence.copies[f"side:{order.name}"] = held

        self._call("sides.start", begin)
        return self._describe(order.name)

    def drop(self, name: str) -> None:
        def drop() -> None:
            side = self.sides.pop(name, None)
            place = find_place(name, "", str(self.data_directory))
            if side is not None and side.folder.exists() and str(side.folder) == place:
                shutil.rmtree(side.folder)

        self._call("sides.drop", drop)

    def resume(self, name: str, progress: object) -> SideInstance:
        del progress
        return self._describe(name)

    def promote(self, name: str) -> None:
        self._call("sides.promote", lambda: setattr(self.sides[name], "state", SideState.PROMOTED))

    def stop_side(self, name: str) -> None:
        def stop() -> None:
            side = self.sides[name]
            if side.state is not SideState.READY:
                side.state = SideState.READY
                (side.folder / "global").mkdir()
                (side.folder / "global" / "pg_control").touch()
                self._lay(side.folder, side.cluster)

        self._call("sides.stop", stop)

    def look(self, name: str, database: str, relation: str, migration: str) -> SideLook:
        del name, database, relation, migration
        return SideLook(relation_there=True, relation_oid=1, migration_there=False, migration_head="")

    def _describe(self, name: str) -> SideInstance:
        side = self.sides[name]
        dsn = f"side:{name}" if side.state is not SideState.READY else ""
        return SideInstance(name, side.state, "copy", str(side.folder), side.target, 1, dsn, 1, side.target)

    # --- ports LiveDatabase and CopyComparer ---

    def facts(self, *, within_s: float = 0.0) -> DatabaseFacts:
        del within_s

        def read() -> DatabaseFacts:
            if not self.is_up:
                raise ProviderUnavailable("the database is down")
            live = self._live
            return DatabaseFacts(IDENTIFIER, 180006, live.timeline, live.end, "app", "postgres", "", ((5, "app"),))

        found = self._call("live.facts", read)
        assert isinstance(found, DatabaseFacts)
        return found

    def cluster(self) -> ClusterThings:
        return ClusterThings((), (), (), ())

    def sequences(self) -> dict[str, tuple[object, ...]]:
        return {}

    def relations(self) -> dict[tuple[int, int], str]:
        return {(5, 1): "public.orders"}

    def tables(self) -> dict[tuple[int, int], str]:
        return self.relations()

    def mark(self, name: str) -> RestorePoint:
        live = self._live
        return RestorePoint(name, live.end, live.timeline, live.end, self.world.clock.now(), "")

    def note(self, dsn: str, into: Path, progress: object, *, own: str = "") -> None:
        del progress, own

        def note() -> None:
            held = self.world.fence.copies[dsn] if dsn else self.world.fence.live
            self.noted[into.name] = list(held.writes)

        self._call("copies.note", note)

    def compare(self, noted: Path, *, goes_on: bool, progress: object, statistics: object = None) -> Comparison:
        del goes_on, progress, statistics

        def compare() -> Comparison:
            if self.told is not None and self.moved:
                return self.told
            was = self.noted[noted.name]
            return Comparison((), () if was == self.world.fence.live.writes[: len(was)] else ("rows",))

        found = self._call("copies.compare", compare)
        assert isinstance(found, Comparison)
        return found

    def tools(self, journal: Any) -> RestoreTools:
        """Return the tools of a restore: a new process, as far as the journal can tell."""
        unused: dict[str, Any] = dict.fromkeys(("walker", "rescuer", "comparer"))
        server: Any = self
        sides: Any = _Sides(self)
        book: Journal = journal
        return RestoreTools(
            **unused,
            environment="production",
            actor="ops@host",
            clock=self.world.clock,
            journal=book,
            runs=journal,
            backups=server,
            wal=server,
            sides=sides,
            beside=sides,
            bases=sides,
            live=server,
            copies=server,
            kept=self.folder / "kept",
            tools_version=18,
            free_bytes=lambda _place: 1 << 40,
            database="app",
            server=server,
        )


class _Sides:
    """The side instances of a paper server: their `start` and `stop` are others than the server's."""

    copies = False

    def __init__(self, server: PaperServer) -> None:
        self.start = server.begin
        self.stop = server.stop_side
        self.list, self.find, self.drop = server.list, server.find, server.drop
        self.resume, self.promote, self.look = server.resume, server.promote, server.look
