"""Restores at a vendor as plans: a branch to look at, the damaged rows, the branch in the live one's place; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.clock import to_utc
from backout.model.database.branch import BranchTarget
from backout.model.database.wal import show_lsn
from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.branches import (
    BranchAfterStep,
    BranchBeforeStep,
    BranchCompareCopyStep,
    BranchCompareStep,
    BranchDamage,
    BranchLookStep,
    BranchNoteCopiesStep,
    BranchNoteNewerStep,
    BranchRescueCheckStep,
    BranchRescueStep,
    BranchStep,
    DropBranchesStep,
    FinalizeStep,
)
from backout.model.value import Value
from backout.plan.rescue_notes import list_row_notes

if TYPE_CHECKING:
    from backout.model.database.capability import Granularity
    from backout.plan.restore import Job


NOW: Final = BranchTarget()
"""The newest state that the vendor has."""


class BranchMoment(Value, frozen=True):
    """The moment that TARGET means, as the vendor accepts it.

    Args:
        before: where the branch is made.
        after: just behind the damage, None if the damage is not known.
        granularity: how exactly this vendor accepts it.
        how: one sentence: where the moment was found.
        xid: the damage's transaction.
        migration: the damage's name, with `ended`, the id that its row carries.
    """

    before: BranchTarget
    granularity: Granularity
    how: str
    after: BranchTarget | None = None
    xid: int | None = None
    migration: str = ""
    ended: int | None = None


class Treatment(Value, frozen=True):
    """How a rescue treats doubtful cases: as `model.database.rescue.Damage`."""

    conflicts: str = "live"
    skip: tuple[str, ...] = ()
    queues: bool = False


def make_side_plan(job: Job, moment: BranchMoment, name: str) -> Plan:
    """Return the plan that makes a branch and leaves it there.

    Args:
        name: the branch's; the same one for the same moment, so that it is made once.
    """
    steps = (_make_branch_step(BranchStep, job, name, moment.before), _make_look_step(name, job))
    why = f"a branch of the database {describe_moment(moment.before)}"
    return Plan(PlanKind.RECOVER, job.environment, why, steps, _list_notes(moment))


def rescue_plan(job: Job, moment: BranchMoment, after: BranchTarget, treatment: Treatment) -> Plan:
    """Return the plan that copies the damaged rows back from two branches and leaves newer good ones alone."""
    first, second = f"backout-before-{job.mark}", f"backout-after-{job.mark}"
    damage = BranchDamage(
        xid=moment.xid,
        migration=moment.migration,
        ended=moment.ended,
        conflicts=treatment.conflicts,
        skip=treatment.skip,
        queues=treatment.queues,
    )
    database, mark = job.look.database, job.mark
    steps = (
        _make_branch_step(BranchBeforeStep, job, first, moment.before),
        _make_branch_step(BranchAfterStep, job, second, after),
        _make_look_step(first, job),
        Step.of(
            "note which rows others have written since",
            BranchNoteNewerStep(before=first, after=second, database=database, damage=damage, mark=mark),
        ),
        Step.of(
            "copy the damaged rows and columns back",
            BranchRescueStep(before=first, after=second, database=database, damage=damage, mark=mark),
        ),
        Step.of(
            "compare again: nothing of the damage is left",
            BranchRescueCheckStep(before=first, after=second, database=database, damage=damage),
        ),
        Step.of(
            "the second check, in a process of its own: hashes of rows before the damage and now",
            BranchCompareStep(before=first, after=second, database=database, damage=damage, mark=mark),
        ),
        Step.of(
            "delete both branches",
            DropBranchesStep(names=(first, second)),
            "\n".join(f"backout db branch delete {name} -e {job.environment}" for name in (first, second)),
        ),
    )
    whose = f"migration {moment.migration}" if moment.migration else f"transaction {moment.xid}"
    why = f"the rows that {whose} damaged, as they were before it"
    return Plan(
        PlanKind.RECOVER,
        job.environment,
        why,
        steps,
        (*_list_notes(moment), *list_row_notes(treatment.conflicts)),
    )


def make_swap_plan(job: Job, moment: BranchMoment, keep_as: str) -> Plan:
    """Return the plan that puts a branch in the live one's place; what was live stays as the branch `keep_as`."""
    name = f"backout-swap-{job.mark}"
    steps = (
        _make_branch_step(BranchStep, job, name, moment.before),
        _make_look_step(name, job),
        Step.of(
            "note what the branch and the live one hold, while the live one serves",
            BranchNoteCopiesStep(name=name, keep_as=keep_as, database=job.look.database),
        ),
        _finalize(name, keep_as, job),
        _compare_copy(name, keep_as, undo=False),
    )
    notes = (
        *_list_notes(moment),
        f"what was committed since is not in the restored database; it stays in branch {keep_as}",
    )
    return Plan(PlanKind.RECOVER, job.environment, f"the whole database {describe_moment(moment.before)}", steps, notes)


def undo_swap_plan(job: Job, kept: str, keep_as: str) -> Plan:
    """Return the plan that puts the kept branch in place again and keeps the one that is live now."""
    notes = (f"what was committed since the swap stays in branch {keep_as}",)
    why = f"undo of a swap: branch {kept} comes back"
    steps = (
        Step.of(
            "note what the live branch holds",
            BranchNoteCopiesStep(name="", keep_as=keep_as, database=job.look.database),
        ),
        _finalize(kept, keep_as, job),
        _compare_copy(kept, keep_as, undo=True),
    )
    return Plan(PlanKind.RECOVER, job.environment, why, steps, notes)


def describe_moment(target: BranchTarget) -> str:
    """Return a moment in words, to the microsecond.

    >>> from backout.model.database.branch import BranchTarget
    >>> describe_moment(BranchTarget(lsn=255)), describe_moment(BranchTarget(at=0.25))
    ('as it was at LSN 0/FF', 'as it was at 1970-01-01T00:00:00.250000Z')
    >>> describe_moment(BranchTarget(snapshot="br-1")), describe_moment(BranchTarget())
    ('as branch br-1 kept it', 'as it is when the branch is made')
    """
    if target.snapshot is not None:
        return f"as branch {target.snapshot} kept it"
    if target == NOW:
        return "as it is when the branch is made"
    if target.lsn is not None:
        return f"as it was at LSN {show_lsn(target.lsn)}"
    at = to_utc(target.at or 0.0)
    return f"as it was at {at.isoformat(timespec='microseconds').replace('+00:00', 'Z')}"


def _make_branch_step(kind: type[BranchStep], job: Job, name: str, target: BranchTarget) -> Step:
    lsn = None if target.lsn is None else show_lsn(target.lsn)
    moment = describe_moment(target)
    at = f" --at snapshot:{target.snapshot}" if target.snapshot else f" --at {moment.rpartition(' ')[2]}"
    line = f"backout db branch create -e {job.environment}{'' if target == NOW else at} --name {name}"
    step = kind(name=name, lsn=lsn, at=target.at, snapshot=target.snapshot)
    return Step.of(f"make branch {name} at the vendor, {moment}", step, line)


def _make_look_step(name: str, job: Job) -> Step:
    look = BranchLookStep(name=name, relation=job.look.relation, no_migration=job.look.no_migration)
    line = f"backout db branch look {name} -e {job.environment}"
    return Step.of(f"look at branch {name}, read-only", look, line)


def _finalize(name: str, keep_as: str, job: Job) -> Step:
    finalize = FinalizeStep(name=name, keep_as=keep_as, database=job.look.database, mark=job.mark)
    line = f"backout db branch finalize {name} -e {job.environment} --keep-as {keep_as}"
    title = f"put branch {name} in the live one's place, which stays as {keep_as}"
    return Step.of(title, finalize, line)


def _compare_copy(name: str, keep_as: str, *, undo: bool) -> Step:
    title = "the second check, in a process of its own: hashes of rows noted before and now"
    return Step.of(title, BranchCompareCopyStep(name=name, keep_as=keep_as, undo=undo))


def _list_notes(moment: BranchMoment) -> tuple[str, ...]:
    by = "LSN" if moment.before.lsn is not None else str(moment.granularity)
    if by == "lsn":
        by = "microsecond"
    if moment.before.snapshot is not None:
        by = "the restore point; what was written after it is in the live database alone"
    return (f"target {describe_moment(moment.before)}: {moment.how}", f"exactness at this vendor: {by}")
