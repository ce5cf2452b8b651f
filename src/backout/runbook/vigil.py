"""What a watch has to keep an eye on beside the deployment: its token, its source of counts, its own watcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.remarks import marks_in, merged, same_mark
from backout.analysis.stability import questioned
from backout.model.deployment import Mark
from backout.runbook.hold import holding, said
from backout.runbook.hold_told import HoldWatch
from backout.runbook.once import newest_automatic
from backout.runbook.pulse import Pulse
from backout.runbook.source import SourceWatch
from backout.runbook.token import TokenVigil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.hold import Hold
    from backout.runbook.toolbox import Toolbox


def note_marks(tools: Toolbox, history: Sequence[Deployment]) -> None:
    """Keep what other machines judged: the provider lists its newest deployments only (rule 15).

    Of the versions that they call stable only those are kept that somebody questioned before: that has ended then. What
    was called stable earlier stays out, else it would be the newest word here on a version that is questioned.
    """
    known, listed = list(tools.marks.marks(tools.environment)), marks_in(history, ())
    every = merged(known, listed)
    for told in listed:
        ends = questioned(known, told.version) is not None and questioned(every, told.version) is None
        is_news = told.mark is not Mark.STABLE or ends
        if is_news and not any(same_mark(told, mark) for mark in known):
            tools.marks.mark(tools.environment, told, actor=told.by or tools.actor)
            known.append(told)


class Vigil:
    """Beside one watch; `tick` is called every second.

    Args:
        reaches: until when the counts reach that were kept already. sampled: whether the watch took in estimates
            before it was interrupted.
    """

    def __init__(self, tools: Toolbox, run: str, *, reaches: float, sampled: bool = False) -> None:
        self._tools = tools
        self._run = run
        self.source = SourceWatch(tools, run, reaches=reaches, sampled=sampled)
        self.token = TokenVigil(tools, run)
        self._pulse = Pulse(tools)
        self._holds = HoldWatch(tools)
        self._said_hold: Hold | None = None
        self._noted = ""

    def tick(self, *, complete_until: int | None, sampled: bool, trouble: str = "") -> None:
        """Take note of how far the counts reach (None: nothing was ever read) and whether they are estimates.

        `trouble`: why they cannot be read just now, or "".
        """
        self._pulse.beat()
        self.token.tick()
        self.source.tick(complete_until=complete_until, sampled=sampled, trouble=trouble)

    def look(self, history: Sequence[Deployment]) -> None:
        """Say when a hold was set or lifted (the decision asks again); note what other machines did and judged."""
        newest_automatic(self._tools, history)
        if history and history[0].id != self._noted:
            self._noted = history[0].id
            note_marks(self._tools, history)
        self._holds.look(history)
        hold = holding(self._tools, history)
        if hold == self._said_hold:
            return
        self._said_hold = hold
        if hold is None:
            self._tools.say("the hold is over: guard may act again")
        else:
            self._tools.say(f"a hold is on: guard watches on, and changes nothing ({said(hold)})")
