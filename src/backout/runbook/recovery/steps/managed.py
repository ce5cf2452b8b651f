"""The steps of a restore at a vendor; each can be repeated after a crash: branches are found again by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.analysis.recovery.branches import find_migration, find_transaction
from backout.decoding import decode_values
from backout.errors import Refused
from backout.model.database.branch import BranchTarget
from backout.model.database.rescue import Damage, RescueReport
from backout.model.database.wal import parse_lsn
from backout.model.steps.branches import (
    BranchAfterStep,
    BranchBeforeStep,
    BranchCompareCopyStep,
    BranchCompareStep,
    BranchLookResult,
    BranchLookStep,
    BranchNoteCopiesStep,
    BranchNoteNewerStep,
    BranchRecord,
    BranchRescueCheckStep,
    BranchRescueStep,
    BranchResult,
    BranchStep,
    DropBranchesStep,
    FinalizeResult,
    FinalizeStep,
)
from backout.model.steps.comparison import ComparisonResult, NoteResult
from backout.model.steps.rescue import LeftResult
from backout.model.steps.restore import DropResult
from backout.ports import Action, AnyAction, Done, NotDone, find_result
from backout.report.database.branches import make_record
from backout.runbook.recovery.managed import BRANCH_SWAPPED, find_branch
from backout.runbook.recovery.steps.branch_copy import CompareBranchCopy, NoteBranchCopies
from backout.runbook.recovery.steps.comparison import compare_rows, make_evidence, note_newer
from backout.runbook.recovery.steps.rescue import check_nothing_left, note_rescue
from backout.runbook.recovery.steps.side import make_progress_teller
from backout.runbook.recovery.steps.undo import undo_actions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.database.branch import SideBranch
    from backout.model.plan import Json, Plan
    from backout.ports import Probe, StepContext
    from backout.runbook.recovery.managed import BranchTools


def make_actions(tools: BranchTools) -> dict[str, AnyAction]:
    """Return every step's action by its name in plans."""
    return {
        BranchStep.action: MakeBranch(tools),
        BranchBeforeStep.action: MakeBranch(tools),
        BranchAfterStep.action: MakeBranchAfter(tools),
        BranchLookStep.action: LookAtBranch(tools),
        BranchNoteNewerStep.action: NoteNewerThanBranches(tools),
        BranchCompareStep.action: CompareWithBranches(tools),
        BranchRescueStep.action: RescueFromBranches(tools),
        BranchRescueCheckStep.action: CheckRescue(tools),
        BranchNoteCopiesStep.action: NoteBranchCopies(tools),
        FinalizeStep.action: Finalize(tools),
        BranchCompareCopyStep.action: CompareBranchCopy(tools),
        DropBranchesStep.action: DropBranches(tools),
        **undo_actions(tools.own),
    }


class MakeBranch(Action[BranchStep, BranchResult]):
    """Steps `db_branch`, `db_branch_before` {name, lsn, at, snapshot}: a branch to connect to."""

    arguments = BranchStep
    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: BranchStep, context: StepContext) -> BranchResult:
        """Return the branch, with the first id not assigned there: what is younger is the branch's own."""
        return _make_branch(self._tools, args)


class MakeBranchAfter(Action[BranchAfterStep, BranchResult]):
    """Step `db_branch_after` {name, lsn, at, snapshot}: a branch that has the damage."""

    arguments = BranchAfterStep
    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: BranchAfterStep, context: StepContext) -> BranchResult:
        """Return the branch, see `_make_branch_after`."""
        tools = self._tools
        run = tools.own.runs.find(context.run)
        assert run is not None
        rescue = run.plan.arguments(BranchRescueStep)
        return _make_branch_after(tools, args, rescue, _find_first(tools, context.run, BranchBeforeStep))


class LookAtBranch(Action[BranchLookStep, BranchLookResult]):
    """Step `db_branch_look` {name, relation, no_migration}: look at the branch, read-only."""

    arguments = BranchLookStep
    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: BranchLookStep, context: StepContext) -> BranchLookResult:
        """Return what was seen. Raises Refused when it is not what was asked for."""
        return _look_at_branch(self._tools, args)


class RescueFromBranches(Action[BranchRescueStep, RescueReport]):
    """Step `db_branch_rescue` {before, after, database, damage, mark}: the damaged rows come back."""

    arguments = BranchRescueStep

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: BranchRescueStep, context: StepContext) -> RescueReport:
        """Return what was written, by table; done twice, it finds nothing left to do."""
        own = self._tools.own
        damage, before, after = _read_run(self._tools, args, context.run)
        kept = note_rescue(own, context.run, args.mark, args.database)
        return own.rescuer(args.database).rescue(damage, before, after, kept, make_progress_teller(context, own))


class CheckRescue(Action[BranchRescueCheckStep, LeftResult]):
    """Step `db_branch_rescue_check` {before, after, database, damage}: compare the live rows again, read-only."""

    arguments = BranchRescueCheckStep
    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: BranchRescueCheckStep, context: StepContext) -> LeftResult:
        """Return how many rows are in conflict. Raises BackoutError when damage is left untouched."""
        own = self._tools.own
        damage, before, after = _read_run(self._tools, args, context.run)
        report = own.rescuer(args.database).damage(damage.checked, before, after)
        return check_nothing_left(report, own.environment, find_result(own.runs, context.run, BranchRescueStep))


class NoteNewerThanBranches(Action[BranchNoteNewerStep, NoteResult]):
    """Step `db_branch_note_newer` {before, after, database, damage, mark}: which rows others have written since."""

    arguments = BranchNoteNewerStep
    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: BranchNoteNewerStep, context: StepContext) -> NoteResult:
        """Keep them beside what the rescue will keep, or say why that failed."""
        damage, before, after = _read_run(self._tools, args, context.run)
        return note_newer(self._tools.own, args, context, make_evidence(damage), (before, after))


class CompareWithBranches(Action[BranchCompareStep, ComparisonResult]):
    """Step `db_branch_compare` {before, after, database, damage, mark}: the live rows, with those of the branches."""

    arguments = BranchCompareStep
    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: BranchCompareStep, context: StepContext) -> ComparisonResult:
        """Return what was compared and what differs, as the second check of a rescue from side instances does."""
        own = self._tools.own
        damage, *sides = _read_run(self._tools, args, context.run)
        rescue = find_result(own.runs, context.run, BranchRescueStep)
        noting = find_result(own.runs, context.run, BranchNoteNewerStep)
        return compare_rows(own, args, context, make_evidence(damage), (*sides,), rescue=rescue, noting=noting)


class Finalize(Action[FinalizeStep, FinalizeResult]):
    """Step `db_branch_finalize` {name, keep_as, database, mark}: the branch comes in the live one's place."""

    arguments = FinalizeStep

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: FinalizeStep, context: StepContext) -> FinalizeResult:
        """Return which branch is live and which is kept, as the vendor shows them, and record it; then read back."""
        tools, own = self._tools, self._tools.own
        side = find_branch(tools, args.name)
        done = tools.cutover.finalize(side, args.keep_as)
        note: dict[str, Json] = {"kept": done.kept.name, "database": args.database, "mark": args.mark}
        own.journal.note(own.environment, BRANCH_SWAPPED, context.run, note, actor=own.actor)
        seen = tools.reader.look(tools.url(done.live), "", "")
        return FinalizeResult(
            live=_make_branch_record(done.live), kept=done.kept.name, migration_head=seen.migration_head
        )


class DropBranches(Action[DropBranchesStep, DropResult]):
    """Step `db_branch_drop` {names}: branches that are not needed any more."""

    arguments = DropBranchesStep

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: DropBranchesStep, context: StepContext) -> DropResult:
        """Delete them, and return their names."""
        _drop(self._tools, args.names)
        return DropResult(dropped=args.names)

    def probe(self, args: DropBranchesStep, context: StepContext) -> Probe[DropResult]:
        """It is done when none of them exists."""
        there = {each.name for each in self._tools.vendor.branches()}
        return NotDone() if there & set(args.names) else Done(DropResult(dropped=args.names))


_LATER_S: Final = (0.01, 0.1, 1.0)
"""How much later a branch is made that lacks the transaction, one after the other."""
Rescuing = BranchNoteNewerStep | BranchRescueStep | BranchRescueCheckStep | BranchCompareStep


def foresee(tools: BranchTools, plan: Plan) -> RescueReport:
    """Return what the plan of a rescue would write, by table; only branches are made, and deleted again."""
    rescue = plan.arguments(BranchRescueStep)
    try:
        first = _make_branch(tools, plan.arguments(BranchBeforeStep)).next_xid
        end = _make_branch_after(tools, plan.arguments(BranchAfterStep), rescue, first).next_xid
        _look_at_branch(tools, plan.arguments(BranchLookStep))
        before, after = _get_urls(tools, rescue)
        damage = _read_damage(tools, rescue, (before, first), (after, end))
        return tools.own.rescuer(rescue.database).damage(damage, before, after)
    finally:
        _drop(tools, (rescue.before, rescue.after))


def _make_branch(tools: BranchTools, args: BranchStep) -> BranchResult:
    lsn = None if args.lsn is None else parse_lsn(args.lsn)
    target = BranchTarget(lsn=lsn, at=args.at, snapshot=args.snapshot)
    made = tools.vendor.restore(target, args.name)
    return BranchResult(
        **msgspec.structs.asdict(_make_branch_record(made)), next_xid=tools.reader.next_xid(tools.url(made))
    )


def _make_branch_after(tools: BranchTools, args: BranchAfterStep, rescue: BranchRescueStep, first: int) -> BranchResult:
    """Return a branch that has the damaging transaction, as soon after it as there is one.

    A transaction gets the time of its commit before its place in the WAL: one with a later time may come before it,
    and a recovery to a moment ends there.

    Args:
        first: the first id that is not assigned in the branch before the damage.
    """
    made = _make_branch(tools, args)
    xid, at = rescue.damage.xid, args.at
    if xid is None or at is None:
        return made
    for later_s in _LATER_S:
        before, after = _get_urls(tools, rescue)
        if find_transaction(tools.reader.list_committed_between((before, first), (after, made.next_xid)), xid)[0]:
            break
        _drop(tools, (args.name,))
        made = _make_branch(tools, msgspec.structs.replace(args, at=at + later_s))
    return made


def _make_branch_record(branch: SideBranch) -> BranchRecord:
    return decode_values(make_record(branch), BranchRecord)


def _look_at_branch(tools: BranchTools, args: BranchLookStep) -> BranchLookResult:
    name, relation, migration = args.name, args.relation, args.no_migration
    seen = tools.reader.look(tools.url(find_branch(tools, name)), relation, migration)
    look = f"Look at it: `backout db branch look {name}`."
    if relation and not seen.relation_there:
        raise Refused(
            f"{relation} is not there in branch {name}: another one was dropped",
            where=tools.own.environment,
            options=("Name another target.", look),
        )
    if migration and seen.migration_there:
        raise Refused(
            f"migration {migration} is applied already in branch {name}: the clock that its row was dated with differs",
            where=tools.own.environment,
            options=("Give an earlier time: `backout db restore TIME --side`.", look),
        )
    return BranchLookResult(migration_head=seen.migration_head)


def _read_run(tools: BranchTools, args: Rescuing, run: str) -> tuple[Damage, str, str]:
    """Return the damage and both branches' connection strings, as this run made them."""
    first, end = (_find_first(tools, run, kind) for kind in (BranchBeforeStep, BranchAfterStep))
    before, after = _get_urls(tools, args)
    return _read_damage(tools, args, (before, first), (after, end)), before, after


def _read_damage(tools: BranchTools, args: Rescuing, before: tuple[str, int], after: tuple[str, int]) -> Damage:
    """Return the damage among all commits between the branches. Raises Refused: it is not among them."""
    told_of = args.damage
    found = tools.reader.list_committed_between(before, after)
    if told_of.xid is not None:
        what = f"transaction {told_of.xid}"
        ids, exact = find_transaction(found, told_of.xid)
    else:
        what = f"a change of the schema by migration {told_of.migration}"
        ids, exact = find_migration(found, told_of.ended)
    if not ids:
        raise Refused(
            f"{what} is not among the {len(found)} commits between the two branches",
            where=tools.own.environment,
            options=(
                "The vendor's moments are less exact than they look, or a migration changed rows alone.",
                "Look at a side branch: `backout db restore TIME --side`.",
            ),
        )
    return Damage(ids, None, told_of.conflicts, told_of.skip, told_of.queues, exact=exact)


def _find_first(tools: BranchTools, run: str, kind: type[BranchStep]) -> int:
    made = find_result(tools.own.runs, run, kind)
    assert made is not None
    return made.next_xid


def _get_urls(tools: BranchTools, args: Rescuing) -> tuple[str, str]:
    before, after = (tools.url(find_branch(tools, name)) for name in (args.before, args.after))
    return before, after


def _drop(tools: BranchTools, names: Sequence[str]) -> None:
    for each in tools.vendor.branches():
        if each.name in names:
            tools.cutover.delete(each)
