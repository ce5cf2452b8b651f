"""The twin's real services together: Postgres behind Hyperdrive, the object store behind R2 gateways, the outbox.

They start at once and side by side, all on loopback; what a drill breaks (`faults`) is broken here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import astuple
from typing import TYPE_CHECKING

from backout.twin.objectstore import ObjectStore
from backout.twin.outbox import Outbox
from backout.twin.postgres import TwinPostgres

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from backout.twin.faults import Faults


class Services:
    """Everything that a Worker's bindings reach.

    Args:
        directory: holds the data of all services; a later start finds it again, on the same ports where they are free.
        faults: what a drill has switched on.
        cache_directory: where what is costly to make is kept for all twins; default is inside `directory`.
        postgres_settings: given to the server, such as `fsync=off`.
    """

    def __init__(
        self,
        directory: Path,
        faults: Faults,
        *,
        cache_directory: Path | None = None,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:
        self._directory = directory.absolute()
        self._faults = faults
        self.postgres = TwinPostgres(
            self._directory / "postgres",
            cache_directory=cache_directory or self._directory / "cache",
            settings=postgres_settings,
        )
        self.objectstore = ObjectStore(self._directory / "objectstore")
        self.mail = Outbox(self._directory / "outbox", faults)

    # --- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all of them; when one fails the others are stopped again.

        Raises:
            UsageError: a part is not installed. BackoutError: a part did not come up; its own words are quoted.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        ports = self._known_ports()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.postgres.start(next(iter(ports.get("postgres", ())), None)))
                group.create_task(self.objectstore.start(ports.get("objectstore", ())))
                group.create_task(self.mail.start(ports.get("outbox", ())))
        except BaseExceptionGroup as errors:
            await self.stop()
            raise errors.exceptions[0] from errors
        self._remember_ports()

    async def stop(self) -> None:
        """Stop all of them; nothing happens where none runs."""
        await asyncio.gather(self.postgres.stop(), self.objectstore.stop(), self.mail.stop())

    # --- addresses ---------------------------------------------------------------------------------------------

    @property
    def postgres_dsn(self) -> str:
        """The superuser's connection string by TCP, past Hyperdrive."""
        return self.postgres.credentials.dsn

    @property
    def s3_endpoint(self) -> str:
        """The URL of the S3 API."""
        return f"http://127.0.0.1:{self.objectstore.ports.s3 if self.objectstore.ports else 0}"

    @property
    def s3_credentials_file(self) -> Path:
        """JSON {access_key_id, secret_access_key, endpoint, region}, readable by the owner alone."""
        return self.objectstore.credentials_file

    @property
    def outbox(self) -> Path:
        """The directory of captured messages, one JSON file each."""
        return self.mail.directory

    @property
    def email_api_url(self) -> str:
        """The base URL of the email API (`POST /emails`, `GET /health`)."""
        return self.mail.http_url

    @property
    def smtp_port(self) -> int:
        """The port of the SMTP server on 127.0.0.1."""
        return self.mail.smtp_port

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now."""
        status = self.postgres.status
        return {**({} if status is None else {"postgres": status.pid}), **self.objectstore.pids}

    # --- ports -------------------------------------------------------------------------------------------------

    def _known_ports(self) -> dict[str, tuple[int, ...]]:
        with contextlib.suppress(OSError, ValueError, TypeError):
            known = json.loads((self._directory / "ports.json").read_text(encoding="ascii"))
            return {str(name): tuple(int(port) for port in ports) for name, ports in known.items()}
        return {}

    def _remember_ports(self) -> None:
        ports = {
            "postgres": (self.postgres.port,),
            "objectstore": astuple(self.objectstore.ports) if self.objectstore.ports else (),
            "outbox": (self.mail.http_port, self.mail.smtp_port),
        }
        (self._directory / "ports.json").write_text(json.dumps(ports), encoding="ascii")
