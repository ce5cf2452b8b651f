"""What the list of an account tells of one environment's deployments: when its history need not be asked, and when now.

The list and the history check each other: the history rests only while both show the same newest deployment.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.ports import Clock

RESTS_S: Final = 1_800.0
"""How long a history is not asked that the list shows as unchanged."""
LIST_HOLDS_S: Final = 60.0
"""How old the list's last answer may be; the histories are asked again behind that, whatever keeps the list away."""
_FOLLOWS_S: Final = 60.0
"""How long a history may take to show what the list showed; behind that, the two have different clocks."""
_SAME_S: Final = 1.0
"""How far the times of one deployment may lie apart in the two."""


class Hints:
    """The hints of one environment, between its loop and the one that reads the list; safe in threads.

    Args:
        rests_s: see `RESTS_S`; different ones keep two hundred environments from asking in the same second.
    """

    def __init__(self, clock: Clock, rests_s: float = RESTS_S) -> None:
        self._clock, self._rests_s = clock, rests_s
        self._event, self._lock = threading.Event(), threading.Lock()
        self._list_at = self._asked_at = float("-inf")
        self._newest_at = 0.0  # of the deployments in the history
        self._shown_at, self._shown_since = 0.0, 0.0  # in the list

    def note_list(self, shown_at: float) -> None:
        """Take in an answer of the list; what is newer than the history wakes the loop.

        Args:
            shown_at: when the environment's newest deployment was made (Unix seconds), 0: it is not in the list.
        """
        with self._lock:
            self._list_at = self._clock.now()
            if shown_at == self._shown_at:
                return
            self._shown_at, self._shown_since = shown_at, self._list_at
            if shown_at > self._newest_at + _SAME_S:
                self._event.set()

    def note_none(self) -> None:
        """Take in that the list is not read any more: the history is asked as if there were none."""
        with self._lock:
            self._list_at = float("-inf")

    def note_history(self, history: Sequence[Deployment]) -> None:
        """Take in what the history holds, newest first."""
        with self._lock:
            self._asked_at = self._clock.now()
            self._newest_at = history[0].created_at if history else 0.0

    def holds(self) -> bool:
        """Whether the history still is as it was read last, as far as the list tells."""
        with self._lock:
            now = self._clock.now()
            if now - self._list_at > LIST_HOLDS_S or now - self._asked_at > self._rests_s or not self._shown_at:
                return False
            ahead_s = self._shown_at - self._newest_at
            return abs(ahead_s) <= _SAME_S or (ahead_s > 0 and self._asked_at >= self._shown_since + _FOLLOWS_S)

    def take(self) -> bool:
        """Return whether the loop was woken, once."""
        was_set = self._event.is_set()
        if was_set:
            self._event.clear()
        return was_set

    def note_request(self) -> None:
        """Take in that somebody knows of a deployment: the history is asked now, whatever the list shows."""
        with self._lock:
            self._asked_at = float("-inf")
            self._event.set()

    def wake(self) -> None:
        """Wake the loop: its history holds something new, or it is to stop."""
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until something wakes the loop."""
        self._event.wait(seconds)
