"""Port SideInstances: copies of a database at an earlier moment, each in a folder of its own, beside the live one.

A side instance never archives, never replicates, listens on a unix socket in a private directory alone, and outlives
the command that started it. Where the system allows it is laid over the unpacked base (overlayfs in an unprivileged
user and mount namespace), and then nothing is copied.

Source: PostgreSQL 18, "Recovery Target" (`recovery_target_lsn`, `recovery_target_inclusive`), "Hot Standby" (settings
that must be as large as on the origin), `recovery_init_sync_method` (syncfs does not open each file, which would copy
it up).
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from backout.errors import BackoutError, Refused, UsageError
from backout.model.database.recovery import SideInstance, SideLook, SideState, find_place
from backout.model.names import parse_id, parse_segment
from backout.providers.postgres.backup.base_backups import verify_folder
from backout.providers.postgres.restore.side_files import (
    copy_folder,
    overlay_works,
    put_over,
    read_boot_id,
    read_text,
    refuse_tablespaces,
    remove,
    write_local_access,
    write_whole,
)
from backout.providers.postgres.restore.side_looking import look_at, read_all, roll_back_prepared
from backout.providers.postgres.restore.side_replay import TIMEOUT_S, Laid, Looks, Unopenable, end_recovery, replay
from backout.providers.postgres.restore.side_settings import (
    AUTO_CONF,
    find_lacked,
    find_larger,
    is_aside,
    make_settings,
    put_back,
    set_aside,
    write_like,
)
from backout.providers.postgres.restore.side_wal import bring_wal
from backout.providers.postgres.restore.side_walk import GivenWal, walk
from backout.providers.postgres.server.launcher import Overlay, PostgresServer
from backout.providers.postgres.server.owner_session import make_inside_dsn
from backout.providers.postgres.server.session import reading
from backout.providers.postgres.server.template import give_away, run_tool
from backout.providers.postgres.tls.access import quote_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from backout.model.database.chains import Stay
    from backout.model.database.recovery import DatabaseRead, SideOrder
    from backout.ports import Backups
    from backout.providers.postgres.server.binaries import Binaries
    from backout.providers.postgres.server.launcher import ServerStatus

_LOOK_S: Final = 60.0
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


class PostgresSides:
    """The side instances under one folder.

    Args:
        superuser: the name of the cluster's own superuser, asked for when an instance is made.
        overlay: whether to lay instances over the base where the system can; False copies.
        needed: returns what the live server has by now of the settings that replay wants as large; {} where it is down.
        places: returns where the data directory of an instance of that name stands, "" for its own folder.
        trusted: returns a folder that may be used; raises BackoutError for one that others could have written.
    """

    def __init__(
        self,
        root: Path,
        binaries: Binaries,
        backups: Backups,
        superuser: Callable[[], str],
        *,
        overlay: bool = True,
        needed: Callable[[], Mapping[str, int]] = dict,
        places: Callable[[str], str] | None = None,
        trusted: Callable[[Path], Path] = Path,
    ) -> None:
        self._root = root.absolute()
        self._places = places or partial(find_place, folder=str(self._root))
        self._trusted = trusted
        self._binaries = binaries
        self._backups = backups
        self._superuser = superuser
        self._wants_overlay = overlay
        self._needed = needed
        self._looks = Looks()

    @property
    def copies(self) -> bool:
        """Whether an instance copies its base."""
        return not self._overlays()

    def list(self) -> tuple[SideInstance, ...]:
        """Return the instances there are, by name."""
        folders = sorted(self._root.glob("sides/*/laid.json"))
        return tuple(found for each in folders if (found := self.find(each.parent.name)) is not None)

    def find(self, name: str) -> SideInstance | None:
        """Return an instance, running or not; None when there is none of that name, or it is only half made."""
        laid = self._read_laid(name)
        if laid is None:
            return None
        server = self._server(laid)
        status = server.status()
        order = laid.order
        if status is None:
            data = self._writable(laid)
            unready = (data / "recovery.signal").exists() or is_aside(data) or not laid.is_whole
            state = SideState.STOPPED if unready else SideState.READY
            return SideInstance(name, state, laid.how, str(server.data_directory), order.lsn, order.timeline)
        looked = self._looks.look(name, make_inside_dsn(self._dsn(status, laid)), server, status)
        return self._running(laid, server, status, looked)

    def start(self, order: SideOrder, progress: Callable[[str, int, int], None]) -> SideInstance:
        """Make the instance (unless it is there) and return it when it has come to its target and waits there.

        Args:
            progress: hears (what is done, so far, of how much) in bytes.

        Raises:
            BackoutError: a file of the backup is damaged, or replay ended before the target; Postgres is quoted.
            Unopenable: nobody can log in, so its server is stopped.
            Refused: the database has tablespaces, or the order is for a place that is not the instance's.
            UsageError: the name cannot be that of a side instance.
        """
        self._check(order)
        laid = self._read_laid(order.name)
        if laid is None or laid.order != order or not laid.is_whole:
            if laid is not None:
                self.drop(order.name)
            laid = self._lay(order, progress)
        if order.place and self._writable(laid).is_dir():
            set_aside(self._writable(laid))  # the settings of its origin, until it is moved in
        lacking = self._folder(order.name) / "lacking"
        if lacking.exists():  # an earlier attempt ended without all of the WAL, on a full disk perhaps
            # Its server may have heard already that there is no more WAL, and ends any moment.
            self._server(laid).stop(timeout_s=60.0)
            lacking.rename(lacking.with_name("coming"))
        with ThreadPoolExecutor(1) as beside:
            brought = beside.submit(bring_wal, self._backups, laid.order.wal, self._folder(laid.order.name))
            try:
                while (there := self._replay(laid, progress, brought)) is None:
                    laid = self._enlarge(laid)
                brought.result()
            except Unopenable:
                self._server(laid).stop(mode="immediate")
                raise
            except BackoutError:
                if brought.done() and (missing := brought.exception()) is not None:
                    self.drop(order.name)
                    raise missing from None  # the server only says that a file is not there
                raise
        return self._running(laid, self._server(laid), *there)

    def _check(self, order: SideOrder) -> None:
        if not _NAME.fullmatch(order.name):
            raise UsageError(f"not a name for a side instance: {order.name!r}", hint="lower case letters and digits")
        if order.place not in {"", self._places(order.name)}:
            raise Refused(f"the data directory of {order.name} cannot stand there", where=order.place)

    def walk(self, order: SideOrder, stops: Sequence[Stay], look: Callable[[Stay, str], bool]) -> None:
        """Make one instance, take it to where each of these begins, and call `look` there; then it is removed.

        Raises:
            BackoutError: as `start`.
        """
        self.drop(order.name)
        try:
            laid, folder = self._lay(order, lambda _doing, _done, _whole: None), self._folder(order.name)
            self._backups.fetch_wal(order.wal, folder / "wal")
            given = GivenWal(folder / "wal", folder / "given", order.wal)
            given.link(self._writable(laid))
            give_away(self._writable(laid) / "pg_wal")
            walk(self._server(laid), given, lambda status: make_inside_dsn(self._dsn(status, laid)), stops, look)
        finally:
            self.drop(order.name)

    def resume(self, name: str, progress: Callable[[str, int, int], None]) -> SideInstance:
        """Start one that was stopped or killed; return it where it was. Raises as `start`, UsageError without one."""
        laid = self._read_laid(name)
        if laid is None:
            raise UsageError(f"no side instance {name!r}", hint="backout db restore --list")
        return self.start(laid.order, progress)

    def promote(self, name: str) -> None:
        """Let it go on as a database of its own: what was locked can be read then. Raises UsageError if none runs."""
        self._looks.forget(name)
        found, laid = self.find(name), self._read_laid(name)
        if found is None or laid is None or not found.dsn:
            raise UsageError(f"no side instance {name!r} runs", hint="backout db restore --list")
        end_recovery(make_inside_dsn(found.dsn), found.state)
        self._looks.forget(name)
        roll_back_prepared(make_inside_dsn(found.dsn), laid.order.xid)

    def stop(self, name: str) -> None:
        """Stop it cleanly and keep it; all of it is on the disk when this returns."""
        if (laid := self._read_laid(name)) is None:
            return
        server = self._server(laid)
        server.stop(timeout_s=60.0)
        put_back(self._writable(laid))
        if laid.how != "overlay":
            run_tool(self._binaries, "initdb", "--sync-only", f"--pgdata={server.data_directory}", timeout_s=TIMEOUT_S)
            self._keep(replace(laid, boot=""))

    def look(self, name: str, database: str, relation: str, migration: str) -> SideLook:
        """Return what it shows, read-only.

        Args:
            relation: `table` or `table.column`, each perhaps with its schema; "" is not looked for.

        Raises:
            Refused: the database is not there.
        """
        import psycopg

        found = self.find(name)
        dsn = make_inside_dsn(found.dsn) if found is not None else ""
        try:
            with reading(dsn, dbname=database, statement_timeout_s=_LOOK_S) as connection:
                return look_at(connection, relation, migration)
        except psycopg.OperationalError as error:
            raise Refused(f"the side instance cannot be looked at: {error}", where=name) from error

    def read_all(self, name: str) -> tuple[DatabaseRead, ...]:
        """Read every row of every database of it. Raises BackoutError: it does not run, or something cannot be read."""
        found = self.find(name)
        if found is None or not found.dsn:
            raise BackoutError(f"no side instance {name!r} runs", where=name)
        return read_all(make_inside_dsn(found.dsn))

    def drop(self, name: str) -> None:
        """Stop it and remove its files; of one whose data directory was moved away, what is left of it."""
        laid = self._read_laid(name)
        if laid is not None:
            self._server(laid).stop(mode="immediate")
            if laid.order.place:
                shutil.rmtree(laid.order.place, ignore_errors=True)
        remove(self._folder(name))

    def list_unpacked(self) -> tuple[str, ...]:
        """Return the bases that lie unpacked here and under no instance."""
        used = {
            laid.lower for each in self._root.glob("sides/*/laid.json") if (laid := self._read_laid(each.parent.name))
        }
        return tuple(folder.name for folder in sorted(self._root.glob("bases/*")) if str(folder) not in used)

    def release(self) -> None:
        """Remove them."""
        for name in self.list_unpacked():
            remove(self._locate_unpacked_base(name))

    def prepare(self, backup: str, progress: Callable[[str, int, int], None]) -> None:
        """Unpack a base ahead of time: an instance over it is then there in about a second."""
        self._base(backup, progress)

    # --- laying out ---------------------------------------------------------------------------------------------

    def _lay(self, order: SideOrder, progress: Callable[[str, int, int], None]) -> Laid:
        folder = self._folder(order.name)
        remove(folder)
        if order.place:
            shutil.rmtree(order.place, ignore_errors=True)
        (folder / "wal").mkdir(parents=True)
        folder.chmod(0o700)
        self._backups.fetch_wal((), folder / "wal")  # the history files, which a server asks for before all else
        (folder / "coming").mkdir()
        for name in order.wal:
            (folder / "coming" / parse_segment(name)).touch()
        how, lower = "copy", ""
        if order.place:
            self._place(order, progress)
        else:
            how, lower = put_over(self._base(order.backup, progress), folder, overlays=self._overlays())
        laid = Laid(order, self._superuser(), how, lower, read_boot_id(), self._needed())
        data = self._writable(laid)
        data.chmod(0o700)
        if not order.place:
            write_like(data / AUTO_CONF, b"")
        if order.walks:
            (data / "standby.signal").touch(mode=0o600)
        else:
            (data / "recovery.signal").touch(mode=0o600)
        write_local_access(folder)
        give_away(folder)
        if order.place:
            give_away(data)
        self._keep(laid)
        return laid

    def _keep(self, laid: Laid) -> None:
        write_whole(self._folder(laid.order.name) / "laid.json", json.dumps(msgspec.to_builtins(laid)))

    def _base(self, backup: str, progress: Callable[[str, int, int], None]) -> Path:
        """Return the folder in which the base lies unpacked, kept for the next instance."""
        base = self._trusted(self._locate_unpacked_base(backup))
        if not base.is_dir():
            base.parent.mkdir(parents=True, exist_ok=True)
            making = Path(tempfile.mkdtemp(prefix=".making-", dir=base.parent))
            try:
                self._unpack(backup, making / "data", progress)
                (making / "data").rename(base)
            finally:
                shutil.rmtree(making, ignore_errors=True)
        return base

    def _place(self, order: SideOrder, progress: Callable[[str, int, int], None]) -> None:
        """Lay a base out where it will stay."""
        base, into = self._trusted(self._locate_unpacked_base(order.backup)), Path(order.place)
        if order.from_base and base.is_dir():
            verify_folder(self._binaries, base, str(base))  # the machine may have crashed since
            into.parent.mkdir(parents=True, exist_ok=True)
            copy_folder(base, into)
        else:
            self._unpack(order.backup, into, progress)

    def _locate_unpacked_base(self, backup: str) -> Path:
        return self._root / "bases" / parse_id(backup, "the id of a backup")

    def _unpack(self, backup: str, into: Path, progress: Callable[[str, int, int], None]) -> None:
        into.mkdir(parents=True, mode=0o700)
        self._backups.unpack(backup, into, lambda done, whole: progress("unpacking the base", done, whole))
        refuse_tablespaces(into)

    def _overlays(self) -> bool:
        return self._wants_overlay and overlay_works(self._root)

    # --- running ------------------------------------------------------------------------------------------------

    def _server(self, laid: Laid) -> PostgresServer:
        folder, order = self._folder(laid.order.name), laid.order
        overlay = None
        data = Path(order.place) if order.place else folder / "data"
        if laid.how == "overlay":
            data = folder / "merged"
            overlay = Overlay(Path(laid.lower), folder / "upper", folder / "work")
        written = self._writable(laid)  # of an instance that was stopped, the newer one
        seen = written if (written / "global" / "pg_control").is_file() or not laid.lower else Path(laid.lower)
        settings = partial(make_settings, order, folder, seen, self._binaries, laid.least)
        return PostgresServer(
            data, self._binaries, settings=settings, log_file=folder / "log", dies_with_parent=False, overlay=overlay
        )

    def _replay(
        self, laid: Laid, progress: Callable[[str, int, int], None], brought: Future[None]
    ) -> tuple[ServerStatus, tuple[SideState, int]] | None:
        """Start it and return it at its target; None when the WAL wants larger settings than it has."""
        return replay(
            self._server(laid), laid, lambda status: make_inside_dsn(self._dsn(status, laid)), progress, brought
        )

    def _enlarge(self, laid: Laid) -> Laid:
        """Stop it, and let it have from now on what its log asks for."""
        self._server(laid).stop()
        wanted = find_lacked(read_text(self._folder(laid.order.name) / "log"))
        grown = replace(laid, least=find_larger(laid.least, wanted))
        self._keep(grown)
        return grown

    def _running(
        self, laid: Laid, server: PostgresServer, status: ServerStatus, looked: tuple[SideState, int]
    ) -> SideInstance:
        order, data, dsn = laid.order, str(server.data_directory), self._dsn(status, laid)
        state, replayed = looked
        return SideInstance(order.name, state, laid.how, data, order.lsn, order.timeline, dsn, status.pid, replayed)

    def _dsn(self, status: ServerStatus, laid: Laid) -> str:
        return f"host={status.socket_directory} port={status.port} user={quote_value(laid.superuser)} dbname=postgres"

    def _writable(self, laid: Laid) -> Path:
        folder = self._folder(laid.order.name)
        if laid.order.place:
            return Path(laid.order.place)
        return folder / "upper" if laid.how == "overlay" else folder / "data"

    def _folder(self, name: str) -> Path:
        return self._root / "sides" / parse_id(name, "the name of a side instance")

    def _read_laid(self, name: str) -> Laid | None:
        return Laid.read(self._folder(name), self._places(name), self._root / "bases")
