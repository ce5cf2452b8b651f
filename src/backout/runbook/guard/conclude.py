"""What follows from a watch's verdict: mark it stable, hand over to a rollback, or leave everything and say why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.analysis.history.remarks import is_deciding
from backout.errors import AuthError, BackoutError, DecisionNeeded, ProviderUnavailable
from backout.model.guard.policy import Mode, OnInconclusive, OnSharedOutage, OnUnmeasured
from backout.model.guard.shift import Outcome, ShiftKind
from backout.model.guard.verdict import Cause, Decision, Verdict
from backout.model.plan import PlanRefused
from backout.model.steps.guard import ConcludeAction, ConcludeResult, ConcludeStep, WatchResult, WatchStep
from backout.model.steps.rollback import ActivateStep
from backout.model.steps.secrets import ReadSecretsStep
from backout.plan.rollback import Request
from backout.ports import Action, Next, find_result
from backout.runbook.guard.accept import list_options
from backout.runbook.guard.held import SHIFT_RULE, add_acceptances, is_held
from backout.runbook.guard.mark_stable import hold_known_bad, mark_stable
from backout.runbook.guard.questioned_marks import mark_questioned, tell_questions
from backout.runbook.guard.ramp import move_up
from backout.runbook.guard.shift_notices import tell_end
from backout.runbook.incident.diagnose import diagnose_once
from backout.runbook.incident.report import write_report
from backout.runbook.rollback.remediation_options import add_ways
from backout.runbook.rollback.rollback import prepare
from backout.runbook.safety.checks import READ_AGAIN_S, READ_EVERY_S
from backout.runbook.safety.permission import DATA_RULE, ONCE_RULE, SOURCES_RULE, Case, find_forbidden
from backout.runbook.safety.token import tell_nobody_acts
from backout.runbook.secrets.remediation import plan_mending

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.incident.diagnosis import Diagnosis
    from backout.model.plan import Plan
    from backout.model.situation import Situation
    from backout.ports import StepContext
    from backout.runbook.toolbox import Toolbox

    Prepared = tuple[Situation, Plan | PlanRefused]

PATIENCE_S, ASK_EVERY_S = 120.0, 2.0
"""How long to keep asking a platform that gives no usable answer when a version has to go."""


class Conclude(Action[ConcludeStep, ConcludeResult]):
    """Step `conclude` {deployment, version, code_hash, mode}: what follows from the verdict, by policy.

    Healthy: mark the version stable. Regressed and allowed to act: hand over to the rollback's plan. Everything that
    forbids acting becomes the result, with a report; it is never silent.
    """

    arguments = ConcludeStep
    effect = False

    def __init__(self, tools: Toolbox, planner: Callable[[Toolbox, Request], Prepared] = prepare) -> None:
        self._tools = tools
        self._planner = planner

    def do(self, args: ConcludeStep, context: StepContext) -> ConcludeResult | Next[ConcludeResult]:
        """Return {action, why, ...}, or the rollback's plan to continue with.

        Raises:
            AuthError: the token is lost, so nothing was done about the verdict; a notice says so.
            DecisionNeeded: it is to be asked before a rollback, and there is no one to ask.
        """
        watched = find_result(self._tools.runs, context.run, WatchStep)
        assert watched is not None
        # What was accepted since the watch ended, also while no process drove this run, counts as if before its end.
        decision = add_acceptances(self._tools, watched.decision, args.version)
        found = None
        if decision.verdict is not Verdict.HEALTHY and not watched.moved:
            found = diagnose_once(self._tools, context, args.version)
        try:
            if watched.token_lost:
                self._tools.deployments.history()  # the token may have come back; otherwise no verdict can be acted on
            result = self._conclude(args, decision, watched, context, found)
        except AuthError as error:
            if decision.verdict is Verdict.REGRESSED:
                write_report(self._tools, context.run, held=f"{error.what}; not rolled back")
            raise tell_nobody_acts(self._tools, context.run, decision, error) from error
        ended = result.result if isinstance(result, Next) else result
        tell_end(self._tools, args, context.run, (decision, ended), watched.noticed)
        return result

    def _conclude(
        self,
        args: ConcludeStep,
        decision: Decision,
        watched: WatchResult,
        context: StepContext,
        found: Diagnosis | None,
    ) -> ConcludeResult | Next[ConcludeResult]:
        if watched.moved:
            why = f"deployment {watched.moved} took its place, so this verdict is void"
            return ConcludeResult(action=ConcludeAction.VOID, why=why)
        if decision.verdict is Verdict.HEALTHY:
            follow = move_up if args.ramp else mark_stable
            return follow(self._tools, args, decision, watched, context.run)
        if decision.verdict is Verdict.REGRESSED:
            return self._answer_regression(args, decision, watched, context, found)
        if is_held(decision):
            return self._hold_for_shifts(args, decision, watched, context.run)
        if args.holdback and decision.cause is not Cause.OUTSIDE:
            # Both were seen side by side for the whole time; the deployment gets all of the traffic again.
            return move_up(self._tools, args, decision, watched, context.run)
        if (
            self._tools.policy.guard.on_inconclusive is OnInconclusive.ROLLBACK
            and decision.verdict is Verdict.INCONCLUSIVE
            and decision.cause is not Cause.OUTSIDE  # safety rule 12: no policy rolls back for another's failure
        ):
            return self._answer_regression(args, decision, watched, context, found)
        known_bad = hold_known_bad(self._tools, args, decision.reason) if args.known_bad else None
        if known_bad is not None:
            return known_bad
        accepted_by = _find_accepting(self._tools, decision)
        if accepted_by and args.ramp:
            return move_up(self._tools, args, decision, watched, context.run)
        if accepted_by:
            return ConcludeResult(action=ConcludeAction.ACCEPT, why=decision.reason, policy=accepted_by)
        return ConcludeResult(action=ConcludeAction.HOLD, why=decision.reason)

    def _hold_for_shifts(
        self, args: ConcludeStep, decision: Decision, watched: WatchResult, run: str
    ) -> ConcludeResult:
        """Hold, whatever the policy does with a watch without a verdict: users get other answers than before."""
        kinds = {shift.kind for shift in decision.shifts if shift.outcome is Outcome.HOLD}
        not_seen = watched.unseen or watched.downgraded
        if not_seen and kinds == {ShiftKind.TRAFFIC}:  # a request that was not counted is not one that did not come
            why = f"{'not moved up: ' if args.ramp else ''}{not_seen}"
            return self._held(run, ConcludeResult(action=ConcludeAction.HOLD, why=why, rule=SOURCES_RULE))
        asked = f"; both versions were not asked: {watched.not_asked}" if watched.not_asked else ""
        why = f"{decision.reason}{asked}; whether that is intended, a person has to say"
        self._question(args, decision, run)
        again = f"not the deployment, and over: a healthy watch ends it: `backout guard -e {self._tools.environment}`"
        options = (*list_options(self._tools, decision.shifts), again, *watched.to_ask)
        held = ConcludeResult(action=ConcludeAction.HOLD, why=why, rule=SHIFT_RULE, options=options)
        return self._held(run, held)

    def _question(self, args: ConcludeStep, decision: Decision, run: str) -> None:
        """Question a version that was stable, on every machine; shifts are counted there: routes are visitors' text."""
        tools = self._tools
        try:
            listed = tools.deployments.history()
        except BackoutError:
            listed = ()
        mark_questioned(tools, run, args.version, decision.reason, listed)
        number = sum(shift.outcome is Outcome.HOLD for shift in decision.shifts)
        text = f"{number} shift{'' if number == 1 else 's'} in what is answered, see the journal"
        tell_questions(tools, run, args.deployment, mode=args.mode, text=text)

    def _answer_regression(
        self,
        args: ConcludeStep,
        decision: Decision,
        watched: WatchResult,
        context: StepContext,
        found: Diagnosis | None,
    ) -> ConcludeResult | Next[ConcludeResult]:
        tools, run = self._tools, context.run
        # The plan is recorded with its reason, so that "what would it have done" can be answered later.
        request = Request(
            message=f"guard: {decision.reason}",
            cause=run,
            detected=decision.reason,
            detected_at=decision.at,
            accept_unproven=tools.policy.guard.accept_unproven,
        )
        situation, outcome = self._prepare_plan(request, args.deployment, context)
        if not is_deciding(situation.listed, args.deployment, args.version):
            why = f"deployment {situation.live.id} took its place, so this verdict is void"
            return ConcludeResult(action=ConcludeAction.VOID, why=why)
        mended = plan_mending(tools, found, decision, run)
        if mended is not None:
            result = self._try_mending(args, Case(situation, mended, decision, watched.downgraded, args.mode), run)
            if result is not None:
                return result
        if isinstance(outcome, PlanRefused):
            outcome = add_ways(tools, outcome, situation, measured=False)  # the notice does not wait for the archive
            refused = ConcludeResult(
                action=ConcludeAction.REFUSED, why=outcome.reason, rule=outcome.rule, options=tuple(outcome.options)
            )
            return self._held(run, refused)
        target = outcome.arguments(ActivateStep).version
        case = Case(situation, outcome, decision, watched.downgraded, args.mode)
        rule, forbidden_by = find_forbidden(tools, case)
        if forbidden_by:
            is_data = rule == DATA_RULE
            held = ConcludeResult(
                action=ConcludeAction.REFUSED if is_data else ConcludeAction.HOLD,
                why=forbidden_by,
                would=f"roll back to version {target}",
                target=target,
                rule=rule,
                options=_list_options(outcome) if is_data else (),
            )
            return self._held(run, held)
        if args.mode is Mode.ASK and not self._confirm(outcome):
            return self._held(run, _make_declined_result(f"roll back to version {target}"))
        result = ConcludeResult(action=ConcludeAction.ROLLBACK, why=decision.reason, target=target)
        return Next(result, outcome, decision.reason)

    def _try_mending(self, args: ConcludeStep, case: Case, run: str) -> ConcludeResult | Next[ConcludeResult] | None:
        """Hand over to the plan that sets secrets, where guard may; a rollback is not needed for that.

        None: they were set recently and the version is bad again, so a rollback is judged as usual.
        """
        names = case.plan.arguments(ReadSecretsStep).names
        words = f"set {', '.join(names)} from the configured source"
        rule, why = find_forbidden(self._tools, case)
        if rule == ONCE_RULE:
            self._tools.say(f"secrets are not set: {why}")
            return None
        if why:
            held = ConcludeResult(action=ConcludeAction.HOLD, why=why, would=words, names=names, rule=rule)
            return self._held(run, held)
        if args.mode is Mode.ASK and not self._confirm(case.plan):
            return self._held(run, _make_declined_result(words, names))
        result = ConcludeResult(action=ConcludeAction.PUSH_SECRET, why=case.plan.why, names=names)
        return Next(result, case.plan, case.plan.why)

    def _prepare_plan(self, request: Request, deployment: str, context: StepContext) -> Prepared:
        """Return the situation and the plan; a list without the watched deployment is read again."""
        deadline = self._tools.clock.now() + READ_AGAIN_S
        patience = self._tools.clock.now() + PATIENCE_S
        while True:
            try:
                situation, outcome = self._planner(self._tools, request)
            except ProviderUnavailable as error:
                if self._tools.clock.now() >= patience:
                    raise
                self._tools.say(f"the platform gives no answer to act on, so it is asked again: {error.what}")
                context.check()
                self._tools.clock.sleep(ASK_EVERY_S)
                continue
            if any(d.id == deployment for d in situation.listed) or self._tools.clock.now() >= deadline:
                return situation, outcome
            self._tools.clock.sleep(READ_EVERY_S)

    def _confirm(self, outcome: Plan) -> bool:
        if self._tools.confirm is None:
            raise DecisionNeeded(
                "mode = ask needs a terminal to ask on",
                hint=f"backout rollback -e {self._tools.environment} -m WHY",
            )
        return self._tools.confirm(outcome)

    def _held(self, run: str, held: ConcludeResult) -> ConcludeResult:
        path = write_report(self._tools, run, held=held.why)
        return msgspec.structs.replace(held, report=str(path))


def _make_declined_result(would: str, names: tuple[str, ...] = ()) -> ConcludeResult:
    return ConcludeResult(action=ConcludeAction.HOLD, why="a person said no", would=would, names=names)


def _find_accepting(tools: Toolbox, decision: Decision) -> str:
    """Return the setting that accepts a watch without a verdict, or ""."""
    policy = tools.policy.guard
    if decision.verdict is Verdict.UNMEASURED:
        return "guard.on_unmeasured" if policy.on_unmeasured is OnUnmeasured.ACCEPT else ""
    if decision.cause is Cause.OUTSIDE:
        return "guard.on_shared_outage" if policy.on_shared_outage is OnSharedOutage.ACCEPT else ""
    return "guard.on_inconclusive" if policy.on_inconclusive is OnInconclusive.ACCEPT else ""


def _list_options(plan: Plan) -> tuple[str, ...]:
    """Return the plan as options: the command that makes it again and asks, and what each step does."""
    lines = [f"run it yourself: `backout rollback -e {plan.environment} -m WHY`; it does:"]
    for number, step in enumerate(plan.steps, start=1):
        lines.append(f"{number}. {step.title}" + (f": `{step.equivalent}`" if step.equivalent else ""))
    return tuple(lines)
