"""The daemon of a twin of plain hosts: Postgres, S3 and email as on the other twin, Caddy, the twin's endpoints.

Releases are pushed from outside, by `backout release push`; their processes end with the twin.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from backout.decoding import decode_raw
from backout.errors import BackoutError
from backout.private import write_over
from backout.twin.access import get_bearer, require_loopback
from backout.twin.api.answers import ApiError
from backout.twin.api.twin import FAULTS, STATUS, FaultTools, make_common_routes
from backout.twin.faults import FaultKind, Faults
from backout.twin.home import HOSTS
from backout.twin.hosts.caddy import ACCESS_LOG, HostCaddy, HostPorts, draw_ports
from backout.twin.hosts.leftovers import end_releases, find_running
from backout.twin.services import Services
from backout.twin.serving import TwinDaemon

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backout.twin.control.records import ApiObject
    from backout.twin.home import Home, ProcessMark

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BUCKET: Final = "files"
ROOT: Final = "/twin/v1"
_LOG = logging.getLogger("backout.twin")
_SHUTDOWN_S = 1.0


class HostsDaemon(TwinDaemon):
    """Everything of one twin of plain hosts, but for the releases, in one process."""

    def __init__(self, home: Home, wanted_port: int | None, owner: ProcessMark | None = None) -> None:
        super().__init__(home, wanted_port, owner)
        self._faults = Faults(home.faults_file)
        self._services = Services(home.directory / "services", self._faults, token=home.token())
        self._ports = self._find_ports()
        self._caddy = HostCaddy(home.directory, home.releases, self._ports)
        self._runner: web.AppRunner | None = None

    async def _start(self) -> None:
        self._write_note(ready=False)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._services.start())
                group.create_task(self._caddy.start())
                group.create_task(self._listen())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        with contextlib.suppress(BackoutError):  # a fault that stayed on may deny it
            await self._services.create_bucket(BUCKET)
        write_over(self._home.directory / "services.env", self._list_variables().encode())

    async def _stop(self) -> None:
        """Stop visitors first, then releases, so that none of them sees its services go away."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self._caddy.stop()
        await asyncio.to_thread(end_releases, self._home.releases)
        await self._services.stop()

    async def _listen(self) -> None:
        app = web.Application(middlewares=[require_loopback, self._guard])
        app[STATUS] = self._status
        kinds = (FaultKind.SERVICE_DOWN, FaultKind.STORAGE_DENIED)
        app[FAULTS] = FaultTools(self._faults, self._services.apply_faults, kinds)
        app.add_routes(make_common_routes(ROOT))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._home.remember_port(self._port)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check the token, and answer errors in the envelope."""
        if not hmac.compare_digest(get_bearer(request).encode(), self._home.token().encode()):
            return ApiError(401, 10000, "Authentication error").response()
        try:
            return await handler(request)
        except ApiError as error:
            return error.response()

    def _find_ports(self) -> HostPorts:
        """Return the ports of before: a configuration names them."""
        file = self._home.directory / "ports.json"
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return decode_raw(file.read_bytes(), HostPorts)
        ports = draw_ports()
        write_over(file, msgspec.json.encode(ports))
        return ports

    def _list_variables(self) -> str:
        """Return the variables by which a release reaches the services."""
        access = self._services.objectstore.read_access()
        values = {
            "DATABASE_URL": self._services.postgres_dsn,
            "S3_ENDPOINT": access.endpoint,
            "S3_BUCKET": BUCKET,
            "S3_ACCESS_KEY_ID": access.access_key_id,
            "S3_SECRET_ACCESS_KEY": access.secret_access_key,
            "EMAIL_API_URL": self._services.email_api_url,
        }
        return "".join(f"{name}={value}\n" for name, value in values.items())

    def _list_children(self) -> dict[str, int]:
        return {**self._services.pids, **self._caddy.pids}

    def _status(self) -> ApiObject:
        """Return the fields of `lifecycle.TwinStatus`."""
        releases = {f"release-{name}": pid for name, pid in find_running(self._home.releases).items()}
        return {
            "running": True,
            "home": HOSTS,
            "directory": str(self._home.directory),
            "account_id": self._identity.account_id,
            "api_token_file": str(self._home.token_file),
            "control_url": f"http://127.0.0.1:{self._port}{ROOT}",
            "ingress_url": self._caddy.url,
            "releases": str(self._home.releases),
            "access_log": str(self._home.directory / ACCESS_LOG),
            "ports": [self._ports.first, self._ports.last],
            "env_file": str(self._home.directory / "services.env"),
            "postgres_dsn": self._services.postgres_dsn,
            "s3_endpoint": self._services.s3_endpoint,
            "s3_credentials_file": str(self._services.s3_credentials_file),
            "buckets": [BUCKET],
            "outbox": str(self._services.outbox),
            "email_api_url": self._services.email_api_url,
            "smtp_address": f"127.0.0.1:{self._services.smtp_port}",
            "pids": {**self._pids(), **releases},
            "faults": [f"{f.kind.value}{f' {f.target}' if f.target else ''}" for f in self._faults.active()],
        }
