"""Settle: the last step of a rollback tells somebody, and goes one version further when the target was bad too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.decoding import decode_values
from backout.model.notice import NoticeKind
from backout.ports import Next, NotDone
from backout.runbook.points import AFTER_DEPLOYMENT, await_point, mark_meanwhile
from backout.runbook.tell import tell_rollback
from backout.runbook.triggers import remember, told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox


class Settle:
    """Step `settle` {version, leaving, hop, triggers}: tell somebody; then the next target if one failed."""

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json | Next:  # noqa: ARG002
        """Return {outcome, why, told}, or the plan of the second hop.

        `why` says what a failed verification led to; `told` whether there is anybody to tell.
        """
        await_point(mark_meanwhile(self._tools, AFTER_DEPLOYMENT, str(args["version"]), context.run))
        if "triggers" in args:
            remember(self._tools, str(args["leaving"]), told(args["triggers"]))
        verified = self._tools.runs.result(context.run, "verify")
        live = self._tools.runs.result(context.run, "read_back")
        if isinstance(verified, dict) and verified.get("verified") is False and isinstance(live, dict):
            return self._not_restored(context.run, verified, live)
        tell_rollback(self._tools, NoticeKind.ROLLED_BACK, context.run)
        return {"outcome": NoticeKind.ROLLED_BACK, "why": "", "told": self._is_told}

    @property
    def _is_told(self) -> bool:
        return self._tools.notifier is not None

    def _not_restored(self, run: str, verified: Mapping[str, Json], live: Mapping[str, Json]) -> Json | Next:
        """Go one version further when an automatic rollback met a bad target; else say why not."""
        from backout.model.verdict import Verification  # noqa: PLC0415 same
        from backout.runbook.hop import Held, next_hop, quarantine_target  # noqa: PLC0415 same
        from backout.runbook.incident import write_report  # noqa: PLC0415 same

        found = self._tools.runs.find(run)
        assert found is not None  # noqa: S101 the run that is being driven
        verification = decode_values(verified, Verification)
        version = str(live["version"])
        outcome = next_hop(self._tools, found, live, verification)
        if isinstance(outcome, Held):
            if outcome.is_bad:
                quarantine_target(self._tools, run, version, verification.summary)
            if outcome.why:
                write_report(self._tools, run, held=outcome.why)
                self._tools.say(f"nothing more is done: {outcome.why}")
            rest = f"Nothing more is done: {outcome.why}." if outcome.why else ""
            tell_rollback(self._tools, NoticeKind.NOT_RESTORED, run, more=rest)
            return {"outcome": NoticeKind.NOT_RESTORED, "why": outcome.why, "told": self._is_told}
        target = str(outcome.step("activate").args["version"])
        why = f"version {version[:8]} is bad too; going on to version {target[:8]}, the last hop"
        self._tools.say(why)
        tell_rollback(self._tools, NoticeKind.NOT_RESTORED, run, more=f"{why[:1].upper()}{why[1:]}.")
        result: Json = {"outcome": NoticeKind.NOT_RESTORED, "why": why, "told": self._is_told, "next": target}
        return Next(result, outcome, outcome.why)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """A notice is told once by its key, and a handed-over plan is in the journal: again is right."""
        return NotDone()
