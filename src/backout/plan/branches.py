"""Restores at a vendor as plans: a branch to look at, the damaged rows, the branch in the live one's place; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.model.clock import utc
from backout.model.plan import Plan, PlanKind, Step
from backout.model.recovery import show_lsn

if TYPE_CHECKING:
    from backout.model.branch import BranchTarget
    from backout.model.capability import Granularity
    from backout.model.plan import Json
    from backout.plan.restore import Job

BRANCH, BEFORE, AFTER = "db_branch", "db_branch_before", "db_branch_after"
"""The step that makes a branch, by what the branch is for."""


@dataclass(frozen=True, slots=True)
class BranchMoment:
    """The moment that TARGET means, as the vendor takes it.

    Args:
        before: where the branch is made. after: just behind the damage, None when what the damage is is not known.
        granularity: how exactly this vendor takes it. how: one sentence: where the moment was found.
        xid: the damage's transaction. migration: the damage's name, with `ended`, the id that its row carries.
    """

    before: BranchTarget
    granularity: Granularity
    how: str
    after: BranchTarget | None = None
    xid: int | None = None
    migration: str = ""
    ended: int | None = None


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a rescue treats what is not plain: as `model.recovery.Damage`."""

    conflicts: str = "live"
    skip: tuple[str, ...] = ()
    queues: bool = False


def side_plan(job: Job, moment: BranchMoment, name: str) -> Plan:
    """Return the plan that makes a branch and leaves it there.

    Args:
        name: the branch's; the same one for the same moment, so that it is made once.
    """
    steps = (_branch(BRANCH, job, name, moment.before), _look(name, job))
    why = f"a branch of the database {shown(moment.before)}"
    return Plan(PlanKind.RECOVER, job.environment, why, steps, _notes(moment))


def rescue_plan(job: Job, moment: BranchMoment, after: BranchTarget, treatment: Treatment) -> Plan:
    """Return the plan that copies the damaged rows back from two branches and leaves newer good ones alone."""
    first, second = f"backout-before-{job.mark}", f"backout-after-{job.mark}"
    damage: dict[str, Json] = {
        "xid": moment.xid,
        "migration": moment.migration,
        "ended": moment.ended,
        "conflicts": treatment.conflicts,
        "skip": list(treatment.skip),
        "queues": treatment.queues,
    }
    ends: dict[str, Json] = {"before": first, "after": second, "database": job.look.database}
    known: dict[str, Json] = {**ends, "damage": damage, "mark": job.mark}
    steps = (
        _branch(BEFORE, job, first, moment.before),
        _branch(AFTER, job, second, after),
        _look(first, job),
        Step("db_branch_note_newer", "note which rows others have written since", known),
        Step(
            "db_branch_rescue", "copy the damaged rows and columns back", {**ends, "damage": damage, "mark": job.mark}
        ),
        Step("db_branch_rescue_check", "compare again: nothing of the damage is left", {**ends, "damage": damage}),
        Step(
            "db_branch_compare",
            "the second check, in a process of its own: hashes of rows before the damage and now",
            known,
        ),
        Step(
            "db_branch_drop",
            "delete both branches",
            {"names": [first, second]},
            equivalent="\n".join(f"backout db branch delete {name} -e {job.environment}" for name in (first, second)),
        ),
    )
    whose = f"migration {moment.migration}" if moment.migration else f"transaction {moment.xid}"
    why = f"the rows that {whose} damaged, as they were before it"
    return Plan(PlanKind.RECOVER, job.environment, why, steps, _notes(moment))


def swap_plan(job: Job, moment: BranchMoment, keep_as: str) -> Plan:
    """Return the plan that puts a branch in the live one's place; what was live stays as the branch `keep_as`."""
    name = f"backout-swap-{job.mark}"
    steps = (_branch(BRANCH, job, name, moment.before), _look(name, job), _finalize(name, keep_as, job))
    notes = (*_notes(moment), f"what was committed since is not in the restored database; it stays in branch {keep_as}")
    return Plan(PlanKind.RECOVER, job.environment, f"the whole database {shown(moment.before)}", steps, notes)


def undo_swap_plan(job: Job, kept: str, keep_as: str) -> Plan:
    """Return the plan that puts the kept branch in place again and keeps the one that is live now."""
    notes = (f"what was committed since the swap stays in branch {keep_as}",)
    why = f"undo of a swap: branch {kept} comes back"
    return Plan(PlanKind.RECOVER, job.environment, why, (_finalize(kept, keep_as, job),), notes)


def shown(target: BranchTarget) -> str:
    """Return a moment in words, to the microsecond.

    >>> from backout.model.branch import BranchTarget
    >>> shown(BranchTarget(lsn=255)), shown(BranchTarget(at=0.25))
    ('as it was at LSN 0/FF', 'as it was at 1970-01-01T00:00:00.250000Z')
    """
    if target.lsn is not None:
        return f"as it was at LSN {show_lsn(target.lsn)}"
    at = utc(target.at or 0.0)
    return f"as it was at {at.isoformat(timespec='microseconds').replace('+00:00', 'Z')}"


def _branch(action: str, job: Job, name: str, target: BranchTarget) -> Step:
    lsn = None if target.lsn is None else show_lsn(target.lsn)
    args: dict[str, Json] = {"name": name, "lsn": lsn, "at": target.at}
    at = shown(target).rpartition(" ")[2]
    line = f"backout db branch create -e {job.environment} --at {at} --name {name}"
    return Step(action, f"make branch {name} at the vendor, {shown(target)}", args, equivalent=line)


def _look(name: str, job: Job) -> Step:
    args: dict[str, Json] = {"name": name, "relation": job.look.relation, "no_migration": job.look.no_migration}
    line = f"backout db branch look {name} -e {job.environment}"
    return Step("db_branch_look", f"look at branch {name}, read-only", args, equivalent=line)


def _finalize(name: str, keep_as: str, job: Job) -> Step:
    args: dict[str, Json] = {"name": name, "keep_as": keep_as, "database": job.look.database, "mark": job.mark}
    line = f"backout db branch finalize {name} -e {job.environment} --keep-as {keep_as}"
    title = f"put branch {name} in the live one's place, which stays as {keep_as}"
    return Step("db_branch_finalize", title, args, equivalent=line)


def _notes(moment: BranchMoment) -> tuple[str, ...]:
    by = "LSN" if moment.before.lsn is not None else str(moment.granularity)
    if by == "lsn":
        by = "microsecond"
    return (f"target {shown(moment.before)}: {moment.how}", f"exactness at this vendor: {by}")
