"""Mend a missing or wrong secret without a rollback, and roll back when that did not help ("Scenario 5")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.mending import wanted_names
from backout.analysis.remarks import still_decides
from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.model.plan import Plan
from backout.model.policy import Mode
from backout.model.secrets import Since
from backout.model.verdict import Decision, Verification
from backout.plan.rollback import Request
from backout.ports import Next, NotDone
from backout.runbook.incident import watch_of
from backout.runbook.permission import Case, forbidden
from backout.runbook.rollback import prepare
from backout.runbook.secrets import live_version, look, on_hand, prepare_mending

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.diagnosis import Diagnosis
    from backout.model.plan import Json
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox


def mending(tools: Toolbox, found: Diagnosis | None, decision: Decision, run: str) -> Plan | None:
    """Return the plan that sets the secrets which a diagnosis calls missing or wrong, or None.

    None as well when the configured source does not hold all of them, or anything else is in the way: then a rollback
    is judged as always. Nothing is changed here.
    """
    if found is None or tools.pushing is None:
        return None
    try:
        _, live = live_version(tools)
        pushing = tools.pushing()
        expected = pushing.expected()
        needed = {*expected.example, *expected.required} - pushing.own
        names = wanted_names(found, expected=needed, present=set(live.secret_names) - pushing.own)
        if not names:
            return None
        hand = on_hand(tools, names)
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


class FallBack:
    """Step `fall_back` {}: where setting secrets did not help, hand over to a rollback."""

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json | Next:  # noqa: ARG002
        """Return {outcome, why}, or the rollback's plan."""
        verified = self._tools.runs.result(context.run, "verify_health")
        verification = decode_values(verified, Verification) if isinstance(verified, dict) else None
        if verification is None or verification.verified is None:
            why = "nothing proved it" if verification is None else verification.summary
            return {"outcome": "not proven", "why": why}
        if verification.verified:
            return {"outcome": "mended", "why": ""}
        watch = watch_of(self._tools.runs, context.run)
        watched = self._tools.runs.result(watch.id, "watch") if watch is not None else None
        if watch is None or not isinstance(watched, dict):
            return {"outcome": "not mended", "why": "what comes next is a person's decision"}
        decision = decode_values(watched["decision"], Decision)
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
        made = self._tools.runs.result(context.run, "push_secrets")
        here = (str(made["deployment"]), str(made["version"])) if isinstance(made, dict) else ("", "")
        if not still_decides(situation.listed, *here):
            # A hotfix is never rolled back by an old verdict (safety rule 8).
            why = f"deployment {situation.live.id} took its place, so the verdict is void"
            return {"outcome": "not mended", "why": why}
        if not isinstance(outcome, Plan):
            return {"outcome": "not mended", "why": outcome.reason}
        mode = Mode(str(watch.plan.step("conclude").args["mode"]))
        _, why = forbidden(self._tools, Case(situation, outcome, decision, watched, mode))
        if why:
            return {"outcome": "not mended", "why": why}
        target = str(outcome.step("activate").args["version"])
        return Next({"outcome": "not mended", "why": reason, "target": target}, outcome, reason)

    def _set_all_that_changed(self, run: str) -> bool:
        """Whether what was set since the target was live was set by this very run: then its own values are right."""
        done = self._tools.runs.result(run, "push_secrets")
        secrets = done.get("secrets") if isinstance(done, dict) else None
        ours = set(secrets) if isinstance(secrets, dict) else set()
        return all(
            state.since_target in (None, Since.SAME) or state.name in ours or not (state.live or state.target)
            for state in look(self._tools).states
        )

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Nothing outside changes, and a handed-over plan is in the journal: again is right."""
        return NotDone()
