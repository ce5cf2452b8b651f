"""The status of several environments, read side by side: one that does not answer delays none of the others."""

from __future__ import annotations

import queue
import time
from threading import Thread
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError, Unmeasured
from backout.model.value import Value
from backout.runbook.incident.records import list_incidents

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.model.incident.record import IncidentRecord
    from backout.runbook.incident.status import Status
    from backout.runbook.toolbox import Toolbox

WITHIN_S: Final = 15.0
"""How long to wait for an environment; what it says later is not shown."""


class Overview(Value, frozen=True):
    """What is known of one environment among others.

    Args:
        incident: the newest one that is open, None: none is known.
        worker: the worker that guards it, "" for none.
    """

    status: Status
    incident: IncidentRecord | None = None
    worker: str = ""

    @property
    def guard_by(self) -> str:
        """Who watches it now, or looks for what is to be watched; "" for nobody."""
        guard = self.status.guard
        return (guard.holder if guard is not None else "") or self.worker

    @property
    def urgency(self) -> int:
        """How much it needs a person: 0 closed or in trouble, 2 not measured, 3 on hold or unfinished, 4 well.

        An environment that could not be read at all stands between, at `UNREAD`.
        """
        found = self.status
        if found.closed is not None or found.troubles:
            return 0
        if found.unmeasured:
            return 2
        return 3 if found.hold is not None or found.unfinished is not None or self.incident is not None else 4


UNREAD: Final = 1
"""The urgency of an environment that could not be read."""


def find_incident(tools: Toolbox) -> IncidentRecord | None:
    """Return the newest open incident, None where none is known: with a journal that cannot be read none is."""
    try:
        found = list_incidents(tools.journal, tools.runs, tools.environment)
    except BackoutError:
        return None
    return next((each for each in found if each.resolved_at is None), None)


def read_all(
    readers: Mapping[str, Callable[[], Overview]], within_s: float = WITHIN_S
) -> dict[str, Overview | Exception]:
    """Return what each reader returned or raised, in their order; Unmeasured for one that took longer than `within_s`.

    Each is called in a thread of its own, which is not waited for any longer: it ends with the process.
    """
    ended: queue.SimpleQueue[tuple[str, Overview | Exception]] = queue.SimpleQueue()

    def read(name: str, reader: Callable[[], Overview]) -> None:
        try:
            ended.put((name, reader()))
        except Exception as error:  # noqa: BLE001 - whatever one environment brings, the others are shown
            ended.put((name, error))

    for name, reader in readers.items():
        Thread(target=read, args=(name, reader), name=f"backout-status-{name}", daemon=True).start()
    found: dict[str, Overview | Exception] = {}
    deadline = time.monotonic() + within_s
    while len(found) < len(readers):
        try:
            name, outcome = ended.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[name] = outcome
    late = Unmeasured(f"it did not answer within {within_s:.0f} s")
    return {name: found.get(name, late) for name in readers}
