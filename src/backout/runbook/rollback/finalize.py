"""Settle: the last step of a rollback sends the notices, and goes one version further when the target was bad too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.incident.notice import NoticeKind
from backout.model.steps.rollback import ActivateStep, ReadBackResult, ReadBackStep, SettleResult, SettleStep
from backout.model.triggers import Triggers
from backout.ports import Action, Next, find_result
from backout.runbook.incident.tell import tell_rollback
from backout.runbook.recovery.restore_points import AFTER_DEPLOYMENT, await_point, mark_meanwhile
from backout.runbook.rollback.triggers import remember

if TYPE_CHECKING:
    from backout.model.guard.verdict import Verification
    from backout.ports import StepContext
    from backout.runbook.toolbox import Toolbox


class Settle(Action[SettleStep, SettleResult]):
    """Step `settle` {version, leaving, hop, triggers}: send the notices; then the next target if one failed."""

    arguments = SettleStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: SettleStep, context: StepContext) -> SettleResult | Next[SettleResult]:
        """Return {outcome, why, told}, or the plan of the second hop.

        `why` says what a failed verification led to; `told` whether a channel is set up.
        """
        live = find_result(self._tools.runs, context.run, ReadBackStep)
        version = live.version if live is not None else ""
        await_point(mark_meanwhile(self._tools, AFTER_DEPLOYMENT, args.version, context.run, live=version))
        if args.triggers is not None:
            remember(self._tools, args.leaving, Triggers(**args.triggers))
        if live is not None and (bad := _find_failed_verification(self._tools, context.run)) is not None:
            return self._not_restored(context.run, bad, live)
        tell_rollback(self._tools, NoticeKind.ROLLED_BACK, context.run)
        return SettleResult(outcome=NoticeKind.ROLLED_BACK, told=self._is_told)

    @property
    def _is_told(self) -> bool:
        return self._tools.notifier is not None

    def _not_restored(
        self, run: str, verification: Verification, live: ReadBackResult
    ) -> SettleResult | Next[SettleResult]:
        """Go one version further when an automatic rollback met a bad target, or say why not."""
        from backout.runbook.incident.report import write_report
        from backout.runbook.rollback.next_target import Held, plan_next_hop, quarantine_target

        found = self._tools.runs.find(run)
        assert found is not None
        version = live.version
        outcome = plan_next_hop(self._tools, found, live, verification)
        if isinstance(outcome, Held):
            if outcome.is_bad:
                quarantine_target(self._tools, run, version, verification.summary)
            if outcome.why:
                write_report(self._tools, run, held=outcome.why)
                self._tools.say(f"nothing more is done: {outcome.why}")
            rest = f"Nothing more is done: {outcome.why}." if outcome.why else ""
            tell_rollback(self._tools, NoticeKind.NOT_RESTORED, run, more=rest)
            return SettleResult(outcome=NoticeKind.NOT_RESTORED, why=outcome.why, told=self._is_told)
        target = outcome.arguments(ActivateStep).version
        why = f"version {version[:8]} is bad too; going on to version {target[:8]}, the last hop"
        self._tools.say(why)
        tell_rollback(self._tools, NoticeKind.NOT_RESTORED, run, more=f"{why[:1].upper()}{why[1:]}.")
        result = SettleResult(outcome=NoticeKind.NOT_RESTORED, why=why, told=self._is_told, next=target)
        return Next(result, outcome, outcome.why)


def _find_failed_verification(tools: Toolbox, run: str) -> Verification | None:
    """Return the verification that failed, None where none did, or none was waited for."""
    from backout.model.steps.verification import VerifyStep

    found = find_result(tools.runs, run, VerifyStep)
    return found if found is not None and found.verified is False else None
