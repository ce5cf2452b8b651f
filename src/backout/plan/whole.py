"""What the plan of a swap does about the rest of the cluster: a last look before the stop, and sequences; pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from msgspec import structs
from msgspec.structs import replace

from backout.model.database.also_back import list_exact_words
from backout.model.plan import Step
from backout.model.steps.restore import AlsoBackRecord, AlsoBackStep, ExchangeStep, SequencesStep, StopServerStep
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.database.also_back import AlsoBack
    from backout.model.plan import Plan
    from backout.model.steps.restore import ComesRecord

AGREED = AlsoBackStep.action


class Rest(Value, frozen=True):
    """What else goes back when the cluster is exchanged.

    Args:
        things: that need a yes.
        lines: all of it in words.
        comes: the cluster that would come, as the step wants it.
        superuser: the cluster's own.
        text: the target as it was typed, "" of an undo.
    """

    things: Sequence[AlsoBack]
    lines: Sequence[str]
    comes: ComesRecord
    superuser: str
    text: str


def add_rest(plan: Plan, rest: Rest) -> Plan:
    """Return the plan of a swap, or of its undo, with what else goes back."""
    exchange = plan.arguments(ExchangeStep)
    words = [rest.text, "--swap"] if rest.text else ["--undo"]
    again = shlex.join(["backout", "db", "restore", *words, "--dry-run", "-e", plan.environment])
    look = Step.of(
        "look again what else goes back: no more than was agreed to",
        AlsoBackStep(
            incoming=exchange.incoming,
            name=exchange.name,
            system_identifier=exchange.system_identifier,
            comes=rest.comes,
            things=tuple(map(AlsoBackRecord.of, rest.things)),
            again=again,
        ),
    )
    carry = Step.of(
        "advance sequences past what was handed out before",
        SequencesStep(data_directory=exchange.data_directory, incoming=exchange.incoming, superuser=rest.superuser),
    )
    stop = next(number for number, step in enumerate(plan.steps) if step.does(StopServerStep))
    steps = (*plan.steps[:stop], look, plan.steps[stop], carry, *plan.steps[stop + 1 :])
    return replace(plan, steps=steps, notes=(*plan.notes, *rest.lines))


def list_to_agree(plan: Plan) -> tuple[AlsoBack, ...]:
    """Return what needs a yes; () for a plan that exchanges nothing, or that an earlier version made."""
    return tuple(each.thing for each in plan.arguments(AlsoBackStep).things) if plan.has(AlsoBackStep) else ()


def add_agreed(plan: Plan, words: Sequence[str]) -> Plan:
    """Return the plan with what a person agreed to; a word without a number means as much as was shown."""
    if not plan.has(AlsoBackStep):
        return plan
    accepted = tuple(list_exact_words(list_to_agree(plan), words))
    return plan.replace_arguments(structs.replace(plan.arguments(AlsoBackStep), accepted=accepted))
