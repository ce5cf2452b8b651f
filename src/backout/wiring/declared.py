"""What the wrangler file beside backout.toml declares of the chosen environment: its Worker, schedules, queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.model.triggers import name_queue, name_schedule

if TYPE_CHECKING:
    from backout.config import Config
    from backout.config.init.wrangler import Found


def list_declared(config: Config) -> frozenset[str] | None:
    """Return the names under which they are counted; None where there is no such file, or it has no such Worker."""
    script = config.environment.platform.script
    found = _read(config)
    worker = next((worker for worker in found.all_workers if worker.script == script), None) if found else None
    if worker is None:
        return None
    return frozenset((*map(name_schedule, worker.crons), *map(name_queue, worker.queues)))


def binds_hyperdrive(config: Config) -> bool:
    """Whether the environment's Worker reaches its database through Hyperdrive, as far as the wrangler file says."""
    found, script = _read(config), config.environment.platform.script
    return found is not None and any(worker.has_hyperdrive for worker in found.all_workers if worker.script == script)


def explain_other_worker(config: Config) -> str:
    """Return what wrangler deploys from here if that is not the environment's Worker, else ""; "" without a file."""
    found, script = _read(config), config.environment.platform.script
    if found is None or any(worker.script == script for worker in found.all_workers):
        return ""
    names = ", ".join(worker.script for worker in found.all_workers)
    built = f" (of the build in {found.redirected})" if found.redirected is not None else ""
    return f"platform.script is {script}, and wrangler deploys {names} from here{built}"


def _read(config: Config) -> Found | None:
    from backout.config.init import wrangler

    try:
        return wrangler.read(wrangler.find(config.path.parent))
    except BackoutError:
        return None
