"""What a watch says while it goes on: each change of the verdict to the journal, each shift at once to whoever is told.

What is told is noted first, with the key of its notice: a watch that is taken up again makes sure that it arrived, and
tells nothing twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.analysis.shifts.declared import is_asked_about
from backout.model.shift import Noticed, Outcome
from backout.model.verdict import Verdict
from backout.report.times import rfc3339
from backout.runbook.shift_told import KINDS, noticed_in, tell_shifts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.plan import Json
    from backout.model.shift import Shift
    from backout.model.verdict import Decision
    from backout.ports import StepContext
    from backout.runbook.source import SourceWatch
    from backout.runbook.toolbox import Toolbox

_MEANS = {
    Outcome.ROLL_BACK: "this is a regression",
    Outcome.HOLD: "not called healthy before a person accepts it",
    Outcome.TOLD: "told only",
}


class WatchNotes:
    """Beside one watch; `note` is called with each decision.

    Args:
        args: of the step `watch`.
    """

    def __init__(self, tools: Toolbox, args: Mapping[str, Json], context: StepContext) -> None:
        self._tools = tools
        self._args = args
        self._context = context
        self._said: set[tuple[str, Outcome]] = set()
        self._noted: object = None
        self.noticed = noticed_in(context.last_progress())
        """What somebody was told of, oldest first."""
        if self.noticed:
            last = self.noticed[-1].key
            self._tell([each for each in self.noticed if each.key == last], None)

    def note(self, decision: Decision, source: SourceWatch, *, asking: bool, ends: bool) -> None:
        """Say what is new in a decision.

        Args:
            asking: both versions are being asked the same, which may soon decide what follows from a shift. ends: the
                watch ends with it, so that its end tells what is new, unless all is well.
        """
        for shift in decision.shifts:  # at once: nobody needs to wait for the end of the watch to know of it
            if (shift.name, shift.outcome) not in self._said:
                self._said.add((shift.name, shift.outcome))
                self._tools.say(f"{shift.sentence} ({_MEANS[shift.outcome]})")
        told_by_end = ends and decision.verdict is not Verdict.HEALTHY
        new = [] if told_by_end else [self._new(decision, outcome, asking=asking) for outcome in KINDS]
        self._progress(decision, source)
        for noticed in filter(None, new):
            self._tell(noticed, decision)

    def _new(self, decision: Decision, outcome: Outcome, *, asking: bool) -> list[Noticed]:
        """Take note of the shifts that nobody was told of yet; of one that was told only, that it holds now, too."""
        held = {each.name for each in self.noticed if each.outcome is Outcome.HOLD}
        told = held if outcome is Outcome.HOLD else {each.name for each in self.noticed}
        found: list[Shift] = []
        for shift in decision.shifts:
            waits = asking and outcome is Outcome.HOLD and is_asked_about(shift)
            if shift.outcome is outcome and shift.name not in told and not waits:
                found.append(shift)
        key = f"{self._context.run}:{outcome}:{rfc3339(decision.at)}"
        new = [Noticed(each.name, outcome, each.sentence, decision.at, key) for each in found]
        self.noticed = (*self.noticed, *new)
        return new

    def _tell(self, noticed: Sequence[Noticed], decision: Decision | None) -> None:
        tell_shifts(self._tools, self._args, self._context.run, noticed, decision)

    def _progress(self, decision: Decision, source: SourceWatch) -> None:
        """Journal a change of the verdict, of what it may carry, or of what is told."""
        holding = tuple(shift.name for shift in decision.shifts if shift.outcome is Outcome.HOLD)
        noted = (decision.verdict, source.downgraded, holding, len(self.noticed))
        if self._noted == noted:
            return
        self._noted = noted
        self._context.progress(
            {
                "verdict": decision.verdict,
                "reason": decision.reason,
                "downgraded": source.downgraded,
                "sampled": source.sampled,
                "holding": list(holding),
                "noticed": msgspec.to_builtins(self.noticed),
            }
        )
