"""The twin's real services together: Postgres behind Hyperdrive, D1, the object store behind R2 gateways, the outbox.

They start in parallel, all on loopback; a drill's faults (`faults`) take effect here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING

from msgspec.structs import astuple, replace

from backout.errors import BackoutError
from backout.model.value import Value
from backout.twin.database.d1 import D1Databases
from backout.twin.database.hyperdrive import HyperdriveProxy
from backout.twin.database.postgres import TwinPostgres
from backout.twin.database.querycache import Policy
from backout.twin.faults import FaultKind
from backout.twin.outbox import Outbox
from backout.twin.storage.buckets import StoreBuckets
from backout.twin.storage.client import StoreClient
from backout.twin.storage.objectstore import ObjectStore
from backout.twin.storage.r2_gateway import R2Gateway

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from backout.twin.database.hyperdrive import HyperdriveTarget
    from backout.twin.faults import Faults


_LOG = logging.getLogger(__name__)
_FAULT_CHECK_S = 0.25


class _Broken(Value, frozen=True):
    """The services that are down; `allowed` are the buckets that may be used, None is no restriction."""

    database: bool = False
    storage: bool = False
    allowed: tuple[str, ...] | None = None


_NOTHING_BROKEN = _Broken()


class Services:
    """All services that a Worker's bindings reach.

    Args:
        directory: holds the data of all services; a later start finds it again, on the same ports where they are free.
        faults: those that a drill has switched on.
        cache_directory: the cache of costly files, shared by all twins; default is inside `directory`.
        postgres_settings: given to the server, such as `fsync=off`.
        token: the twin's, required by the outbox.
        caching: whether Hyperdrive caches where nothing says how.
    """

    def __init__(
        self,
        directory: Path,
        faults: Faults,
        *,
        cache_directory: Path | None = None,
        postgres_settings: Mapping[str, str] | None = None,
        token: str = "",
        caching: bool = True,
    ) -> None:
        self._directory = directory.absolute()
        self._faults = faults
        self.postgres = TwinPostgres(
            self._directory / "postgres",
            cache_directory=cache_directory or self._directory / "cache",
            settings=postgres_settings,
        )
        self.objectstore = ObjectStore(self._directory / "objectstore")
        self._store = StoreClient()
        self.buckets = StoreBuckets(self._store, faults)
        self._r2 = R2Gateway(self._store, faults, self._directory)
        self.d1 = D1Databases(self._directory / "d1", faults)
        self._proxies: dict[str, HyperdriveProxy] = {}
        self._role: str | None = None
        self._policies: dict[str, Policy] = {}
        self._usual_policy = Policy(enabled=caching)
        self.mail = Outbox(self._directory / "outbox", faults, token=token)
        self._broken = _NOTHING_BROKEN
        self._names: tuple[str, ...] = ()
        self._changed = asyncio.Event()
        self._applying = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        faults.on_change(self._changed.set)

    # --- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all of them; when one fails the others are stopped again.

        Raises:
            UsageError: a part is not installed.
            BackoutError: a part did not come up; its own words are quoted.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        ports = self._load_ports()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.postgres.start(next(iter(ports.get("postgres", ())), None)))
                group.create_task(self._start_store(ports.get("objectstore", ())))
                group.create_task(self.mail.start(ports.get("outbox", ())))
        except BaseExceptionGroup as errors:
            await self.stop()
            raise errors.exceptions[0] from errors
        self._remember_ports()
        self._broken = _NOTHING_BROKEN
        await self.apply_faults()
        self._keeper = asyncio.get_running_loop().create_task(self._keep_faults())

    async def stop(self) -> None:
        """Stop all of them; nothing happens where none runs."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        proxies = tuple(self._proxies.values())
        self._proxies.clear()
        await asyncio.gather(self._r2.stop(), *(proxy.stop() for proxy in proxies))
        await self._store.stop()
        await asyncio.gather(self.postgres.stop(), self.objectstore.stop(), self.mail.stop())

    async def _start_store(self, ports: Sequence[int]) -> None:
        await self._store.start(await self.objectstore.start(ports))

    # --- faults ------------------------------------------------------------------------------------------------

    async def apply_faults(self) -> None:
        """Break and repair the services until they match the active faults; called automatically after a change.

        Raises:
            BackoutError: a service does not stop or start. What is left is tried again by itself.
        """
        async with self._applying:
            wanted = await self._find_wanted()
            if wanted.database != self._broken.database:
                # Its end cuts the sessions of all Hyperdrive proxies as well.
                await (self.postgres.stop() if wanted.database else self.postgres.start())
                self._broken = replace(self._broken, database=wanted.database)
            if wanted != self._broken:
                if wanted.storage:
                    await self.objectstore.stop_gateway()
                else:
                    await self.objectstore.start_gateway(wanted.allowed)
                self._broken = wanted

    async def _find_wanted(self) -> _Broken:
        active = self._faults.active
        denied = active(FaultKind.STORAGE_DENIED)
        allowed: tuple[str, ...] | None = None
        if denied:
            targets = {fault.target for fault in denied}
            allowed = () if None in targets else tuple(b for b in await self._bucket_names() if b not in targets)
        return _Broken(
            database=bool(active(FaultKind.SERVICE_DOWN, "database")),
            storage=bool(active(FaultKind.SERVICE_DOWN, "storage")),
            allowed=allowed,
        )

    async def _bucket_names(self) -> tuple[str, ...]:
        """Return the buckets, the last known ones while the store does not tell."""
        if not self._broken.storage and self._broken.allowed is None:
            self._names = await self.buckets.names()
        return self._names

    async def _keep_faults(self) -> None:
        """Apply every change, and the end of a fault whose time is over."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _FAULT_CHECK_S)
            self._changed.clear()
            try:
                await self.apply_faults()
            except BackoutError:
                _LOG.exception("a fault could not be applied")

    # --- buckets -----------------------------------------------------------------------------------------------

    async def create_bucket(self, name: str) -> None:
        """Create a bucket with versions on; an existing one is fine."""
        await self.buckets.create(name)

    async def list_buckets(self) -> tuple[str, ...]:
        """Return the buckets of the store."""
        return await self.buckets.names()

    def r2_gateway_address(self, bucket: str) -> str:
        """Return "unix:/path" of the gateway that speaks workerd's R2 protocol for this bucket."""
        return self._r2.address(bucket)

    def hyperdrive(self, hyperdrive_id: str) -> HyperdriveTarget:
        """Return the target of a Hyperdrive binding; its proxy is made at the first call. Call it on the event loop."""
        return self.hyperdrive_proxy(hyperdrive_id).target

    def hyperdrive_proxy(self, hyperdrive_id: str) -> HyperdriveProxy:
        """Return the proxy itself, with its counts and its cache."""
        if hyperdrive_id not in self._proxies:
            to = self.postgres.credentials
            policy = self._policies.get(hyperdrive_id, self._usual_policy)
            proxy = HyperdriveProxy((to.database, to.user, to.password), self._socket, policy)
            proxy.role = self._role
            self._proxies[hyperdrive_id] = proxy
        return self._proxies[hyperdrive_id]

    def set_hyperdrive_policy(self, hyperdrive_id: str, policy: Policy) -> None:
        """Say how a configuration caches; before its proxy is made, that is before a Worker binds it."""
        self._policies[hyperdrive_id] = policy

    def set_database_role(self, role: str | None) -> None:
        """Have every Hyperdrive log in to the database as this role from now on; None: as the superuser."""
        self._role = role
        for proxy in self._proxies.values():
            proxy.role = role

    def _socket(self) -> Path | None:
        status = self.postgres.status
        return None if status is None else status.socket_directory / f".s.PGSQL.{status.port}"

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

    def _load_ports(self) -> dict[str, tuple[int, ...]]:
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
