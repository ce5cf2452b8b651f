"""The plan of a holdback: the version before a cut-over keeps a part of the traffic for the first minutes; pure.

Side by side the two can be told apart without doubt, whatever else happens outside. It is a ramp of one step, begun
from above: afterwards the new version has all of the traffic again, as it was deployed.
"""

from __future__ import annotations

from msgspec import structs

from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.guard import ConcludeStep, RampStep, WatchOnStep, WatchStep
from backout.plan.ramp import WHOLE

FRESH_S = 120.0
"""A cut-over older than this is left as it is: its first minutes are over."""


def plan_holdback(watch: Plan, percentage: float, for_s: float) -> Plan:
    """Return the plan that gives the old version a part of the traffic back, then watches both.

    Args:
        watch: the plan of the watch of the cut-over.
        percentage: the share that the old version keeps.
        for_s: seconds of the watch that follows when the new version has everything again.
    """
    watched, concluded = watch.arguments(WatchStep), watch.arguments(ConcludeStep)
    version, old = watched.version, watched.old
    step = Step.of(
        f"let version {old[:8]} keep {percentage:g} % of the traffic for the first minutes",
        RampStep(
            version=version,
            old=old,
            percentage=WHOLE - percentage,
            expected=watched.deployment,
            holdback=True,
            message=f"holdback: version {old[:8]} keeps {percentage:g} % for the first minutes",
        ),
    )
    up = (WHOLE,)
    going_on = Step.of(
        f"watch version {version[:8]} beside it, then give it all of the traffic again",
        WatchOnStep(
            watch=structs.replace(watched, ramp=up, stage_s=for_s, early_at_last=watched.early, holdback=True),
            conclude=structs.replace(concluded, ramp=up, holdback=True),
        ),
    )
    why = f"hold version {old} back at {percentage:g} % while version {version} is new"
    return Plan(PlanKind.RAMP, watch.environment, why, (step, going_on))
