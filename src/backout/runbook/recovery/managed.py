"""Restore where a vendor runs the database: TARGET becomes a moment that the vendor accepts; nothing is touched."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import BackoutError, Refused, UsageError
from backout.model.database.branch import BranchTarget
from backout.model.database.capability import Granularity
from backout.model.database.recovery import TargetKind
from backout.model.value import Value
from backout.plan.branches import (
    BranchMoment,
    Treatment,
    describe_moment,
    make_side_plan,
    make_swap_plan,
    rescue_plan,
    undo_swap_plan,
)
from backout.plan.restore import Job, Look, read_target, undo_rescue_plan
from backout.report.times import format_time
from backout.rules import SafetyRule
from backout.runbook.recovery.branch import check_cutover
from backout.runbook.recovery.branch_points import find_point
from backout.runbook.recovery.facts import check_identity, read_facts
from backout.runbook.recovery.restore import list_points
from backout.runbook.recovery.target import NO_TARGET
from backout.runbook.recovery.undoable import choose_undoable, describe_rescue

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.database.branch import SideBranch
    from backout.model.database.capability import VendorState, VendorWay
    from backout.model.database.recovery import MigrationClue
    from backout.model.plan import Plan
    from backout.plan.restore import Asked
    from backout.ports import BranchReader, CopyComparer, VendorBackups, VendorCutover
    from backout.runbook.recovery.tools import RestoreTools

BRANCH_SWAPPED = "database.branch.swapped"
_MICROSECOND = 1e-6
_SLACK_S = 1.0
"""Seconds after the end that a migration tool noted by its own clock."""
_RULE = SafetyRule.PREFLIGHT


class BranchTools(Value, frozen=True):
    """What a restore at a vendor may use.

    Args:
        own: the live database, the journal, the rescuer and the folder in which rescues keep what they replaced.
        url: returns a branch's connection string, which is never shown.
        reader: reads what a branch shows.
        copies: the second check of a swap, through no pooler.
        pooled: whether the live connection goes through a pooler, where no session lasts.
    """

    own: RestoreTools
    vendor: VendorBackups
    cutover: VendorCutover
    reader: BranchReader
    url: Callable[[SideBranch], str]
    copies: CopyComparer
    pooled: bool = False


def find(tools: BranchTools, text: str) -> tuple[Look, BranchMoment]:
    """Return what a branch has to show, and the moment that TARGET means; nothing is touched.

    Raises:
        UsageError: TARGET means nothing, or nothing there fits it.
        Refused: it cannot be reached; names what can be done.
        AuthError, ProviderUnavailable: the database or the vendor does not answer.
    """
    own = tools.own
    asked = read_target(text, list_points(own), own.clock.now())
    if asked is None:
        raise UsageError(f"{text!r} is no target", hint=NO_TARGET)
    if asked.kind is TargetKind.TIME and float(asked.value) > own.clock.now():
        raise Refused(f"{text!r} lies in the future", where=own.environment, rule=_RULE)
    _check_pinned(tools)
    state = tools.vendor.capabilities()
    if not state.problem and all(way.granularity is Granularity.SNAPSHOT for way in state.ways):
        return Look(own.database), find_point(own, tools.vendor, state, asked)
    way = _choose_way(tools, state)
    look, moment = _Moments(tools, way).of(asked)
    for target in (moment.before, moment.after):
        _check_within(way, target)
    return look, moment


def plan_side(tools: BranchTools, text: str) -> Plan:
    """Return the plan of a branch that stays; the same moment gives the same branch. Raises as `find` does."""
    look, moment = find(tools, text)
    mark = hashlib.sha256(describe_moment(moment.before).encode()).hexdigest()[:8]
    return make_side_plan(Job(tools.own.environment, look, mark), moment, f"backout-side-{mark}")


def plan_rescue(tools: BranchTools, text: str, treatment: Treatment) -> Plan:
    """Return the plan that copies damaged rows back.

    Raises:
        Refused: it is not known which transactions did the damage, or the live connection is a pooler's.
        As `find` does.
    """
    if tools.pooled:
        raise Refused(
            "a rescue holds one session of the live database, and the connection string leads to the vendor's pooler",
            where=tools.own.environment,
            rule=_RULE,
            options=("Name the direct address: `database.admin_url_env`.",),
        )
    look, moment = find(tools, text)
    if moment.before.snapshot is not None:
        raise Refused(
            "a rescue from a restore point would take back what others wrote between it and the damage",
            where=tools.own.environment,
            rule=_RULE,
            options=(f"Make a side branch of it, and copy from there: `backout db restore {text!r} --side`.",),
        )
    if moment.after is None:
        raise Refused(
            f"{text!r} is a moment, and does not say which transaction did the damage",
            where=tools.own.environment,
            rule=_RULE,
            options=(
                'Name it: a transaction id, "before migration NAME" or "before drop of TABLE.COLUMN".',
                f"Look at that moment: `backout db restore {text!r} --side`.",
                f"Replace the whole: `backout db restore {text!r} --swap`.",
            ),
        )
    return rescue_plan(_make_job(tools, look, text), moment, moment.after, treatment)


def plan_swap(tools: BranchTools, text: str) -> Plan:
    """Return the plan that puts a branch in the live one's place. Raises Refused: the vendor cannot; as `find`."""
    rescue = f"Rescue the damaged rows alone: `backout db restore {text!r} -e {tools.own.environment}`."
    check_cutover(tools.vendor, tools.own.environment, rescue)
    look, moment = find(tools, text)
    job = _make_job(tools, look, text)
    return make_swap_plan(job, moment, f"{_find_live(tools).name}-before-{job.mark}")


def plan_undo(tools: BranchTools, run: str | None = None) -> Plan:
    """Return the plan that takes back the latest swap or rescue, or that of a run. Raises as `choose_undoable`."""
    own = tools.own
    chosen = choose_undoable(own, BRANCH_SWAPPED, run)
    _check_pinned(tools)
    mark, database = str(chosen.data["mark"]), str(chosen.data["database"])
    if chosen.is_rescue:
        return undo_rescue_plan(own.environment, mark, database, describe_rescue(own, chosen))
    job = _make_job(tools, Look(database), "undo")
    return undo_swap_plan(job, str(chosen.data["kept"]), f"{_find_live(tools).name}-before-{job.mark}")


def find_branch(tools: BranchTools, name: str) -> SideBranch:
    """Return a branch by its name. Raises BackoutError: it is gone."""
    found = next((each for each in tools.vendor.branches() if each.name == name), None)
    if found is None:
        raise BackoutError(f"branch {name} is gone at the vendor", where=tools.own.environment)
    return found


def _check_pinned(tools: BranchTools) -> None:
    if tools.own.pinned is not None:
        check_identity(tools.own, read_facts(tools.own))


def _find_live(tools: BranchTools) -> SideBranch:
    return next(each for each in tools.vendor.branches() if each.live)


def _make_job(tools: BranchTools, look: Look, text: str) -> Job:
    mark = hashlib.sha256(f"{text} {tools.own.clock.now()}".encode()).hexdigest()[:8]
    return Job(tools.own.environment, look, mark)


# --- what the vendor takes -------------------------------------------------------------------------------------------


def _choose_way(tools: BranchTools, state: VendorState) -> VendorWay:
    """Return the vendor's most exact way that makes a branch of a moment."""
    if state.problem:
        raise Refused(f"{state.vendor}: {state.problem}", where=tools.own.environment, rule=_RULE)
    ways = [way for way in state.ways if not way.in_place and way.has_client]
    fit = [way for way in ways if way.granularity is not Granularity.SNAPSHOT and not way.missing]
    if fit:
        return min(fit, key=lambda way: list(Granularity).index(way.granularity))
    raise _refuse_moment(tools, state, ways)


def _refuse_moment(tools: BranchTools, state: VendorState, ways: list[VendorWay]) -> Refused:
    why = next((way.missing for way in ways if way.missing), "") or f"{state.vendor} takes no moment"
    options = ["Restore one of your own dumps: `backout db dumps list`.", "Roll forward."]
    copies = [way for way in ways if way.granularity is Granularity.SNAPSHOT and not way.missing]
    if copies:
        latest = copies[0].latest
        of = f", of {format_time(latest)}" if latest else ""
        line = f"backout db branch create -e {tools.own.environment} --name restored"
        options.insert(0, f"A new branch from the latest backup{of}, to look at and copy from: `{line}`.")
        why = f"{state.vendor} restores whole snapshots alone; a moment cannot be named"
    return Refused(why, where=tools.own.environment, rule=_RULE, options=tuple(options))


def _check_within(way: VendorWay, target: BranchTarget | None) -> None:
    if target is None or target.at is None:
        return  # only the vendor knows whether a position is kept
    earliest, latest = way.earliest or -math.inf, way.latest or math.inf
    if not earliest <= target.at <= latest:
        ends = " to ".join(format_time(each) if math.isfinite(each) else "?" for each in (earliest, latest))
        raise Refused(
            f"{format_time(target.at)} is out of the vendor's window: {ends}",
            rule=_RULE,
            options=("Restore one of your own dumps: `backout db dumps list`.",),
        )


class _Moments:
    """Turns TARGET into a moment that this way accepts."""

    def __init__(self, tools: BranchTools, way: VendorWay) -> None:
        self._tools = tools
        self._live = tools.own.live
        self._way = way
        self._granularity = way.granularity
        self._latest = math.inf if way.latest is None else way.latest

    def of(self, asked: Asked) -> tuple[Look, BranchMoment]:
        """Return what the branch has to show, and the moment."""
        look = Look(self._tools.own.database)
        if asked.kind is TargetKind.XID:
            return look, self._transaction(int(asked.value), f"transaction {asked.value}")
        if asked.kind is TargetKind.DROP:
            return replace(look, relation=str(asked.value)), self._drop(str(asked.value))
        if asked.kind is TargetKind.MIGRATION:
            name = str(asked.value)
            clue = self._find_clue(name)
            return replace(look, no_migration=clue.stored or name), self._migration(name, clue)
        return look, self._moment(asked)

    def _moment(self, asked: Asked) -> BranchMoment:
        if asked.kind is TargetKind.TIME:
            at = float(asked.value)
            return BranchMoment(self._before(at), self._granularity, f"just before {format_time(at)}")
        if asked.kind is TargetKind.LATEST:
            raise Refused(
                "a vendor's branch of the latest moment is the live database itself",
                where=self._tools.own.environment,
                rule=_RULE,
                options=('Give a time, such as "1 minute ago".',),
            )
        point = asked.point
        if point is not None:
            _check_within(self._way, BranchTarget(at=point.at))
        how = "as typed" if point is None else f"recorded as {point.name} ({point.why})"
        if self._granularity is Granularity.LSN:
            lsn = int(asked.value) if point is None else point.lsn
            return BranchMoment(BranchTarget(lsn=lsn), self._granularity, how)
        if point is None:
            raise Refused(
                "this vendor takes no LSN",
                where=self._tools.own.environment,
                rule=_RULE,
                options=("Give a time, or a restore point: `backout db points list`.",),
            )
        return BranchMoment(self._before(point.at), self._granularity, how)

    def _transaction(self, xid: int, what: str) -> BranchMoment:
        at = self._live.find_commit_time(xid)
        if at is None:
            raise Refused(
                f"when {what} was committed is not recorded: track_commit_timestamp is off, or was at that time",
                where=self._tools.own.environment,
                rule=_RULE,
                options=(
                    'Name the migration, whose row says when it began: "before migration NAME".',
                    'Give a time or a restore point to look at: `backout db restore "10 minutes ago" --side`.',
                    "For the next time: track_commit_timestamp = on, or `backout db points add` before each change.",
                ),
            )
        how = f"{what} was committed at {format_time(at)}"
        return BranchMoment(self._before(at), self._granularity, how, self._after(at), xid)

    def _drop(self, name: str) -> BranchMoment:
        table = name.rpartition(".")[0]
        clue = self._live.find_drop(table) if table else None
        if clue is None or not clue.exists:
            raise Refused(
                f"nothing in the catalog tells when {name} was dropped: the row of a table goes with it",
                where=self._tools.own.environment,
                rule=_RULE,
                options=(
                    'Name what dropped it: a transaction id, or "before migration NAME".',
                    'Give a time or a restore point to look at: `backout db restore "10 minutes ago" --side`.',
                ),
            )
        if not clue.xids:
            raise UsageError(f"table {table} has lost no column", where=self._tools.own.environment)
        return self._transaction(clue.xids[-1], f"transaction {clue.xids[-1]}, which dropped a column of {table},")

    def _find_clue(self, name: str) -> MigrationClue:
        clue = self._live.find_migration(name)
        if clue is None:
            where = self._tools.own.environment
            raise UsageError(
                f"no migration {name!r} was applied here", hint="backout db migrations status", where=where
            )
        return clue

    def _migration(self, name: str, clue: MigrationClue) -> BranchMoment:
        ended = self._live.find_commit_time(clue.xid)
        if clue.began_at is None:  # Django and Alembic write their row in the migration's own transaction
            moment = self._transaction(clue.xid, f"the transaction that wrote the row of migration {name}")
            return replace(moment, migration=name)
        changes = self._live.schema_changes(clue.began_at, ended) if ended is not None else ()
        if changes:
            how = f"migration {name} changed the schema at {format_time(changes[0])}"
            return BranchMoment(
                self._before(changes[0]), self._granularity, how, self._after(changes[-1]), migration=name
            )
        how = f"migration {name} began at {format_time(clue.began_at)}, as its own row says"
        last = ended if ended is not None else clue.ended_at
        if last is not None and ended is None:
            last = min(last + _SLACK_S, self._latest)
        after = None if last is None else self._after(last)
        before = self._before(clue.began_at)
        return BranchMoment(before, self._granularity, how, after, migration=name, ended=clue.xid)

    def _before(self, at: float) -> BranchTarget:
        last = at - _MICROSECOND
        return BranchTarget(at=float(math.floor(last)) if self._granularity is Granularity.SECOND else last)

    def _after(self, at: float) -> BranchTarget:
        if self._granularity is Granularity.SECOND:
            return BranchTarget(at=max(at, min(float(math.ceil(at)), self._latest)))
        return BranchTarget(at=at)
