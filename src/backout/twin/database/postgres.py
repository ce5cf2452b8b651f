"""The twin's Postgres: one server whose data, password and port stay the same from one start to the next."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

from backout.errors import BackoutError
from backout.model.value import Value
from backout.providers.child import find_free_ports
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.template import SUPERUSER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from backout.providers.postgres.server.launcher import ServerStatus

_PORT_TAKEN = "Address already in use"
DATABASE = "postgres"
"""The database that a Hyperdrive binding reaches."""


class Credentials(Value, frozen=True):
    """How a client on loopback logs in; the twin's password is the only password allowed in output."""

    host: str
    port: int
    database: str
    user: str
    password: str

    @property
    def dsn(self) -> str:
        """The connection string as a URL, the form that every client library takes."""
        return f"postgresql://{self.user}:{quote(self.password)}@{self.host}:{self.port}/{self.database}"


class TwinPostgres:
    """The server under `directory`.

    Args:
        directory: holds data, log, password.
        cache_directory: where the initdb template is kept; several twins may share it.
        settings: the server's settings for a drill, such as `fsync=off`.
    """

    def __init__(
        self, directory: Path, *, cache_directory: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self._directory = directory
        self._cache_directory = cache_directory
        self._settings = settings
        self._server: PostgresServer | None = None
        self._running: ServerStatus | None = None
        self.port: int | None = None

    @property
    def status(self) -> ServerStatus | None:
        """The server as it was when it last came up; None while it is stopped."""
        return self._running

    @property
    def credentials(self) -> Credentials:
        """How to connect by TCP; valid after the first start, and while the server is down as well."""
        return Credentials("127.0.0.1", self.port or 0, DATABASE, SUPERUSER, self._password())

    async def start(self, wanted_port: int | None = None) -> None:
        """Start it, on the wanted port where that is free; the data directory is made on the first start.

        Raises:
            UsageError: Postgres is not installed.
            BackoutError: it did not come up.
        """
        # Not in a worker thread: the kernel ties the child to the thread that starts it, and this one lives longest.
        # The blocking part is a copy of a template and a start, about 0.1 s (0.5 s the first time on a machine).
        self._directory.mkdir(parents=True, exist_ok=True)
        server = PostgresServer(self._directory / "data", find_binaries(), settings=self._settings)
        self._server = server
        await asyncio.to_thread(server.create, cache_directory=self._cache_directory)
        wanted = self.port or wanted_port
        self.port = find_free_ports(1, () if wanted is None else (wanted,))[0]
        try:
            self._running = server.start(port=self.port, password=self._password(), take_over=True)
        except BackoutError as error:
            if _PORT_TAKEN not in error.what:
                raise
            self.port = find_free_ports(1)[0]  # another process took it: try another port
            self._running = server.start(port=self.port, password=self._password(), take_over=True)

    async def stop(self) -> None:
        """Stop it cleanly; nothing happens where it does not run."""
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)
        self._running = None

    def _password(self) -> str:
        path = self._directory / "password"
        with contextlib.suppress(FileNotFoundError):
            return path.read_text(encoding="ascii")
        password = secrets.token_hex(16)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password)
        return password
