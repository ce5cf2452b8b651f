"""The twin's data plane: the running versions, the live ones, and every request to them."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import shutil
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from backout.twin.control.schedules import ScheduleRun
from backout.twin.control.worker import OBJECTS_DELAY_S
from backout.twin.database.d1_http import answer_binding
from backout.twin.dataplane import assets
from backout.twin.dataplane.capnp import Surroundings
from backout.twin.dataplane.consumers import Consumers
from backout.twin.dataplane.counts import CountBook
from backout.twin.dataplane.fleet import Fleet, Reactions
from backout.twin.dataplane.hub import Hub
from backout.twin.dataplane.objects import ObjectHosts
from backout.twin.dataplane.proxy import Proxy, make_answer
from backout.twin.dataplane.router import choose, find_script
from backout.twin.dataplane.tail import Tail, TailSession, parse_filters
from backout.twin.dataplane.wiring import wire
from backout.twin.dataplane.workerd import Workerd, find_newest_date, find_workerd
from backout.twin.faults import FaultKind
from backout.twin.runtime import RuntimeFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    from backout.twin.control.worker import WorkerVersion
    from backout.twin.dataplane.counts import Row
    from backout.twin.dataplane.exchange import Exchange
    from backout.twin.dataplane.instances import Instance, ObjectKey
    from backout.twin.dataplane.outside import Outside
    from backout.twin.dataplane.wiring import Services
    from backout.twin.faults import Fault, Faults

_LOG = logging.getLogger(__name__)
_LONGEST_WAIT_S = 60.0
_EXPIRE_EVERY_S = 0.5


class LocalDataPlane:
    """Runs versions in workerd and routes to them; implements `backout.twin.control.worker.DataPlane`.

    Args:
        directory: the twin's folder; counts.sqlite and the versions' folders go there.
        services: the real services behind bindings, or None (then a binding fails at its use, saying so).
        faults: those that a drill has switched on.
        workerd: the binary, or None to look for it in node_modules.
        domains: custom host names to scripts; may be changed by the owner at any time.
        random_source: draws the split, the shares of faults and the sampling of tails.
        outside: takes what Workers of a sealed twin call, None: the network does.
    """

    def __init__(
        self,
        directory: Path,
        services: Services | None,
        faults: Faults,
        *,
        workerd: Path | None = None,
        domains: dict[str, str] | None = None,
        random_source: random.Random | None = None,
        outside: Outside | None = None,
    ) -> None:
        self.domains: dict[str, str] = {} if domains is None else domains
        self.find_preview: Callable[[str], WorkerVersion | None] = lambda _host: None
        """Returns the version whose own URL has this host; set by the owner."""
        self._directory = directory
        self._services = services
        self._faults = faults
        self._binary_hint = workerd
        self._random = random_source or random.SystemRandom()
        self._outside = outside
        self._secret = secrets.token_hex(16)
        self._serial = 0
        self._tasks: set[asyncio.Task[None]] = set()
        reactions = Reactions(on_crash=self._on_crash, on_ready=self._on_ready)
        self._fleet = Fleet(self._make, reactions)
        self._objects = ObjectHosts(directory.absolute() / "objects", self._make, self._fleet.instances, reactions)
        self._started = False

    # --- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the books and the hub. Raises UsageError when there is no workerd."""
        self._binary = find_workerd(self._binary_hint, start=self._directory.resolve())
        self._newest_date = await find_newest_date(self._binary)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._runtime = RuntimeFolder(self._directory)
        shutil.rmtree(self._directory / "versions", ignore_errors=True)
        self._counts = CountBook(self._directory / "counts.sqlite")
        self._consumers = Consumers(self._give_tail)
        self._tail = Tail(
            on_amended=self._amend,
            on_demand=self._demand,
            on_trigger=self._counts.ran,
            on_object=self._counts.called_object,
            consumers=self._consumers,
            draw=self._random.random,
        )
        self._proxy = Proxy(self._counts, self._tail)
        self._hub = Hub(self._runtime.socket("hub"), self._secret, self._tail, self, self._outside)
        await self._hub.start()
        self._faults.on_change(self._crash_as_ordered)
        for forever in (
            self._counts.flush_forever(),
            self._proxy.watch_forever(),
            self._fleet.tend_forever(),
            self._expire_faults_forever(),
        ):
            self._spawn(forever)
        self._started = True

    async def close(self) -> None:
        """Stop every process, close the books, remove the sockets; nothing happens when it was not started."""
        if not self._started:
            return
        self._started = False
        self._tail.close_all()
        await self._consumers.close()
        await self._fleet.close()
        await self._objects.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hub.stop()
        self._counts.close()
        self._runtime.remove()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by "script version" of what runs now, those being drained too; "... objects" hosts objects."""
        found = [(i, "") for i in self._fleet.instances()] + [(i, " objects") for i in self._objects.instances()]
        return {f"{i.version.script} {i.version.id}{what}": i.pid for i, what in found if i.pid is not None}

    def inflight(self, script: str) -> int:
        """Return how many requests the versions of a script answer right now."""
        return sum(instance.inflight for instance in self._fleet.instances(script))

    def crashes(self, script: str) -> int:
        """Return how often the running versions of a script crashed."""
        return sum(instance.crashes for instance in self._fleet.instances(script))

    # --- versions ----------------------------------------------------------------------------------------------

    async def validate(self, version: WorkerVersion) -> int:
        """Start the version and keep it warm for a while; the start-up time in milliseconds. Raises StartupError."""
        await self._objects.check(version)
        return await self._fleet.validate(version)

    async def activate(
        self,
        script: str,
        shares: tuple[tuple[WorkerVersion, float], ...],
        *,
        cohorts: Mapping[str, Mapping[str, float]] | None = None,
        objects_delay_s: float = OBJECTS_DELAY_S,
    ) -> None:
        """Make exactly these versions live; see `DataPlane.activate`. Raises StartupError, nothing has changed then."""
        try:
            await self._objects.prepare(script, (version for version, _ in shares))
            split = await self._fleet.activate(script, shares, cohorts or {})
            await self._objects.switch(split, objects_delay_s)
        finally:
            await self._objects.clean(script)
        self._crash_as_ordered()

    async def remove(self, script: str) -> None:
        """Stop everything of this script, close its tails and forget its counts; unknown names are ignored."""
        for session in self._tail.sessions:
            if session.script == script:
                self._tail.close(session.id)
        self.feed(script, ())
        await self._fleet.remove(script)
        await self._objects.remove(script)
        self._counts.forget(script)

    def feed(self, script: str, consumers: tuple[str, ...]) -> None:
        """Give the tail events of `script` to exactly these Workers from now on."""
        before = self._tail.is_wanted(script)
        self._consumers.set(script, consumers)
        if self._tail.is_wanted(script) != before:
            self._demand(script, not before)

    async def run_schedule(self, script: str, cron: str, scheduled_at: float) -> ScheduleRun | None:
        """Run the `scheduled` handler of the version that the split gives, to its end; None where nothing is live.

        Args:
            scheduled_at: Unix seconds of the minute that the expression named.
        """
        live = self._fleet.live(script)
        if live is None:
            return None
        instance = live.instances[choose(live.split, {}, self._random)]
        instance.enter()
        try:
            outcome = await instance.run_schedule(cron, scheduled_at)
        finally:
            instance.leave()
        return ScheduleRun(cron, instance.version.id, scheduled_at, outcome)

    async def _give_tail(self, consumer: str, lines: bytes) -> None:
        live = self._fleet.live(consumer)
        if live is None:
            raise ConnectionError("it is not deployed")
        await live.instances[choose(live.split, {}, self._random)].take_tail(lines)

    def _make(self, version: WorkerVersion, objects: Path | None = None) -> Workerd:
        """Build a process of a version; `objects`: the folder of the objects that it hosts, None to answer requests."""
        self._serial += 1
        name, services = f"{self._serial:x}", self._services
        around = Surroundings(
            socket=self._runtime.socket(f"{name}.s"),
            control_socket=self._runtime.socket(f"{name}.c"),
            hub_socket=self._runtime.socket("hub"),
            hub_secret=self._secret,
            sealed=self._outside is not None,
            newest_date=self._newest_date,
            r2=wire(version, "r2_bucket", None if services is None else services.r2_gateway_address),
            hyperdrive=wire(version, "hyperdrive", None if services is None else services.hyperdrive),
            email=None if services is None else urlsplit(services.email_api_url).netloc,
            all_events=self._tail.is_wanted(version.script),
            take_tail_socket=self._runtime.socket(f"{name}.t") if version.takes_tail else "",
            objects_socket=self._runtime.socket(f"{name}.o"),
            calls_socket="" if objects is None else self._runtime.socket(f"{name}.d"),
            objects_folder="" if objects is None else str(objects),
        )
        return Workerd(version, self._binary, self._directory / "versions" / f"{name}-{version.id}", around)

    def _on_crash(self, instance: Instance, code: int) -> None:
        version = instance.version
        what = f"the process ended with code {code}" if code >= 0 else f"the process was ended by signal {-code}"
        _LOG.warning("%s %s: %s\n%s", version.script, version.id, what, instance.output)
        why = "Worker exceeded memory limit" if instance.crash == "exceededMemory" else "Worker crashed"
        self._tail.tell_crash(version.script, version.id, instance.crash, f"{why}: {what}")

    def _on_ready(self, instance: Instance) -> None:
        if self._tail.is_wanted(instance.version.script):  # a tail may have been opened while it started
            self._spawn(instance.want_all_events(True))
        self._crash_as_ordered()

    def _crash_as_ordered(self) -> None:
        """Kill what a worker-crash fault is aimed at; called on every change of faults and after every restart."""
        for instance in self._fleet.live_instances():
            if self._faults.active(FaultKind.WORKER_CRASH, instance.version.script, instance.version.id):
                instance.kill()

    async def _expire_faults_forever(self) -> None:
        """Tell the parts that act on faults when one expires."""
        while True:
            await asyncio.sleep(_EXPIRE_EVERY_S)
            self._faults.expire()

    # --- requests ----------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request that came in from outside, by its Host header."""
        script = find_script(request.host, self.domains)
        if script is None or self._fleet.live(script) is None:
            preview = self.find_preview(request.host)
            if preview is not None:
                await self._fleet.validate(preview)
                instance = self._fleet.find(preview.id)
                assert instance is not None
                return await self._to_instance(request, instance)
        if script is None:
            return web.Response(status=404, text=f"no worker is at {request.host}\n")
        return await self.to_worker(request, script)

    async def to_worker(self, request: web.Request, script: str) -> web.StreamResponse:
        """Answer as the Worker `script` does: its assets, else the version that the split gives."""
        live = self._fleet.live(script)
        if live is None:
            return web.Response(status=404, text=f"no worker {script!r} is deployed here\n")
        return await self._to_instance(request, live.instances[choose(live.split, request.headers, self._random)])

    async def _to_instance(self, request: web.Request, instance: Instance) -> web.StreamResponse:
        version = instance.version
        if version.assets and not assets.read_config(version).worker_first(request.path):
            hit = _serve_asset(request, version, alone=not version.modules)
            if hit is not None:
                return hit
        return await self._proxy.forward(
            request,
            instance,
            delay_s=sum(fault.latency_ms for fault in self._hitting(FaultKind.LATENCY, version)) / 1000.0,
            injected_status=next((fault.status for fault in self._hitting(FaultKind.ERRORS, version)), None),
        )

    async def find_object(self, key: ObjectKey) -> str:
        """Return the address at which a Durable Object takes calls. Raises LookupError where none has its class."""
        return await self._objects.find(key)

    async def to_assets(self, request: web.Request, version: str) -> web.StreamResponse:
        """Answer what a Worker asks of its ASSETS binding."""
        instance = self._fleet.find(version)
        hit = None if instance is None else _serve_asset(request, instance.version, alone=True)
        return hit or web.Response(status=404, text="Not Found\n")

    async def to_d1(self, request: web.Request, database: str) -> web.StreamResponse:
        """Answer a query to a D1 database."""
        if self._services is None:
            return web.Response(status=501, text="this twin has no D1\n")
        return await answer_binding(request, self._services.d1, database)

    def _hitting(self, kind: FaultKind, version: WorkerVersion) -> list[Fault]:
        aimed = self._faults.active(kind, version.script, version.id)
        return [fault for fault in aimed if fault.share >= 1.0 or self._random.random() < fault.share]

    # --- what was seen -----------------------------------------------------------------------------------------

    def counts(self, script: str, since: int, until: int | None = None) -> tuple[Row, ...]:
        """Return the counts with since <= second < until (None: up to now)."""
        return self._counts.rows(script, since, until)

    async def serve_counts(self, request: web.Request) -> web.Response:
        """Answer `/twin/v1/counts?script=S[&since=SEC][&until=SEC][&wait_s=N]`.

        With `wait_s` the answer waits until second `since` is final, that long at most.
        """
        script = request.query.get("script", "")
        since = _get_number(request, "since", 0.0)
        until = _get_number(request, "until", 0.0)
        wait_s = min(_get_number(request, "wait_s", 0.0), _LONGEST_WAIT_S)
        if wait_s > 0:
            await self._counts.wait_beyond(int(since), wait_s)
        rows = self._counts.rows(script, int(since), int(until) or None)
        return web.json_response(
            {
                "now": self._counts.now,
                "complete_until": self._counts.complete_until,
                "counts": [row.as_json() for row in rows],
            }
        )

    async def serve_events(self, request: web.Request) -> web.Response:
        """Answer `/twin/v1/events?[script=S][&since=SEC][&limit=N]`: the newest kept tail events, oldest first.

        Each has its arrival `at`, good as the next `since`.
        """
        found = self._tail.events(
            request.query.get("script"), _get_number(request, "since", 0.0), int(_get_number(request, "limit", 100.0))
        )
        return web.json_response({"now": time.time(), "events": [{"at": at, **event} for at, event in found]})

    def tail_sessions(self) -> tuple[TailSession, ...]:
        """Return the open tails with what each delivered and dropped."""
        return self._tail.sessions

    async def open_tail(self, script: str, filters: object) -> TailSession:
        """Open a tail of a script; `filters` is the list of the API's body (or None)."""
        return self._tail.open(script, parse_filters(filters))

    async def tail_socket(self, request: web.Request, tail_id: str) -> web.WebSocketResponse:
        """Serve the websocket of a tail."""
        return await self._tail.serve(request, tail_id)

    async def close_tail(self, tail_id: str) -> bool:
        """Close a tail; False when there is none of that id."""
        return self._tail.close(tail_id)

    def _amend(self, exchange: Exchange) -> None:
        if exchange.second is not None:
            self._counts.amend(make_answer(exchange), exchange.second)

    def _demand(self, script: str, wanted: bool) -> None:
        for instance in (*self._fleet.instances(script), *self._objects.instances(script)):
            self._spawn(instance.want_all_events(wanted))

    # --- small things ------------------------------------------------------------------------------------------

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _serve_asset(request: web.Request, version: WorkerVersion, *, alone: bool) -> web.StreamResponse | None:
    if request.method not in ("GET", "HEAD"):
        return None
    hit = assets.find(version, request.rel_url.raw_path, alone=alone)
    return None if hit is None else assets.respond(hit)


def _get_number(request: web.Request, name: str, default: float) -> float:
    try:
        return float(request.query.get(name, default))
    except ValueError:
        raise web.HTTPBadRequest(text=f"{name} is a number\n") from None
