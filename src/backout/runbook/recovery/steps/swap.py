"""The steps of a swap: stop the live server, exchange the data directories, start it, and read back who answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backout.errors import Refused, WorldMoved
from backout.model.database.wal import show_lsn
from backout.model.steps.restore import (
    ExchangeResult,
    ExchangeStep,
    RunningResult,
    StartServerStep,
    StopServerStep,
    SwappedResult,
    SwappedStep,
)
from backout.ports import Action, Done, NotDone
from backout.runbook.recovery.tools import PROMISE_LOST, SWAPPED

if TYPE_CHECKING:
    from backout.model.plan import Json
    from backout.ports import DatabaseServer, Probe, StepContext
    from backout.runbook.recovery.tools import RestoreTools

UP_WITHIN_S = 120.0
"""A server that was just started may replay WAL before it answers."""


class StopServer(Action[StopServerStep, RunningResult]):
    """Step `db_stop_server` {data_directory}: the live server goes down."""

    arguments = StopServerStep

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: StopServerStep, context: StepContext) -> RunningResult:
        """Stop it; nothing happens when it is down."""
        server = _get_server(self._tools, args.data_directory)
        server.stop()
        return RunningResult(running=server.running())


class Exchange(Action[ExchangeStep, ExchangeResult]):
    """Step `db_exchange` {data_directory, incoming, kept, name, system_identifier, database}: one goes, one comes.

    What is kept is recorded here: if the server does not come up on the other one, that can be undone.
    """

    arguments = ExchangeStep

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: ExchangeStep, context: StepContext) -> ExchangeResult:
        """Move both; what a crash left half-way is completed."""
        server = _get_server(self._tools, args.data_directory)
        if not self._is_moved(args):
            server.exchange(Path(args.incoming), Path(args.kept))
        return self._finish(args, context)

    def probe(self, args: ExchangeStep, context: StepContext) -> Probe[ExchangeResult]:
        """The existing folders tell; the side instance's own folder is removed in any case."""
        if not self._is_moved(args):
            return NotDone()
        return Done(self._finish(args, context))

    def _finish(self, args: ExchangeStep, context: StepContext) -> ExchangeResult:
        tools = self._tools
        known = tools.journal.events(environment=tools.environment, kind=SWAPPED)
        if all(event.data["kept"] != args.kept for event in known):
            record = {name: value for name, value in args.to_json().items() if name != "name"}
            tools.journal.note(tools.environment, SWAPPED, context.run, record, actor=tools.actor)
        self._release_commits(args, context)
        if args.name:
            tools.sides.drop(args.name)
        return ExchangeResult(kept=args.kept)

    def _release_commits(self, args: ExchangeStep, context: StepContext) -> None:
        """Make sure nothing waits for a receiver that was there when this directory was kept, and may be gone by now.

        Where it runs, its watchdog lets commits wait for it again as soon as it keeps up.
        """
        tools, server = self._tools, _get_server(self._tools, args.data_directory)
        lsn = server.waits_for(tools.receiver) if tools.receiver else None
        if lsn is None:
            return
        why = f"the data directory was exchanged; commits after {show_lsn(lsn)} may be lost with the server"
        note: dict[str, Json] = {"lsn": lsn, "why": why, "at": tools.clock.now()}
        tools.journal.note(tools.environment, PROMISE_LOST, f"{PROMISE_LOST}:{context.run}", note, actor=tools.actor)
        server.wait_for_nobody()

    def _is_moved(self, args: ExchangeStep) -> bool:
        data, incoming, kept = map(Path, (args.data_directory, args.incoming, args.kept))
        return kept.is_dir() and data.is_dir() and not incoming.exists()


class StartServer(Action[StartServerStep, RunningResult]):
    """Step `db_start_server` {data_directory}: the server comes up on the data directory that is there now."""

    arguments = StartServerStep

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: StartServerStep, context: StepContext) -> RunningResult:
        """Start it; nothing happens while it runs."""
        server = _get_server(self._tools, args.data_directory)
        server.start()
        return RunningResult(running=server.running())

    def probe(self, args: StartServerStep, context: StepContext) -> Probe[RunningResult]:
        """It is done when it runs."""
        return (
            Done(RunningResult(running=True)) if _get_server(self._tools, args.data_directory).running() else NotDone()
        )


class ReadBack(Action[SwappedStep, SwappedResult]):
    """Step `db_read_back` {data_directory, incoming, kept, system_identifier, database}: who answers now."""

    arguments = SwappedStep

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: SwappedStep, context: StepContext) -> SwappedResult:
        """Return what the live database says about itself.

        Raises:
            WorldMoved: another database answers.
            ProviderUnavailable: none does.
        """
        tools = self._tools
        facts = tools.live.facts(within_s=UP_WITHIN_S)
        if facts.system_identifier != args.system_identifier:
            raise WorldMoved(
                f"after the swap a database with system identifier {facts.system_identifier} answers, "
                f"not {args.system_identifier}",
                where=tools.environment,
            )
        return SwappedResult(
            data_directory=args.data_directory,
            incoming=args.incoming,
            kept=args.kept,
            system_identifier=facts.system_identifier,
            database=args.database,
            timeline=facts.timeline,
            lsn=show_lsn(facts.lsn),
            migration_head=facts.migration_head,
        )


def _get_server(tools: RestoreTools, data_directory: str) -> DatabaseServer:
    server = tools.server
    if server is None or str(server.data_directory) != data_directory:
        raise Refused(
            f"the plan is about the server on {data_directory}, and the configuration names another one",
            where=tools.environment,
        )
    return server
