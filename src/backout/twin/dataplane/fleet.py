"""The running versions: live ones, those of the previous deployment (warm), validated spares, and draining ones."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING

from backout.model.value import Value
from backout.twin.dataplane.instances import Instance
from backout.twin.dataplane.router import Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from backout.twin.control.worker import WorkerVersion
    from backout.twin.dataplane.workerd import Workerd

_SPARE_S = 60.0
_SPARES = 4
_TEND_S = 1.0
_CLOSE_S = 1.0
_RECOVER_S = 5.0


class Live(Value, frozen=True):
    """One script's routing entry; replaced as a whole, so that a request sees the old one or the new one."""

    split: Split
    instances: dict[str, Instance]


class Reactions(Value, frozen=True):
    """The fleet's callbacks: a process ended by itself (with its return code), an instance answers (again)."""

    on_crash: Callable[[Instance, int], None]
    on_ready: Callable[[Instance], None]


class Fleet:
    """The running versions of one twin.

    Args:
        make: builds a fresh, not started process of a version.
        reactions: called on changes.
    """

    def __init__(self, make: Callable[[WorkerVersion], Workerd], reactions: Reactions) -> None:
        self._make = make
        self._reactions = reactions
        self._live: dict[str, Live] = {}
        self._previous: dict[str, dict[str, Instance]] = {}
        self._spares: dict[str, Instance] = {}
        self._draining: dict[Instance, asyncio.Task[None]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def live(self, script: str) -> Live | None:
        """Return the routing entry of a script."""
        return self._live.get(script)

    def live_instances(self) -> tuple[Instance, ...]:
        """Return the instances of every live deployment."""
        return tuple(instance for entry in self._live.values() for instance in entry.instances.values())

    def find(self, version_id: str) -> Instance | None:
        """Return the instance of a version that is kept running."""
        return next((i for i in self._list_kept() if i.version.id == version_id), None)

    def instances(self, script: str | None = None) -> tuple[Instance, ...]:
        """Return all instances (of a script), those being drained last."""
        found = dict.fromkeys((*self._list_kept(), *self._draining))
        return tuple(instance for instance in found if script in (None, instance.version.script))

    async def validate(self, version: WorkerVersion) -> int:
        """Start the version and keep it warm for a while; the start-up time in milliseconds. Raises StartupError."""
        instance = self.find(version.id)
        if instance is None:
            instance = await self._run(version)
            self._spares[version.id] = instance
        return instance.startup_ms

    async def activate(
        self, script: str, shares: tuple[tuple[WorkerVersion, float], ...], cohorts: Mapping[str, Mapping[str, float]]
    ) -> Split:
        """Make exactly these versions live; see `DataPlane.activate`. Raises StartupError, nothing has changed then.

        A version whose process crashed a moment ago gets some seconds to come back, then goes live all the same.
        """
        async with self._lock(script):
            instances = await self._ensure(tuple(version for version, _ in shares))
            ordered = sorted(shares, key=lambda share: share[0].created_at)
            ids = [version.id for version, _ in ordered]
            split = Split(
                script,
                tuple((version.id, percentage) for version, percentage in ordered),
                {name.lower(): tuple((v, part[v]) for v in ids if v in part) for name, part in cohorts.items()},
            )
            before = self._live.get(script)
            self._live[script] = Live(split, instances)
            for version_id in instances:
                self._spares.pop(version_id, None)
            if before is not None and before.instances.keys() != instances.keys():
                leaving = self._previous.get(script, {})
                self._previous[script] = before.instances
                kept = before.instances.keys() | instances.keys()
                self._drain(instance for version_id, instance in leaving.items() if version_id not in kept)
            return split

    async def remove(self, script: str) -> None:
        """Stop everything of this script once its current answers are complete; unknown names are ignored."""
        async with self._lock(script):
            gone = self.instances(script)
            self._live.pop(script, None)
            self._previous.pop(script, None)
            for instance in gone:
                self._spares.pop(instance.version.id, None)
            self._drain(instance for instance in gone if instance not in self._draining)
            await asyncio.gather(*(self._draining[instance] for instance in gone if instance in self._draining))

    async def tend_forever(self) -> None:
        """Stop versions that were started to be validated and did not become live."""
        while True:
            await asyncio.sleep(_TEND_S)
            by_age = sorted(self._spares.items(), key=lambda item: item[1].used_at)
            too_many = max(0, len(by_age) - _SPARES)
            for number, (version_id, instance) in enumerate(by_age):
                if number < too_many or time.monotonic() - instance.used_at > _SPARE_S:
                    del self._spares[version_id]
                    self._drain((instance,))

    async def close(self) -> None:
        """Stop everything, a second later at most for answers under way."""
        instances = self.instances()
        for table in (self._live, self._previous, self._spares):
            table.clear()
        draining = tuple(self._draining.values())
        for task in draining:
            task.cancel()
        await asyncio.gather(*draining, return_exceptions=True)
        await asyncio.gather(*(instance.retire(_CLOSE_S) for instance in instances))

    def _list_kept(self) -> tuple[Instance, ...]:
        previous = (instance for entry in self._previous.values() for instance in entry.values())
        return (*self.live_instances(), *previous, *self._spares.values())

    def _lock(self, script: str) -> asyncio.Lock:
        return self._locks.setdefault(script, asyncio.Lock())

    async def _ensure(self, versions: tuple[WorkerVersion, ...]) -> dict[str, Instance]:
        """Return a running instance of each version; when one does not start, those started here are stopped again."""
        instances: dict[str, Instance] = {}
        fresh: list[Instance] = []
        try:
            for version in versions:
                instance = self.find(version.id)
                if instance is None:
                    instance = await self._run(version)
                    fresh.append(instance)
                instance.used_at = time.monotonic()  # so that it is not stopped as a spare before it is live
                await instance.await_recovery(_RECOVER_S)
                instances[version.id] = instance
        except BaseException:
            await asyncio.gather(*(instance.retire(0.0) for instance in fresh))
            raise
        return instances

    async def _run(self, version: WorkerVersion) -> Instance:
        reactions = self._reactions
        instance = Instance(
            version, lambda: self._make(version), on_crash=reactions.on_crash, on_ready=reactions.on_ready
        )
        try:
            await instance.start()
        except BaseException:
            await instance.retire(0.0)
            raise
        reactions.on_ready(instance)
        return instance

    def _drain(self, instances: Iterable[Instance]) -> None:
        for instance in instances:
            task = asyncio.create_task(instance.retire(), name=f"drain {instance.version.id}")
            self._draining[instance] = task
            task.add_done_callback(functools.partial(self._forget_drained, instance))

    def _forget_drained(self, instance: Instance, _task: asyncio.Task[None]) -> None:
        self._draining.pop(instance, None)
