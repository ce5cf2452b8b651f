"""Schedules and queues of the chosen environment, as the team's own wrangler file declares them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.model.triggers import name_queue, name_schedule

if TYPE_CHECKING:
    from backout.config import Config


def list_declared(config: Config) -> frozenset[str] | None:
    """Return the names under which they are counted; None where there is no such file, or it has no such Worker."""
    from backout.config.init import wrangler

    script = config.environment.platform.script
    try:
        _, workers = wrangler.read(wrangler.find(config.path.parent))
    except BackoutError:
        return None
    worker = next((worker for worker in workers if worker.script == script), None)
    if worker is None:
        return None
    return frozenset((*map(name_schedule, worker.crons), *map(name_queue, worker.queues)))
