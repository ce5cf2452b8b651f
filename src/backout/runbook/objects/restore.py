"""Bringing the objects of a bucket back to a moment: survey, restore, compare ("R2 Storage Recovery")."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from backout.analysis.objects.moment import judge_objects
from backout.analysis.objects.survey import Surveying
from backout.decoding import decode_values
from backout.errors import BackoutError, Refused, UsageError
from backout.model.clock import to_utc
from backout.model.objects.progress import ObjectProgress
from backout.model.objects.surveys import MOST_NAMES, FailedObject
from backout.model.objects.versions import ChangeKind, Moment, Outcome
from backout.model.steps.objects import (
    CompareObjectsStep,
    RestoreObjectsResult,
    RestoreObjectsStep,
    SnapshotObjectsResult,
    SnapshotObjectsStep,
    SurveyObjectsResult,
    SurveyObjectsStep,
    UndoObjectsStep,
)
from backout.plan.objects import plan_restore
from backout.plan.target import parse_time
from backout.ports import Action, AnyAction, Done, NotDone
from backout.runbook.action_table import ActionTable
from backout.runbook.objects.attempts import AtWork, list_given_up, measure_skew, read_attempts
from backout.runbook.objects.before import read_before, remove_left
from backout.runbook.objects.compare import CompareObjects, count_noted, find_survey
from backout.runbook.objects.spread import SpreadRestore
from backout.runbook.objects.tools import ObjectTools
from backout.runbook.objects.undo import UndoObjects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backout.model.objects.checks import BucketFacts
    from backout.model.objects.surveys import ObjectSurvey
    from backout.model.objects.versions import Attempt, Carried, ObjectChange
    from backout.model.plan import Plan
    from backout.ports import BucketVersions, Probe, Snapshots, StepContext
    from backout.runbook.objects.before import Before

_SKEW_IGNORED_S: Final = 1.5
"""A store tells its clock in whole seconds, and the answer takes a while."""


def prepare(tools: ObjectTools, to: str, until: str | None, prefix: str) -> Plan:
    """Return the plan that brings the objects below a prefix back.

    Args:
        to: the moment, as a person types it.
        until: the end of the damage, likewise; None: now.

    Raises:
        UsageError: a time cannot be read, or lies where none can.
        Refused: the bucket keeps no versions, or not for as long.
    """
    facts, now = tools.look.read(), tools.clock.now()
    at, end = _parse_moment(to, now, "--to"), now if until is None else _parse_moment(until, now, "--until")
    if not at < end <= now:
        what = "--until has to lie after --to, and not in the future" if until else "--to lies in the future"
        raise UsageError(what, where="backout objects restore")
    if tools.snapshots is None:
        _check_versions(tools, facts, at, now)
    else:
        _check_manifests(tools, tools.snapshots, at, prefix)
    skew_s = measure_skew(facts)
    slack_s = 0.0 if skew_s <= _SKEW_IGNORED_S else skew_s
    # Whole seconds, so that the same words a moment later are the same plan.
    moment = Moment(at, float(int(end) + 1), float(int(slack_s)))
    return plan_restore(tools.environment, tools.bucket, prefix, moment, snapshot=tools.snapshots is not None)


def _parse_moment(text: str, now: float, option: str) -> float:
    found = parse_time(text, now)
    if found is None:
        hint = 'a time: "2026-11-25 14:03:00" (UTC), "14:03", "20 minutes ago"'
        raise UsageError(f"{option} is no time", where=text, hint=hint)
    return found


def _check_versions(tools: ObjectTools, facts: BucketFacts, at: float, now: float) -> None:
    if facts.versioning != "enabled":  # a deletion in a bucket without versions is for good
        said = "not known to this access key" if facts.versioning == "unknown" else facts.versioning
        raise Refused(
            f"the bucket's versions are {said}: nothing shows that what an object was before is kept",
            where=tools.bucket,
            options=(
                "Switch versions on, so that the next damage can be taken back.",
                "Where there are none (R2), set storage.history, and take snapshots: backout objects snapshot.",
            ),
        )
    kept_s = facts.expires_after_s
    if kept_s is not None and now - at > kept_s:
        raise Refused(
            f"the bucket's lifecycle removes older versions after {kept_s / 86400:.0f} days, and "
            f"{to_utc(at):%Y-%m-%d %H:%M} is longer ago: what was changed since looks like what was created",
            where=tools.bucket,
            options=("Choose a moment within that time.",),
        )


def _check_manifests(tools: ObjectTools, snapshots: Snapshots, at: float, prefix: str) -> None:
    if not prefix.startswith(tools.prefix):  # nothing of it is in the history, and what is deleted there is gone
        raise UsageError(f"the snapshots are only of what lies below {tools.prefix}", where=prefix or tools.bucket)
    names = snapshots.list_manifests()
    if not names or names[0].at > at:
        begins = f"begins {to_utc(names[0].at):%Y-%m-%d %H:%M:%S UTC}, after the moment" if names else "is empty"
        options = ("Choose a later moment: backout objects history.",) if names else ()
        raise Refused(f"the history of the bucket {begins}", where=tools.bucket, options=options)


def survey(tools: ObjectTools, step: SurveyObjectsStep) -> tuple[Surveying, Iterator[ObjectChange]]:
    """Return a survey that is taken while its changes are read."""
    taking = Surveying(lambda objects: tools.progress(ObjectProgress("listing", objects)))
    versions = tools.versions(step.prefix, step.moment).versions()
    return taking, taking.pass_on(judge_objects(versions, step.moment))


def foresee(tools: ObjectTools, plan: Plan) -> ObjectSurvey:
    """Return what a plan would do now; nothing is changed. Raises Refused as `check_survey`."""
    taking, changes = survey(tools, plan.arguments(SurveyObjectsStep))
    for _ in changes:
        pass
    found = taking.finish()
    check_survey(found, plan.arguments(SurveyObjectsStep))
    return found


def check_survey(found: ObjectSurvey, step: SurveyObjectsStep) -> None:
    """Look at the moment. Raises Refused: it is before all versions, so every object would be removed."""
    if found.objects and found.began > step.to:
        raise Refused(
            f"the oldest version is of {to_utc(found.began):%Y-%m-%d %H:%M:%S UTC}, after the moment: "
            "every object would be removed",
            where=f"{step.bucket}/{step.prefix}".rstrip("/"),
            options=("Choose a later moment: backout objects history.",),
        )


class SurveyObjects(Action[SurveyObjectsStep, SurveyObjectsResult]):
    """Step `survey_objects` {bucket, prefix, to, until, slack_s}: the changes are noted on this host."""

    arguments = SurveyObjectsStep
    effect = False

    def __init__(self, tools: ObjectTools) -> None:
        self._tools = tools

    def do(self, args: SurveyObjectsStep, context: StepContext) -> SurveyObjectsResult:
        """Return {survey}. Raises Refused as `check_survey`."""
        taking, changes = survey(self._tools, args)
        self._tools.notes.note(context.run, changes)
        found = taking.finish()
        check_survey(found, args)
        return SurveyObjectsResult(survey=found)


class SnapshotObjects(Action[SnapshotObjectsStep, SnapshotObjectsResult]):
    """Step `snapshot_objects` {bucket}: what is overwritten in a bucket without versions is kept nowhere else."""

    arguments = SnapshotObjectsStep
    effect = False

    def __init__(self, tools: ObjectTools) -> None:
        self._tools = tools

    def do(self, args: SnapshotObjectsStep, context: StepContext) -> SnapshotObjectsResult:
        """Return {manifest}. Raises BackoutError: there is no history any more, or as `Snapshots.take`."""
        tools = self._tools
        if tools.snapshots is None:
            raise BackoutError("the bucket has no history any more: storage.history is not set", where=args.bucket)
        hear = tools.progress
        taken = tools.snapshots.take(lambda objects: hear(ObjectProgress("storing", objects)))
        return SnapshotObjectsResult(manifest=taken)


class RestoreObjects(Action[RestoreObjectsStep, RestoreObjectsResult]):
    """Step `restore_objects` {bucket}: a thousand objects after the other, each thousand recorded."""

    arguments = RestoreObjectsStep

    def __init__(self, tools: ObjectTools) -> None:
        self._tools = tools

    def do(self, args: RestoreObjectsStep, context: StepContext) -> RestoreObjectsResult:
        """Return {undeleted, changed, removed, same, newer, failed, failures}."""
        tools, run = self._tools, context.run
        count_noted(tools, run)
        last, order = context.last_progress(), find_survey(tools, run)
        is_undo = isinstance(order, UndoObjectsStep)  # what was written since the restore stays: each is looked at
        given_up = list_given_up(tools, order.of, RestoreObjectsStep) if isinstance(order, UndoObjectsStep) else []
        before, others = read_before(tools, run, last), read_attempts(tools, given_up)
        if tools.is_spread:
            SpreadRestore(tools, context, order, before, again=is_undo, others=others).restore()
        else:
            bucket = tools.versions(order.prefix, order.moment)
            self._restore(context, bucket, before, again=is_undo, others=others)
            if before.is_spread:
                remove_left(tools, run)
        return _count(tools.notes.settled(run))

    def _restore(
        self, context: StepContext, bucket: BucketVersions, before: Before, *, again: bool, others: tuple[Attempt, ...]
    ) -> None:
        tools, run, begin = self._tools, context.run, before.done
        total = count_noted(tools, run)
        while begin < total:
            is_begun = begin < before.end
            end = before.end if is_begun and before.is_spread else None
            work = AtWork(tools.clock, context, begin, before.attempts if is_begun else (), end=end)
            if not (is_begun and tools.notes.is_settled(run, begin, tools.chunk)):
                changes = tools.notes.read(run, begin, tools.chunk)
                tell = partial(self._tell, work, begin, total)
                attempts = (*others, *before.find_attempts(begin))
                carried = bucket.carry_out(changes, again=again, attempts=attempts, hear=tell)
                tools.notes.settle(run, begin, carried)
            begin = min(total, begin + tools.chunk)
        AtWork(tools.clock, context, begin)

    def _tell(self, work: AtWork, begin: int, total: int, done: int) -> None:
        self._tools.progress(ObjectProgress("restoring", begin + done, total))
        work.go_on()

    def probe(self, args: RestoreObjectsStep, context: StepContext) -> Probe[RestoreObjectsResult]:
        """It is done when every change is settled; else it goes on, and looks at what may have been done."""
        total, last = self._tools.notes.count(context.run), context.last_progress()
        if total is None or last is None or decode_values(last["done"], int) < total:
            return NotDone()
        return Done(_count(self._tools.notes.settled(context.run)))


def _count(settled: Iterator[tuple[ObjectChange, Carried | None]]) -> RestoreObjectsResult:
    done, others = dict.fromkeys(ChangeKind, 0), dict.fromkeys(Outcome, 0)
    failed: list[FailedObject] = []
    for change, carried in settled:
        assert carried is not None
        if carried.outcome is Outcome.DONE:
            done[change.kind] += 1
        others[carried.outcome] += 1
        if carried.outcome is Outcome.FAILED and len(failed) < MOST_NAMES:
            failed.append(FailedObject(key=change.key, why=carried.why))
    return RestoreObjectsResult(
        undeleted=done[ChangeKind.UNDELETE],
        changed=done[ChangeKind.COPY],
        removed=done[ChangeKind.REMOVE],
        same=others[Outcome.SAME],
        newer=others[Outcome.NEWER],
        failed=tuple(failed),
        failures=others[Outcome.FAILED],
    )


_STEPS: Mapping[str, Callable[[ObjectTools], AnyAction]] = {
    SnapshotObjectsStep.action: SnapshotObjects,
    SurveyObjectsStep.action: SurveyObjects,
    UndoObjectsStep.action: UndoObjects,
    RestoreObjectsStep.action: RestoreObjects,
    CompareObjectsStep.action: CompareObjects,
}


class ObjectActions(ActionTable[ObjectTools]):
    """The actions of a plan that restores objects, by name."""

    def __init__(self, tools: ObjectTools) -> None:
        super().__init__(tools, _STEPS)
