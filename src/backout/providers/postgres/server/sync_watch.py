"""The watchdog of synchronous mode, a process of its own: production never waits for a receiver that is gone.

It lets commits wait for the receiver while that keeps up, and ends the waiting when the receiver is gone or stuck. It
does not depend on the receiver's process in any way: either may be killed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.model.database.wal import show_lsn
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from backout.providers.postgres.server.replication import Replication, SyncView

_TICK_S: Final = 0.2
_SHARE: Final = 0.6
"""Of the time-out, after which it is given up: the rest is for the change itself."""
_STEADY_S: Final = 1.0
"""A receiver is waited for when it kept up this long."""


class Promise(Value, frozen=True):
    """Whether an acknowledged commit is safe from now on, the position at which that changed, and why."""

    kept: bool
    lsn: int
    why: str


class SyncWatch:
    """Watches one receiver.

    Args:
        name: the receiver's application_name.
        timeout_s: after this time commits no longer wait for a receiver in trouble.
        tell: hears each change of the guarantee, and records it.
    """

    def __init__(self, replication: Replication, name: str, timeout_s: float, tell: Callable[[Promise], None]) -> None:
        self._replication = replication
        self._name = name
        self._patience_s = timeout_s * _SHARE
        self._tell = tell
        self._good_since: float | None = None
        self._good_at = time.monotonic()
        self._before: SyncView | None = None
        self._confirmed: int | None = None
        self._waits_since: float | None = None
        self._told = self._released = False

    def run(self, stop: Event) -> None:
        """Watch until it is asked to stop; from then on commits no longer wait."""
        try:
            while not stop.wait(_TICK_S):
                try:
                    self.look()
                except BackoutError:
                    self._good_since = None  # a server that does not answer takes no commits either
        finally:
            self._release("the watchdog was stopped")
            self._replication.close()

    def look(self) -> None:
        """Look once, and change what commits wait for where that is due."""
        view, now = self._replication.view(), time.monotonic()
        if self._keeps_up(view):
            self._good_at = now
            self._good_since = self._good_since or now
        elif now - self._good_at > _TICK_S * 2:
            self._good_since = None
        self._before = view
        self._confirmed = view.confirmed or self._confirmed
        if view.names != self._name:
            self._waits_since, self._told = None, False
            if not view.names and self._good_since and now - self._good_since >= _STEADY_S:
                self._replication.wait_for_receiver(wait=True)
            return
        self._waits_since = self._waits_since or now
        if now - self._good_at >= self._patience_s:
            self._release("the receiver is gone" if view.confirmed is None else "the receiver is stuck")
        elif not self._told and now - self._waits_since >= _STEADY_S:  # by now every session has read it
            self._tell(Promise(kept=True, lsn=view.lsn, why="commits wait for the receiver"))
            self._told, self._released = True, False

    def _keeps_up(self, view: SyncView) -> bool:
        """Whether it has confirmed what was written when it was looked at last, or at least some more since."""
        before = self._before
        if view.confirmed is None:
            return False
        if before is None or before.confirmed is None or view.confirmed >= before.lsn:
            return True
        return view.confirmed > before.confirmed

    def _release(self, why: str) -> None:
        """Let commits go on without waiting. Announced first, so that no such commit precedes the notice."""
        try:
            view = self._replication.view()
        except BackoutError:
            return  # a server that does not answer has no commits waiting
        if view.names != self._name:
            return
        at = view.confirmed or self._confirmed or view.lsn
        lost = Promise(kept=False, lsn=at, why=f"{why}; commits after {show_lsn(at)} may be lost with the server")
        try:
            if not self._released:
                self._tell(lost)
                self._released = True
        finally:  # production does not wait for a journal that cannot be written either
            self._replication.wait_for_receiver(wait=False)
        self._waits_since, self._told = None, False
