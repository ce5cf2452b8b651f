"""The steps of a side instance: it is made, looked at, opened, made ready to be moved in, and dropped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backout.errors import BackoutError, Refused
from backout.model.recovery import SideOrder, SideState, parse_lsn, show_lsn
from backout.ports import Done, NotDone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.model.plan import Json
    from backout.model.recovery import SideInstance
    from backout.ports import Probe, StepContext
    from backout.runbook.restore import RestoreTools

_EVERY_S = 1.0


def told(context: StepContext, tools: RestoreTools) -> Callable[[str, int, int], None]:
    """Return what records progress once a second: how far, how fast, how long still."""
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


class MakeSide:
    """Step `db_side` {name, backup, lsn, timeline, wal, inclusive, place}: a side instance that waits at its target."""

    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {name, how, lsn, dsn} of the instance. Raises Refused: a folder that a swap does not make."""
        order, server = order_of(args), self._tools.server
        if order.place and (server is None or Path(order.place).parent != server.data_directory.parent):
            raise Refused("it does not lie beside the live data directory", where=order.place)
        return shown(self._tools.sides.start(order, told(context, self._tools)))

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """It is done when the instance waits at the target, or went on from there."""
        side = self._tools.sides.find(str(args["name"]))
        there = side is not None and side.state in (SideState.PAUSED, SideState.PROMOTED)
        return Done(shown(side)) if there and side is not None else NotDone()


class CheckSide:
    """Step `db_side_check` {name, database, relation, no_migration}: look at the instance, read-only."""

    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return what was seen. Raises Refused when it is not what was asked for."""
        tools, name = self._tools, str(args["name"])
        side = running(tools, name, context)
        seen = tools.beside.look(name, str(args["database"]), str(args["relation"]), str(args["no_migration"]))
        if args["relation"] and not seen.relation_there:
            raise Refused(
                f"{args['relation']} is not there at {show_lsn(side.target_lsn)}: another one was dropped",
                where=tools.environment,
                options=(f"Name another target; look at this one: {side.dsn}.",),
            )
        if args["no_migration"] and seen.migration_there:
            raise Refused(
                f"migration {args['no_migration']} is applied already at {show_lsn(side.target_lsn)}",
                where=tools.environment,
            )
        return {"migration_head": seen.migration_head, "replayed": show_lsn(side.replayed_lsn), "read_only": True}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Looking changes nothing; it is done again."""
        return NotDone()


class OpenSide:
    """Step `db_side_open` {name}: the instance goes on as a database of its own, so that everything can be read.

    While it waits at its target, it holds the locks of every transaction that was under way, the damage's among them.
    """

    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return where it can be reached."""
        tools, name = self._tools, str(args["name"])
        running(tools, name, context)
        tools.beside.promote(name)
        return shown(running(tools, name, context))

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """It is done when it takes sessions of its own."""
        side = self._tools.sides.find(str(args["name"]))
        return Done(shown(side)) if side is not None and side.state is SideState.PROMOTED else NotDone()


class Promote:
    """Step `db_promote` {name}: the instance becomes a database of its own and is stopped, ready to be moved."""

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return where its data directory is; an instance that was killed meanwhile is started again first."""
        tools, name = self._tools, str(args["name"])
        side = tools.sides.find(name)
        if side is None:
            raise BackoutError(f"side instance {name} is gone", where=tools.environment)
        if side.state in (SideState.STOPPED, SideState.REPLAYING):  # promoted early, it would be an older state
            tools.beside.resume(name, told(context, tools))
        if side.state is not SideState.READY:
            tools.beside.promote(name)
            tools.beside.stop(name)
        return {"data_directory": side.data_directory}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """It is done when it is stopped and no longer a standby."""
        side = self._tools.sides.find(str(args["name"]))
        ready = side is not None and side.state is SideState.READY
        return Done({"data_directory": side.data_directory}) if ready and side is not None else NotDone()


class DropSides:
    """Step `db_drop_sides` {names}: side instances that are not needed any more."""

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Remove them."""
        names = args["names"]
        assert isinstance(names, list)  # noqa: S101 as planned
        for name in names:
            self._tools.sides.drop(str(name))
        return {"dropped": names}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Removing what is gone does nothing."""
        return NotDone()


def order_of(args: Mapping[str, Json]) -> SideOrder:
    """Return what a step `db_side` asks for."""
    wal = args["wal"]
    assert isinstance(wal, list)  # noqa: S101 as planned
    return SideOrder(
        name=str(args["name"]),
        backup=str(args["backup"]),
        lsn=parse_lsn(str(args["lsn"])),
        timeline=int(str(args["timeline"])),
        wal=tuple(str(name) for name in wal),
        inclusive=args["inclusive"] is True,
        xid=None if args["xid"] is None else int(str(args["xid"])),
        place=str(args["place"]),
        from_base=bool(args.get("accepted")) and bool(args["place"]),
    )


def running(tools: RestoreTools, name: str, context: StepContext) -> SideInstance:
    """Return an instance that runs; one that was killed meanwhile is started again."""
    side = tools.sides.find(name)
    if side is None:
        raise BackoutError(f"side instance {name} is gone", where=tools.environment)
    if side.state in (SideState.STOPPED, SideState.READY, SideState.REPLAYING):
        return tools.beside.resume(name, told(context, tools))
    return side


def shown(side: SideInstance) -> Json:
    """Return an instance as the journal and `--json` show it."""
    return {
        "name": side.name,
        "how": side.how,
        "state": str(side.state),
        "lsn": show_lsn(side.target_lsn),
        "replayed": show_lsn(side.replayed_lsn),
        "dsn": side.dsn,
    }
