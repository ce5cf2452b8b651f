"""What a watch has to keep an eye on beside the deployment: its token, its source of counts, its own watcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.runbook.pulse import Pulse

if TYPE_CHECKING:
    from backout.runbook.toolbox import Toolbox


class Vigil:
    """Beside one watch; `tick` is called every second.

    Attributes:
        downgraded: why no automatic action may rest on the source any more, or "" (safety rule 13).
    """

    def __init__(self, tools: Toolbox, run: str) -> None:
        self._tools = tools
        self._run = run
        self.downgraded = ""
        self._pulse = Pulse(tools)

    def tick(self, *, complete_until: int | None, sampled: bool) -> None:
        """Take note of how far the counts reach (None: nothing was ever read) and whether they are estimates."""
        self._pulse.beat()
