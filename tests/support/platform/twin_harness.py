"""The twin's API on loopback with a data plane that only remembers, for tests of rules rather than of processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from backout.twin.api.analytics import Analytics
from backout.twin.api.application import add_api, guard_request
from backout.twin.api.context import ApiContext
from backout.twin.api.twin import STATUS
from backout.twin.control.control import ControlPlane
from backout.twin.control.schedules import ScheduleRun
from backout.twin.control.state import BlobStore, State
from backout.twin.control.worker import StartupError, WorkerVersion
from backout.twin.database.d1 import D1Databases
from backout.twin.dataplane.tail import Tail, TailSession, parse_filters
from backout.twin.faults import Faults
from backout.twin.storage.bucketlist import BucketList
from backout.twin.storage.port import StoredObject

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

    from backout.twin.database.querycache import Policy
    from backout.twin.dataplane.counts import Row

ACCOUNT = "acc0000000000000000000000000000a"
TOKEN = "token-of-the-harness"


@dataclass
class RememberingDataPlane:
    """Accepts every version but those whose main module holds `throw`; remembers what is live."""

    live: dict[str, tuple[tuple[WorkerVersion, float], ...]] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    fed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    ran: list[tuple[str, str]] = field(default_factory=list)
    delays: dict[str, float] = field(default_factory=dict)
    cohorts: dict[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)

    async def run_schedule(self, script: str, cron: str, scheduled_at: float) -> ScheduleRun | None:
        self.ran.append((script, cron))
        return ScheduleRun(cron, self.live[script][0][0].id, scheduled_at, "ok") if script in self.live else None

    async def validate(self, version: WorkerVersion) -> int:
        for module in version.modules:
            if b"THROWS AT START" in module.path.read_bytes():
                raise StartupError("Uncaught Error: THROWS AT START\n  at index.js:1:7")
        return 3

    async def activate(
        self,
        script: str,
        shares: tuple[tuple[WorkerVersion, float], ...],
        *,
        cohorts: Mapping[str, Mapping[str, float]] | None = None,
        objects_delay_s: float = 300.0,
    ) -> None:
        self.live[script] = shares
        self.cohorts[script] = cohorts or {}
        self.delays[script] = objects_delay_s

    async def remove(self, script: str) -> None:
        self.live.pop(script, None)

    def counts(self, script: str, since: int, until: int | None) -> list[Row]:
        return [
            row for row in self.rows.get(script, []) if since <= row.second and (until is None or row.second < until)
        ]

    def feed(self, script: str, consumers: tuple[str, ...]) -> None:
        self.fed[script] = consumers


class SilentTails:
    """Tails without events."""

    def __init__(self) -> None:
        self._tail = Tail(on_amended=lambda _exchange: None, on_demand=lambda _script, _wanted: None)

    async def open_tail(self, script: str, filters: list[object]) -> TailSession:
        return self._tail.open(script, parse_filters(filters))

    async def close_tail(self, tail_id: str) -> None:
        self._tail.close(tail_id)

    async def tail_socket(self, request: web.Request, tail_id: str) -> web.StreamResponse:
        raise web.HTTPNotFound


@dataclass
class MemoryBuckets:
    """Objects in a dictionary."""

    objects: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)

    async def create(self, name: str) -> None:
        self.made.add(name)

    async def names(self) -> tuple[str, ...]:
        return tuple(self.made)

    async def delete(self, name: str) -> None:
        self.made.discard(name)

    async def put(self, bucket: str, key: str, body: AsyncIterator[bytes], size_bytes: int, content_type: str) -> str:
        self.objects[bucket, key] = (b"".join([chunk async for chunk in body]), content_type)
        return '"etag"'

    async def get(self, bucket: str, key: str) -> StoredObject | None:
        found = self.objects.get((bucket, key))
        return None if found is None else StoredObject(len(found[0]), found[1], '"etag"', _once(found[0]))

    async def remove(self, bucket: str, key: str) -> None:
        self.objects.pop((bucket, key), None)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, its JSON parsed."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def result(self) -> Any:
        assert self.status < 300, self.body
        return self.body["result"]

    @property
    def code(self) -> int:
        return int(self.body["errors"][0]["code"])


@dataclass
class Api:
    """A running API and the parts behind it."""

    url: str
    control: ControlPlane
    data_plane: RememberingDataPlane
    buckets: MemoryBuckets
    faults: Faults
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    token: str = TOKEN

    def restore(self) -> None:
        """Bring the live deployments back up, as a start does."""
        assert self.run(self.control.restore()) == ()

    def call(self, method: str, path: str, body: object = None, *, token: str | None = None, **headers: str) -> Answer:
        """Send one request; a path without a leading / is under the account's workers/scripts."""
        full = path if path.startswith("/") else f"/client/v4/accounts/{ACCOUNT}/workers/scripts/{path}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {self.token if token is None else token}", **headers}
        request = urllib.request.Request(self.url + full, data=data, method=method, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                status, raw, got = response.status, response.read(), dict(response.headers)
        except urllib.error.HTTPError as error:
            with error:
                status, raw, got = error.code, error.read(), dict(error.headers)
        is_json = "json" in got.get("Content-Type", "")
        return Answer(status, json.loads(raw) if is_json else raw, got)

    def upload(self, script: str, code: str = "export default {}", *, deploy: bool = True, **metadata: Any) -> Answer:
        """Upload a Worker of one module as wrangler does."""
        meta = {"main_module": "index.js", "compatibility_date": "2026-10-01", **metadata}
        form, content_type = multipart(meta, {"index.js": code})
        method, path = ("PUT", script) if deploy else ("POST", f"{script}/versions")
        return self.call(method, path, form, **{"Content-Type": content_type})


def multipart(metadata: object, modules: dict[str, str]) -> tuple[bytes, str]:
    """Return the body and the content type of an upload form."""
    boundary = "----of-the-harness"
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{json.dumps(metadata)}\r\n']
    parts += [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        f"Content-Type: application/javascript+module\r\n\r\n{code}\r\n"
        for name, code in modules.items()
    ]
    return ("".join(parts) + f"--{boundary}--\r\n").encode(), f"multipart/form-data; boundary={boundary}"


@contextlib.contextmanager
def running_api(directory: Path) -> Iterator[Api]:
    """Serve the API from a thread until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def call(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(PATIENCE_S)

    api, runner = call(_start(directory, call))
    try:
        yield api
    finally:
        call(runner.cleanup())
        call(_close(api.control.state))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


async def _break_nothing() -> None:
    """No service is here that a fault could stop."""


async def _start(directory: Path, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> tuple[Api, web.AppRunner]:
    state, data_plane, buckets = State(directory / "state.sqlite"), RememberingDataPlane(), MemoryBuckets()
    faults = Faults(directory / "faults.json")
    bucket_list = BucketList(state, buckets, faults)
    control = ControlPlane(state, BlobStore(directory / "blobs"), data_plane, bucket_list)
    app = web.Application(middlewares=[guard_request])
    analytics = Analytics(data_plane.counts)
    shared = ApiContext(
        control=control,
        tails=SilentTails(),
        buckets=buckets,
        bucket_list=bucket_list,
        faults=faults,
        account_id=ACCOUNT,
        token=TOKEN,
        socket_url="ws://127.0.0.1:9",
        analytics=analytics,
        schedules=data_plane,
        set_caching=data_plane.policies.__setitem__,
        set_database_role=lambda _: None,
        d1=D1Databases(directory / "d1", faults),
        apply_faults=_break_nothing,
    )
    add_api(app, shared)
    app[STATUS] = lambda: {"running": True, "unknown_routes": state.list_unknown_routes()}
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    return Api(f"http://127.0.0.1:{port}", control, data_plane, buckets, faults, run), runner


async def _close(state: State) -> None:
    state.close()
