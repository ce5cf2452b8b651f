"""Why the steps of a recovery come in their order, for a person who is to approve it; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.steps.jobs import StopJobsStep
from backout.model.steps.objects import RestoreObjectsStep
from backout.model.steps.recovery import FenceStep, MaintenanceStep, PlaceStep, ResumeStep
from backout.model.steps.rescue import RescueStep, UndoRescueStep
from backout.model.steps.restore import ExchangeStep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.plan import Step

_DATABASE = (ExchangeStep, RescueStep, UndoRescueStep)


def explain_order(steps: Sequence[Step]) -> tuple[str, ...]:
    """Return it, a sentence for each place of the order that these steps have."""
    there = {step.action for step in steps}
    told = []
    if MaintenanceStep.action in there:
        told.append("what can fail without an outage comes before the page, while users are still served")
    if StopJobsStep.action in there:
        told.append(
            "job workers end behind the page, when no visitor gives them more, and before anything is overwritten"
        )
    if FenceStep.action in there:
        told.append("the fence goes up behind the page, when few sessions are left; the undo point behind the fence")
    if there.intersection(kind.action for kind in _DATABASE):
        has_objects = RestoreObjectsStep.action in there
        if has_objects:
            told.append("the database goes before the objects, which its rows name")
        if PlaceStep.action in there:
            first = "both go" if has_objects else "the database goes"
            told.append(f"{first} before the code, which is proved on the schema and the rows of then")
    if any(step.does(PlaceStep) and step.arguments(PlaceStep).uploads for step in steps):
        told.append("code and secrets are one upload: a secret set apart goes to the newest version, the bad one")
    if ResumeStep.action in there:
        told.append("what starts the application goes on last, when its target has been proved")
    return tuple(f"order: {each}" for each in told)
