"""What the plan of a swap does about the rest of the cluster: a last look before the stop, and sequences; pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backout.model.also_back import AlsoBack, exact
from backout.model.plan import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.plan import Json, Plan

AGREED = "db_also_back"
_STOP = "db_stop_server"


@dataclass(frozen=True, slots=True)
class Rest:
    """What else goes back with an exchange.

    Args:
        things: that need a yes. lines: all of it in words. comes: the cluster that would come, as the step wants it.
        superuser: the cluster's own. text: the target as it was typed, "" of an undo.
    """

    things: Sequence[AlsoBack]
    lines: Sequence[str]
    comes: dict[str, Json]
    superuser: str
    text: str


def with_rest(plan: Plan, rest: Rest) -> Plan:
    """Return the plan of a swap, or of its undo, with what else goes back."""
    exchange = plan.step("db_exchange").args
    ends = {name: exchange[name] for name in ("incoming", "name", "system_identifier")}
    shown: list[Json] = [thing.record() for thing in rest.things]
    words = [rest.text, "--swap"] if rest.text else ["--undo"]
    again = shlex.join(["backout", "db", "restore", *words, "--dry-run", "-e", plan.environment])
    look = Step(
        AGREED,
        "look again what else goes back: no more than was agreed to",
        {**ends, "comes": rest.comes, "things": shown, "accepted": [], "again": again},
    )
    carry = Step(
        "db_sequences",
        "advance sequences past what was handed out before",
        {"data_directory": exchange["data_directory"], "incoming": exchange["incoming"], "superuser": rest.superuser},
    )
    stop = next(number for number, step in enumerate(plan.steps) if step.action == _STOP)
    steps = (*plan.steps[:stop], look, plan.steps[stop], carry, *plan.steps[stop + 1 :])
    return replace(plan, steps=steps, notes=(*plan.notes, *rest.lines))


def to_agree(plan: Plan) -> tuple[AlsoBack, ...]:
    """Return what needs a yes; () of a plan that exchanges nothing, or that an earlier version made."""
    step = next((step for step in plan.steps if step.action == AGREED), None)
    things = step.args["things"] if step is not None else []
    assert isinstance(things, list)  # noqa: S101 as planned
    return tuple(AlsoBack.of(each) for each in things if isinstance(each, dict))


def agreed(plan: Plan, words: Sequence[str]) -> Plan:
    """Return the plan with what a person agreed to; a word without a number means as much as was shown."""
    accepted: list[Json] = [*exact(to_agree(plan), words)]
    steps = tuple(
        replace(step, args={**step.args, "accepted": accepted}) if step.action == AGREED else step
        for step in plan.steps
    )
    return replace(plan, steps=steps)
