"""Ramp: move a gradual deployment up step by step while the evidence allows it ("Gradual Deployments")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_underneath, is_deciding, is_half_made, list_serving
from backout.errors import ProviderRejected, ProviderUnavailable, Refused, WorldMoved
from backout.model.deployment import Share
from backout.model.guard.verdict import Verdict
from backout.model.remark import Remark, RemarkKind
from backout.model.steps.guard import (
    ConcludeAction,
    ConcludeResult,
    ConcludeStep,
    RampResult,
    RampStep,
    WatchOnResult,
    WatchOnStep,
    WatchResult,
    WatchStep,
)
from backout.model.version import VersionId
from backout.plan.by_hand import add_by_hand
from backout.plan.ramp import WHOLE, plan_on, plan_ramp
from backout.ports import Action, Done, Next, NotDone, Unknown, find_result
from backout.report.times import format_duration
from backout.runbook.guard.mark_stable import UNKNOWN, explain_above_limit, hold_known_bad, is_unknown
from backout.runbook.observe import observe
from backout.runbook.rollback.activate import FRESH_S
from backout.runbook.rollback.jobs import add_job_steps
from backout.runbook.rollback.marked import make_message
from backout.runbook.safety.checks import (
    await_listed,
    await_own_listed,
    check_not_held,
    check_on_every_host,
    check_undisturbed,
    check_unmoved,
    find_own,
    look_after_trouble,
)
from backout.runbook.safety.identity import check_identity
from backout.runbook.safety.permission import SOURCES_RULE, Case, find_forbidden_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.guard.verdict import Decision
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox


def move_up(
    tools: Toolbox, args: ConcludeStep, decision: Decision, watched: WatchResult, run: str
) -> ConcludeResult | Next[ConcludeResult]:
    """Return the plan of the next step, or the result that holds the version where it is, with the reason.

    Args:
        args: of the step `conclude`, whose `ramp` are the steps to come.
        watched: the result of the step `watch`.
    """
    found = tools.runs.find(run)
    assert found is not None
    too_many = explain_above_limit(tools, decision)
    if too_many:
        return _make_held_result(too_many)
    known_bad = hold_known_bad(tools, args, decision.reason)
    if known_bad is not None:
        return known_bad
    # A policy may accept that what is live is not measured; more traffic needs a measurement.
    not_shown = decision.reason if decision.verdict is Verdict.UNMEASURED else watched.unseen
    if not_shown and not args.holdback:  # that had all of the traffic when it was deployed
        return _make_held_result(f"not moved up: {not_shown}", SOURCES_RULE)
    situation = observe(tools)
    if is_unknown(situation, args) and not args.holdback:
        return _make_held_result(f"{UNKNOWN}; not moved up")
    plan = plan_ramp(tools.environment, found.plan.arguments(WatchStep), args, reason=decision.reason, cause=run)
    plan = add_by_hand(plan, tools.rollback.equivalents)
    case = Case(situation, plan, decision, watched.downgraded, args.mode)
    rule, why = find_forbidden_up(tools, case)
    if why and not (args.holdback and rule == SOURCES_RULE):
        return _make_held_result(f"not moved up: {why}", rule, would=plan.step(RampStep.action).title)
    return Next(ConcludeResult(action=ConcludeAction.RAMP, why=decision.reason), plan, decision.reason)


def _make_held_result(why: str, rule: str = "", *, would: str = "") -> ConcludeResult:
    return ConcludeResult(action=ConcludeAction.HOLD, why=why, rule=rule, would=would)


class Ramp(Action[RampStep, RampResult]):
    """Step `ramp` {version, old, percentage, expected, message}: give a version its next share, if all is as planned.

    `expected` is the deployment whose watch allows it: if another one decides about the traffic it raises WorldMoved,
    under a hold Refused, and nothing is changed (safety rules 8 and 10).
    """

    arguments = RampStep

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: RampStep, context: StepContext) -> RampResult:
        """Return {deployment, at, percentage} as it was read back from the provider (safety rule 14)."""
        tools, expected = self._tools, args.expected
        check_identity(tools)
        history = await_listed(tools, expected)
        if not is_half_made(history, expected, context.run):  # else its other hosts are reached now
            check_unmoved(tools, history, expected, context.run, args.version)
        remark = Remark(RemarkKind.RAMP, context.run, text=args.message)
        message = make_message(tools, remark, history[0])
        try:
            self._check_fresh(context.run)
            check_not_held(tools, history, is_automatic=True)  # last: a hold stops it right up to the switch
            made = tools.deployments.deploy(_list_shares(args), message=message, cohorts=history[0].cohorts)
        except (Refused, ProviderRejected) as error:
            if not args.holdback:
                raise
            tools.say(f"no holdback, the version before gets no traffic: {error.what}")
            return _make_unmade_result(history, expected)
        except ProviderUnavailable:
            found = look_after_trouble(tools, expected, context.run, RemarkKind.RAMP)
            if found is None:
                raise
            made = found
        return self._read_back(made, args, context.run)

    def _check_fresh(self, run: str) -> None:
        """Raise Refused when the verdict is old: the run was resumed, and a version healthy then may fail now."""
        found = self._tools.runs.find(run)
        age_s = abs(self._tools.clock.now() - found.started_at) if found is not None else 0.0
        if age_s >= FRESH_S:
            raise Refused(
                f"the verdict that allows this step is {format_duration(age_s)} old, so nothing is moved up",
                where=self._tools.environment,
                rule=SOURCES_RULE,
                options=(f"watch it again: `backout guard -e {self._tools.environment}`",),
            )

    def _read_back(self, made: Deployment, args: RampStep, run: str) -> RampResult:
        tools = self._tools
        history = await_listed(tools, made.id)
        if all(deployment.id != made.id for deployment in history):
            raise ProviderUnavailable("the step was made, and is not listed yet", where=tools.environment)
        check_undisturbed(tools, history, made.id, expected=args.expected, run=run)
        check_on_every_host(tools, history[0])
        live = find_underneath(history)
        wanted = {(str(share.version), share.percentage) for share in _list_shares(args)}
        if list_serving(live) != wanted:
            shares = ", ".join(f"{share.version} at {share.percentage:g} %" for share in live.shares)
            raise WorldMoved(
                f"after the step the provider says that {shares} is live",
                where=tools.environment,
                hint=f"backout status -e {tools.environment}",
            )
        return RampResult(deployment=live.id, at=live.created_at, percentage=args.percentage)

    def probe(self, args: RampStep, context: StepContext) -> Probe[RampResult]:
        """Look for our remark among the deployments; without it, the expected deployment listed means not done."""
        history = await_own_listed(self._tools, context.run, RemarkKind.RAMP)
        ours = find_own(history, context.run, RemarkKind.RAMP)
        if ours is not None:
            return NotDone() if history[0].hosts else Done(self._read_back(ours, args, context.run))
        expected = args.expected
        decides = bool(history) and is_deciding(history, expected, args.version)
        if decides or any(deployment.id == expected for deployment in history):
            return NotDone()
        return Unknown("another deployment is live, and none carries this run's marker")


def _make_unmade_result(history: Sequence[Deployment], expected: str) -> RampResult:
    """Return the result of a step that was not made: the deployment keeps all traffic, and is watched like that."""
    at = next((deployment.created_at for deployment in history if deployment.id == expected), history[0].created_at)
    return RampResult(deployment=expected, at=at, percentage=WHOLE)


def _list_shares(args: RampStep) -> tuple[Share, ...]:
    new = Share(VersionId(args.version), args.percentage)
    return (new,) if args.percentage >= WHOLE else (new, Share(VersionId(args.old), WHOLE - args.percentage))


class WatchOn(Action[WatchOnStep, WatchOnResult]):
    """Step `watch_on` {watch, conclude}: hand over to the watch of what the step up made live, evidence included."""

    arguments = WatchOnStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: WatchOnStep, context: StepContext) -> WatchOnResult | Next[WatchOnResult]:
        """Return the plan of the watch to continue with; the last one has the job workers follow it."""
        tools = self._tools
        made = find_result(tools.runs, context.run, RampStep)
        assert made is not None
        plan = add_by_hand(plan_on(tools.environment, args, made, cause=context.run), tools.rollback.equivalents)
        if made.percentage >= WHOLE:
            plan = add_job_steps(tools, plan, args.watch.version, args.watch.old)
        return Next(WatchOnResult(deployment=made.deployment), plan, plan.why)
