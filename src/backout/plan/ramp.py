"""The plans of a ramp: one that moves a version up by a step, and the watch that goes on after it; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.plan import Plan, PlanKind, Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.plan import Json

WHOLE = 100.0
"""All of the traffic, in percent."""
AT_LEAST_S = 60.0
"""Each step is watched for so long at least: what breaks under more traffic has not shown itself before."""


HOLDBACK_S = 300.0
"""The first minutes of a cut-over, in which the version before may keep a part of the traffic."""


def steps_above(ramp: Sequence[float], share: float) -> list[Json]:
    """Return the steps of a ramp that are higher than a share in (0, 1].

    >>> steps_above((10, 50, 100), 0.1)
    [50, 100]
    """
    return [step for step in ramp if step > share * WHOLE + 1e-9]


def first_stage(up: Sequence[Json], *, since: float, share: float, for_s: float, early: bool) -> dict[str, Json]:
    """Return what the watch of a ramp knows beside a plain one.

    `at_least_s`: no sooner after `since` does it end as healthy, however sure the evidence from before is; `stage_s`:
    how long each step may take; `early_at_last`: whether the last step ends early, too.
    """
    return {
        "ramp": list(up),
        "steps": [[since, share]],
        "stage_s": for_s,
        "at_least_s": min(for_s, AT_LEAST_S),
        "early_at_last": early,
    }


def plan_ramp(
    environment: str, watch: Mapping[str, Json], conclude: Mapping[str, Json], *, reason: str, cause: str
) -> Plan:
    """Return the plan that gives the watched version its next share, then watches on.

    Args:
        watch, conclude: the arguments of the steps of the watch that allows it; `watch["ramp"]` are the steps to come.
        reason: of the verdict. cause: the run of that watch.
    """
    percentage, *above = _numbers(watch["ramp"])
    version, old = str(watch["version"]), str(watch["old"])
    rest = f", {WHOLE - percentage:g} % stay with {old[:8]}" if percentage < WHOLE else ""
    ramp = Step(
        "ramp",
        f"give version {version[:8]} {percentage:g} % of the traffic{rest}",
        {
            "version": version,
            "old": old,
            "percentage": percentage,
            "expected": watch["deployment"],
            "message": f"to {percentage:g} %: {reason}",
        },
    )
    going_on = Step(
        "watch_on",
        f"watch version {version[:8]} on, with the evidence so far",
        {"watch": {**watch, "ramp": list(above)}, "conclude": {**_plain(conclude), "ramp": list(above)}},
    )
    why = f"move version {version} up to {percentage:g} %"
    return Plan(PlanKind.RAMP, environment, why, (ramp, going_on), cause=cause)


def plan_on(environment: str, args: Mapping[str, Json], made: Mapping[str, Json], *, cause: str) -> Plan:
    """Return the plan of the watch after a step up: the same watch, its evidence included, of the new deployment.

    Args:
        args: of the step `watch_on`. made: {deployment, at, percentage} as it was read back.
    """
    watch, conclude = _table(args["watch"]), _table(args["conclude"])
    at, share = float(str(made["at"])), float(str(made["percentage"])) / WHOLE
    since, stage_s = float(str(watch["since"])), float(str(watch["stage_s"]))
    if watch.get("holdback") and share >= 1:  # the provider, or a hold, did not allow it
        return _plain_watch(environment, watch, conclude, cause=cause)
    if watch.get("holdback"):  # the evidence begins where both serve side by side
        since, stage_s = at, min(stage_s, HOLDBACK_S)
        watch = {**_plain(watch), "since": at, "stage_s": watch["stage_s"]}
    steps = watch.get("steps")
    version, last = str(watch["version"]), not watch["ramp"]
    watched = Step(
        "watch",
        f"watch version {version[:8]} at {share * WHOLE:g} % for at most {stage_s:g} s more",
        {
            **watch,
            "deployment": made["deployment"],
            "deployed_at": at,
            "split": share,
            "steps": [*(steps if isinstance(steps, list) else []), [at, share]],
            "for_s": at - since + stage_s,
            "at_least_s": at - since + min(stage_s, AT_LEAST_S),
            "early": bool(watch["early_at_last"]) if last else True,
        },
    )
    title = "roll back if it is bad, " + ("mark it stable if it is healthy" if last else "move it up if it is healthy")
    concluded = Step("conclude", title, {**conclude, "deployment": made["deployment"]})
    why = f"watch version {version} on at {share * WHOLE:g} %"
    return Plan(PlanKind.GUARD, environment, why, (watched, concluded), cause=cause)


def _plain_watch(environment: str, watch: Mapping[str, Json], conclude: Mapping[str, Json], *, cause: str) -> Plan:
    """Return the plan of the watch of a cut-over as it was deployed, where nothing could be held back."""
    version, own = str(watch["version"]), ("ramp", "stage_s", "early_at_last", "holdback")
    watched = {name: value for name, value in watch.items() if name not in own}
    steps = (
        Step("watch", f"watch version {version[:8]} for at most {float(str(watch['for_s'])):g} s", watched),
        Step(
            "conclude",
            "roll back if it is bad, mark it stable if it is healthy",
            {name: value for name, value in conclude.items() if name not in own},
        ),
    )
    return Plan(PlanKind.GUARD, environment, f"watch the deployment of version {version}", steps, cause=cause)


def _plain(args: Mapping[str, Json]) -> dict[str, Json]:
    """Return the arguments of a step without the note that a holdback goes on."""
    return {name: value for name, value in args.items() if name != "holdback"}


def _numbers(value: Json) -> list[float]:
    return [float(str(number)) for number in value] if isinstance(value, list) else []


def _table(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}
