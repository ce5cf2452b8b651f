"""What follows from a watch's verdict: mark it stable, hand over to a rollback, or leave everything and say why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.remarks import still_decides
from backout.decoding import decode_values
from backout.errors import AuthError, BackoutError, DecisionNeeded, ProviderUnavailable
from backout.model.plan import PlanRefused
from backout.model.policy import Mode, OnInconclusive, OnSharedOutage, OnUnmeasured
from backout.model.shift import Outcome, ShiftKind
from backout.model.verdict import Cause, Decision, Verdict
from backout.plan.rollback import Request
from backout.ports import Next, NotDone
from backout.runbook.accept import options_of
from backout.runbook.checks import READ_AGAIN_S, READ_EVERY_S
from backout.runbook.diagnose import recorded
from backout.runbook.held import SHIFT_RULE, is_held, with_words
from backout.runbook.incident import write_report
from backout.runbook.mending import mending
from backout.runbook.permission import DATA_RULE, ONCE_RULE, SOURCES_RULE, Case, forbidden
from backout.runbook.question import question, tell_questions
from backout.runbook.ramp import move_up
from backout.runbook.rollback import prepare
from backout.runbook.shift_told import noticed_in, tell_end
from backout.runbook.stable import held_as_known_bad, mark_stable
from backout.runbook.token import nobody_acts
from backout.runbook.ways import with_ways

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.model.diagnosis import Diagnosis
    from backout.model.plan import Json, Plan
    from backout.model.situation import Situation
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox

    Prepared = tuple[Situation, Plan | PlanRefused]

PATIENCE_S, ASK_EVERY_S = 120.0, 2.0
"""How long a platform without a usable answer is asked again when a version has to go."""


class Conclude:
    """Step `conclude` {deployment, version, code_hash, mode}: what follows from the verdict, by policy.

    Healthy: mark the version stable. Regressed and allowed to act: hand over to the rollback's plan. Everything that
    forbids acting becomes the result, with a report, never silence.
    """

    effect = False

    def __init__(self, tools: Toolbox, planner: Callable[[Toolbox, Request], Prepared] = prepare) -> None:
        self._tools = tools
        self._planner = planner

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json | Next:  # noqa: ARG002
        """Return {action, why, ...}, or the rollback's plan to go on with."""
        watched = self._tools.runs.result(context.run, "watch")
        assert isinstance(watched, dict)  # noqa: S101 recorded by the step `watch`
        # What was accepted since the watch ended, also while nobody drove this run, is taken in as if before its end.
        decision = with_words(self._tools, decode_values(watched["decision"], Decision), str(args["version"]))
        found = None
        if decision.verdict is not Verdict.HEALTHY and not watched["moved"]:
            found = recorded(self._tools, context, str(args["version"]))
        try:
            if watched.get("token_lost"):
                self._tools.deployments.history()  # it may have come back; else no verdict can be acted on
            result = self._conclude(args, decision, watched, context, found)
        except AuthError as error:
            if decision.verdict is Verdict.REGRESSED:
                write_report(self._tools, context.run, held=f"{error.what}; rolled back by nobody")
            raise nobody_acts(self._tools, context.run, decision, error) from error
        tell_end(self._tools, args, context.run, (decision, result), noticed_in(watched))
        return result

    def _conclude(
        self,
        args: Mapping[str, Json],
        decision: Decision,
        watched: Mapping[str, Json],
        context: StepContext,
        found: Diagnosis | None,
    ) -> Json | Next:
        if watched["moved"]:
            why = f"deployment {watched['moved']} took its place, so this verdict is void"
            return {"action": "void", "why": why}
        if decision.verdict is Verdict.HEALTHY:
            follow = move_up if args.get("ramp") else mark_stable
            return follow(self._tools, args, decision, watched, context.run)
        if decision.verdict is Verdict.REGRESSED:
            return self._regressed(args, decision, watched, context, found)
        if is_held(decision):
            return self._shifted(args, decision, watched, context.run)
        if args.get("holdback") and decision.cause is not Cause.OUTSIDE:
            # Both were seen side by side for as long as was asked; what was deployed is made whole again.
            return move_up(self._tools, args, decision, watched, context.run)
        if (
            self._tools.policy.guard.on_inconclusive is OnInconclusive.ROLLBACK
            and decision.verdict is Verdict.INCONCLUSIVE
            and decision.cause is not Cause.OUTSIDE  # safety rule 12: no policy rolls back for another's failure
        ):
            return self._regressed(args, decision, watched, context, found)
        known_bad = held_as_known_bad(self._tools, args, decision.reason) if args.get("known_bad") else None
        if known_bad is not None:
            return known_bad
        accepted_by = _accepting(self._tools, decision)
        if accepted_by and args.get("ramp"):
            return move_up(self._tools, args, decision, watched, context.run)
        if accepted_by:
            return {"action": "accept", "why": decision.reason, "policy": accepted_by}
        return {"action": "hold", "why": decision.reason}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Marks and reports are written once per run, and a handed-over plan is in the journal: again is right."""
        return NotDone()

    def _shifted(self, args: Mapping[str, Json], decision: Decision, watched: Mapping[str, Json], run: str) -> Json:
        """Hold, whatever the policy makes of a watch without a verdict: people get something else than before."""
        kinds = {shift.kind for shift in decision.shifts if shift.outcome is Outcome.HOLD}
        not_seen = watched.get("unseen") or watched.get("downgraded")
        if not_seen and kinds == {ShiftKind.TRAFFIC}:  # what was not counted is no request that did not come
            why = f"{'not moved up: ' if args.get('ramp') else ''}{not_seen}"
            return self._held(run, "hold", why, {"rule": SOURCES_RULE})
        asked = f"; both versions were not asked: {watched['not_asked']}" if watched.get("not_asked") else ""
        why = f"{decision.reason}{asked}; whether that is intended, a person has to say"
        self._question(args, decision, run)
        to_ask = watched.get("to_ask")  # the version before recorded none
        again = f"not the deployment, and over: a healthy watch ends it: `backout guard -e {self._tools.environment}`"
        options = [*options_of(self._tools, decision.shifts), again, *(to_ask if isinstance(to_ask, list) else ())]
        more: dict[str, Json] = {"rule": SHIFT_RULE, "options": options}
        return self._held(run, "hold", why, more)

    def _question(self, args: Mapping[str, Json], decision: Decision, run: str) -> None:
        """Question a version that was stable, on every machine; shifts are counted there: routes are visitors' text."""
        tools = self._tools
        try:
            listed = tools.deployments.history()
        except BackoutError:
            listed = ()
        question(tools, run, str(args["version"]), decision.reason, listed)
        number = sum(shift.outcome is Outcome.HOLD for shift in decision.shifts)
        text = f"{number} shift{'' if number == 1 else 's'} in what is answered, see the journal"
        tell_questions(tools, run, str(args["deployment"]), mode=str(args["mode"]), text=text)

    def _regressed(
        self,
        args: Mapping[str, Json],
        decision: Decision,
        watched: Mapping[str, Json],
        context: StepContext,
        found: Diagnosis | None,
    ) -> Json | Next:
        tools, run = self._tools, context.run
        # The plan is remembered with its reason, so that "what would it have done" can be answered later.
        request = Request(
            message=f"guard: {decision.reason}",
            cause=run,
            detected=decision.reason,
            detected_at=decision.at,
            accept_unproven=tools.policy.guard.accept_unproven,
        )
        situation, outcome = self._planned(request, str(args["deployment"]), context)
        if not still_decides(situation.listed, str(args["deployment"]), str(args["version"])):
            return {"action": "void", "why": f"deployment {situation.live.id} took its place, so this verdict is void"}
        mended = mending(tools, found, decision, run)
        if mended is not None:
            result = self._mended(args, Case(situation, mended, decision, watched, Mode(str(args["mode"]))), run)
            if result is not None:
                return result
        if isinstance(outcome, PlanRefused):
            outcome = with_ways(tools, outcome, situation, measured=False)  # nobody waits for the archive to be told
            return self._held(run, "refused", outcome.reason, {"rule": outcome.rule, "options": list(outcome.options)})
        target = str(outcome.step("activate").args["version"])
        case = Case(situation, outcome, decision, watched, Mode(str(args["mode"])))
        rule, forbidden_by = forbidden(tools, case)
        if forbidden_by:
            would: dict[str, Json] = {"would": f"roll back to version {target}", "target": target, "rule": rule}
            if rule == DATA_RULE:
                return self._held(run, "refused", forbidden_by, {**would, "options": _by_a_person(outcome)})
            return self._held(run, "hold", forbidden_by, would)
        if args["mode"] == Mode.ASK and not self._asked(outcome):
            return self._held(run, "hold", "a person said no", {"would": f"roll back to version {target}"})
        return Next({"action": "rollback", "why": decision.reason, "target": target}, outcome, decision.reason)

    def _mended(self, args: Mapping[str, Json], case: Case, run: str) -> Json | Next | None:
        """Hand over to the plan that sets secrets, where guard may; a rollback is not needed for that.

        None: they were set lately and it is bad again, so a rollback is judged as always.
        """
        names: list[Json] = list(case.plan.step("read_secrets").args["names"])  # type: ignore[arg-type]
        words = f"set {', '.join(map(str, names))} from the configured source"
        rule, why = forbidden(self._tools, case)
        if rule == ONCE_RULE:
            self._tools.say(f"secrets are not set: {why}")
            return None
        if why:
            return self._held(run, "hold", why, {"would": words, "names": names, "rule": rule})
        if args["mode"] == Mode.ASK and not self._asked(case.plan):
            return self._held(run, "hold", "a person said no", {"would": words, "names": names})
        return Next({"action": "push_secret", "why": case.plan.why, "names": names}, case.plan, case.plan.why)

    def _planned(self, request: Request, deployment: str, context: StepContext) -> Prepared:
        """Return the situation and the plan; a list that does not have the watched deployment yet is read again."""
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

    def _asked(self, outcome: Plan) -> bool:
        if self._tools.confirm is None:
            raise DecisionNeeded(
                "mode = ask needs a terminal to ask on",
                hint=f"backout rollback -e {self._tools.environment} -m WHY",
            )
        return self._tools.confirm(outcome)

    def _held(self, run: str, action: str, why: str, more: dict[str, Json]) -> Json:
        path = write_report(self._tools, run, held=why)
        return {"action": action, "why": why, "report": str(path), **more}


def _accepting(tools: Toolbox, decision: Decision) -> str:
    """Return the setting that accepts a watch without a verdict, or ""."""
    policy = tools.policy.guard
    if decision.verdict is Verdict.UNMEASURED:
        return "guard.on_unmeasured" if policy.on_unmeasured is OnUnmeasured.ACCEPT else ""
    if decision.cause is Cause.OUTSIDE:
        return "guard.on_shared_outage" if policy.on_shared_outage is OnSharedOutage.ACCEPT else ""
    return "guard.on_inconclusive" if policy.on_inconclusive is OnInconclusive.ACCEPT else ""


def _by_a_person(plan: Plan) -> list[Json]:
    """Return the plan as options: the command that makes it again and asks, and what each step does."""
    lines: list[Json] = [f"run it yourself: `backout rollback -e {plan.environment} -m WHY`; it does:"]
    for number, step in enumerate(plan.steps, start=1):
        lines.append(f"{number}. {step.title}" + (f": `{step.equivalent}`" if step.equivalent else ""))
    return lines
