"""Settle: the last step of a rollback tells somebody, and goes one version further when the target was bad too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.notice import NoticeKind
from backout.ports import NotDone
from backout.runbook.tell import tell
from backout.runbook.triggers import remember, told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json
    from backout.ports import Next, Probe, StepContext
    from backout.runbook.toolbox import Toolbox


class Settle:
    """Step `settle` {version, leaving, hop, triggers}: tell somebody; then the next target if one failed."""

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json | Next:  # noqa: ARG002
        """Return {outcome}, or the plan of the second hop."""
        if "triggers" in args:
            remember(self._tools, str(args["leaving"]), told(args["triggers"]))
        verified = self._tools.runs.result(context.run, "verify")
        proof = verified.get("verified") if isinstance(verified, dict) else None
        kind = NoticeKind.NOT_RESTORED if proof is False else NoticeKind.ROLLED_BACK
        live = self._tools.runs.result(context.run, "read_back")
        version = str(live["version"]) if isinstance(live, dict) else ""
        tell(
            self._tools,
            kind,
            f"{self._tools.environment}: version {version[:8]} is live again",
            f"Version {args['leaving']} was left for {version}.",
            key=context.run,
            run=context.run,
        )
        return {"outcome": kind}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """A notice is told once by its key, and a handed-over plan is in the journal: again is right."""
        return NotDone()
