"""What makes an application run beside its versions, and what a rollback therefore does not cover (safety rule 16)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Triggers:
    """Schedules, routes, custom domains and queue consumers, each sorted; None: they could not be read.

    Args:
        schedules: cron expressions. routes: URL patterns. domains: host names. queues: names of consumed queues.
    """

    schedules: tuple[str, ...] | None = None
    routes: tuple[str, ...] | None = None
    domains: tuple[str, ...] | None = None
    queues: tuple[str, ...] | None = None


class Fate(StrEnum):
    """What a plan does with something that differs from when the target was live."""

    CHANGES = "changes"  # a step of the plan restores it
    STAYS = "stays"  # it stays as it is now
    REFUSED = "refused"  # it is not restored, and a person should look
    NOT_COVERED = "NOT COVERED"  # data or state that no rollback of code touches


@dataclass(frozen=True, slots=True)
class Coverage:
    """One line of what a plan covers: what, what becomes of it, and why in one sentence."""

    what: str
    fate: Fate
    why: str
