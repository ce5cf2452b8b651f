"""The loop of a worker: renew what it holds, take what is free, give back what is too much; one thread each."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from backout.errors import BackoutError
from backout.model.value import Value
from backout.runbook.worker.share import share_out

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from backout.ports.workers import GuardLeases, Shared

EVERY_S: Final = 1.0
"""How often the leases are renewed, and what is free is looked for."""
ENDS_WITHIN_S: Final = 80.0
"""How long a worker that stops waits for steps that are under way; their runs are taken up by another worker then."""


class Guarding(Protocol):
    """One environment that is being guarded, in a thread of its own."""

    @property
    def is_idle(self) -> bool:
        """Whether no run is under way."""
        ...

    def start(self) -> None:
        """Begin; from now on the environment's lease is held."""
        ...

    def request_stop(self) -> None:
        """Ask it to stop at the next boundary of a step."""
        ...

    def has_ended(self) -> bool:
        """Whether nothing is done there any more."""
        ...


class WorkerState(Value, frozen=True):
    """How a worker is doing.

    Args:
        renewed_at: when its leases were renewed last, by the monotonic clock; None: never.
        held: what it guards.
        others: how many other workers there are.
        trouble: why the journal cannot be used, or "".
        taken: how many leases it took since it began.
        lost: how many it lost.
    """

    renewed_at: float | None = None
    held: tuple[str, ...] = ()
    others: int = 0
    trouble: str = ""
    taken: int = 0
    lost: int = 0


class Worker:
    """Guards environments until it is told to stop.

    Args:
        guardings: each environment that it may guard, with what guards it.
        tell: told what changed: ("took", environment), ("gave back", …), ("lost", …), ("journal", what is the matter).
    """

    def __init__(
        self, leases: GuardLeases, guardings: Mapping[str, Guarding], tell: Callable[[str, str], None]
    ) -> None:
        self._leases, self._guardings, self._tell = leases, guardings, tell
        self._leaving: set[str] = set()
        self.state = WorkerState()

    def run(self, stop: threading.Event) -> None:
        """Work until the event is set; then end every thread at its next boundary, and give the leases back."""
        try:
            while not stop.is_set():
                self._beat()
                stop.wait(EVERY_S)
        finally:
            self._end()

    def _beat(self) -> None:
        """Renew, and take or give back."""
        state = self.state
        try:
            shared = self._leases.renew()
            taken = self._change(shared)
        except BackoutError as error:
            if error.what != state.trouble:
                self._tell("journal", str(error))
            self.state = WorkerState(state.renewed_at, state.held, state.others, error.what, state.taken, state.lost)
            return
        if state.trouble:
            self._tell("journal", "")
        for name in shared.lost:
            self._tell("lost", name)
            self._guardings[name].request_stop()
            self._leaving.discard(name)
        held = tuple(sorted({*shared.held, *taken}))
        counts = state.taken + len(taken), state.lost + len(shared.lost)
        self.state = WorkerState(time.monotonic(), held, len(shared.others), "", *counts)

    def _change(self, shared: Shared) -> tuple[str, ...]:
        ended = [name for name in self._leaving & shared.held if self._guardings[name].has_ended()]
        if ended:
            self._leases.give_back(ended)
            self._leaving.difference_update(ended)
            for name in ended:
                self._tell("gave back", name)
        # A thread of an earlier turn may still be about to end: its environment is another worker's as long.
        free = [name for name in shared.free if self._guardings[name].has_ended()]
        staying = shared.held - self._leaving
        idle = sorted(name for name in staying if self._guardings[name].is_idle)
        change = share_out(staying, idle, free, [*shared.others.values()])
        for name in change.give:
            self._leaving.add(name)
            self._guardings[name].request_stop()
        if not change.take:
            return ()
        taken = self._leases.take(change.take)
        for name in taken:
            self._tell("took", name)
            self._guardings[name].start()
        return taken

    def _end(self) -> None:
        for each in self._guardings.values():
            each.request_stop()
        until = time.monotonic() + ENDS_WITHIN_S
        left = dict(self._guardings)
        while left and time.monotonic() < until:
            ended = [name for name, each in left.items() if each.has_ended()]
            with suppress(BackoutError):  # what cannot be given back runs out
                if held := [name for name in ended if name in self.state.held]:
                    self._leases.give_back(held)
                self._leases.renew()
            for name in ended:
                del left[name]
            if left:
                time.sleep(0.1)
        with suppress(BackoutError):
            self._leases.leave()
