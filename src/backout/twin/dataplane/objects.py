"""Durable Objects: for each version of a Worker one process that hosts its classes, apart from what answers requests.

So all versions reach the same objects, whose storage lies in the twin's folder. A deployment gives each object one of
its versions, by the object's id. An object that was used since keeps the code that it has for the delay of the
deployment, or is reset at once where that is none; others begin with the new code. A delay that ends first gives an
object the code of the latest deployment.
Source: Cloudflare documentation, "Durable Objects code updates" and "Gradual deployments" (read 2026-12-01). That an
object which becomes idle takes the new code earlier is left out.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.twin.dataplane.capnp_objects import list_hosted
from backout.twin.dataplane.instances import Instance
from backout.twin.dataplane.router import Split, hash_key

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from pathlib import Path

    from backout.twin.control.worker import WorkerVersion
    from backout.twin.dataplane.fleet import Reactions
    from backout.twin.dataplane.instances import ObjectKey
    from backout.twin.dataplane.workerd import Workerd

RESET = "Durable Object reset because its code was updated."
LOST = "Network connection lost."
_RECOVER_S = 5.0
_STOP_S = 1.0
_TAIL_S = 0.25
"""The events of what was cut short leave a process a moment later, see `tail.js`."""


@dataclass(slots=True)
class _Place:
    """Where an object runs; `due`: when it has to leave (loop time), None where it stays."""

    host: Instance
    due: float | None = None


@dataclass(slots=True)
class _Script:
    split: Split
    hosts: dict[str, Instance] = field(default_factory=dict)
    places: dict[ObjectKey, _Place] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    timer: asyncio.TimerHandle | None = None


class ObjectHosts:
    """The Durable Objects of one twin.

    Args:
        folder: where the objects of each Worker are kept.
        make: builds a fresh, not started process that hosts the classes of a version, in the folder given.
        list_callers: returns the processes that may call objects.
        reactions: called on changes of a process.
    """

    def __init__(
        self,
        folder: Path,
        make: Callable[[WorkerVersion, Path], Workerd],
        list_callers: Callable[[], Sequence[Instance]],
        reactions: Reactions,
    ) -> None:
        self._folder = folder
        self._make = make
        self._list_callers = list_callers
        self._reactions = reactions
        self._scripts: dict[str, _Script] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring: set[asyncio.Task[None]] = set()

    def instances(self, script: str | None = None) -> tuple[Instance, ...]:
        """Return the processes that host objects (of a Worker)."""
        found = (entry for name, entry in self._scripts.items() if script in (None, name))
        return tuple(host for entry in found for host in entry.hosts.values())

    async def check(self, version: WorkerVersion) -> None:
        """Start what hosts the version's classes, and stop it again. Raises StartupError."""
        entry = self._scripts.get(version.script)
        if list_hosted(version) and (entry is None or version.id not in entry.hosts):
            await (await self._start(version)).retire(0.0)

    async def prepare(self, script: str, versions: Iterable[WorkerVersion]) -> None:
        """Start what the versions of a deployment need; `switch` must follow, or `clean`.

        Raises:
            StartupError: one does not start; `clean` stops the others.
        """
        for version in versions:
            if list_hosted(version):
                entry = self._scripts.setdefault(script, _Script(Split(script, ())))
                if version.id not in entry.hosts:
                    entry.hosts[version.id] = await self._start(version)

    async def switch(self, split: Split, delay_s: float) -> None:
        """Give each object a version of the split, after `delay_s` where it has another now."""
        entry = self._scripts.get(split.script)
        if entry is None:
            return
        hosted = tuple((version, share) for version, share in split.shares if version in entry.hosts)
        entry.split = replace(split, shares=hosted)
        now = asyncio.get_running_loop().time()
        for key, place in entry.places.items():
            if self._find_host(entry, key) is place.host:
                place.due = None
            else:
                place.due = now + delay_s if place.due is None else min(place.due, now + delay_s)
        await self._move_due(split.script)

    async def clean(self, script: str) -> None:
        """Stop the processes in which no object runs and which none may get."""
        entry = self._scripts.get(script)
        if entry is None:
            return
        needed = {version for version, _ in entry.split.shares}
        needed |= {place.host.version.id for place in entry.places.values()}
        gone = [entry.hosts.pop(version) for version in tuple(entry.hosts) if version not in needed]
        await self._retire(gone, 0.0)

    async def find(self, key: ObjectKey) -> str:
        """Return the address at which an object takes calls; it may wait until the object's process is back.

        Raises:
            LookupError: no live version has the class, or its process does not come back.
        """
        entry = self._scripts.get(key.script)
        if entry is None:
            raise LookupError(f"no version of the Worker {key.script!r} with Durable Objects is deployed here")
        place = entry.places.get(key)
        if place is None:
            host = self._find_host(entry, key)
            if host is None:
                raise LookupError(f"no live version of {key.script!r} has the Durable Object class {key.class_name!r}")
            place = entry.places[key] = _Place(host)
        await place.host.await_recovery(_RECOVER_S)
        if not place.host.calls_socket:
            raise LookupError("the process that hosts the Durable Object is down")
        return f"unix:{place.host.calls_socket}"

    async def remove(self, script: str) -> None:
        """Stop everything of a Worker and forget its objects."""
        entry = self._scripts.pop(script, None)
        if entry is not None:
            _cancel(entry)
            await self._retire(entry.hosts.values(), 0.0)
        shutil.rmtree(self._folder / script, ignore_errors=True)

    async def close(self) -> None:
        """Stop every process; the objects stay in their folder."""
        hosts = self.instances()
        for entry in self._scripts.values():
            _cancel(entry)
        self._scripts.clear()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._retire(hosts, _STOP_S)
        await asyncio.gather(*self._retiring)

    async def _start(self, version: WorkerVersion) -> Instance:
        folder = self._folder / version.script
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        plain = replace(version, takes_tail=False, takes_schedule=False)
        host = Instance(
            plain, lambda: self._make(plain, folder), on_crash=self._on_crash, on_ready=self._reactions.on_ready
        )
        try:
            await host.start()
        except BaseException:
            await host.retire(0.0)
            raise
        self._reactions.on_ready(host)
        return host

    def _find_host(self, entry: _Script, key: ObjectKey) -> Instance | None:
        shares = entry.split.shares
        having = tuple((v, share) for v, share in shares if _has_class(entry.hosts[v].version, key.class_name))
        return entry.hosts[replace(entry.split, shares=having).at(hash_key(key.id))] if having else None

    def _on_crash(self, host: Instance, code: int) -> None:
        self._reactions.on_crash(host, code)
        entry = self._scripts.get(host.version.script)
        if entry is not None:
            self._spawn(self._reset_callers(LOST, [key for key, place in entry.places.items() if place.host is host]))

    async def _move_due(self, script: str) -> None:
        """Reset the objects whose time has come, stop what is not needed any more, and come again for the others."""
        entry = self._scripts.get(script)
        if entry is None:
            return
        async with entry.lock:
            now = asyncio.get_running_loop().time()
            due = {key: place for key, place in entry.places.items() if place.due is not None and place.due <= now}
            for key in due:
                del entry.places[key]
            await self._reset(due)
            await self.clean(script)
            _cancel(entry)
            left = [place.due for place in entry.places.values() if place.due is not None]
            if left:
                loop = asyncio.get_running_loop()
                entry.timer = loop.call_at(min(left), lambda: self._spawn(self._move_due(script)))

    async def _reset(self, moved: Mapping[ObjectKey, _Place]) -> None:
        if not moved:
            return
        by_host: dict[Instance, list[ObjectKey]] = {}
        for key, place in moved.items():
            by_host.setdefault(place.host, []).append(key)
        await asyncio.gather(*(host.reset_objects(RESET, keys) for host, keys in by_host.items()))
        await self._reset_callers(RESET, tuple(moved))
        await asyncio.sleep(_TAIL_S)

    async def _reset_callers(self, why: str, keys: Sequence[ObjectKey]) -> None:
        callers = (*self._list_callers(), *self.instances()) if keys else ()
        await asyncio.gather(*(caller.reset_forwarding(why, keys) for caller in callers))

    async def _retire(self, hosts: Iterable[Instance], timeout_s: float) -> None:
        """Stop processes; who waits for that may be cancelled, and they are stopped all the same."""
        tasks = {asyncio.create_task(host.retire(timeout_s)) for host in hosts}
        self._retiring |= tasks
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            self._retiring.discard(task)
            task.result()

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _cancel(entry: _Script) -> None:
    if entry.timer is not None:
        entry.timer.cancel()
        entry.timer = None


def _has_class(version: WorkerVersion, class_name: str) -> bool:
    return any(each.class_name == class_name for each in list_hosted(version))
