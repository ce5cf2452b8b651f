"""What a watch monitors besides the deployment: its token, its source of counts, its own watcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import is_same_mark, list_marks, merge_marks
from backout.analysis.history.stability import find_questioned
from backout.model.version import Mark
from backout.runbook.guard.heartbeat import Heartbeat
from backout.runbook.guard.telemetry_gate import SourceWatch
from backout.runbook.safety.cooldown import find_newest_automatic
from backout.runbook.safety.hold import describe_hold, find_active_hold
from backout.runbook.safety.hold_notices import HoldWatch
from backout.runbook.safety.token import TokenWatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.hold import Hold
    from backout.runbook.toolbox import Toolbox


def note_marks(tools: Toolbox, history: Sequence[Deployment]) -> None:
    """Store what other machines judged: the provider lists only its newest deployments (rule 15).

    Of the versions that they call stable only those are kept that were questioned before: that has ended then. What was
    called stable earlier stays out, else it would be the newest word here on a version that is questioned.
    """
    known, listed = list(tools.marks.marks(tools.environment)), list_marks(history, ())
    every = merge_marks(known, listed)
    for told in listed:
        ends = find_questioned(known, told.version) is not None and find_questioned(every, told.version) is None
        is_news = told.mark is not Mark.STABLE or ends
        if is_news and not any(is_same_mark(told, mark) for mark in known):
            tools.marks.mark(tools.environment, told, actor=told.by or tools.actor)
            known.append(told)


class WatchSupervisor:
    """Runs beside one watch; `tick` is called every second.

    Args:
        reaches: how far the stored counts reach.
        sampled: whether the watch used estimates before it was interrupted.
    """

    def __init__(self, tools: Toolbox, run: str, *, reaches: float, sampled: bool = False) -> None:
        self._tools = tools
        self._run = run
        self.source = SourceWatch(tools, run, reaches=reaches, sampled=sampled)
        self.token = TokenWatch(tools, run)
        self._heartbeat = Heartbeat(tools)
        self._holds = HoldWatch(tools)
        self._said_hold: Hold | None = None
        self._noted = ""

    def tick(self, *, complete_until: int | None, sampled: bool, trouble: str = "") -> None:
        """Note how far the counts reach (None: nothing was ever read) and whether they are estimates.

        `trouble`: why they cannot be read just now, or "".
        """
        self._heartbeat.beat()
        self.token.tick()
        self.source.tick(complete_until=complete_until, sampled=sampled, trouble=trouble)

    def look(self, history: Sequence[Deployment]) -> None:
        """Report when a hold was set or lifted (the decision checks again); note what other machines did and judged."""
        find_newest_automatic(self._tools, history)
        if history and history[0].id != self._noted:
            self._noted = history[0].id
            note_marks(self._tools, history)
        self._holds.look(history)
        hold = find_active_hold(self._tools, history)
        if hold == self._said_hold:
            return
        self._said_hold = hold
        if hold is None:
            self._tools.say("the hold is over: guard may act again")
        else:
            self._tools.say(f"a hold is on: guard watches on, and changes nothing ({describe_hold(hold)})")
