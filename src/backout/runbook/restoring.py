"""The steps of a restore; each can be repeated after a crash, and says from the world alone whether it happened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backout.errors import BackoutError, Refused, WorldMoved
from backout.model.recovery import Damage, SideOrder, SideState, parse_lsn, show_lsn
from backout.ports import Done, NotDone
from backout.runbook.restore import PROMISE_LOST, RESCUED, SWAPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.model.plan import Json, Plan
    from backout.model.recovery import RescueReport, SideInstance
    from backout.ports import Action, DatabaseServer, Probe, StepContext
    from backout.runbook.restore import RestoreTools

_EVERY_S = 1.0
_UP_WITHIN_S = 120.0
"""A server that was just started may replay WAL before it answers."""


def actions(tools: RestoreTools) -> dict[str, Action]:
    """Return every step's action by its name in plans."""
    return {
        "db_side": MakeSide(tools),
        "db_side_check": CheckSide(tools),
        "db_side_open": OpenSide(tools),
        "db_promote": Promote(tools),
        "db_stop_server": StopServer(tools),
        "db_exchange": Exchange(tools),
        "db_start_server": StartServer(tools),
        "db_read_back": ReadBack(tools),
        "db_rescue": Rescue(tools),
        "db_rescue_check": CheckRescue(tools),
        "db_undo_rescue": UndoRescue(tools),
        "db_drop_sides": DropSides(tools),
    }


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
        """Return {name, how, lsn, dsn} of the instance."""
        side = self._tools.sides.start(_order(args), told(context, self._tools))
        return _shown(side)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """It is done when the instance waits at the target, or went on from there."""
        side = self._tools.sides.find(str(args["name"]))
        there = side is not None and side.state in (SideState.PAUSED, SideState.PROMOTED)
        return Done(_shown(side)) if there and side is not None else NotDone()


class CheckSide:
    """Step `db_side_check` {name, database, relation, no_migration}: look at the instance, read-only."""

    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return what was seen. Raises Refused when it is not what was asked for."""
        tools, name = self._tools, str(args["name"])
        side = _running(tools, name, context)
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
        _running(tools, name, context)
        tools.beside.promote(name)
        return _shown(_running(tools, name, context))

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """It is done when it takes sessions of its own."""
        side = self._tools.sides.find(str(args["name"]))
        return Done(_shown(side)) if side is not None and side.state is SideState.PROMOTED else NotDone()


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


class StopServer:
    """Step `db_stop_server` {data_directory}: the live server goes down."""

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Stop it; nothing happens when it is down."""
        server = _server(self._tools, args)
        server.stop()
        return {"running": server.running()}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """It is done when nothing runs there."""
        return NotDone() if _server(self._tools, args).running() else Done({"running": False})


class Exchange:
    """Step `db_exchange` {data_directory, incoming, kept, name, system_identifier, database}: one goes, one comes.

    What is kept is recorded here: should the server not come up on the other one, that can be undone.
    """

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Move both; what a crash left half-way is completed."""
        server = _server(self._tools, args)
        if not self._moved(args):
            server.exchange(Path(str(args["incoming"])), Path(str(args["kept"])))
        return self._finished(args, context)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Which folders are there tells; the side instance's own folder is cleared away again in any case."""
        if not self._moved(args):
            return NotDone()
        return Done(self._finished(args, context))

    def _finished(self, args: Mapping[str, Json], context: StepContext) -> Json:
        tools = self._tools
        known = tools.journal.events(environment=tools.environment, kind=SWAPPED)
        if all(event.data["kept"] != args["kept"] for event in known):
            record = {name: value for name, value in args.items() if name != "name"}
            tools.journal.note(tools.environment, SWAPPED, context.run, record, actor=tools.actor)
        self._release_commits(args, context)
        if args["name"]:
            tools.sides.drop(str(args["name"]))
        return {"kept": args["kept"]}

    def _release_commits(self, args: Mapping[str, Json], context: StepContext) -> None:
        """Let nobody wait for a receiver that was there when this directory left, and may be gone by now.

        Where it runs, its watchdog lets commits wait for it again as soon as it keeps up.
        """
        tools, server = self._tools, _server(self._tools, args)
        lsn = server.waits_for(tools.receiver) if tools.receiver else None
        if lsn is None:
            return
        why = f"the data directory was exchanged; commits after {show_lsn(lsn)} may be lost with the server"
        note: dict[str, Json] = {"lsn": lsn, "why": why, "at": tools.clock.now()}
        tools.journal.note(tools.environment, PROMISE_LOST, f"{PROMISE_LOST}:{context.run}", note, actor=tools.actor)
        server.wait_for_nobody()

    def _moved(self, args: Mapping[str, Json]) -> bool:
        data, incoming, kept = (Path(str(args[name])) for name in ("data_directory", "incoming", "kept"))
        return kept.is_dir() and data.is_dir() and not incoming.exists()


class StartServer:
    """Step `db_start_server` {data_directory}: the server comes up on what is there now."""

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Start it; nothing happens while it runs."""
        server = _server(self._tools, args)
        server.start()
        return {"running": server.running()}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """It is done when it runs."""
        return Done({"running": True}) if _server(self._tools, args).running() else NotDone()


class ReadBack:
    """Step `db_read_back` {data_directory, incoming, kept, system_identifier, database}: who answers now."""

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return what the live database says of itself.

        Raises:
            WorldMoved: another database answers. ProviderUnavailable: none does.
        """
        tools = self._tools
        facts = tools.live.facts(within_s=_UP_WITHIN_S)
        if facts.system_identifier != str(args["system_identifier"]):
            raise WorldMoved(
                f"after the swap a database with system identifier {facts.system_identifier} answers, "
                f"not {args['system_identifier']}",
                where=tools.environment,
            )
        record: dict[str, Json] = {
            "data_directory": args["data_directory"],
            "incoming": args["incoming"],
            "kept": args["kept"],
            "system_identifier": facts.system_identifier,
            "database": args["database"],
            "timeline": facts.timeline,
            "lsn": show_lsn(facts.lsn),
            "migration_head": facts.migration_head,
        }
        return record

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Reading is done again."""
        return NotDone()


class Rescue:
    """Step `db_rescue` {before, after, database, damage, mark}: the damaged rows come back."""

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return what was written, by table; done twice it finds nothing left to do."""
        tools, mark = self._tools, str(args["mark"])
        before, after = (_running(tools, str(args[name]), context).dsn for name in ("before", "after"))
        rescuer = tools.rescuer(str(args["database"]))
        # Recorded before anything is written: a rescue that stays half-done can be undone as well.
        note: dict[str, Json] = {"mark": mark, "database": args["database"]}
        tools.journal.note(tools.environment, RESCUED, context.run, note, actor=tools.actor)
        report = rescuer.rescue(damage_of(args), before, after, tools.kept / mark, told(context, tools))
        return rescue_record(report)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Whether every row is right is found by doing it: what is right already is left."""
        return NotDone()


class CheckRescue:
    """Step `db_rescue_check` {before, after, database, damage}: what is live is compared once more, read-only."""

    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return how many rows are in conflict. Raises BackoutError when damage is left that nobody has touched."""
        tools = self._tools
        before, after = (_running(tools, str(args[name]), context).dsn for name in ("before", "after"))
        report = tools.rescuer(str(args["database"])).damage(damage_of(args), before, after)
        return nothing_left(report, tools.environment, tools.runs.result(context.run, "db_rescue"))

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Comparing changes nothing; it is done again."""
        return NotDone()


def _conflicts_of(rescue: Json) -> dict[str, int]:
    """Return how many conflicts a rescue met, by table; nothing is known of one that a person declared done."""
    if rescue is None:
        return {}
    assert isinstance(rescue, dict)  # noqa: S101 as recorded
    tables = rescue["tables"]
    assert isinstance(tables, list)  # noqa: S101 same
    return {str(each["table"]): int(str(each["conflicts"])) for each in tables if isinstance(each, dict)}


def nothing_left(report: RescueReport, environment: str, rescue: Json) -> Json:
    """Return how many rows are in conflict after a rescue. Raises BackoutError: damage is left that nobody touched.

    Args:
        rescue: what the rescue itself recorded.
    """
    known = _conflicts_of(rescue)
    left = conflicts = 0
    for each in report.tables:
        damaged = 0 if each.left else each.updated + each.inserted + each.deleted
        # What cannot be written (a unique value is taken by now) only writing shows: then it is no longer counted.
        unwritable = min(damaged, max(0, known.get(each.table, 0) - each.conflicts))
        left += damaged - unwritable
        conflicts += each.conflicts + unwritable
    if left or report.definitions:
        what = f"{left} rows" if left else "; ".join(report.definitions)
        raise BackoutError(f"damage is left after the rescue: {what}", where=environment)
    return {"left": left, "conflicts": conflicts}


class UndoRescue:
    """Step `db_undo_rescue` {mark, database}: what the rescue replaced comes back, where nobody has written since."""

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return what was written, by table."""
        tools, mark = self._tools, str(args["mark"])
        report = tools.rescuer(str(args["database"])).undo(tools.kept / mark, told(context, tools))
        note: dict[str, Json] = {"mark": mark, "database": args["database"], "undone": True}
        tools.journal.note(tools.environment, RESCUED, context.run, note, actor=tools.actor)
        return rescue_record(report)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """As of a rescue."""
        return NotDone()


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


def foresee(tools: RestoreTools, plan: Plan) -> RescueReport:
    """Return what the plan of a rescue would write, by table; only side instances are made, and removed again."""
    rescue = plan.step("db_rescue")
    names = [str(rescue.args["before"]), str(rescue.args["after"])]
    try:
        for step in plan.steps:
            if step.action == "db_side":
                tools.sides.start(_order(step.args), _silent)
        dsns = []
        for name in names:
            tools.beside.promote(name)
            side = tools.sides.find(name)
            dsns.append(side.dsn if side is not None else "")
        return tools.rescuer(str(rescue.args["database"])).damage(damage_of(rescue.args), *dsns)
    finally:
        for name in names:
            tools.sides.drop(name)


def _silent(_doing: str, _done: int, _whole: int) -> None:
    """Progress that nobody watches."""


def rescue_record(report: RescueReport) -> dict[str, Json]:
    """Return a report as the journal and `--json` show it."""
    tables: list[Json] = [
        {
            "table": each.table,
            "columns": list(each.columns),
            "updated": each.updated,
            "inserted": each.inserted,
            "deleted": each.deleted,
            "conflicts": each.conflicts,
            "examples": list(each.examples),
            "triggers": list(each.triggers),
            "left": each.left,
        }
        for each in report.tables
    ]
    return {"definitions": list(report.definitions), "tables": tables, "notes": list(report.notes)}


def _order(args: Mapping[str, Json]) -> SideOrder:
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
    )


def damage_of(args: Mapping[str, Json]) -> Damage:
    """Return what a rescue's step says of the damage."""
    told_of = args["damage"]
    assert isinstance(told_of, dict)  # noqa: S101 as planned
    xids, written, skip = told_of["xids"], told_of["written"], told_of["skip"]
    assert isinstance(xids, list)  # noqa: S101 same
    assert isinstance(written, list)  # noqa: S101 same
    assert isinstance(skip, list)  # noqa: S101 same
    rows = []
    for each in written:
        assert isinstance(each, list)  # noqa: S101 same
        node, kinds = each
        assert isinstance(kinds, list)  # noqa: S101 same
        rows.append((int(str(node)), tuple(map(str, kinds))))
    return Damage(
        frozenset(int(str(xid)) for xid in xids),
        tuple(rows),
        str(told_of["conflicts"]),
        tuple(map(str, skip)),
        told_of["queues"] is True,
    )


def _running(tools: RestoreTools, name: str, context: StepContext) -> SideInstance:
    """Return an instance that runs; one that was killed meanwhile is started again."""
    side = tools.sides.find(name)
    if side is None:
        raise BackoutError(f"side instance {name} is gone", where=tools.environment)
    if side.state in (SideState.STOPPED, SideState.READY, SideState.REPLAYING):
        return tools.beside.resume(name, told(context, tools))
    return side


def _server(tools: RestoreTools, args: Mapping[str, Json]) -> DatabaseServer:
    server = tools.server
    if server is None or str(server.data_directory) != str(args["data_directory"]):
        raise Refused(
            f"the plan is about the server on {args['data_directory']}, and the configuration names another one",
            where=tools.environment,
        )
    return server


def _shown(side: SideInstance) -> Json:
    return {
        "name": side.name,
        "how": side.how,
        "state": str(side.state),
        "lsn": show_lsn(side.target_lsn),
        "replayed": show_lsn(side.replayed_lsn),
        "dsn": side.dsn,
    }
