"""What a watch says while it goes on: each change of the verdict in the journal, each shift at once in a notice.

A notice is recorded first, with its key: a resumed watch makes sure that it arrived, and tells nothing twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.analysis.shifts.declared import is_asked_about
from backout.model.guard.shift import Noticed, Outcome
from backout.model.guard.verdict import Verdict
from backout.report.times import format_time
from backout.runbook.guard.shift_notices import KINDS, read_noticed, tell_shifts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.guard.shift import Shift
    from backout.model.guard.verdict import Decision
    from backout.model.steps.guard import WatchStep
    from backout.ports import StepContext
    from backout.runbook.guard.telemetry_gate import SourceWatch
    from backout.runbook.toolbox import Toolbox

_MEANS = {
    Outcome.ROLL_BACK: "this is a regression",
    Outcome.HOLD: "not called healthy before a person accepts it",
    Outcome.TOLD: "reported only",
}


class WatchNotes:
    """Runs beside one watch; `note` is called with each decision.

    Args:
        args: of the step `watch`.
    """

    def __init__(self, tools: Toolbox, args: WatchStep, context: StepContext) -> None:
        self._tools = tools
        self._args = args
        self._context = context
        self._said: set[tuple[str, Outcome]] = set()
        self._noted: object = None
        self.noticed = read_noticed(context.last_progress())
        """The notices sent, oldest first."""
        if self.noticed:
            last = self.noticed[-1].key
            self._tell([each for each in self.noticed if each.key == last], None)

    def note(self, decision: Decision, source: SourceWatch, *, asking: bool, ends: bool) -> None:
        """Report what is new in a decision.

        Args:
            asking: both versions are being sent the same requests, which may soon decide what follows from a shift.
            ends: the watch ends with it, so that its end tells what is new, unless all is well.
        """
        for shift in decision.shifts:  # at once: people hear of it before the end of the watch
            if (shift.name, shift.outcome) not in self._said:
                self._said.add((shift.name, shift.outcome))
                self._tools.say(f"{shift.sentence} ({_MEANS[shift.outcome]})")
        told_by_end = ends and decision.verdict is not Verdict.HEALTHY
        new = [] if told_by_end else [self._new(decision, outcome, asking=asking) for outcome in KINDS]
        self._progress(decision, source)
        for noticed in filter(None, new):
            self._tell(noticed, decision)

    def _new(self, decision: Decision, outcome: Outcome, *, asking: bool) -> list[Noticed]:
        """Note the shifts not told yet; of one that was told only, note that it holds now, too."""
        held = {each.name for each in self.noticed if each.outcome is Outcome.HOLD}
        told = held if outcome is Outcome.HOLD else {each.name for each in self.noticed}
        found: list[Shift] = []
        for shift in decision.shifts:
            waits = asking and outcome is Outcome.HOLD and is_asked_about(shift)
            if shift.outcome is outcome and shift.name not in told and not waits:
                found.append(shift)
        key = f"{self._context.run}:{outcome}:{format_time(decision.at)}"
        new = [Noticed(each.name, outcome, each.sentence, decision.at, key) for each in found]
        self.noticed = (*self.noticed, *new)
        return new

    def _tell(self, noticed: Sequence[Noticed], decision: Decision | None) -> None:
        tell_shifts(self._tools, self._args, self._context.run, noticed, decision)

    def _progress(self, decision: Decision, source: SourceWatch) -> None:
        """Record a change of the verdict, of what it may be the basis of, or of what is told."""
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
