"""A real Postgres with base backups and received WAL in plain folders, its load, and the tools to restore it with."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
from small_cluster import SEGMENT, drop_templates, shrink_segments

from backout.errors import BackoutError
from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.model.database.recovery import BackupKind, BaseBackup, find_place
from backout.model.database.wal import WalSegment, parse_lsn
from backout.plan.whole import add_agreed, list_to_agree
from backout.providers.archive.wal import measure_received
from backout.providers.child import find_free_ports, find_unprivileged_prefix
from backout.providers.clock import SystemClock
from backout.providers.postgres.comparison.comparer import PostgresComparer, PostgresCopies
from backout.providers.postgres.rescue.rescue import PostgresRescuer
from backout.providers.postgres.restore.live import PostgresLive
from backout.providers.postgres.restore.own_wal import make_reads_beside
from backout.providers.postgres.restore.sequences import PostgresSequences
from backout.providers.postgres.restore.side import PostgresSides
from backout.providers.postgres.restore.wal_search import WalSearch
from backout.providers.postgres.server.binaries import Binaries, find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.own_server import CommandedServer
from backout.providers.postgres.server.template import make_tool_environment, read_system_identifier, run_tool
from backout.runbook.recovery.restoring import make_actions
from backout.runbook.recovery.tools import RestoreTools

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backout.model.incident.incident import Run
    from backout.model.plan import Plan
    from backout.ports import Action, Backups

ENVIRONMENT = "production"


@dataclass
class PlainBackups:
    """Port Backups on unpacked base backups and a folder that pg_receivewal writes into."""

    root: Path

    @property
    def found(self) -> list[BaseBackup]:
        return [pickle.loads(path.read_bytes()) for path in sorted((self.root / "bases").glob("*.pickle"))]  # noqa: S301 ours

    @property
    def received(self) -> Path:
        return self.root / "wal"

    def backups(self) -> tuple[BaseBackup, ...]:
        return tuple(self.found)

    def wal(self) -> tuple[WalSegment, ...]:
        while True:
            with contextlib.suppress(FileNotFoundError):  # a partial segment was renamed meanwhile
                return self._wal()

    def _wal(self) -> tuple[WalSegment, ...]:
        segments: dict[str, WalSegment] = {}
        for path in sorted(self.received.iterdir()):
            name, _, kind = path.name.partition(".")
            if not re.fullmatch(r"[0-9A-F]{24}", name) or kind not in ("", "partial") or name in segments:
                continue
            begin = (int(name[8:16], 16) * ((1 << 32) // SEGMENT) + int(name[16:], 16)) * SEGMENT
            written = (
                measure_received(path) if kind else None
            )  # None also of one that was completed, and so renamed, meanwhile
            end = begin + (SEGMENT if written is None else written)
            segments[name] = WalSegment(name, int(name[:8], 16), begin, end, partial=written is not None)
        return tuple(segments[name] for name in sorted(segments))

    def content(self, name: str) -> bytes:
        """Return a segment as it was received; it is renamed when it is complete, maybe just now."""
        whole, partial = self.received / name, self.received / f"{name}.partial"
        for path in (whole, partial):
            with contextlib.suppress(FileNotFoundError):
                return path.read_bytes()
        return whole.read_bytes()

    def unpack(self, backup: str, into: Path, progress: Callable[[int, int], None]) -> None:
        base = self.root / "bases" / backup
        for folder, _, files in os.walk(base):
            if "damaged" in files:
                raise BackoutError("a file of the backup is damaged", where=f"{folder}/damaged")
        # A thousand files in one process: Python takes ten times as long.
        subprocess.run(["cp", "-a", f"{base}/.", into], check=True, timeout=PATIENCE_S)  # noqa: S607 - cp is wherever it is
        progress(1, 1)

    def fetch_wal(self, names: Sequence[str], into: Path, laid: Callable[[str], None] = lambda _name: None) -> None:
        for name in names:
            (into / name).write_bytes(self.content(name))
            laid(name)
        for path in self.received.glob("*.history"):
            shutil.copyfile(path, into / path.name)


class Lab:
    """One database, its archive, and everything to restore it with.

    Args:
        root: a folder of its own; `release` stops everything that runs.
    """

    def __init__(self, root: Path, sockets: Path, port: int) -> None:
        self.root, self.sockets, self.port = root, sockets, port
        self.binaries: Binaries = find_binaries()
        self.data = root / "live" / "data"
        options = f"-c port={port} -c listen_addresses= -c unix_socket_directories={sockets}"
        control = (
            *(*find_unprivileged_prefix(), self.binaries.path("pg_ctl"), "-D", str(self.data), "-w"),
            *("-l", str(root / "log")),
        )
        self.commands = (*control, "-o", options, "start"), (*control, "-m", "fast", "stop")
        self.server = CommandedServer(self.data, *map(shlex.join, self.commands))
        self.dsn = f"host={sockets} port={port} user=postgres dbname=postgres"
        self.backups = PlainBackups(root / "archive")
        self.receiver: subprocess.Popen[bytes] | None = None
        self.journal = SqliteJournal(root / "journal.sqlite", SystemClock(), stop=StopRequest())

    def create(self, cache: Path, *, templates: bool) -> None:
        """Make the database and its archive, and start it."""
        self.data.parent.mkdir(parents=True)
        PostgresServer(self.data, self.binaries).create(
            cache_directory=cache, settings={"max_prepared_transactions": "5", "shared_buffers": "32MB"}
        )
        shrink_segments(self.data, self.binaries)
        self.server.start()
        (self.root / "archive" / "bases").mkdir(parents=True)
        self.backups.received.mkdir()
        until(self._answers, what="the database answers")
        if not templates:
            with self.connect() as connection:
                drop_templates(connection)

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), self.connect():
            return True
        return False

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(query).fetchall()  # type: ignore[call-overload,no-any-return]

    def receive(self) -> None:
        """Receive WAL until the lab is released."""
        argv = (
            *find_unprivileged_prefix(),
            self.binaries.path("pg_receivewal"),
            "-d",
            self.dsn,
            "-D",
            str(self.backups.received),
        )
        if self.receiver is None:
            # One made by pg_receivewal holds no WAL until a receiver comes, which a checkpoint may be quicker than.
            self.rows(
                "SELECT pg_create_physical_replication_slot('lab', true)"
                " WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'lab')"
            )
        with (self.root / "receiver.log").open("w", encoding="utf-8") as log:
            self.receiver = subprocess.Popen(
                (*argv, "--slot=lab", "--synchronous", "--no-loop"), env=make_tool_environment(), stderr=log
            )

    def base(self, name: str) -> BaseBackup:
        """Take a base backup."""
        began = time.time()
        folder = self.root / "archive" / "bases" / name
        run_tool(
            self.binaries,
            "pg_basebackup",
            "-d",
            self.dsn,
            "-D",
            str(folder),
            "-c",
            "fast",
            "-X",
            "none",
            "--no-sync",
            "--manifest-checksums=CRC32C",
        )
        ranges = json.loads((folder / "backup_manifest").read_text())["WAL-Ranges"][0]
        made = BaseBackup(
            id=name,
            kind=BackupKind.FULL,
            parent=None,
            began_at=began,
            ended_at=time.time(),
            begin_lsn=parse_lsn(ranges["Start-LSN"]),
            end_lsn=parse_lsn(ranges["End-LSN"]),
            timeline=ranges["Timeline"],
            system_identifier=str(read_system_identifier(folder)),
            server_version=180006,
            size_bytes=40 << 20,
            stored_bytes=40 << 20,
            verified_at=time.time(),
        )
        folder.with_name(f"{name}.pickle").write_bytes(pickle.dumps(made))
        return made

    def archived(self) -> None:
        """Return when everything that was committed until now is in the archive, with a record behind it."""
        with self.connect() as connection:
            row = connection.execute("SELECT pg_logical_emit_message(true, 'lab', 'x')::text").fetchone()
            connection.execute("SELECT pg_logical_emit_message(true, 'lab', 'y')")
            assert row is not None
            lsn = parse_lsn(row[0])
            until(lambda: self._has_received(lsn), what="the WAL is received", timeout_s=30)

    def _has_received(self, lsn: int) -> bool:
        ended = self.receiver is None or self.receiver.poll() is not None  # looked at first: it may have ended just now
        is_there = self.backups.wal()[-1].end_lsn >= lsn
        assert is_there or not ended, "\n".join(
            (self.root / name).read_text(encoding="utf-8")[-4000:] for name in ("receiver.log", "log")
        )
        return is_there

    def reached(self) -> str:
        """Return the position of now, once it can be gone back to."""
        position = str(self.rows("SELECT pg_current_wal_insert_lsn()::text")[0][0])
        self.archived()
        return position

    def make_sides(self, backups: Backups) -> PostgresSides:
        """Return the side instances, one of which may replace the live data directory."""
        folder = self.root / "restore"
        places = partial(find_place, folder=str(folder), live=str(self.data))
        return PostgresSides(folder, self.binaries, backups, lambda: "postgres", places=places)

    def tools(self, **more: Any) -> RestoreTools:
        sides = self.make_sides(self.backups)
        given: dict[str, Any] = {
            "environment": ENVIRONMENT,
            "actor": "test",
            "clock": SystemClock(),
            "journal": self.journal,
            "runs": self.journal,
            "backups": self.backups,
            "wal": WalSearch(self.binaries, self.backups, self.root / "restore" / "wal"),
            "sides": sides,
            "beside": sides,
            "walker": sides,
            "bases": sides,
            "live": PostgresLive(lambda: self.dsn),
            "copies": PostgresCopies(lambda: self.dsn),
            "comparer": lambda database: PostgresComparer(lambda: self.dsn, database),
            "rescuer": lambda database: PostgresRescuer(
                lambda: self.dsn, self.binaries, database, self.root / "restore" / "kept"
            ),
            "carrier": PostgresSequences(self.binaries, self.root / "restore"),
            "wal_beside": make_reads_beside(self.binaries, self.backups, self.data, self.root / "restore"),
            "kept": self.root / "restore" / "kept",
            "tools_version": 18,
            "free_bytes": lambda place: shutil.disk_usage(place or self.root).free,
            "database": "postgres",
            "server": self.server,
        }
        return RestoreTools(**{**given, **more})

    def run(
        self,
        plan: Plan,
        tools: RestoreTools,
        with_actions: Mapping[str, Action] | None = None,
        words: Sequence[str] | None = None,
    ) -> Run:
        """Submit and drive a plan; words: what is agreed to, None for all that it names."""
        plan = add_agreed(plan, [thing.word for thing in list_to_agree(plan)] if words is None else words)
        run = self.journal.submit(plan, actor="test", reason="a test")
        return self.journal.drive(run, with_actions or make_actions(tools), actor="test")

    def release(self) -> None:
        """Stop everything that this lab started."""
        sides = self.make_sides(self.backups)
        for side in sides.list():
            sides.drop(side.name)
        if self.receiver is not None:
            self.receiver.terminate()
            self.receiver.wait(timeout=PATIENCE_S)
        with contextlib.suppress(BackoutError):
            self.server.stop()
        shutil.rmtree(self.sockets, ignore_errors=True)


def position_behind(connection: psycopg.Connection[Any]) -> str:
    """Return a position, with records before it and a whole segment of WAL that ends behind it."""
    connection.execute("SELECT pg_logical_emit_message(true, 'lab', 'x')")
    row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    connection.execute("SELECT pg_logical_emit_message(true, 'lab', 'y'), pg_switch_wal()")
    connection.execute("SELECT pg_logical_emit_message(true, 'lab', 'z')")
    assert row is not None
    return str(row[0])


class Load:
    """Sessions that insert ticks and count what the server acknowledged."""

    def __init__(self, lab: Lab, sessions: int = 2) -> None:
        self._lab = lab
        self._stop = threading.Event()
        self.acknowledged = 0
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(sessions)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def await_ticks(self, count: int) -> None:
        """Return when that many more were acknowledged."""
        wanted = self.acknowledged + count
        until(lambda: self.acknowledged >= wanted, what="ticks", timeout_s=30)

    def _run(self, number: int) -> None:
        with self._lab.connect() as connection:
            while not self._stop.is_set():
                connection.execute("INSERT INTO ticks (session, xid) VALUES (%s, pg_current_xact_id())", (number,))
                self.acknowledged += 1


@contextlib.contextmanager
def opened(root: Path, cache: Path, *, receive: bool = True, templates: bool = False) -> Iterator[Lab]:
    """Open a lab with a base backup, an archive and a table of ticks.

    Args:
        templates: whether other databases can be made.
    """
    sockets = Path(tempfile.mkdtemp(prefix="backout-lab-"))
    lab = Lab(root, sockets, find_free_ports(1)[0])
    try:
        lab.create(cache, templates=templates)
        with lab.connect() as connection:
            connection.execute("CREATE TABLE ticks (id bigserial PRIMARY KEY, session int, xid xid8)")
        if receive:
            lab.receive()
        yield lab
    finally:
        lab.release()
