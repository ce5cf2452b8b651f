"""Ramp: move a gradual deployment up step by step while the evidence allows it ("Gradual Deployments")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.remarks import serving, still_decides, underneath
from backout.errors import ProviderRejected, ProviderUnavailable, Refused, WorldMoved
from backout.model.deployment import Share, VersionId
from backout.model.policy import Mode
from backout.model.remark import Remark, RemarkKind
from backout.model.verdict import Verdict
from backout.plan.by_hand import by_hand
from backout.plan.ramp import WHOLE, plan_on, plan_ramp
from backout.ports import Done, Next, NotDone, Unknown
from backout.report.times import duration
from backout.runbook.activate import FRESH_S
from backout.runbook.checks import (
    check_not_held,
    check_undisturbed,
    check_unmoved,
    listed_after,
    listed_with_own,
    look_after_trouble,
    own,
)
from backout.runbook.identity import check_identity
from backout.runbook.marked import message_of
from backout.runbook.observe import observe
from backout.runbook.permission import SOURCES_RULE, Case, forbidden_to_move_up
from backout.runbook.stable import UNKNOWN, above_limit, held_as_known_bad, is_unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.deployment import Deployment
    from backout.model.plan import Json
    from backout.model.verdict import Decision
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox


def move_up(
    tools: Toolbox, args: Mapping[str, Json], decision: Decision, watched: Mapping[str, Json], run: str
) -> Json | Next:
    """Return the plan of the next step, or the result that holds the version where it is, with the reason.

    Args:
        args: of the step `conclude`, whose `ramp` are the steps to come. watched: the result of the step `watch`.
    """
    found = tools.runs.find(run)
    assert found is not None  # noqa: S101 this very run
    too_many = above_limit(tools, decision)
    if too_many:
        return {"action": "hold", "why": too_many}
    known_bad = held_as_known_bad(tools, args, decision.reason)
    if known_bad is not None:
        return known_bad
    # A policy may accept that what is live is not measured; more traffic has to rest on something.
    not_shown = decision.reason if decision.verdict is Verdict.UNMEASURED else watched.get("unseen")
    if not_shown and not args.get("holdback"):  # that had all of the traffic when it was deployed
        return {"action": "hold", "why": f"not moved up: {not_shown}", "rule": SOURCES_RULE}
    situation = observe(tools)
    if is_unknown(situation, args) and not args.get("holdback"):
        return {"action": "hold", "why": f"{UNKNOWN}; not moved up"}
    plan = plan_ramp(tools.environment, found.plan.step("watch").args, args, reason=decision.reason, cause=run)
    plan = by_hand(plan, tools.equivalents)
    case = Case(situation, plan, decision, watched, Mode(str(args["mode"])))
    rule, why = forbidden_to_move_up(tools, case)
    if why and not (args.get("holdback") and rule == SOURCES_RULE):
        would = plan.step("ramp").title
        return {"action": "hold", "why": f"not moved up: {why}", "rule": rule, "would": would}
    return Next({"action": "ramp", "why": decision.reason}, plan, decision.reason)


class Ramp:
    """Step `ramp` {version, old, percentage, expected, message}: give a version its next share, if all is as planned.

    `expected` is the deployment whose watch allows it: whatever else decides about the traffic makes it raise
    WorldMoved, and a hold Refused; then nothing is changed (safety rules 8 and 10).
    """

    effect = True

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {deployment, at, percentage} as it was read back from the provider (safety rule 14)."""
        tools, expected = self._tools, str(args["expected"])
        check_identity(tools)
        history = listed_after(tools, expected)
        check_unmoved(tools, history, expected, context.run, str(args["version"]))
        remark = Remark(RemarkKind.RAMP, context.run, text=str(args["message"]))
        message = message_of(tools, remark, history[0])
        try:
            self._check_fresh(context.run)
            check_not_held(tools, history, {"detected": True})  # last: until the switch itself a hold stops it
            made = tools.deployments.deploy(_shares(args), message=message)
        except (Refused, ProviderRejected) as error:
            if not args.get("holdback"):
                raise
            tools.say(f"no holdback, the version before gets no traffic: {error.what}")
            return _as_deployed(history, expected)
        except ProviderUnavailable:
            found = look_after_trouble(tools, expected, context.run, RemarkKind.RAMP)
            if found is None:
                raise
            made = found
        return self._read_back(made, args, context.run)

    def _check_fresh(self, run: str) -> None:
        """Raise Refused when the verdict is old: the run was resumed, and what was healthy then may fail now."""
        found = self._tools.runs.find(run)
        age_s = abs(self._tools.clock.now() - found.started_at) if found is not None else 0.0
        if age_s >= FRESH_S:
            raise Refused(
                f"the verdict that allows this step is {duration(age_s)} old, so nothing is moved up",
                where=self._tools.environment,
                rule=SOURCES_RULE,
                options=(f"watch it again: `backout guard -e {self._tools.environment}`",),
            )

    def _read_back(self, made: Deployment, args: Mapping[str, Json], run: str) -> Json:
        tools = self._tools
        history = listed_after(tools, made.id)
        if all(deployment.id != made.id for deployment in history):
            raise ProviderUnavailable("the step was made, and is not listed yet", where=tools.environment)
        check_undisturbed(tools, history, made.id, expected=str(args["expected"]), run=run)
        live = underneath(history)
        wanted = {(str(share.version), share.percentage) for share in _shares(args)}
        if serving(live) != wanted:
            shares = ", ".join(f"{share.version} at {share.percentage:g} %" for share in live.shares)
            raise WorldMoved(
                f"after the step the provider says that {shares} is live",
                where=tools.environment,
                hint=f"backout status -e {tools.environment}",
            )
        return {"deployment": live.id, "at": live.created_at, "percentage": args["percentage"]}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Look for our remark among the deployments; without it, the expected deployment listed means not done."""
        history = listed_with_own(self._tools, context.run, RemarkKind.RAMP)
        ours = own(history, context.run, RemarkKind.RAMP)
        if ours is not None:
            return Done(self._read_back(ours, args, context.run))
        expected = str(args["expected"])
        decides = bool(history) and still_decides(history, expected, str(args["version"]))
        if decides or any(deployment.id == expected for deployment in history):
            return NotDone()
        return Unknown("another deployment is live, and none carries this run's marker")


def _as_deployed(history: Sequence[Deployment], expected: str) -> Json:
    """Return the result of a step that was not made: what was deployed is whole, and is watched so."""
    at = next((deployment.created_at for deployment in history if deployment.id == expected), history[0].created_at)
    return {"deployment": expected, "at": at, "percentage": WHOLE}


def _shares(args: Mapping[str, Json]) -> tuple[Share, ...]:
    percentage = float(str(args["percentage"]))
    new = Share(VersionId(str(args["version"])), percentage)
    return (new,) if percentage >= WHOLE else (new, Share(VersionId(str(args["old"])), WHOLE - percentage))


class WatchOn:
    """Step `watch_on` {watch, conclude}: hand over to the watch of what the step up made live, evidence included."""

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json | Next:  # noqa: ARG002
        """Return the watch's plan to go on with."""
        tools = self._tools
        made = tools.runs.result(context.run, "ramp")
        assert isinstance(made, dict)  # noqa: S101 recorded by Ramp
        plan = by_hand(plan_on(tools.environment, args, made, cause=context.run), tools.equivalents)
        return Next({"deployment": made["deployment"]}, plan, plan.why)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Handing over is one transaction; it did not happen when it is asked."""
        return NotDone()
