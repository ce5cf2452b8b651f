"""What starts an application but is not part of a version, so that a rollback does not cover it (safety rule 16)."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from backout.model.value import Value


class TriggerKind(StrEnum):
    """What can start an application; the value names the field of `Triggers`."""

    SCHEDULES = "schedules"
    ROUTES = "routes"
    DOMAINS = "domains"
    QUEUES = "queues"


class Triggers(Value, frozen=True):
    """Schedules, routes, custom domains and queue consumers, each sorted; None: not read, or not readable.

    Args:
        schedules: cron expressions.
        routes: URL patterns.
        domains: host names.
        queues: names of consumed queues.
    """

    schedules: tuple[str, ...] | None = None
    routes: tuple[str, ...] | None = None
    domains: tuple[str, ...] | None = None
    queues: tuple[str, ...] | None = None

    def of(self, kind: TriggerKind) -> tuple[str, ...] | None:
        """Return what is known of one kind."""
        known: tuple[str, ...] | None = getattr(self, kind)
        return known

    def list_known(self) -> dict[TriggerKind, tuple[str, ...]]:
        """Return the kinds that are known."""
        values = {kind: self.of(kind) for kind in TriggerKind}
        return {kind: value for kind, value in values.items() if value is not None}

    def over(self, older: Triggers) -> Triggers:
        """Return these, and what an older look knew of the kinds that are not known now."""
        return Triggers(**{kind: older.of(kind) if self.of(kind) is None else self.of(kind) for kind in TriggerKind})


UNNAMED: Final = "other"
_EXPRESSION = re.compile(r"[A-Za-z0-9*/,?#-]+(?: [A-Za-z0-9*/,?#-]+){4,5}")
_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_LONGEST_EXPRESSION: Final = 64


def name_schedule(expression: str) -> str:
    """Return the name under which the runs of a schedule are counted.

    >>> name_schedule("*/5 * * * *"), name_schedule("`rm`")
    ('cron */5 * * * *', 'cron other')
    """
    written = " ".join(expression.split())
    is_plain = len(written) <= _LONGEST_EXPRESSION and _EXPRESSION.fullmatch(written)
    return f"cron {written if is_plain else UNNAMED}"


def name_queue(queue: str) -> str:
    """Return the name under which the batches of a queue are counted: "queue orders"."""
    return f"queue {queue if _QUEUE.fullmatch(queue) else UNNAMED}"


def parse_trigger_name(name: str) -> str:
    """Return the name of a schedule or a queue as another process wrote it, in ours."""
    kind, _, rest = name.partition(" ")
    return name_queue(rest) if kind == "queue" else name_schedule(rest)


class Fate(StrEnum):
    """How a plan treats something that differs from when the target was live."""

    CHANGES = "changes"  # a step of the plan restores it
    STAYS = "stays"  # it stays as it is now
    REFUSED = "refused"  # it is not restored, and a person should look
    NOT_COVERED = "NOT COVERED"  # data or state that no rollback of code touches


class Coverage(Value, frozen=True):
    """One line of a plan's coverage: the item, what happens to it, and why in one sentence."""

    what: str
    fate: Fate
    why: str
