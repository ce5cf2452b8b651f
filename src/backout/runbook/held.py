"""A watch that is held for a shift in what is answered: which shifts of it still wait for a person's word.

Whoever asks (`guard accept`, `status`, a diagnosis) asks here, so that all of them say the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from backout.decoding import decode_values
from backout.model.shift import ACCEPTED, Outcome
from backout.model.verdict import Cause, Decision, Verdict

if TYPE_CHECKING:
    from backout.model.incident import Run
    from backout.model.shift import Shift
    from backout.runbook.toolbox import Toolbox

SHIFT_RULE: Final = "shift in answers"


def decision_of(tools: Toolbox, run: Run) -> Decision | None:
    """Return the verdict of a watch that has ended, None while it goes on.

    Raises:
        Undecodable: it is not as it was written.
    """
    watched = tools.runs.result(run.id, "watch")
    return decode_values(watched["decision"], Decision) if isinstance(watched, dict) else None


def accepted(tools: Toolbox, version: str) -> tuple[str, ...]:
    """Return the shifts that somebody accepted of a version: what is intended of it is so in its next watch as well."""
    noted = tools.journal.events(environment=tools.environment, kind=ACCEPTED)
    return tuple(str(event.data["shift"]) for event in noted if event.data.get("version") == version)


def open_shifts(tools: Toolbox, run: Run) -> tuple[Shift, ...]:
    """Return the shifts of a watch's verdict that were more than told, and that nobody accepted since.

    The gravest first; () while the watch goes on. Undecodable: as `decision_of`.
    """
    decision = decision_of(tools, run)
    if decision is None:
        return ()
    known = accepted(tools, str(run.plan.step("watch").args["version"]))
    return tuple(each for each in decision.shifts if each.outcome is not Outcome.TOLD and each.name not in known)


def holding_in(decision: Decision) -> tuple[Shift, ...]:
    """Return the shifts of a verdict about which a person has to decide, whoever accepted them since."""
    return tuple(each for each in decision.shifts if each.outcome is Outcome.HOLD)


def holding(tools: Toolbox, run: Run) -> tuple[Shift, ...]:
    """Return those of `open_shifts` about which a person has to decide."""
    return tuple(each for each in open_shifts(tools, run) if each.outcome is Outcome.HOLD)


def is_held(decision: Decision) -> bool:
    """Whether a verdict waits for a person, who says of its shifts whether they are intended."""
    return decision.verdict is Verdict.INCONCLUSIVE and decision.cause is Cause.ANSWERS


def with_words(tools: Toolbox, decision: Decision, version: str) -> Decision:
    """Return a verdict with what persons said until now: healthy when they accepted all that held it."""
    known = set(accepted(tools, version))
    named = [shift.name for shift in holding_in(decision)]
    if not is_held(decision) or not named or not known.issuperset(named):
        return decision
    noted = tools.journal.events(environment=tools.environment, kind=ACCEPTED)
    said = [event.data for event in noted if event.data.get("version") == version and event.data["shift"] in named]
    return as_intended(decision, f"{said[-1]['by']} accepted {said[-1]['shift']}: {said[-1]['why']}")


def as_intended(decision: Decision, why: str) -> Decision:
    """Return the verdict of a watch that nothing holds any more, for a person's reason."""
    told = tuple(replace(shift, outcome=Outcome.TOLD) for shift in decision.shifts)
    return replace(decision, verdict=Verdict.HEALTHY, cause=Cause.NONE, reason=why, shifts=told)


def ended_held(tools: Toolbox, run: Run) -> bool:
    """Whether a watch is over, and ended held for a shift."""
    ended = tools.runs.result(run.id, "conclude") if run.state.is_over else None
    return isinstance(ended, dict) and ended.get("rule") == SHIFT_RULE
