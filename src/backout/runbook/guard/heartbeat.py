"""The heartbeat of any watching process: once a minute an outside service hears that it is alive (safety rule 19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError

if TYPE_CHECKING:
    from backout.runbook.toolbox import Toolbox

EVERY_S = 60.0


class Heartbeat:
    """Beats at once, then every minute, as long as it is called often.

    It beats in the watching loop itself: a separate thread would keep beating for a loop that hangs.
    """

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools
        self._beaten_at = float("-inf")

    def beat(self) -> None:
        """Ping when it is due; a clock that was set back must not silence it until it has caught up."""
        now = self._tools.clock.now()
        if self._tools.guard.dead_man is not None and abs(now - self._beaten_at) >= EVERY_S:
            self._beaten_at = now
            try:
                self._tools.guard.dead_man.ping()
            except BackoutError as error:  # the watch itself goes on
                self._tools.say(f"the dead-man's switch was not pinged: {error.what}")
