"""What a recovery did, read from the journal; its report, and the notice of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from backout.model.incident.notice import NoticeKind
from backout.model.steps.objects import RestoreObjectsStep
from backout.model.steps.recovery import (
    FenceStep,
    GoLiveStep,
    MaintenanceStep,
    OpenStep,
    PauseStep,
    ProveTargetStep,
    RecoverReportResult,
    RecoverReportStep,
    RestoredStep,
    UndoPointStep,
)
from backout.model.steps.restore import ExchangeStep
from backout.model.steps.verification import VerifyStep
from backout.ports import Action, find_result
from backout.report.decisions import list_decisions
from backout.report.recovery import Recovered, format_lines, make_file_name, render
from backout.runbook.incident.tell import tell
from backout.runbook.recover.tools import note_opened

if TYPE_CHECKING:
    from backout.model.incident.incident import Run
    from backout.model.steps.base import Arguments
    from backout.ports import StepContext
    from backout.runbook.recover.tools import RecoverTools
    from backout.runbook.toolbox import Toolbox

R = TypeVar("R")


def read_outcome(tools: Toolbox, run: Run) -> Recovered:
    """Return what a recovery did, as far as it came."""

    def find(kind: type[Arguments[R]]) -> R | None:
        return find_result(tools.runs, run.id, kind)

    order = run.plan.arguments(RecoverReportStep)
    closed, fenced, opened = find(MaintenanceStep), find(FenceStep), find(OpenStep)
    live, point, objects = find(GoLiveStep), find(UndoPointStep), find(RestoreObjectsStep)
    restored, proved, watched, paused = find(RestoredStep), find(ProveTargetStep), find(VerifyStep), find(PauseStep)
    report, exchanged = find(RecoverReportStep), find(ExchangeStep)
    return Recovered(
        environment=run.environment,
        run=run.id,
        actor=run.actor,
        why=run.plan.why,
        plan_hash=run.plan.hash,
        target=order.target,
        at=order.at,
        parts=order.parts,
        losses={line.what: line.why for line in run.plan.coverage},
        began=run.started_at,
        closed=None if closed is None else closed.at,
        fenced=None if fenced is None else fenced.at,
        opened=None if opened is None else opened.at,
        live=None if live is None else live.since,
        version="" if live is None else live.version,
        undo_point="" if point is None else f"restore point {point.name} at {point.lsn}",
        kept="" if exchanged is None else exchanged.kept,
        rows=None if point is None else point.lost,
        lost=() if point is None or point.rows is None else point.rows,
        objects=None if objects is None else objects.undeleted + objects.changed + objects.removed,
        queued={} if paused is None else paused.backlog,
        decided=tuple(list_decisions(run)),
        checked=() if restored is None else restored.checked,
        accepted=() if restored is None else restored.accepted,
        wrote="" if opened is None else opened.wrote,
        proved="" if proved is None else proved.why,
        verified=None if watched is None else watched.verified,
        summary="" if watched is None else watched.summary,
        not_covered=run.plan.not_covered,
        undo=f"backout recover --undo -e {run.environment}",
        report_path="" if report is None else report.path,
    )


class WriteRecovery(Action[RecoverReportStep, RecoverReportResult]):
    """Step `recover_report` {target, at, parts, undoes}: the page, and the notice; the outage is over."""

    arguments = RecoverReportStep
    effect = False

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: RecoverReportStep, context: StepContext) -> RecoverReportResult:
        """Return {path}."""
        tools, run = self._tools.tools, self._tools.tools.runs.find(context.run)
        assert run is not None
        at = tools.clock.now()
        note_opened(tools, run.id, at)
        found = read_outcome(tools, run)
        path = tools.incident.reports.write(run.id, make_file_name(found), render(found))
        kind = NoticeKind.NOT_RESTORED if found.verified is False else NoticeKind.ROLLED_BACK
        title = f"{tools.environment}: {run.plan.why}"
        ways = (f"backout status -e {tools.environment}", found.undo)
        facts: dict[str, Any] = {"run": run.id, "version": found.version}
        tell(tools, kind, title, "\n".join(format_lines(found)), key=run.id, run=run.id, next=ways, facts=facts)
        return RecoverReportResult(path=str(path))
