"""A real Postgres with a backout.toml beside it, for tests of backups and WAL."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from cli_shell import Answer
from cli_shell import backout as typed
from small_cluster import drop_templates, shrink_segments

from backout.providers.archive.repository import Repository
from backout.providers.archive.stores import FolderStore
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from backout.providers.archive.sealing import Key
    from backout.providers.postgres.server.launcher import ServerStatus

PASSWORD = "canary-of-the-lab"

TOML = """
[app]
name = "shop"
[environments.lab]
platform = {{ provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }}
[environments.lab.database]
provider = "postgres"
url_env = "DATABASE_URL"
[environments.lab.database.backup]
{backup}
"""


@dataclass
class Lab:
    """The server, the folder of backout.toml, and the command line in it."""

    folder: Path
    server: PostgresServer
    status: ServerStatus
    variables: dict[str, str]

    def execute(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def value(self, query: str) -> object:
        """Return the one value that a query answers."""
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]

    @property
    def dsn(self) -> str:
        """The superuser's connection string."""
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.status.port}/postgres"

    @property
    def archive(self) -> Path:
        """Where backups are kept."""
        return self.folder / ".backout" / "backups" / "lab"

    def backout(self, *arguments: str) -> Answer:
        """Type a command."""
        return typed(self.folder, *arguments, variables=self.variables)

    def configure(self, backup: str = "", variables: Mapping[str, str] | None = None) -> None:
        """Write backout.toml with these keys of the backup's section."""
        (self.folder / "backout.toml").write_text(TOML.format(backup=backup), encoding="utf-8")
        self.variables = {"DATABASE_URL": self.dsn, **(variables or {})}


@contextlib.contextmanager
def running_lab(
    folder: Path, cache: Path, settings: Mapping[str, str] | None = None, *, small: bool = True
) -> Iterator[Lab]:
    """Run a server in `folder`, with a backout.toml that has the defaults; `small`: see `small_cluster`."""
    server = PostgresServer(folder / "data", find_binaries(), settings={"fsync": "off", **(settings or {})})
    server.create(cache_directory=cache)
    if small:
        shrink_segments(folder / "data", find_binaries())
    status = server.start(password=PASSWORD)
    if small:
        with psycopg.connect(status.socket_dsn, autocommit=True) as connection:
            drop_templates(connection)
    lab = Lab(folder, server, status, {})
    try:
        lab.configure()
        yield lab
    finally:
        lab.server.stop(mode="immediate")
        server.stop(mode="immediate")


def restored(
    lab: Lab, backup: str, folder: Path, *, key: Key | None = None, settings: Mapping[str, str] | None = None
) -> PostgresServer:
    """Lay out a backup with all WAL that there is, and return its server, not started."""
    repository = Repository(FolderStore(lab.archive), find_binaries, incoming=lab.archive / "incoming", key=key)
    data, wal = folder / "restored", folder / "wal"
    data.mkdir(parents=True)
    wal.mkdir()
    repository.unpack(backup, data, lambda _done, _total: None)
    repository.fetch_wal([segment.name for segment in repository.wal()], wal)
    (data / "recovery.signal").touch()
    recovery = {"fsync": "off", "restore_command": f'cp "{wal}/%f" "%p"', "recovery_target_timeline": "latest"}
    return PostgresServer(data, find_binaries(), settings={**recovery, **(settings or {})})
