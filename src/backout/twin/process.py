"""The daemon: one event loop that serves the API, the ingress and the tails on one loopback port, over real services.

A folder that holds a twin of plain hosts gets the daemon of `hosts.daemon` instead.

Run by `lifecycle.start_twin` as `python -m backout.twin.process DIRECTORY [PORT [OWNER TICK]]`, where PORT 0 is any. It
leaves nothing behind on SIGTERM, and stops when its owner has ended.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from backout.errors import BackoutError
from backout.startup import leave_no_core
from backout.twin.api.analytics import Analytics
from backout.twin.api.application import TWIN, add_api, guard_request
from backout.twin.api.context import ApiContext
from backout.twin.api.hyperdrive import make_policy
from backout.twin.api.twin import STATUS
from backout.twin.control.control import ControlPlane
from backout.twin.control.previews import find_preview
from backout.twin.control.schedules import Scheduler
from backout.twin.control.state import BlobStore, State
from backout.twin.dataplane.dataplane import LocalDataPlane
from backout.twin.dataplane.outside import Outside
from backout.twin.faults import Faults
from backout.twin.home import HOSTS, Home, ProcessMark
from backout.twin.services import Services
from backout.twin.serving import TwinDaemon
from backout.twin.storage.bucketlist import BucketList

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from backout.twin.control.records import ApiObject

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOG = logging.getLogger("backout.twin")
_API_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_SHUTDOWN_S = 1.0
_MAX_HEADER_BYTES = 64 * 1024


class Daemon(TwinDaemon):
    """The twin of Cloudflare."""

    def __init__(self, home: Home, wanted_port: int | None, owner: ProcessMark | None = None) -> None:
        super().__init__(home, wanted_port, owner)
        self._faults = Faults(home.faults_file)
        self._state = State(home.state_file)
        self._services = Services(
            home.directory / "services", self._faults, token=home.token(), caching=not self._identity.sealed
        )
        self._buckets = BucketList(self._state, self._services.buckets, self._faults)
        self._outside = Outside(self._services) if self._identity.sealed else None
        self._data_plane = LocalDataPlane(
            home.directory / "dataplane", self._services, self._faults, outside=self._outside
        )
        self._control = ControlPlane(
            self._state, BlobStore(home.blobs), self._data_plane, self._buckets, domains=self._data_plane.domains
        )
        self._data_plane.find_preview = partial(find_preview, self._control)
        self._scheduler = Scheduler(self._state.scripts, self._data_plane)
        self._minutes: asyncio.Task[None] | None = None
        self._failed: tuple[str, ...] = ()
        self._runner: web.AppRunner | None = None

    async def _start(self) -> None:
        self._write_note(ready=False)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._services.start())
                group.create_task(self._data_plane.start())
                group.create_task(self._listen())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        self._write_note(ready=False)
        for bucket in await self._buckets.recreate():
            _LOG.warning("the object store does not make the bucket %s", bucket)
        for config in self._state.hyperdrives():
            self._services.set_hyperdrive_policy(config.id, make_policy(config))
        self._failed = await self._control.restore()
        for name in self._failed:
            _LOG.error("the live version of %s does not start", name)
        self._minutes = asyncio.create_task(self._scheduler.run_forever())

    async def _stop(self) -> None:
        """Stop the listeners first, so that nothing reaches what is going away."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._minutes is not None:
            self._minutes.cancel()
            await asyncio.gather(self._minutes, return_exceptions=True)
        await self._scheduler.close()
        results = await asyncio.gather(self._data_plane.close(), self._services.stop(), return_exceptions=True)
        self._state.close()
        for result in results:
            if isinstance(result, BaseException):
                _LOG.error("while stopping: %r", result)

    async def _listen(self) -> None:
        app = web.Application(middlewares=[self._by_host, guard_request])
        shared = ApiContext(
            control=self._control,
            tails=self._data_plane,
            buckets=self._services.buckets,
            bucket_list=self._buckets,
            faults=self._faults,
            account_id=self._identity.account_id,
            token=self._home.token(),
            socket_url=f"ws://127.0.0.1:{self._port}",
            analytics=Analytics(self._data_plane.counts),
            schedules=self._data_plane,
            set_caching=self._services.set_hyperdrive_policy,
            set_database_role=self._services.set_database_role,
            d1=self._services.d1,
            apply_faults=self._services.apply_faults,
        )
        observed = [
            web.get(TWIN + "/counts", self._data_plane.serve_counts),
            web.get(TWIN + "/events", self._data_plane.serve_events),
        ]
        add_api(app, shared, observed)
        app[STATUS] = self._status
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=_SHUTDOWN_S,
            auto_decompress=False,  # bodies pass through to the Workers as they came
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._home.remember_port(self._port)

    @web.middleware
    async def _by_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Requests to the address itself are the API's; any other Host is a Worker's."""
        host = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdecimal() else request.host
        return await handler(request) if host in _API_HOSTS else await self._data_plane.handle(request)

    def _list_children(self) -> dict[str, int]:
        return {**self._services.pids, **self._data_plane.pids}

    def _status(self) -> ApiObject:
        """Return the fields of `lifecycle.TwinStatus`."""
        root = f"http://127.0.0.1:{self._port}"
        scripts = [s.name for s in self._state.scripts() if self._state.live(s.name) is not None]
        return {
            "running": True,
            "directory": str(self._home.directory),
            "api_base_url": root + "/client/v4",
            "account_id": self._identity.account_id,
            "api_token_file": str(self._home.token_file),
            "ingress_url": root,
            "control_url": root + TWIN,
            "workers": {name: f"{name}.localhost" for name in scripts},
            "d1_databases": {name: found for name in scripts if (found := self._find_d1(name))},
            "postgres_dsn": self._services.postgres_dsn,
            "s3_endpoint": self._services.s3_endpoint,
            "s3_credentials_file": str(self._services.s3_credentials_file),
            "buckets": [name for name, _created in self._state.buckets()],
            "outbox": str(self._services.outbox),
            "email_api_url": self._services.email_api_url,
            "smtp_address": f"127.0.0.1:{self._services.smtp_port}",
            "unknown_routes": self._state.list_unknown_routes(),
            "pids": self._pids(),
            "faults": [f"{f.kind.value}{f' {f.target}' if f.target else ''}" for f in self._faults.active()],
            "failed": self._failed,
            "sealed": self._identity.sealed,
            "refused": () if self._outside is None else self._outside.refused,
        }

    def _find_d1(self, script: str) -> str:
        """Return the id of the first D1 database that the newest version of a Worker is bound to, "" without one."""
        version = self._state.latest(script)
        bound = version.bindings if version is not None else ()
        return next((str(each["id"]) for each in bound if each.get("type") == "d1" and "id" in each), "")


def _make_daemon(home: Home, port: int | None, owner: ProcessMark | None) -> TwinDaemon:
    if home.identity().kind != HOSTS:
        return Daemon(home, port, owner)
    from backout.twin.hosts.daemon import HostsDaemon

    return HostsDaemon(home, port, owner)


def main(arguments: Sequence[str]) -> int:
    """Run the daemon of a folder; 0 after a clean stop, the error's exit code with its text as the last line else."""
    leave_no_core()
    home = Home(Path(arguments[0]))
    port, *owner = (int(word) for word in arguments[1:] or ["0"])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    home.create()
    try:
        with home.held():
            asyncio.run(_make_daemon(home, port or None, ProcessMark(*owner) if owner else None).run())
            home.remove_note()
    except BackoutError as error:
        _LOG.exception("the twin ended")
        sys.stderr.write(f"{error}{f' ({error.hint})' if error.hint else ''}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
