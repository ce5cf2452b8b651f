"""The steps of a side instance: make it, look at it, open it, make it ready to be moved in, drop it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backout.errors import BackoutError, Refused
from backout.model.database.recovery import SideOrder, SideState
from backout.model.database.wal import parse_lsn, show_lsn
from backout.model.steps.restore import (
    DropResult,
    DropSidesStep,
    PromoteResult,
    PromoteStep,
    SideCheckResult,
    SideCheckStep,
    SideOpenStep,
    SideResult,
    SideStep,
)
from backout.ports import Action, Done, NotDone

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.database.recovery import SideInstance
    from backout.ports import Probe, StepContext
    from backout.runbook.recovery.tools import RestoreTools

_EVERY_S = 1.0


def ignore_progress(_doing: str, _done: int, _whole: int) -> None:
    """Progress that is not shown."""


def make_progress_teller(context: StepContext, tools: RestoreTools) -> Callable[[str, int, int], None]:
    """Return a recorder of progress, once a second: how far, how fast, how long still."""
    begin: dict[str, tuple[float, int]] = {}
    last = [0.0]

    def progress(doing: str, done: int, whole: int) -> None:
        now = tools.clock.now()
        since, first = begin.setdefault(doing, (now, done))
        if now - last[0] < _EVERY_S:
            return
        last[0] = now
        rate = (done - first) / (now - since) if now > since else 0.0
        left_s = round((whole - done) / rate, 1) if rate > 0 else None
        context.progress({"doing": doing, "done": done, "of": whole, "per_s": round(rate), "left_s": left_s})

    return progress


class MakeSide(Action[SideStep, SideResult]):
    """Step `db_side` {name, backup, lsn, timeline, wal, inclusive, place}: a side instance that waits at its target."""

    arguments = SideStep
    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: SideStep, context: StepContext) -> SideResult:
        """Return {name, how, lsn, dsn} of the instance. Raises Refused: a folder that no swap makes."""
        order, server = make_order(args), self._tools.server
        if order.place and (server is None or Path(order.place).parent != server.data_directory.parent):
            raise Refused("it does not lie beside the live data directory", where=order.place)
        return describe_side(self._tools.sides.start(order, make_progress_teller(context, self._tools)))

    def probe(self, args: SideStep, context: StepContext) -> Probe[SideResult]:
        """It is done when the instance waits at the target, or went on from there."""
        side = self._tools.sides.find(args.name)
        there = side is not None and side.state in (SideState.PAUSED, SideState.PROMOTED)
        return Done(describe_side(side)) if there and side is not None else NotDone()


class CheckSide(Action[SideCheckStep, SideCheckResult]):
    """Step `db_side_check` {name, database, relation, no_migration}: look at the instance, read-only."""

    arguments = SideCheckStep
    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: SideCheckStep, context: StepContext) -> SideCheckResult:
        """Return what was seen. Raises Refused when it is not what was asked for."""
        tools, name = self._tools, args.name
        side = find_running(tools, name, context)
        seen = tools.beside.look(name, args.database, args.relation, args.no_migration)
        if args.relation and not seen.relation_there:
            raise Refused(
                f"{args.relation} is not there at {show_lsn(side.target_lsn)}: another one was dropped",
                where=tools.environment,
                options=(f"Name another target; look at this one: {side.dsn}.",),
            )
        if args.no_migration and seen.migration_there:
            raise Refused(
                f"migration {args.no_migration} is applied already at {show_lsn(side.target_lsn)}",
                where=tools.environment,
            )
        return SideCheckResult(migration_head=seen.migration_head, replayed=show_lsn(side.replayed_lsn))


class OpenSide(Action[SideOpenStep, SideResult]):
    """Step `db_side_open` {name}: the instance becomes a database of its own, so that everything can be read.

    While it waits at its target it holds the locks of every transaction under way, the damage's among them.
    """

    arguments = SideOpenStep
    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: SideOpenStep, context: StepContext) -> SideResult:
        """Return where it can be reached."""
        tools, name = self._tools, args.name
        find_running(tools, name, context)
        tools.beside.promote(name)
        return describe_side(find_running(tools, name, context))

    def probe(self, args: SideOpenStep, context: StepContext) -> Probe[SideResult]:
        """It is done when it takes sessions of its own."""
        side = self._tools.sides.find(args.name)
        return Done(describe_side(side)) if side is not None and side.state is SideState.PROMOTED else NotDone()


class Promote(Action[PromoteStep, PromoteResult]):
    """Step `db_promote` {name}: the instance becomes a database of its own and is stopped, ready to be moved."""

    arguments = PromoteStep

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: PromoteStep, context: StepContext) -> PromoteResult:
        """Return where its data directory is; an instance that was killed in the meantime is started again first.

        Raises:
            BackoutError: it is gone.
        """
        tools, name = self._tools, args.name
        side = tools.sides.find(name)
        if side is None:
            raise BackoutError(f"side instance {name} is gone", where=tools.environment)
        if side.state in (SideState.STOPPED, SideState.REPLAYING):  # promoted early, it would be an older state
            tools.beside.resume(name, make_progress_teller(context, tools))
        if side.state is not SideState.READY:
            tools.beside.promote(name)
            tools.beside.stop(name)
        return PromoteResult(data_directory=side.data_directory)

    def probe(self, args: PromoteStep, context: StepContext) -> Probe[PromoteResult]:
        """It is done when it is stopped and no longer a standby."""
        side = self._tools.sides.find(args.name)
        ready = side is not None and side.state is SideState.READY
        return Done(PromoteResult(data_directory=side.data_directory)) if ready and side is not None else NotDone()


class DropSides(Action[DropSidesStep, DropResult]):
    """Step `db_drop_sides` {names}: side instances that are not needed any more."""

    arguments = DropSidesStep

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: DropSidesStep, context: StepContext) -> DropResult:
        """Remove them."""
        for name in args.names:
            self._tools.sides.drop(name)
        return DropResult(dropped=args.names)


def make_order(args: SideStep) -> SideOrder:
    """Return what a step `db_side` asks for."""
    return SideOrder(
        name=args.name,
        backup=args.backup,
        lsn=parse_lsn(args.lsn),
        timeline=args.timeline,
        wal=args.wal,
        inclusive=args.inclusive,
        xid=args.xid,
        place=args.place,
        from_base=bool(args.accepted) and bool(args.place),
    )


def find_running(tools: RestoreTools, name: str, context: StepContext) -> SideInstance:
    """Return a running instance; one that was killed in the meantime is started again.

    Raises:
        BackoutError: it is gone.
    """
    side = tools.sides.find(name)
    if side is None:
        raise BackoutError(f"side instance {name} is gone", where=tools.environment)
    if side.state in (SideState.STOPPED, SideState.READY, SideState.REPLAYING):
        return tools.beside.resume(name, make_progress_teller(context, tools))
    return side


def describe_side(side: SideInstance) -> SideResult:
    """Return an instance as the journal and `--json` show it."""
    return SideResult(
        name=side.name,
        how=side.how,
        state=str(side.state),
        lsn=show_lsn(side.target_lsn),
        replayed=show_lsn(side.replayed_lsn),
        dsn=side.dsn,
    )
