"""The plans of a ramp: one that moves a version up by a step, and the watch that goes on after it; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from backout.analysis.coverage import OBJECTS_S
from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.guard import RampStep, WatchOnStep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.steps.guard import ConcludeStep, RampResult, WatchStep

WHOLE = 100.0
"""All of the traffic, in percent."""
AT_LEAST_S = 60.0
"""Each step is watched for at least this long: what breaks under more traffic has not shown itself before."""


HOLDBACK_S = 300.0
"""The first minutes of a cut-over, in which the version before may keep a part of the traffic."""


def list_steps_above(ramp: Sequence[float], share: float) -> tuple[float, ...]:
    """Return the steps of a ramp that are higher than a share in (0, 1].

    >>> list_steps_above((10, 50, 100), 0.1)
    (50, 100)
    """
    return tuple(step for step in ramp if step > share * WHOLE + 1e-9)


def make_first_stage(watch: WatchStep, up: tuple[float, ...], *, share: float, early: bool) -> WatchStep:
    """Return the watch of a ramp's first step: it does not end as healthy before its minimum time, however sure it is.

    Args:
        up: the steps to come.
        share: of the version now.
        early: whether the last step ends early, too.
    """
    return structs.replace(
        watch,
        ramp=up,
        steps=((watch.since, share),),
        stage_s=watch.for_s,
        at_least_s=min(watch.for_s, _find_least_s(watch)),
        early_at_last=early,
    )


def _find_least_s(watch: WatchStep) -> float:
    """Return for how long a step is watched at least: with each one more Durable Objects follow, minutes later."""
    return OBJECTS_S if watch.objects else AT_LEAST_S


def plan_ramp(environment: str, watch: WatchStep, conclude: ConcludeStep, *, reason: str, cause: str) -> Plan:
    """Return the plan that gives the watched version its next share, then watches on.

    Args:
        watch, conclude: the steps of the watch that allows it; `watch.ramp` are the steps to come.
        reason: of the verdict.
        cause: the run of that watch.
    """
    percentage, *above = watch.ramp or ()
    version, old = watch.version, watch.old
    rest = f", {WHOLE - percentage:g} % stay with {old[:8]}" if percentage < WHOLE else ""
    ramp = Step.of(
        f"give version {version[:8]} {percentage:g} % of the traffic{rest}",
        RampStep(
            version=version,
            old=old,
            percentage=percentage,
            expected=watch.deployment,
            message=f"to {percentage:g} %: {reason}",
        ),
    )
    going_on = Step.of(
        f"watch version {version[:8]} on, with the evidence so far",
        WatchOnStep(
            watch=structs.replace(watch, ramp=tuple(above)),
            conclude=structs.replace(conclude, ramp=tuple(above), holdback=False),
        ),
    )
    why = f"move version {version} up to {percentage:g} %"
    return Plan(PlanKind.RAMP, environment, why, (ramp, going_on), cause=cause)


def plan_on(environment: str, on: WatchOnStep, made: RampResult, *, cause: str) -> Plan:
    """Return the plan of the watch after a step up: the same watch, its evidence included, of the new deployment.

    Args:
        made: the deployment, as it was read back.
    """
    watch, conclude, at, share = on.watch, on.conclude, made.at, made.percentage / WHOLE
    since, stage_s = watch.since, watch.stage_s or watch.for_s
    if watch.holdback and share >= 1:  # the provider, or a hold, did not allow it
        return _plan_plain_watch(environment, watch, conclude, cause=cause)
    if watch.holdback:  # the evidence begins where both serve side by side
        since, stage_s = at, min(stage_s, HOLDBACK_S)
        watch = structs.replace(watch, holdback=False, since=at)
    version, last = watch.version, not watch.ramp
    watched = Step.of(
        f"watch version {version[:8]} at {share * WHOLE:g} % for at most {stage_s:g} s more",
        structs.replace(
            watch,
            deployment=made.deployment,
            deployed_at=at,
            split=share,
            steps=(*watch.steps, (at, share)),
            for_s=at - since + stage_s,
            at_least_s=at - since + min(stage_s, _find_least_s(watch)),
            early=bool(watch.early_at_last) if last else True,
        ),
    )
    title = "roll back if it is bad, " + ("mark it stable if it is healthy" if last else "move it up if it is healthy")
    concluded = Step.of(title, structs.replace(conclude, deployment=made.deployment))
    why = f"watch version {version} on at {share * WHOLE:g} %"
    return Plan(PlanKind.GUARD, environment, why, (watched, concluded), cause=cause)


def _plan_plain_watch(environment: str, watch: WatchStep, conclude: ConcludeStep, *, cause: str) -> Plan:
    """Return the plan of the watch of a cut-over as it was deployed, where nothing could be held back."""
    plain = structs.replace(watch, ramp=None, stage_s=None, early_at_last=None, holdback=False)
    steps = (
        Step.of(f"watch version {watch.version[:8]} for at most {watch.for_s:g} s", plain),
        Step.of(
            "roll back if it is bad, mark it stable if it is healthy",
            structs.replace(conclude, ramp=None, holdback=False),
        ),
    )
    why = f"watch the deployment of version {watch.version}"
    return Plan(PlanKind.GUARD, environment, why, steps, cause=cause)
