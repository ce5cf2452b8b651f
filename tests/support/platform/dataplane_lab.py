"""A data plane on loopback for tests: real workerd processes, a real port, everything gone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from backout.twin.control.worker import Binding, Module, WorkerVersion
from backout.twin.dataplane.dataplane import LocalDataPlane
from backout.twin.faults import Faults

from polling import BUSY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from backout.twin.dataplane.outside import Outside
    from backout.twin.dataplane.wiring import Services

ESM = "application/javascript+module"


def fetch_module(body: str) -> str:
    """Return an ES module whose fetch handler has this body (`request`, `env`, `ctx` are in scope)."""
    return f"export default {{ async fetch(request, env, ctx) {{ {body} }} }};"


@dataclass
class Lab:
    """One running data plane with its port and a client."""

    plane: LocalDataPlane
    faults: Faults
    port: int
    client: aiohttp.ClientSession
    folder: Path
    created_at: float = field(default_factory=time.time)

    def version(
        self,
        source: str,
        *,
        script: str = "shop",
        flags: tuple[str, ...] = (),
        bindings: tuple[Binding, ...] = (),
        modules: tuple[tuple[str, str, bytes], ...] = (),
        assets: dict[str, tuple[bytes, str]] | None = None,
        assets_config: str = "{}",
    ) -> WorkerVersion:
        """Return a version whose main module is `source`."""
        self.created_at += 1.0
        parts = (("index.js", ESM, source.encode()), *modules)
        return WorkerVersion(
            script=script,
            id=str(uuid.uuid4()),
            modules=tuple(Module(name, kind, self._blob(data)) for name, kind, data in parts),
            main_module="index.js",
            compatibility_date="2026-10-01",
            compatibility_flags=flags,
            bindings=bindings,
            created_at=self.created_at,
            tag="v1",
            assets={path: (self._blob(data), kind) for path, (data, kind) in (assets or {}).items()},
            assets_config=assets_config,
            takes_schedule="scheduled(" in source,
        )

    async def deploy(self, *sources: str, script: str = "shop") -> tuple[WorkerVersion, ...]:
        """Make versions of these sources live in equal shares."""
        versions = tuple(self.version(source, script=script) for source in sources)
        await self.plane.activate(script, tuple((version, 100.0 / len(versions)) for version in versions))
        return versions

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def headers(self, script: str = "shop", **more: str) -> dict[str, str]:
        return {"Host": f"{script}.localhost:{self.port}", **{k.replace("_", "-"): v for k, v in more.items()}}

    async def get(self, path: str = "/", script: str = "shop", **headers: str) -> tuple[int, str]:
        """Return (status, text) of a GET."""
        async with self.client.get(self.url(path), headers=self.headers(script, **headers)) as answer:
            return answer.status, await answer.text()

    def _blob(self, data: bytes) -> Path:
        path = self.folder / uuid.uuid4().hex
        path.write_bytes(data)
        return path


@contextlib.asynccontextmanager
async def lab(
    folder: Path, *, services: Services | None = None, seed: int = 1, outside: Outside | None = None
) -> AsyncIterator[Lab]:
    """Run a data plane with its router on a free port."""
    faults = Faults(folder / "faults.json")
    drawn = random.Random(seed)  # noqa: S311 - a seeded split
    plane = LocalDataPlane(folder, services, faults, random_source=drawn, outside=outside)

    async def tail_socket(request: web.Request) -> web.StreamResponse:
        return await plane.tail_socket(request, request.match_info["id"])

    application = web.Application(client_max_size=1 << 30)
    application.router.add_get("/twin/v1/counts", plane.serve_counts)
    application.router.add_get("/twin/v1/events", plane.serve_events)
    application.router.add_get("/tail/{id}", tail_socket)
    application.router.add_route("*", "/{path:.*}", plane.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await plane.start()
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as client:
            yield Lab(plane, faults, port, client, folder)
    finally:
        await runner.cleanup()
        await plane.close()


async def until(
    predicate: Callable[[], bool] | Callable[[], Awaitable[bool]], timeout_s: float = 10.0, what: str = "it"
) -> None:
    """Poll on the loop until the predicate holds; fail the test when it takes too long, see `polling.until`."""
    timeout_s *= BUSY
    deadline = time.monotonic() + timeout_s
    while True:
        answer = predicate()
        if (await answer) if not isinstance(answer, bool) else answer:
            return
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.02)
