"""The undo of a recovery: back to the moment of its fence, from whatever phase it came to."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.history.remarks import find_underneath
from backout.errors import BackoutError, Refused, UsageError
from backout.model.incident.incident import RunState
from backout.model.steps.objects import RestoreObjectsStep
from backout.model.steps.recovery import (
    FenceStep,
    MaintenanceStep,
    OpenStep,
    Part,
    PauseStep,
    RecoverReportStep,
    ResumeStep,
)
from backout.model.steps.restore import ExchangeStep
from backout.model.triggers import Coverage, Fate
from backout.plan.exchange_back import make_exchange_back, make_start_plan
from backout.plan.recovery import LEFT_OUT, PARTS, STAYS, CodeChange, Recovery, Stops, is_recovery, make_recovery_plan
from backout.ports import find_result, list_progress
from backout.report.times import format_time
from backout.runbook.objects.undo import plan_undo_of
from backout.runbook.recover.lift import is_lifting, open_again
from backout.runbook.recover.opening import IS_OPEN
from backout.runbook.recover.prepare import DEADLINE_S, find_stops, make_by_hand, make_mark
from backout.runbook.recover.tools import LIFTED, LIFTING, look_how_far
from backout.runbook.recovery.restore import plan_undo as plan_database_undo
from backout.runbook.recovery.tools import RESCUED, SWAPPED

if TYPE_CHECKING:
    from backout.model.database.fence import FenceSurvey
    from backout.model.incident.incident import Run
    from backout.model.plan import Plan
    from backout.runbook.recover.tools import RecoverTools

_BACK: Final = {
    "code": "the version of before run {run} is live again",
    "database": "as it was at the fence of run {run}; what was written since is kept beside it",
    "objects": "as before run {run}; what was written since stays as an older version",
    "secrets": "those of the version of before run {run}",
}


def find_undoable(tools: RecoverTools, run: str | None = None) -> Run:
    """Return the recovery to take back: that run, or the newest one that was not taken back.

    Raises:
        UsageError: there is none.
    """
    found = [each for each in tools.tools.runs.runs(tools.tools.environment) if is_recovery(each.plan)]
    undone = {_find_undone(each) for each in found if _is_made(tools, each) or not each.state.is_over}
    wanted = (each for each in found if (run is None or each.id.startswith(run)) and not _find_undone(each))
    chosen = next((each for each in wanted if each.id not in undone and _is_left(tools, each)), None)
    if chosen is None:
        raise UsageError("there is no recovery to take back", where=run or tools.tools.environment)
    return chosen


def _find_undone(run: Run) -> str:
    return run.plan.arguments(RecoverReportStep).undoes


def _is_made(tools: RecoverTools, run: Run) -> bool:
    """Whether a recovery came to its report; only job workers may be left then."""
    return run.state is RunState.DONE or find_result(tools.tools.runs, run.id, RecoverReportStep) is not None


def _is_left(tools: RecoverTools, run: Run) -> bool:
    """Whether a recovery changed anything that is still so, or would go on when it is resumed."""
    began = look_how_far(tools.tools.journal, run.id)[0] or not run.state.is_over
    lifted = tools.tools.journal.events(environment=run.environment, kind=LIFTED)
    return began and not any(note.data.get("run") == run.id for note in lifted)


def give_back(tools: RecoverTools, run: Run) -> bool:
    """End a run that has not overwritten anything, and let everything that it stopped go on; whether it was such one.

    Doing it again goes on with it.
    """
    box = tools.tools
    if look_how_far(box.journal, run.id)[1]:
        return False
    note = {"run": run.id, "why": f"{box.actor} took it back"}
    box.journal.note(box.environment, LIFTING, run.id, dict(note), actor=box.actor)
    if not run.state.is_over:
        box.runs.ask(run.id, "abort", actor=box.actor, reason="taken back")
    open_again(tools, run.id)
    box.journal.note(box.environment, LIFTED, run.id, {"run": run.id}, actor=box.actor)
    return True


def prepare_undo(tools: RecoverTools, run: Run) -> Plan:
    """Return the plan that takes a recovery back; it stays closed meanwhile. Changes nothing.

    Raises:
        UsageError: what it kept is gone.
        Refused: it cannot be taken back here.
    """
    box = tools.tools
    if is_lifting(tools, run.id):
        options = (f"Go on with that: `backout runs resume {run.id}`.",)
        raise Refused("it is being given up", where=run.id, options=options)
    planned, order = run.plan.arguments(MaintenanceStep), run.plan.arguments(RecoverReportStep)
    told = list_progress(box.journal, run, OpenStep) if run.plan.has(OpenStep) else []
    is_open = any(IS_OPEN in each for each in told) or find_result(box.runs, run.id, OpenStep) is not None
    may_be_written = is_open or bool(told)  # somebody may have been let in since the restore
    database = _plan_database(tools, run, make_mark(tools, f"undo {run.id}"), is_open=may_be_written)
    objects = _plan_objects(tools, run)
    live = find_underneath(box.deployments.history())
    is_page = box.versions.detail(live.main).is_maintenance
    undone = {"database": database is not None, "objects": objects is not None}
    back = Part(action="undo", ends=f"as before run {run.id}")
    parts = {name: back if undone.get(name, True) else Part(action=STAYS) for name in PARTS}
    parts |= {name: part for name, part in order.parts.items() if part.action == LEFT_OUT}
    return make_recovery_plan(
        Recovery(
            environment=run.environment,
            target=f"before run {run.id}",
            at=run.started_at,
            why=f"undo of run {run.id}: as it was at {format_time(run.started_at)}",
            deadline_s=DEADLINE_S,
            parts=parts,
            code=CodeChange(live.id, live.main, planned.leaving, force=True),
            stops=_find_stops(tools, run, shows=not is_page),
            database=database,
            objects=objects,
            fenced=database is not None or (run.plan.has(FenceStep) and not is_open),
            is_down=_is_down(tools, run),
            losses=tuple(
                Coverage(name, Fate.CHANGES, _BACK[name].format(run=run.id))
                for name, part in parts.items()
                if part.action == back.action
            ),
            notes=database.notes if database is not None else (),
            undoes=run.id,
        ),
        make_by_hand(tools, _survey(tools)),
    )


def _survey(tools: RecoverTools) -> FenceSurvey | None:
    """Return what the fence would keep out, None where that cannot be read, such as of a server that is down."""
    with suppress(BackoutError):
        if tools.fence is not None:
            survey, mark = tools.fence.survey(), tools.fence.read()
            # While the fence of the run stands, only its mark knows what its roles were before.
            return survey if mark is None else replace(survey, by_hand=mark.by_hand)
    return None


def end_run(tools: RecoverTools, run: Run) -> None:
    """End a run that is to be taken back, so that its undo can have the environment."""
    if not run.state.is_over:
        tools.tools.runs.ask(run.id, "abort", actor=tools.tools.actor, reason="taken back")


def _is_down(tools: RecoverTools, run: Run) -> bool:
    server = tools.restoring.server if tools.restoring is not None else None
    return server is not None and run.plan.has(ExchangeStep) and not server.running()


def _plan_database(tools: RecoverTools, run: Run, mark: str, *, is_open: bool) -> Plan | None:
    """Return the plan that takes the database back, None where it was not changed.

    Args:
        is_open: the application may have worked with it since, so that more goes back with it.
    """
    restoring = tools.restoring
    if restoring is None:
        return None
    noted = {
        kind: [str(note.data.get("key")) for note in restoring.journal.events(environment=run.environment, kind=kind)]
        for kind in (SWAPPED, RESCUED)
    }
    if run.id in noted[RESCUED] or (run.id in noted[SWAPPED] and is_open):
        return plan_database_undo(restoring, run.id, mark)
    if not run.plan.has(ExchangeStep):
        return None
    exchange = run.plan.arguments(ExchangeStep)
    if Path(exchange.kept).is_dir():
        return make_exchange_back(run.environment, exchange, mark)
    return make_start_plan(run.environment, exchange.data_directory) if _is_down(tools, run) else None


def _plan_objects(tools: RecoverTools, run: Run) -> Plan | None:
    """Return the plan that takes the objects back, None where none was changed."""
    begun = {str(event.data.get("action")) for event in tools.tools.journal.events(run=run.id, kind="step.start")}
    if tools.objects is None or RestoreObjectsStep.action not in begun:
        return None
    return plan_undo_of(tools.objects, run)


def _find_stops(tools: RecoverTools, run: Run, *, shows: bool) -> Stops:
    """Return what is to be stopped: what the run stopped, as long as that does not go on; else what runs now."""
    stops = find_stops(tools, with_caches=run.plan.has(FenceStep))
    stops = replace(stops, maintenance=stops.maintenance and shows, is_closed=not shows)
    if not run.plan.has(PauseStep) or find_result(tools.tools.runs, run.id, ResumeStep) is not None:
        return stops
    paused = run.plan.arguments(PauseStep)
    return replace(stops, queues=paused.queues, schedules=paused.schedules, caches=paused.caches)
