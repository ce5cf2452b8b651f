"""The steps of a restore at a vendor; each can be repeated after a crash: branches are found again by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.branches import of_migration, of_transaction
from backout.errors import Refused
from backout.model.branch import BranchTarget
from backout.model.names import parse_id
from backout.model.recovery import parse_lsn
from backout.model.rescue import Damage
from backout.plan.branches import AFTER, BEFORE, BRANCH
from backout.ports import Done, NotDone
from backout.report.branches import record
from backout.runbook.comparison_steps import compare_rows, evidence_of, note_newer
from backout.runbook.managed import BRANCH_SWAPPED, branch_named
from backout.runbook.rescue_steps import UndoRescue, nothing_left, rescue_record
from backout.runbook.restore import RESCUED
from backout.runbook.side_steps import told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.branch import SideBranch
    from backout.model.plan import Json, Plan
    from backout.model.rescue import RescueReport
    from backout.ports import Action, Probe, StepContext
    from backout.runbook.managed import BranchTools


def actions(tools: BranchTools) -> dict[str, Action]:
    """Return every step's action by its name in plans."""
    return {
        BRANCH: MakeBranch(tools),
        BEFORE: MakeBranch(tools),
        AFTER: MakeBranch(tools),
        "db_branch_look": LookAtBranch(tools),
        "db_branch_note_newer": NoteNewerThanBranches(tools),
        "db_branch_compare": CompareWithBranches(tools),
        "db_branch_rescue": RescueFromBranches(tools),
        "db_branch_rescue_check": CheckRescue(tools),
        "db_branch_finalize": Finalize(tools),
        "db_branch_drop": DropBranches(tools),
        "db_undo_rescue": UndoRescue(tools.own),
    }


class MakeBranch:
    """Steps `db_branch`, `db_branch_before`, `db_branch_after` {name, lsn, at}: a branch that can be connected to."""

    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return the branch, with the first id that nobody had got there: what is younger is the branch's own."""
        return _made(self._tools, args)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Whether it can be connected to is found by doing it: one that is there is returned."""
        return NotDone()


class LookAtBranch:
    """Step `db_branch_look` {name, relation, no_migration}: look at the branch, read-only."""

    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return what was seen. Raises Refused when it is not what was asked for."""
        return _looked(self._tools, args)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Looking changes nothing; it is done again."""
        return NotDone()


class RescueFromBranches:
    """Step `db_branch_rescue` {before, after, database, damage, mark}: the damaged rows come back."""

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return what was written, by table; done twice it finds nothing left to do."""
        own, mark = self._tools.own, str(args["mark"])
        damage, before, after = _of_run(self._tools, args, context.run)
        rescuer = own.rescuer(str(args["database"]))
        # Recorded before anything is written: a rescue that stays half-done can be undone as well.
        note: dict[str, Json] = {"mark": mark, "database": args["database"]}
        own.journal.note(own.environment, RESCUED, context.run, note, actor=own.actor)
        report = rescuer.rescue(damage, before, after, own.kept / parse_id(mark), told(context, own))
        return rescue_record(report)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Whether every row is right is found by doing it: what is right already is left."""
        return NotDone()


class CheckRescue:
    """Step `db_branch_rescue_check` {before, after, database, damage}: what is live is compared again, read-only."""

    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return how many rows are in conflict. Raises BackoutError when damage is left that nobody has touched."""
        own = self._tools.own
        damage, before, after = _of_run(self._tools, args, context.run)
        report = own.rescuer(str(args["database"])).damage(damage, before, after)
        return nothing_left(report, own.environment, own.runs.result(context.run, "db_branch_rescue"))

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Comparing changes nothing; it is done again."""
        return NotDone()


class NoteNewerThanBranches:
    """Step `db_branch_note_newer` {before, after, database, damage, mark}: which rows others have written since."""

    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Keep them beside what the rescue will keep, or say why that cannot be."""
        damage, before, after = _of_run(self._tools, args, context.run)
        return note_newer(self._tools.own, args, context, evidence_of(damage), (before, after))

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """What is kept already stays; it is done again."""
        return NotDone()


class CompareWithBranches:
    """Step `db_branch_compare` {before, after, database, damage, mark}: the live rows, with those of the branches."""

    effect = False

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return what was compared and what differs, as the second check of a rescue from side instances does."""
        own = self._tools.own
        damage, *sides = _of_run(self._tools, args, context.run)
        rescue, noting = (own.runs.result(context.run, name) for name in ("db_branch_rescue", "db_branch_note_newer"))
        return compare_rows(own, args, context, evidence_of(damage), (*sides,), rescue=rescue, noting=noting)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Comparing changes nothing; it is done again."""
        return NotDone()


class Finalize:
    """Step `db_branch_finalize` {name, keep_as, database, mark}: the branch comes in the live one's place."""

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return which branch is live and which is kept, as the vendor shows them, and record it; then read back."""
        tools, own = self._tools, self._tools.own
        side = branch_named(tools, str(args["name"]))
        done = tools.cutover.finalize(side, str(args["keep_as"]))
        note: dict[str, Json] = {"kept": done.kept.name, "database": args["database"], "mark": args["mark"]}
        own.journal.note(own.environment, BRANCH_SWAPPED, context.run, note, actor=own.actor)
        seen = tools.reader.look(tools.url(done.live), "", "")
        return {"live": _shown(done.live), "kept": done.kept.name, "migration_head": seen.migration_head}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """The port looks for the kept branch before it changes anything, so that doing it again is safe."""
        return NotDone()


class DropBranches:
    """Step `db_branch_drop` {names}: branches that are not needed any more."""

    def __init__(self, tools: BranchTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Delete them, and return their names."""
        names = args["names"]
        assert isinstance(names, list)  # noqa: S101 as planned
        _drop(self._tools, [str(name) for name in names])
        return {"dropped": names}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """It is done when none of them is there."""
        names = args["names"]
        assert isinstance(names, list)  # noqa: S101 as planned
        there = {each.name for each in self._tools.vendor.branches()}
        return NotDone() if there & set(map(str, names)) else Done({"dropped": names})


def foresee(tools: BranchTools, plan: Plan) -> RescueReport:
    """Return what the plan of a rescue would write, by table; only branches are made, and deleted again."""
    rescue = plan.step("db_branch_rescue").args
    names = [str(rescue["before"]), str(rescue["after"])]
    try:
        first, end = (_first(_made(tools, plan.step(action).args)) for action in (BEFORE, AFTER))
        _looked(tools, plan.step("db_branch_look").args)
        before, after = _urls(tools, rescue)
        damage = _damage(tools, rescue, (before, first), (after, end))
        return tools.own.rescuer(str(rescue["database"])).damage(damage, before, after)
    finally:
        _drop(tools, names)


def _made(tools: BranchTools, args: Mapping[str, Json]) -> Json:
    lsn, at = args["lsn"], args["at"]
    target = BranchTarget(
        lsn=None if lsn is None else parse_lsn(str(lsn)), at=float(str(at)) if at is not None else None
    )
    made = tools.vendor.restore(target, str(args["name"]))
    return {**_shown(made), "next_xid": tools.reader.next_xid(tools.url(made))}


def _shown(branch: SideBranch) -> dict[str, Json]:
    shown: dict[str, Json] = {}
    for name, value in record(branch).items():
        shown[name] = value if isinstance(value, bool) or value is None else str(value)
    return shown


def _looked(tools: BranchTools, args: Mapping[str, Json]) -> Json:
    name, relation, migration = (str(args[each]) for each in ("name", "relation", "no_migration"))
    seen = tools.reader.look(tools.url(branch_named(tools, name)), relation, migration)
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
    return {"migration_head": seen.migration_head, "read_only": True}


def _of_run(tools: BranchTools, args: Mapping[str, Json], run: str) -> tuple[Damage, str, str]:
    """Return the damage and both branches' connection strings, as this run made them."""
    first, end = (_first(tools.own.runs.result(run, action)) for action in (BEFORE, AFTER))
    before, after = _urls(tools, args)
    return _damage(tools, args, (before, first), (after, end)), before, after


def _damage(tools: BranchTools, args: Mapping[str, Json], before: tuple[str, int], after: tuple[str, int]) -> Damage:
    """Return what of all that was committed between the branches is the damage. Raises Refused: it is not among it."""
    told_of = args["damage"]
    assert isinstance(told_of, dict)  # noqa: S101 as planned
    xid, migration, ended, skip = (told_of[name] for name in ("xid", "migration", "ended", "skip"))
    assert isinstance(skip, list)  # noqa: S101 same
    found = tools.reader.committed_between(before, after)
    if xid is not None:
        what = f"transaction {xid}"
        ids, exact = of_transaction(found, int(str(xid)))
    else:
        what = f"a change of the schema by migration {migration}"
        ids, exact = of_migration(found, None if ended is None else int(str(ended)))
    if not ids:
        raise Refused(
            f"{what} is not among the {len(found)} commits between the two branches",
            where=tools.own.environment,
            options=(
                "The vendor's moments are less exact than they look, or a migration changed rows alone.",
                "Look at a side branch: `backout db restore TIME --side`.",
            ),
        )
    conflicts, queues = str(told_of["conflicts"]), told_of["queues"] is True
    return Damage(ids, None, conflicts, tuple(map(str, skip)), queues, exact=exact)


def _first(made: Json) -> int:
    assert isinstance(made, dict)  # noqa: S101 as `_made` returned
    return int(str(made["next_xid"]))


def _urls(tools: BranchTools, args: Mapping[str, Json]) -> tuple[str, str]:
    before, after = (tools.url(branch_named(tools, str(args[name]))) for name in ("before", "after"))
    return before, after


def _drop(tools: BranchTools, names: list[str]) -> None:
    for each in tools.vendor.branches():
        if each.name in names:
            tools.cutover.delete(each)
