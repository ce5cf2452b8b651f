"""A pgbench database under load whose WAL both sides keep, and backout's commands on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from shared.pgbackrest import PgBackRest

from backout import config as settings
from backout.model.database.wal import parse_lsn
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.template import run_tool
from backout.wiring.db.backups import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "bench"  # noqa: S105 - of a server on loopback that ends with the run
CONFIG = """
[app]
name = "bench"
[environments.bench]
platform = {{ provider = "cloudflare", script = "bench", account_id = "0123456789abcdef0123456789abcdef" }}
[environments.bench.database]
provider = "postgres"
url_file = "url"
backup = {{ wal = "stream" }}
server = {{ data_directory = "{data}", start = "true", stop = "true" }}
"""


class Bench:
    """The database under load, and both sides' copies of it, in one folder."""

    def __init__(self, folder: Path, scale: int, *, has_peer: bool = True) -> None:
        self.folder = folder
        self.scale = scale
        self.binaries = find_binaries()
        self.has_peer = has_peer
        self.peer = PgBackRest(folder / "peer", folder / "data")
        archive = {"archive_mode": "on", "archive_command": self.peer.archive_command()} if has_peer else {}
        self.server = PostgresServer(
            folder / "data",
            self.binaries,
            settings={
                **archive,
                "summarize_wal": "on",
                "max_slot_wal_keep_size": "20GB",
                "max_wal_size": "4GB",
                "shared_buffers": "256MB",
            },
        )

    def start(self) -> None:
        """Make the database and let both sides keep its WAL."""
        self.server.create()
        status = self.server.start(password=PASSWORD)
        self.dsn = status.socket_dsn
        self.socket, self.port = status.socket_directory, status.port
        url = self.folder / "url"
        url.write_text(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{status.port}/postgres", encoding="utf-8")
        url.chmod(0o600)
        (self.folder / "backout.toml").write_text(CONFIG.format(data=self.folder / "data"), encoding="utf-8")
        self.pgbench("-i", "-q", "-s", str(self.scale))
        if self.has_peer:
            self.peer.attach(status.socket_directory, status.port)
        self.backout("db", "wal", "start")

    def stop(self) -> None:
        """End everything."""
        with_wal = [sys.executable, "-m", "backout", "db", "wal", "stop", "-e", "bench"]
        subprocess.run(with_wal, cwd=self.folder, check=False, capture_output=True, timeout=60)
        self.server.stop(mode="immediate")

    def pgbench(self, *options: str) -> None:
        """Run pgbench against the database."""
        where = ("-h", str(self.socket), "-p", str(self.port), "-U", "postgres")
        run_tool(self.binaries, "pgbench", *where, *options, "postgres", timeout_s=900)

    def backout(self, *arguments: str) -> tuple[float, dict[str, object]]:
        """Run a command of backout; return its seconds and its JSON answer."""
        argv = [sys.executable, "-m", "backout", *arguments, "-e", "bench", "--json"]
        began = time.monotonic()
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, timeout=900, check=False)
        took = time.monotonic() - began
        if done.returncode not in (0, 1):  # 1: a finding, such as WAL that was not received yet
            sys.exit(f"backout {' '.join(arguments)}: exit {done.returncode}: {done.stderr[-2000:]}")
        return took, json.loads(done.stdout.splitlines()[-1])

    def config(self) -> settings.Config:
        """Return the configuration as a command would read it."""
        return settings.load(settings.Environment(dict(os.environ)), start=self.folder, environment="bench")

    @contextmanager
    def connected(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """Yield a connection."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            yield connection

    def lsn(self) -> str:
        """Return the WAL position."""
        with self.connected() as connection:
            row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        return str(row[0]) if row else sys.exit("database: no position")

    def pass_on(self, lsn: str) -> None:
        """Write beyond a position, and wait until both sides have it."""
        with self.connected() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS beyond (n int)")
            connection.execute("INSERT INTO beyond VALUES (1)")
            connection.execute("SELECT pg_switch_wal()")
        wanted = parse_lsn(lsn)
        keeper = make_repository(self.config())
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with self.connected() as connection:
                row = connection.execute(
                    "SELECT last_archived_wal >= pg_walfile_name(%s) FROM pg_stat_archiver", [lsn]
                ).fetchone()
            ours = max((each.end_lsn for each in keeper.wal()), default=0)
            if row is not None and (row[0] or not self.has_peer) and ours > wanted:
                return
            time.sleep(0.2)
        sys.exit(f"database: the WAL up to {lsn} did not reach both archives")
