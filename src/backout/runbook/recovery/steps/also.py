"""The steps of a swap for the rest of the cluster: nothing more goes back than was agreed to; sequences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import BackoutError, Refused, WorldMoved
from backout.escaping import shorten
from backout.model.database.also_back import AlsoBack, AlsoKind, find_uncovered
from backout.model.database.sequences import Carried, PlacedSequence
from backout.model.steps.restore import AlsoBackRecord, AlsoBackResult, AlsoBackStep, SequencesStep
from backout.ports import Action, find_result
from backout.runbook.recovery.facts import read_facts
from backout.runbook.recovery.steps.side import make_progress_teller
from backout.runbook.recovery.steps.swap import UP_WITHIN_S
from backout.runbook.recovery.whole_cluster import look_at_cluster, read_comes, read_written_last

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.ports import StepContext
    from backout.runbook.recovery.tools import RestoreTools

SEQUENCES = SequencesStep.action


class CheckAlso(Action[AlsoBackStep, AlsoBackResult]):
    """Step `db_also_back` {comes, things, accepted, incoming, name, system_identifier, again}: no more than agreed.

    The last look before the live server is stopped.
    """

    arguments = AlsoBackStep
    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: AlsoBackStep, context: StepContext) -> AlsoBackResult:
        """Return what else goes back, and where each sequence is stored.

        Raises:
            WorldMoved: there is more than was agreed to, or the data directory cannot be exchanged any more.
        """
        tools, incoming = self._tools, Path(args.incoming)
        facts = read_facts(tools)
        also = look_at_cluster(tools, facts, read_comes(args.comes, incoming))
        left = find_uncovered(also.things, args.accepted)
        why = "; ".join(thing.text for thing in left)
        try:
            assert tools.server is not None
            tools.server.check(args.system_identifier, incoming)
        except Refused as error:
            why = error.what
        if why:
            if args.name:
                tools.sides.drop(args.name)
            raise WorldMoved(
                f"there is more to lose than was agreed to: {why}; nothing was stopped, and nothing was changed",
                where=tools.environment,
                hint=f"`{args.again}` shows what there is now, and the words that agree to it",
            )
        return AlsoBackResult(
            things=tuple(map(AlsoBackRecord.of, also.things)),
            counted_to=also.counted_to,
            databases=tuple(facts.databases) if facts is not None else (),
            superuser=facts.superuser if facts is not None else "",
            sequences={} if facts is None else self._sequences(),
        )

    def _sequences(self) -> dict[str, tuple[tuple[int, str, str], ...]]:
        try:
            found = self._tools.live.sequences()
        except BackoutError as error:
            self._tools.say(f"which sequences there are could not be asked: {error.what}")
            return {}
        return {name: tuple((each.oid, each.name, each.path) for each in rows) for name, rows in found.items()}


class CarrySequences(Action[SequencesStep, Carried]):
    """Step `db_sequences` {data_directory, incoming, superuser}: no value is handed out twice.

    Both clusters are down: the values handed out until the last moment are in the files of the one that goes, once it
    has replayed its WAL if it had crashed. So is everything written between the last look and the stop: if that is more
    than was agreed to, the server is started again.
    """

    arguments = SequencesStep

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: SequencesStep, context: StepContext) -> Carried:
        """Return which were advanced, as another session read them back, and which were not, and why.

        Raises:
            WorldMoved: there is more than was agreed to, or they cannot be advanced; the server runs again on its old
                data.
            BackoutError: they cannot be advanced, and the server was down before.
        """
        tools = self._tools
        data, incoming = Path(args.data_directory), Path(args.incoming)
        if tools.carrier is None or not incoming.is_dir() or not (data / "global" / "pg_control").exists():
            return Carried(0, (), (), stopped_cleanly=False)
        replayed = tools.carrier.settle(data)
        seen = find_result(tools.runs, context.run, AlsoBackStep)
        if seen is not None:
            self._refuse_more(seen, context)
        known = _find_sequence_places(seen.sequences) if seen is not None else {}
        superuser = (seen.superuser if seen is not None else "") or args.superuser
        try:
            carried = tools.carrier.carry(data, incoming, superuser, known, make_progress_teller(context, tools))
        except BackoutError as error:
            if seen is None or not seen.superuser:  # it had been down before
                raise
            raise self._up_again(f"sequences could not be advanced: {error.what}", context) from error
        return replace(carried, replayed=replayed)

    def _refuse_more(self, seen: AlsoBackResult, context: StepContext) -> None:
        """Raise WorldMoved if rows of other databases came in at the last moment, with the old server up again."""
        tools, since = self._tools, seen.counted_to
        run = tools.runs.find(context.run)
        if not since or run is None:
            return
        shown = {each.name: each.thing for each in seen.things if each.kind is AlsoKind.DATABASE}
        try:
            last: Mapping[int, int] | None = read_written_last(tools, since)
        except BackoutError as error:
            tools.say(f"what was written in the last moment is not counted: {error.what}")
            last = None
        more = []
        names = dict(seen.databases)
        names |= {oid: f"with object id {oid}" for oid in last or () if oid and oid not in names}
        for oid, name in names.items():
            before = shown.get(name, AlsoBack(AlsoKind.DATABASE, name, 0))
            if name == tools.database:
                continue
            if last is None:
                text = f"database {shorten(name)}, with rows of the last moment that could not be counted"
                more.append(replace(before, count=None, text=text))
            elif last.get(oid) and before.count is not None:
                many = before.count + last[oid]
                text = f"database {shorten(name)}, with {many:,} row versions, {last[oid]:,} of them in the last moment"
                more.append(replace(before, count=many, text=text))
        left = find_uncovered(more, run.plan.arguments(AlsoBackStep).accepted)
        if left:
            told_all = "; ".join(thing.text for thing in left)
            raise self._up_again(f"there is more to lose than was agreed to: {told_all}", context)

    def _up_again(self, why: str, context: StepContext) -> WorldMoved:
        """Start the server on its old data, remove the new data, and return the error that says so."""
        tools, run = self._tools, self._tools.runs.find(context.run)
        assert tools.server is not None
        assert run is not None
        args = run.plan.arguments(AlsoBackStep)
        tools.server.start()
        try:
            answers = f"answers again, on timeline {tools.live.facts(within_s=UP_WITHIN_S).timeline}"
        except BackoutError as error:
            answers = f"was started again and does not answer ({error.what})"
        if args.name:
            tools.sides.drop(args.name)
        return WorldMoved(
            f"{why}; the server {answers}, on the data directory that it had, and nothing was exchanged",
            where=tools.environment,
            hint=f"`{args.again}` shows what there is now, and the words that agree to it",
        )


def _find_sequence_places(known: Mapping[str, Sequence[tuple[int, str, str]]]) -> dict[str, tuple[PlacedSequence, ...]]:
    return {name: tuple(PlacedSequence(*each) for each in rows) for name, rows in known.items()}
