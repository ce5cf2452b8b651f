"""Notices of how long a hold still stops guard: neither its end nor its going on comes as a surprise (rule 10)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from backout.model.incident.notice import NoticeKind
from backout.report.times import format_duration, format_time
from backout.runbook.incident.tell import tell
from backout.runbook.safety.hold import describe_hold, find_active_hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.hold import Hold
    from backout.runbook.toolbox import Toolbox

AHEAD_S = (3_600.0, 86_400.0)
"""How long before its end a hold is told again, nearest first; one that was set later than that is not."""
EVERY_S = 5.0


class HoldWatch:
    """Runs beside a watching process: checks every few seconds whether there is something to tell about a hold."""

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools
        self._looked_at = float("-inf")

    def look(self, history: Sequence[Deployment]) -> None:
        """Tell what is due; each thing is told once."""
        now = self._tools.clock.now()
        if abs(now - self._looked_at) >= EVERY_S:
            self._looked_at = now
            tell_of_holds(self._tools, history)


def tell_of_holds(tools: Toolbox, history: Sequence[Deployment]) -> None:
    """Tell of the hold that is on: that it is unsigned, that it ends soon, or goes on beyond its end; each once."""
    hold = find_active_hold(tools, history)
    if hold is None or math.isinf(hold.until):
        return
    if hold.unsigned:
        what = "is held by an unsigned mark"
        text = f"Guard does nothing until {format_time(hold.until)}. Anyone who may deploy can write one, twice a day."
        _tell(tools, NoticeKind.HOLD_UNSIGNED, hold, what, text)
        return
    now = tools.clock.now()
    if now >= hold.until:
        text = f"The hold was to end at {format_time(hold.until)}; incident {hold.incident} is open."
        _tell(tools, NoticeKind.HOLD_ENDS, hold, "is held on", text)
        return
    ahead_s = next((ahead_s for ahead_s in AHEAD_S if hold.until - now <= ahead_s), None)
    if ahead_s is None or hold.until - hold.at <= ahead_s:
        return
    then = "unless its incident is open then" if hold.incident else "and guard may act again then"
    what = f"is held for less than {format_duration(ahead_s)} more"
    _tell(tools, NoticeKind.HOLD_ENDS, hold, what, f"The hold ends at {format_time(hold.until)}, {then}.")


def _tell(tools: Toolbox, kind: NoticeKind, hold: Hold, what: str, text: str) -> None:
    environment = tools.environment
    tell(
        tools,
        kind,
        f"{environment} {what}",
        f"{text} It says: {describe_hold(hold)}.",
        key=f"{hold.where} {hold.until:g} {what}",
        next=(f"backout hold -e {environment} -m WHY", f"backout unhold -e {environment}"),
    )
