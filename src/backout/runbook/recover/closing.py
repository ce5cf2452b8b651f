"""The steps that close an application before it is restored: the page, what starts it, the fence, the undo point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.analysis.history.remarks import find_underneath
from backout.errors import BackoutError, ProviderUnavailable
from backout.model.database.fence import FenceOrder
from backout.model.database.wal import parse_lsn, show_lsn
from backout.model.remark import Remark, RemarkKind
from backout.model.steps.recovery import (
    FenceCopyStep,
    FenceResult,
    FenceStandsStep,
    FenceStep,
    LostRows,
    MaintenanceResult,
    MaintenanceStep,
    PauseResult,
    PauseStep,
    ProveFenceResult,
    ProveFenceStep,
    UndoPointResult,
    UndoPointStep,
)
from backout.model.steps.restore import AlsoBackStep
from backout.model.triggers import TriggerKind
from backout.ports import Action, find_result
from backout.runbook.recover.tools import (
    BEGAN,
    find_plan,
    get_deadline,
    get_fence,
    get_restoring,
    read_own_fence,
)
from backout.runbook.recovery.facts import read_facts
from backout.runbook.recovery.restore_points import list_recorded_points, record_point
from backout.runbook.recovery.steps.side import find_running
from backout.runbook.recovery.whole_cluster import read_comes, read_written
from backout.runbook.rollback.marked import make_message
from backout.runbook.safety.checks import await_listed, check_unmoved, find_own, look_after_trouble
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.database.fence import FenceMark
    from backout.model.database.written_since import WrittenTable
    from backout.model.deployment import Deployment
    from backout.model.plan import Json
    from backout.ports import StepContext
    from backout.runbook.recover.tools import RecoverTools

ARCHIVED_S: Final = 60.0
"""How long the WAL of the undo point is waited for: it is streamed, or the archiver is behind."""
_EVERY_S: Final = 0.2
LISTED_S: Final = 10.0
"""How long the rows that an exchange leaves behind are listed by key, at most."""
WHY_POINT: Final = "before recovery"


class ShowMaintenance(Action[MaintenanceStep, MaintenanceResult]):
    """Step `recover_maintenance` {expected, leaving, deadline_s, shows}: the outage begins, and has a deadline."""

    arguments = MaintenanceStep

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: MaintenanceStep, context: StepContext) -> MaintenanceResult:
        """Return the deployment that was made; this run's own if it is there.

        Raises:
            WorldMoved: another deployment is live than planned.
        """
        tools, run = self._tools.tools, context.run
        check_identity(tools)
        at = tools.clock.now()
        began: dict[str, Json] = {"run": run, "actor": tools.actor, "at": at, "deadline": at + args.deadline_s}
        tools.journal.note(tools.environment, BEGAN, run, began, actor=tools.actor)
        deadline = get_deadline(self._tools, run)
        page = tools.platform.maintenance
        history = await_listed(tools, args.expected)
        if not args.shows or page is None:
            check_unmoved(tools, history, args.expected, run, args.leaving)
            return MaintenanceResult(deployment="", version=args.leaving, at=at, deadline=deadline)
        made = find_own(history, run, RemarkKind.MAINTENANCE)
        if made is None:
            check_unmoved(tools, history, args.expected, run, args.leaving)
            made = self._show(args, run, history[0])
        return MaintenanceResult(deployment=made.id, version=made.main, at=made.created_at, deadline=deadline)

    def _show(self, args: MaintenanceStep, run: str, top: Deployment) -> Deployment:
        tools = self._tools.tools
        page = tools.platform.maintenance
        assert page is not None
        remark = Remark(RemarkKind.MAINTENANCE, run, text=find_plan(tools.runs, run).why)
        try:
            made = page.show(make_message(tools, remark, top))
        except ProviderUnavailable:
            found = look_after_trouble(tools, args.expected, run, RemarkKind.MAINTENANCE)
            if found is None:
                raise
            made = found
        live = find_underneath(await_listed(tools, made.id))
        if live.id != made.id:
            raise BackoutError(f"the provider says that version {live.main} is live, not the maintenance page")
        return made


class Pause(Action[PauseStep, PauseResult]):
    """Step `recover_pause` {queues, schedules, caches}: nothing starts the application, nothing answers for it."""

    arguments = PauseStep

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: PauseStep, context: StepContext) -> PauseResult:
        """Return what was read back. Raises BackoutError: something still runs."""
        tools = self._tools.tools
        queues, caches, triggers = tools.platform.queues, tools.platform.read_caches, tools.rollback.triggers
        if args.schedules and triggers is not None:
            triggers.set_schedules(())
            if found := triggers.read((TriggerKind.SCHEDULES,)).schedules:
                raise BackoutError(f"schedules still run: {', '.join(found)}", where=tools.environment)
        backlog: dict[str, int] = {}
        if args.queues and queues is not None:
            for name in args.queues:
                queues.pause(name)
            states = [each for each in queues.list_consumed() if each.name in args.queues]
            if left := [each.name for each in states if each.delivers]:
                raise BackoutError(f"queues still deliver: {', '.join(left)}", where=tools.environment)
            backlog = {each.name: each.backlog for each in states if each.backlog is not None}
        if args.caches and caches is not None:
            for cache in args.caches:
                caches.turn_off(cache.id)
            on = {each.id: each.name for each in caches.read() if each.is_on}
            if left := [each.name for each in args.caches if each.id in on]:
                raise BackoutError(f"caches still answer: {', '.join(left)}", where=tools.environment)
        names = tuple(each.name for each in args.caches)
        return PauseResult(queues=args.queues, schedules=args.schedules or (), caches=names, backlog=backlog)


class RaiseFence(Action[FenceStep, FenceResult]):
    """Step `recover_fence` {deadline_s}: nobody but us can log in; doing it again ends sessions again."""

    arguments = FenceStep

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: FenceStep, context: StepContext) -> FenceResult:
        """Return the fence that stands. Raises Refused: it would not hold, or another run's stands."""
        tools, run = self._tools, context.run
        fence, standing = get_fence(tools), read_own_fence(tools, run)
        roles = tuple(role.name for role in standing.roles) if standing is not None else fence.survey().planned
        owner = standing.run if standing is not None else run
        order = FenceOrder(owner, tools.tools.actor, get_deadline(tools, run), roles)
        return describe_fence(fence.raise_fence(order, tools.tools.say))


class ProveFence(Action[ProveFenceStep, ProveFenceResult]):
    """Step `recover_prove_fence` {quiet_s}: no session of others for a while, and no commit of theirs since."""

    arguments = ProveFenceStep
    effect = False

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: ProveFenceStep, context: StepContext) -> ProveFenceResult:
        """Return what was found. Raises BackoutError: it does not hold."""
        tools = self._tools
        raised = find_result(tools.tools.runs, context.run, FenceStep)
        assert raised is not None
        proof = get_fence(tools).prove(parse_lsn(raised.lsn), args.quiet_s, tools.tools.say)
        if not proof.holds:
            raise BackoutError(f"the fence does not hold: {'; '.join(proof.why)}", where=tools.tools.environment)
        why = (
            f"no session of anyone else for {proof.quiet_s:g} s, and {proof.commits} commits between "
            f"{show_lsn(proof.since_lsn)} and {show_lsn(proof.until_lsn)}, none of them in this database but "
            f"{proof.maintenance} of autovacuum's"
        )
        return ProveFenceResult(why=why, at=tools.tools.clock.now())


class CloseUndoPoint(Action[UndoPointStep, UndoPointResult]):
    """Step `recover_undo_point`: a restore point at the fence, with its WAL in the archive."""

    arguments = UndoPointStep

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: UndoPointStep, context: StepContext) -> UndoPointResult:
        """Return the point. Raises BackoutError: its WAL does not arrive."""
        tools = get_restoring(self._tools)
        name = f"before-{context.run}"
        known = list_recorded_points(tools.journal, tools.environment)
        point = next((each for each in known if each.name == name), None)
        if point is None:
            point = record_point(tools.journal, tools.environment, tools.live, name, why=WHY_POINT, actor=tools.actor)
        deadline = tools.clock.now() + ARCHIVED_S
        while not any(
            each.timeline == point.timeline and each.begin_lsn <= point.lsn <= each.end_lsn
            for each in tools.backups.wal()
        ):
            if tools.clock.now() >= deadline:
                raise BackoutError(
                    f"the WAL up to {show_lsn(point.lsn)} is not in the archive after {ARCHIVED_S:.0f} s, so there "
                    "would be no way back to the moment of the fence",
                    where=tools.environment,
                    hint=f"backout db wal status -e {tools.environment}",
                )
            tools.clock.sleep(_EVERY_S)
        rows = list_lost_rows(self._tools, context)
        lost = self._count_lost(context.run) if rows is None else sum_rows(rows)
        return UndoPointResult(name=name, lsn=show_lsn(point.lsn), at=point.at, lost=lost, rows=rows)

    def _count_lost(self, run: str) -> dict[str, int] | None:
        """Return the row versions that an exchange leaves behind, by table, by the WAL; None where it cannot tell."""
        tools, plan = get_restoring(self._tools), find_plan(self._tools.tools.runs, run)
        if not plan.has(AlsoBackStep):
            return None
        look = plan.arguments(AlsoBackStep)
        facts = read_facts(tools)
        try:
            written = facts and read_written(tools, facts, read_comes(look.comes, Path(look.incoming)))
            tables = tools.live.tables()
        except BackoutError as error:
            self._tools.tools.say(f"what was written since is not counted: {error.what}")
            return None
        if not written:
            return None
        return {tables[key]: rows for key, rows in sorted(written.relations.items()) if key in tables}


def list_lost_rows(tools: RecoverTools, context: StepContext) -> tuple[LostRows, ...] | None:
    """Return what an exchange leaves behind by key; None where that takes too long, for nobody is served meanwhile."""
    restoring, plan = get_restoring(tools), find_plan(tools.tools.runs, context.run)
    if restoring.written is None or not plan.has(FenceCopyStep):
        return None
    dsn = find_running(restoring, plan.arguments(FenceCopyStep).name, context).dsn
    try:
        return tuple(map(_describe_lost, restoring.written(dsn, LISTED_S)))
    except BackoutError as error:
        tools.tools.say(f"the rows that were written since are not listed by key, only counted: {error.what}")
        return None


def sum_rows(rows: Iterable[LostRows]) -> dict[str, int]:
    """Return how many rows were written to each table."""
    return {each.table: each.inserts + each.updates + each.deletes for each in rows}


def _describe_lost(table: WrittenTable) -> LostRows:
    return LostRows(
        table=table.table,
        key=table.key,
        inserts=table.inserts,
        updates=table.updates,
        deletes=table.deletes,
        inserted=table.inserted,
        updated=table.updated,
        deleted=table.deleted,
    )


class CopyFence(Action[FenceCopyStep, FenceResult]):
    """Step `recover_fence_copy` {name}: the fence in a side instance; with the exchange its own roles take over."""

    arguments = FenceCopyStep

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: FenceCopyStep, context: StepContext) -> FenceResult:
        """Return the fence as it stands there. Raises BackoutError: the live one is gone, or it cannot be set."""
        mark = read_own_fence(self._tools, context.run)
        if mark is None:
            raise BackoutError("the fence is gone", where=self._tools.tools.environment)
        side = find_running(get_restoring(self._tools), args.name, context)
        return describe_fence(get_fence(self._tools).set_in(side.dsn, mark))


class CheckFence(Action[FenceStandsStep, FenceResult]):
    """Step `recover_fence_stands` {when}: the fence of this run stands in the database that answers."""

    arguments = FenceStandsStep
    effect = False

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: FenceStandsStep, context: StepContext) -> FenceResult:
        """Return it. Raises BackoutError: it is gone; someone may have written since."""
        mark = read_own_fence(self._tools, context.run)
        if mark is None:
            raise BackoutError(
                "the fence of this run does not stand any more, so something may have been written that would be lost",
                where=self._tools.tools.environment,
            )
        if mark.let_in:
            raise BackoutError(
                f"{', '.join(mark.let_in)} can log in although the fence stands, so something may have been written",
                where=self._tools.tools.environment,
            )
        return describe_fence(mark)


def describe_fence(mark: FenceMark) -> FenceResult:
    """Return a fence as the journal has it."""
    return FenceResult(roles=tuple(role.name for role in mark.roles), at=mark.raised_at, lsn=show_lsn(mark.lsn))
