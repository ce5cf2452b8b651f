"""The plan of a holdback: the version before a cut-over keeps a part of the traffic for the first minutes; pure.

Side by side the two are told apart without doubt, whatever else happens outside. It is a ramp of one step, begun from
above: afterwards the new version has all of the traffic again, as it was deployed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.plan import Plan, PlanKind, Step
from backout.plan.ramp import WHOLE

if TYPE_CHECKING:
    from backout.model.plan import Json

FRESH_S = 120.0
"""A cut-over that is older than this is left as it is: its first minutes are over."""


def plan_holdback(watch: Plan, percentage: float, for_s: float) -> Plan:
    """Return the plan that gives the old version a part of the traffic back, then watches both.

    Args:
        watch: the plan of the watch of the cut-over. percentage: that the old version keeps. for_s: seconds of the
            watch that follows when the new version has everything again.
    """
    watched, concluded = watch.step("watch").args, watch.step("conclude").args
    version, old = str(watched["version"]), str(watched["old"])
    step = Step(
        "ramp",
        f"let version {old[:8]} keep {percentage:g} % of the traffic for the first minutes",
        {
            "version": version,
            "old": old,
            "percentage": WHOLE - percentage,
            "expected": watched["deployment"],
            "holdback": True,
            "message": f"holdback: version {old[:8]} keeps {percentage:g} % for the first minutes",
        },
    )
    up: list[Json] = [WHOLE]
    more: dict[str, Json] = {"ramp": up, "stage_s": for_s, "early_at_last": watched["early"], "holdback": True}
    going_on = Step(
        "watch_on",
        f"watch version {version[:8]} beside it, then give it all of the traffic again",
        {"watch": {**watched, **more}, "conclude": {**concluded, "ramp": up, "holdback": True}},
    )
    why = f"hold version {old} back at {percentage:g} % while version {version} is new"
    return Plan(PlanKind.RAMP, watch.environment, why, (step, going_on))
