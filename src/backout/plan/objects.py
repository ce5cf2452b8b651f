"""The plan of a restore of objects, pure: survey, restore, compare."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from backout.model.clock import to_utc
from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.objects import (
    CompareObjectsStep,
    RestoreObjectsStep,
    SnapshotObjectsStep,
    SurveyObjectsStep,
    UndoObjectsStep,
)

if TYPE_CHECKING:
    from backout.model.objects.versions import Moment

_LANE: Final = "/objects"


def name_lane(environment: str) -> str:
    """Return what a restore of objects keeps in the journal: not the environment, whose code may go back meanwhile.

    >>> name_lane("production"), get_environment(name_lane("production")), get_environment("staging")
    ('production/objects', 'production', 'staging')
    """
    return environment + _LANE


def get_environment(kept: str) -> str:
    """Return the environment of a lane, or of what is none."""
    return kept.removesuffix(_LANE)


def get_order(plan: Plan) -> SurveyObjectsStep | UndoObjectsStep:
    """Return what a plan is to do. Raises KeyError: it is no restore of objects."""
    return plan.arguments(UndoObjectsStep) if plan.has(UndoObjectsStep) else plan.arguments(SurveyObjectsStep)


def plan_undo(environment: str, step: UndoObjectsStep) -> Plan:
    """Return the plan that takes a restore back."""
    restore = RestoreObjectsStep(bucket=step.bucket)
    steps = (
        *(() if step.manifest is None else (_make_snapshot_step(step.bucket),)),
        Step.of(f"note what takes run {step.of} back", step),
        Step.of("take it back, but for what was written since; no version is destroyed", restore),
        Step.of("list the bucket again and compare", CompareObjectsStep(bucket=step.bucket, prefix=step.prefix)),
    )
    return Plan(PlanKind.RECOVER, name_lane(environment), f"objects of {step.bucket} as before {step.of}", steps)


def plan_restore(environment: str, bucket: str, prefix: str, moment: Moment, *, snapshot: bool) -> Plan:
    """Return the plan that brings the objects below a prefix back to a moment.

    Args:
        snapshot: the bucket keeps no versions, so what it holds now is stored before it is overwritten.
    """
    at = to_utc(moment.to).strftime("%Y-%m-%d %H:%M:%S UTC")
    what = f"{bucket}/{prefix}" if prefix else bucket
    survey = SurveyObjectsStep(bucket=bucket, prefix=prefix, to=moment.to, until=moment.until, slack_s=moment.slack_s)
    listed = f"compare {what} with its snapshots" if snapshot else f"list the versions of {what}"
    steps = (
        *((_make_snapshot_step(bucket),) if snapshot else ()),
        Step.of(
            f"{listed}, and note what brings each object back to {at}",
            survey,
            "" if snapshot else f"aws s3api list-object-versions --bucket {bucket} --prefix {shlex.quote(prefix)}",
        ),
        Step.of("bring them back; no version is destroyed", RestoreObjectsStep(bucket=bucket)),
        Step.of(
            "list the bucket again and compare; what was written meanwhile stays the newest",
            CompareObjectsStep(bucket=bucket, prefix=prefix),
        ),
    )
    return Plan(PlanKind.RECOVER, name_lane(environment), f"objects of {what} to {at}", steps)


def _make_snapshot_step(bucket: str) -> Step:
    return Step.of("store what the bucket holds now in its history", SnapshotObjectsStep(bucket=bucket))
