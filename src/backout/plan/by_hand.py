"""What a person would type instead of each step, or why there is nothing to type (safety rule 20); pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.model.steps.rollback import ProveStep

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.plan import Equivalents, Plan, Step

NO_HEALTH = "# no health check is set up: look at the application yourself"
NO_LINE = "# no line is known for this provider"


def add_by_hand(plan: Plan, lines: Equivalents) -> Plan:
    """Return the plan with the equivalent of every step; one that begins with `#` says why there is nothing to type."""
    return replace(plan, steps=tuple(_fill_equivalent(step, lines) for step in plan.steps))


def _fill_equivalent(step: Step, lines: Equivalents) -> Step:
    if step.equivalent or step.action not in _LINES:
        return step
    return replace(step, equivalent=_LINES[step.action](step, lines))


def _prove(step: Step, lines: Equivalents) -> str:
    if not lines.prove:
        return NO_LINE if lines.health else NO_HEALTH
    target = step.arguments(ProveStep)
    return lines.prove.format(version=target.version, leaving=target.leaving)


def _explain_watch(step: Step, lines: Equivalents) -> str:
    from backout.model.steps.guard import WatchStep

    tail = [lines.errors.format(version=step.arguments(WatchStep).version)] if lines.errors else []
    return "\n".join([*tail, lines.health or NO_HEALTH])


def _explain_ramp(step: Step, lines: Equivalents) -> str:
    if not lines.split:
        return NO_LINE
    from backout.model.steps.guard import RampStep

    ramp = step.arguments(RampStep)
    rest = 100 - ramp.percentage
    shares = [f"{ramp.version}@{ramp.percentage:g}%", *([f"{ramp.old}@{rest:g}%"] if rest > 0 else [])]
    return lines.split.format(shares=" ".join(shares))


_LINES: dict[str, Callable[[Step, Equivalents], str]] = {
    "prove": _prove,
    "verify": lambda _step, lines: lines.health or NO_HEALTH,
    "watch": _explain_watch,
    "ramp": _explain_ramp,
    "watch_on": lambda _step, _lines: "# nothing to type: look at what is live, then watch on as before",
    "mark": lambda _step, _lines: "# nothing to type: name the bad version in the message of the deployment above",
    "report": lambda _step, _lines: "# nothing to type: write down the times, the versions and what you saw",
    "settle_forward": lambda _step, _lines: "# nothing to type: call the people on the card (backout card)",
    "settle": lambda _step, _lines: "# nothing to type: call the people on the card (backout card)",
    "conclude": lambda _step, _lines: "# nothing to type when it is well; else the rollback on the card (backout card)",
}
