"""The records of what a rescue would write: kept for whoever has to approve it, read where that is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.decoding import Undecodable, decode_values
from backout.model.database.rescue_preview import PreviewState, RescuePreview
from backout.model.steps.base import to_json
from backout.model.steps.branches import BranchRescueStep
from backout.model.steps.rescue import RescueStep
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.incident.incident import Run
    from backout.model.plan import Json, Plan
    from backout.ports import Journal

PREVIEWED: Final = "rescue.previewed"


def rescues_rows(plan: Plan) -> bool:
    """Return whether a plan writes back what only its run finds: rows of tables that it does not name."""
    return plan.has(RescueStep) or plan.has(BranchRescueStep)


def rename_sides(plan: Plan) -> Plan:
    """Return the plan of a rescue with other names of its two side instances, so that it can be counted beside its run.

    >>> from backout.model.plan import Plan, PlanKind, Step
    >>> step = Step("db_rescue", "copy rows", {"before": "before-1", "after": "after-1", "mark": "1"})
    >>> dict(rename_sides(Plan(PlanKind.RECOVER, "production", "", (step,))).steps[0].args)
    {'before': 'before-1-look', 'after': 'after-1-look', 'mark': '1'}
    """
    kinds = (RescueStep.action, BranchRescueStep.action)
    (rescue,) = (step for step in plan.steps if step.action in kinds)
    names = {name: f"{name}-look" for name in (str(rescue.args["before"]), str(rescue.args["after"]))}

    def rename(value: Json) -> Json:
        return names.get(value, value) if isinstance(value, str) else value

    steps = (replace(step, args={key: rename(value) for key, value in step.args.items()}) for step in plan.steps)
    return replace(plan, steps=tuple(steps))


def record_preview(journal: Journal, environment: str, preview: RescuePreview, *, actor: str) -> None:
    """Record how far the counting is; each state of one attempt once."""
    data: Mapping[str, Json] = {
        "run": preview.run,
        "state": preview.state,
        "report": to_json(preview.report),
        "why": preview.why,
    }
    journal.note(environment, PREVIEWED, f"{preview.run}:{preview.state}:{preview.at:.3f}", data, actor=actor)


def read_preview(journal: Journal, run: Run) -> RescuePreview | None:
    """Return the newest record of a run, None: nobody has counted, or a later version of backout wrote it."""
    if not rescues_rows(run.plan):
        return None
    newest = None
    for event in journal.events(environment=run.environment, kind=PREVIEWED):
        if event.data.get("run") == run.id:
            newest = event
    if newest is None:
        return None
    told = {name: newest.data.get(name) for name in ("run", "state", "report", "why")}
    try:
        return decode_values({**told, "at": newest.at}, RescuePreview)
    except Undecodable:
        return None


def make_preview_record(found: RescuePreview | None) -> dict[str, Json] | None:
    """Return it as JSON has it: `rescue` as of `backout db restore --dry-run --json`, null where nothing is counted."""
    if found is None:
        return None
    return {"state": found.state, "at": format_time(found.at), "rescue": to_json(found.report), "why": found.why}


def needs_preview(journal: Journal, run: Run) -> bool:
    """Return whether nobody has counted yet what a run's rescue would write."""
    found = read_preview(journal, run)
    return rescues_rows(run.plan) and (found is None or found.state is not PreviewState.COUNTED)
