"""Fix a missing or wrong secret without a rollback, and roll back if that does not help ("Scenario 5")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.diagnosis.missing_secrets import list_wanted_names
from backout.analysis.history.remarks import is_deciding
from backout.errors import BackoutError
from backout.model.plan import Plan
from backout.model.secrets import Since
from backout.model.steps.guard import ConcludeStep, WatchStep
from backout.model.steps.rollback import ActivateStep
from backout.model.steps.secrets import FallBackResult, FallBackStep, PushSecretsStep
from backout.model.steps.verification import VerifyHealthStep
from backout.plan.rollback import Request
from backout.ports import Action, Next, find_result
from backout.runbook.incident.report import find_watch
from backout.runbook.rollback.rollback import prepare
from backout.runbook.safety.permission import Case, find_forbidden
from backout.runbook.secrets.secrets import list_on_hand, look_at_secrets, prepare_mending, read_live_version

if TYPE_CHECKING:
    from backout.model.guard.verdict import Decision
    from backout.model.incident.diagnosis import Diagnosis
    from backout.ports import StepContext
    from backout.runbook.toolbox import Toolbox


def plan_mending(tools: Toolbox, found: Diagnosis | None, decision: Decision, run: str) -> Plan | None:
    """Return the plan that sets the secrets that a diagnosis calls missing or wrong, or None.

    Also None if the configured source does not hold all of them, or there is another obstacle: then a rollback is
    judged as usual. Nothing is changed here.
    """
    if found is None or tools.pushing is None:
        return None
    try:
        _, live = read_live_version(tools)
        pushing = tools.pushing()
        expected = pushing.expected()
        needed = {*expected.example, *expected.required} - pushing.own
        names = list_wanted_names(found, expected=needed, present=set(live.secret_names) - pushing.own)
        if not names:
            return None
        hand = list_on_hand(tools, names)
        if hand.lacking:
            problem = f" ({hand.problem})" if hand.problem else ""
            tools.say(f"{', '.join(hand.lacking)}: the configured source of secrets does not hold it{problem}")
            return None
        detected = f"{found.title}: {', '.join(names)}"
        plan = prepare_mending(tools, names, detected=detected, detected_at=decision.at, cause=run)
    except BackoutError as error:
        tools.say(f"secrets are not set: {error.what}")
        return None
    return plan if isinstance(plan, Plan) else None


NOT_MENDED = "not mended"


class FallBack(Action[FallBackStep, FallBackResult]):
    """Step `fall_back` {}: if setting secrets did not help, hand over to a rollback."""

    arguments = FallBackStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: FallBackStep, context: StepContext) -> FallBackResult | Next[FallBackResult]:
        """Return {outcome, why}, or the rollback's plan."""
        verification = find_result(self._tools.runs, context.run, VerifyHealthStep)
        if verification is None or verification.verified is None:
            why = "nothing proved it" if verification is None else verification.summary
            return FallBackResult(outcome="not proven", why=why)
        if verification.verified:
            return FallBackResult(outcome="mended")
        watch = find_watch(self._tools.runs, context.run)
        watched = find_result(self._tools.runs, watch.id, WatchStep) if watch is not None else None
        if watch is None or watched is None:
            return FallBackResult(outcome=NOT_MENDED, why="what comes next is a person's decision")
        decision = watched.decision
        reason = f"setting secrets did not help: {verification.summary}"
        request = Request(
            message=f"guard: {reason}",
            cause=context.run,
            detected=decision.reason,
            detected_at=decision.at,
            accept_unproven=self._tools.policy.guard.accept_unproven,
            force_secrets=self._set_all_that_changed(context.run),
        )
        situation, outcome = prepare(self._tools, request)
        made = find_result(self._tools.runs, context.run, PushSecretsStep)
        here = (made.deployment, made.version) if made is not None else ("", "")
        if not is_deciding(situation.listed, *here):
            # A hotfix is never rolled back by an old verdict (safety rule 8).
            why = f"deployment {situation.live.id} took its place, so the verdict is void"
            return FallBackResult(outcome=NOT_MENDED, why=why)
        if not isinstance(outcome, Plan):
            return FallBackResult(outcome=NOT_MENDED, why=outcome.reason)
        mode = watch.plan.arguments(ConcludeStep).mode
        _, why = find_forbidden(self._tools, Case(situation, outcome, decision, watched.downgraded, mode))
        if why:
            return FallBackResult(outcome=NOT_MENDED, why=why)
        target = outcome.arguments(ActivateStep).version
        return Next(FallBackResult(outcome=NOT_MENDED, why=reason, target=target), outcome, reason)

    def _set_all_that_changed(self, run: str) -> bool:
        """Whether this same run set what was set since the target was live: then its own values are right."""
        done = find_result(self._tools.runs, run, PushSecretsStep)
        ours = set(done.secrets) if done is not None else set()
        return all(
            state.since_target in (None, Since.SAME) or state.name in ours or not (state.live or state.target)
            for state in look_at_secrets(self._tools).states
        )
