"""A watch that is held for a shift in the answers: which of its shifts still wait for a person's decision.

All callers (`guard accept`, `status`, a diagnosis) ask here, so that all of them say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.guard.shift import ACCEPTED, Outcome
from backout.model.guard.verdict import Cause, Decision, Verdict
from backout.model.steps.guard import ConcludeStep, WatchStep
from backout.ports import find_result
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from backout.model.guard.policy import Policy
    from backout.model.guard.shift import Shift
    from backout.model.incident.incident import Run
    from backout.runbook.toolbox import Toolbox

SHIFT_RULE: Final = SafetyRule.SHIFT


def find_decision(tools: Toolbox, run: Run) -> Decision | None:
    """Return the verdict of a watch that has ended, None while it goes on.

    Raises:
        Undecodable: it is not as it was written.
    """
    watched = find_result(tools.runs, run.id, WatchStep)
    return watched.decision if watched is not None else None


def list_accepted(tools: Toolbox, version: str) -> tuple[str, ...]:
    """Return the accepted shifts of a version: what is intended stays so in its next watch."""
    noted = tools.journal.events(environment=tools.environment, kind=ACCEPTED)
    return tuple(str(event.data["shift"]) for event in noted if event.data.get("version") == version)


def list_open_shifts(tools: Toolbox, run: Run) -> tuple[Shift, ...]:
    """Return the shifts of a watch's verdict that were more than told, and have not been accepted since.

    The gravest first; () while the watch goes on. Undecodable: as `find_decision`.
    """
    decision = find_decision(tools, run)
    if decision is None:
        return ()
    known = list_accepted(tools, run.plan.arguments(WatchStep).version)
    return tuple(each for each in decision.shifts if each.outcome is not Outcome.TOLD and each.name not in known)


def list_holding_in(decision: Decision) -> tuple[Shift, ...]:
    """Return the shifts of a verdict that a person has to decide about, accepted since or not."""
    return tuple(each for each in decision.shifts if each.outcome is Outcome.HOLD)


def list_holding(tools: Toolbox, run: Run) -> tuple[Shift, ...]:
    """Return those of `list_open_shifts` that a person has to decide about."""
    return tuple(each for each in list_open_shifts(tools, run) if each.outcome is Outcome.HOLD)


def is_held(decision: Decision) -> bool:
    """Whether a verdict waits for a person to say whether its shifts are intended."""
    return decision.verdict is Verdict.INCONCLUSIVE and decision.cause is Cause.ANSWERS


def add_acceptances(tools: Toolbox, decision: Decision, version: str) -> Decision:
    """Return a verdict with the acceptances so far: healthy when all that held it was accepted."""
    known = set(list_accepted(tools, version))
    named = [shift.name for shift in list_holding_in(decision)]
    if not is_held(decision) or not named or not known.issuperset(named):
        return decision
    noted = tools.journal.events(environment=tools.environment, kind=ACCEPTED)
    said = [event.data for event in noted if event.data.get("version") == version and event.data["shift"] in named]
    return accept_as_intended(decision, f"{said[-1]['by']} accepted {said[-1]['shift']}: {said[-1]['why']}")


def accept_as_intended(decision: Decision, why: str) -> Decision:
    """Return the verdict of a watch that nothing holds any more, with a person's reason."""
    told = tuple(replace(shift, outcome=Outcome.TOLD) for shift in decision.shifts)
    return replace(decision, verdict=Verdict.HEALTHY, cause=Cause.NONE, reason=why, shifts=told)


def has_ended_held(tools: Toolbox, run: Run) -> bool:
    """Whether a watch is over, and ended held for a shift."""
    ended = find_result(tools.runs, run.id, ConcludeStep) if run.state.is_over else None
    return ended is not None and ended.rule == SHIFT_RULE


def apply_expectations(policy: Policy, args: WatchStep) -> Policy:
    """Return the policy with the changes that the watch was started with as intended; the file may not have them."""
    known = policy.guard.expect
    guard = replace(policy.guard, expect=(*known, *(each for each in args.expect if each not in known)))
    return replace(policy, guard=guard)
