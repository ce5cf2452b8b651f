"""The steps of a swap: the live server goes down, the data directories are exchanged, it comes up, and who answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backout.errors import Refused, WorldMoved
from backout.model.recovery import show_lsn
from backout.ports import Done, NotDone
from backout.runbook.restore import PROMISE_LOST, SWAPPED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json
    from backout.ports import DatabaseServer, Probe, StepContext
    from backout.runbook.restore import RestoreTools

UP_WITHIN_S = 120.0
"""A server that was just started may replay WAL before it answers."""


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
        facts = tools.live.facts(within_s=UP_WITHIN_S)
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


def _server(tools: RestoreTools, args: Mapping[str, Json]) -> DatabaseServer:
    server = tools.server
    if server is None or str(server.data_directory) != str(args["data_directory"]):
        raise Refused(
            f"the plan is about the server on {args['data_directory']}, and the configuration names another one",
            where=tools.environment,
        )
    return server
