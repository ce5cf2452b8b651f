"""What a watch has to keep an eye on beside the deployment: its token, its source of counts, its own watcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.runbook.hold import holding, said
from backout.runbook.once import newest_automatic
from backout.runbook.pulse import Pulse
from backout.runbook.source import SourceWatch
from backout.runbook.token import TokenVigil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.hold import Hold
    from backout.runbook.toolbox import Toolbox


class Vigil:
    """Beside one watch; `tick` is called every second.

    Args:
        sampled: whether the watch took in estimates before it was interrupted.
    """

    def __init__(self, tools: Toolbox, run: str, *, sampled: bool = False) -> None:
        self._tools = tools
        self._run = run
        self.source = SourceWatch(tools, run, sampled=sampled)
        self.token = TokenVigil(tools, run)
        self._pulse = Pulse(tools)
        self._said_hold: Hold | None = None

    def tick(self, *, complete_until: int | None, sampled: bool) -> None:
        """Take note of how far the counts reach (None: nothing was ever read) and whether they are estimates."""
        self._pulse.beat()
        self.token.tick()
        self.source.tick(complete_until=complete_until, sampled=sampled)

    def look(self, history: Sequence[Deployment]) -> None:
        """Say when a hold was set or lifted (the decision asks again); note what other machines did by themselves."""
        newest_automatic(self._tools, history)
        hold = holding(self._tools, history)
        if hold == self._said_hold:
            return
        self._said_hold = hold
        if hold is None:
            self._tools.say("the hold is over: guard may act again")
        else:
            self._tools.say(f"a hold is on: guard watches on, and changes nothing ({said(hold)})")
