"""Taking a restore of objects back, from what it noted: also one that was interrupted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from backout.analysis.objects.survey import Surveying
from backout.analysis.objects.undo import list_undos
from backout.decoding import decode_values
from backout.errors import BackoutError, Refused, UsageError
from backout.model.clock import to_utc
from backout.model.incident.incident import RunState
from backout.model.objects.versions import Judgement
from backout.model.steps.objects import (
    RestoreObjectsStep,
    SnapshotObjectsStep,
    SurveyObjectsResult,
    UndoObjectsStep,
)
from backout.plan.objects import get_environment, get_order, name_lane, plan_undo
from backout.ports import Action, find_result, list_progress
from backout.runbook.objects.attempts import AtWork, list_given_up, read_attempts
from backout.runbook.objects.before import read_before, remove_left
from backout.runbook.objects.compare import count_noted, find_survey

if TYPE_CHECKING:
    from backout.model.incident.incident import Run
    from backout.model.plan import Plan
    from backout.ports import StepContext
    from backout.runbook.objects.tools import ObjectTools


def prepare_undo(tools: ObjectTools, run: str | None) -> Plan:
    """Return the plan that takes a restore of objects back.

    Args:
        run: its id, or the beginning of it; None: the newest one that changed anything, or was about to. An undo that
            did not come to its end is passed over, so that what it was to take back is taken back.

    Raises:
        UsageError: there is none.
        BackoutError: as `plan_undo_of`.
    """
    runs = tools.runs.walk_runs(name_lane(tools.environment))
    begun = (each for each in runs if each.plan.has(RestoreObjectsStep) and has_begun(tools, each))
    wanted = (each for each in begun if (each.id.startswith(run) if run else not _is_broken_off(each)))
    found = next(wanted, None)
    if found is None:
        raise UsageError("no restore of objects to take back", where=run or tools.environment)
    return plan_undo_of(tools, found)


def has_begun(tools: ObjectTools, run: Run) -> bool:
    """Whether a restore of objects has changed anything, or was about to."""
    return run.state is RunState.DONE or bool(list_progress(tools.journal, run, RestoreObjectsStep))


def _is_broken_off(run: Run) -> bool:
    return run.plan.has(UndoObjectsStep) and run.state is not RunState.DONE


def plan_undo_of(tools: ObjectTools, run: Run) -> Plan:
    """Return the plan that takes the objects of a run back.

    Raises:
        Refused: an undo would go by snapshots, and the run has recorded none.
        BackoutError: what the run noted is not on this host any more.
    """
    environment, taken = get_environment(run.environment), None
    if run.plan.has(SnapshotObjectsStep):
        taken = find_result(tools.runs, run.id, SnapshotObjectsStep)
    if tools.snapshots is not None and taken is None:
        raise _make_without_snapshot(tools, run)
    count_noted(tools, run.id)
    order, manifest = get_order(run.plan), None if taken is None else taken.manifest
    undo = UndoObjectsStep(bucket=order.bucket, prefix=order.prefix, of=run.id, until=order.until, manifest=manifest)
    return plan_undo(environment, undo)


def _make_without_snapshot(tools: ObjectTools, run: Run) -> Refused:
    """Return why a run cannot be taken back by snapshots, from what it recorded."""
    if not run.plan.has(SnapshotObjectsStep):
        return Refused(
            f"run {run.id} went by the bucket's versions, and storage.history is set by now: an undo would go by "
            "snapshots, of which that run took none",
            where=tools.bucket,
            options=("Take storage.history out of the configuration, and type the undo again.",),
        )
    at = to_utc(run.started_at).strftime("%Y-%m-%d %H:%M:%S")
    restore = f'backout objects restore --to "{at}" -e {get_environment(run.environment)}'
    return Refused(
        f"run {run.id} was to take a snapshot of the bucket first, and none is recorded",
        where=tools.bucket,
        options=(f"Return to an earlier one: {restore}.",),
    )


class UndoObjects(Action[UndoObjectsStep, SurveyObjectsResult]):
    """Step `undo_objects` {bucket, prefix, of, until, manifest}: the opposite of each change is noted.

    Of a restore that was interrupted, what it was about to do is completed first: else nobody knows how far that got.
    """

    arguments = UndoObjectsStep

    def __init__(self, tools: ObjectTools) -> None:
        self._tools = tools

    def do(self, args: UndoObjectsStep, context: StepContext) -> SurveyObjectsResult:
        """Return {survey}. Raises BackoutError: the snapshot that it goes by cannot be read any more."""
        tools = self._tools
        taking = Surveying()
        self._complete(args.of, context)
        undos = list_undos(tools.notes.settled(args.of))
        if args.manifest is not None:
            if tools.snapshots is None:
                raise BackoutError("the bucket has no history any more: storage.history is not set", where=args.bucket)
            undos = tools.snapshots.find_contents(args.manifest, undos)
        tools.notes.note(context.run, taking.pass_on(Judgement(each.key, each) for each in undos))
        return SurveyObjectsResult(survey=taking.finish())

    def _complete(self, run: str, context: StepContext) -> None:
        tools = self._tools
        interrupted = tools.runs.find(run)
        assert interrupted is not None
        told = list_progress(tools.journal, interrupted, RestoreObjectsStep)
        if not told or decode_values(told[-1]["done"], int) >= (total := count_noted(tools, run)):
            return
        order, left = find_survey(tools, run), read_before(tools, run, told[-1])
        last = context.last_progress()
        begun = read_attempts(tools, [] if last is None else [last])
        given_up = read_attempts(tools, list_given_up(tools, run, UndoObjectsStep))
        bucket = tools.versions(order.prefix, order.moment)
        for begin in range(left.done, min(left.end, total), tools.chunk):
            if left.is_untouched(begin) or (left.is_spread and tools.notes.is_settled(run, begin, tools.chunk)):
                continue
            work = AtWork(tools.clock, context, begin, begun)
            attempts = (*left.find_attempts(begin), *given_up, *begun)
            changes = tools.notes.read(run, begin, tools.chunk)
            carried = bucket.carry_out(changes, again=True, attempts=attempts, hear=partial(_go_on, work))
            tools.notes.settle(run, begin, carried)
        if left.is_spread:
            remove_left(tools, run)


def _go_on(work: AtWork, _done: int) -> None:
    work.go_on()
