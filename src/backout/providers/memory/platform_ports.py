"""The ports of a World for what a platform may be able to do: queues, caches, a maintenance version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import ProviderRejected, Refused
from backout.model.deployment import Share
from backout.model.jobs import JobsLook, JobsSetup, RunningJobs
from backout.model.release import ReleaseProcess
from backout.model.version import MAINTENANCE_TAG
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.deployment import Deployment
    from backout.model.platform import CacheState, QueueState
    from backout.providers.memory.state import WorldState


class WorldQueues:
    """Port Queues of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def list_consumed(self) -> tuple[QueueState, ...]:
        """Return the World's queues, by name."""
        queues = self._world.queues
        return self._world.platform_call("queues.list_consumed", lambda: tuple(queues[name] for name in sorted(queues)))

    def pause(self, name: str) -> None:
        """Stop the delivery of a queue."""
        self._world.platform_call("queues.pause", lambda: self._set(name, delivers=False))

    def resume(self, name: str) -> None:
        """Let a queue deliver again."""
        self._world.platform_call("queues.resume", lambda: self._set(name, delivers=True))

    def _set(self, name: str, *, delivers: bool) -> None:
        if name not in self._world.queues:
            raise ProviderRejected(f"queue {name} does not exist", status=404, where="memory")
        self._world.queues[name] = replace(self._world.queues[name], delivers=delivers)


class WorldJobWorkers:
    """Port JobWorkers of a World, on one host."""

    hosts = frozenset({"world"})
    setup = JobsSetup(within_s=10.0)

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def read(self, versions: Collection[str] | None = None) -> JobsLook:
        """Return the World's workers."""
        return self._world.call("job_workers.read", lambda: self._look(versions))

    def stop(self, version: str) -> None:
        """End the workers of a version, unless the World says that they do not end."""
        self._world.call("job_workers.stop", lambda: self._stop(version))

    def start(self, version: str) -> None:
        """Have the workers of a version run. Raises ProviderRejected (404): there is no such version."""
        self._world.call("job_workers.start", lambda: self._start(version))

    def _look(self, versions: Collection[str] | None) -> JobsLook:
        running = (RunningJobs(version, "world", count) for version, count in self._world.jobs.items())
        return JobsLook(tuple(each for each in running if versions is None or each.version in versions))

    def _stop(self, version: str) -> None:
        if not self._world.jobs_hang:
            self._world.jobs.pop(version, None)

    def _start(self, version: str) -> None:
        if version not in self._world.builds:
            raise ProviderRejected(f"there is no version {version}", status=404, where="memory")
        if self._world.builds[version].version.is_maintenance:
            return
        self._world.jobs.setdefault(version, 0)
        self._world.most_jobs = max(self._world.most_jobs, len(self._world.jobs))


class WorldStandby:
    """Port Standby of a World, on one host, which has every version."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def measure(self, version: str) -> tuple[ReleaseProcess, ...]:
        """Return what runs of a version. Raises ProviderRejected (404): there is no such version."""
        return self._world.call("standby.measure", lambda: (self._look(version),))

    def _look(self, version: str) -> ReleaseProcess:
        if version not in self._world.builds:
            raise ProviderRejected(f"there is no version {version}", status=404, where="memory")
        return ReleaseProcess("world", version in self._world.warm, self._world.warm.get(version))


class WorldReadCaches:
    """Port ReadCaches of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def read(self) -> tuple[CacheState, ...]:
        """Return the World's caches, by id."""
        caches = self._world.caches
        return self._world.platform_call("read_caches.read", lambda: tuple(caches[each] for each in sorted(caches)))

    def turn_off(self, cache: str) -> None:
        """Stop a cache; like Cloudflare's it forgets its durations."""
        self._world.platform_call("read_caches.turn_off", lambda: self._turn_off(cache))

    def restore(self, state: CacheState) -> None:
        """Let a cache be as it was."""
        self._world.platform_call("read_caches.restore", lambda: self._put(state))

    def list_uncovered(self) -> tuple[str, ...]:
        """Return what the World's other kept data is."""
        return self._world.platform_call("read_caches.list_uncovered", lambda: self._world.uncovered)

    def _turn_off(self, cache: str) -> None:
        known = self._world.caches.get(cache)
        if known is None:
            raise ProviderRejected(f"cache {cache} does not exist", status=404, where="memory")
        self._put(replace(known, is_on=False, max_age_s=None, stale_s=None))

    def _put(self, state: CacheState) -> None:
        self._world.caches[state.id] = state


class WorldMaintenance:
    """Port Maintenance of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def find_obstacle(self) -> str:
        """Return the World's obstacle."""
        return self._world.platform_call("maintenance.find_obstacle", lambda: self._world.maintenance_obstacle)

    def show(self, message: str) -> Deployment:
        """Make a version with the live one's secrets and bindings live; `route_rule` is asked what it answers."""
        return self._world.platform_call("maintenance.show", lambda: self._show(message))

    def _show(self, message: str) -> Deployment:
        world = self._world
        if world.maintenance_obstacle:
            options = ("go on without a maintenance version",)
            raise Refused(world.maintenance_obstacle, where="memory", rule=SafetyRule.TARGET, options=options)
        live = world.build(world.live.main)
        made = world.upload(
            MAINTENANCE_TAG,
            code="maintenance",
            secrets=dict(live.secrets),
            buckets=live.buckets,
            bindings=tuple(b for b in live.version.bindings if not b.startswith(("secret_text:", "r2_bucket:"))),
            message=message,
        )
        return world.make_live((Share(made.id, 100.0),), message, force=True)
