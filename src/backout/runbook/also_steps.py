"""The steps of a swap that see to the rest of the cluster: what goes back too is what was agreed to; sequences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backout.errors import BackoutError, Refused, WorldMoved
from backout.escaping import brief
from backout.model.also_back import AlsoBack, AlsoKind, uncovered
from backout.model.sequences import PlacedSequence
from backout.plan.whole import AGREED
from backout.ports import NotDone
from backout.runbook.finding import facts_of
from backout.runbook.side_steps import told
from backout.runbook.swap_steps import UP_WITHIN_S
from backout.runbook.whole_cluster import look_at_cluster, read_comes, written_last

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json
    from backout.model.sequences import Carried
    from backout.ports import Probe, StepContext
    from backout.runbook.restore import RestoreTools

SEQUENCES = "db_sequences"


class CheckAlso:
    """Step `db_also_back` {comes, things, accepted, incoming, name, system_identifier, again}: no more than agreed.

    The last look before the live server is stopped.
    """

    effect = False

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return what goes back too, and where each sequence lies.

        Raises:
            WorldMoved: there is more than was agreed to, or the data directory cannot be exchanged any more.
        """
        tools, incoming = self._tools, Path(str(args["incoming"]))
        facts = facts_of(tools)
        comes = args["comes"]
        assert isinstance(comes, dict)  # noqa: S101 as planned
        also = look_at_cluster(tools, facts, read_comes(comes, incoming))
        left = uncovered(also.things, words_of(args))
        why = "; ".join(thing.text for thing in left)
        try:
            assert tools.server is not None  # noqa: S101 a plan of a swap has one
            tools.server.check(str(args["system_identifier"]), incoming)
        except Refused as error:
            why = error.what
        if why:
            if args["name"]:
                tools.sides.drop(str(args["name"]))
            raise WorldMoved(
                f"there is more to lose than was agreed to: {why}; nothing was stopped, and nothing was changed",
                where=tools.environment,
                hint=f"`{args['again']}` shows what there is now, and the words that agree to it",
            )
        return {
            "things": [thing.record() for thing in also.things],
            "counted_to": also.counted_to,
            "databases": [[oid, name] for oid, name in (facts.databases if facts is not None else ())],
            "superuser": facts.superuser if facts is not None else "",
            "sequences": {} if facts is None else self._sequences(),
        }

    def _sequences(self) -> dict[str, Json]:
        try:
            found = self._tools.live.sequences()
        except BackoutError as error:
            self._tools.say(f"which sequences there are could not be asked: {error.what}")
            return {}
        return {name: [[each.oid, each.name, each.path] for each in rows] for name, rows in found.items()}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Looking is done again."""
        return NotDone()


class CarrySequences:
    """Step `db_sequences` {data_directory, incoming, superuser}: no value is handed out twice.

    Both clusters are down: what was handed out until the last moment is in the files of the one that goes. So is what
    was written between the last look and the stop: where that is more than was agreed to, the server is started again.
    """

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002
        """Return which were advanced, as another session read them back, and which were not, and why."""
        tools = self._tools
        data, incoming = Path(str(args["data_directory"])), Path(str(args["incoming"]))
        if tools.carrier is None or not incoming.is_dir() or not (data / "global" / "pg_control").exists():
            return {"looked_at": 0, "advanced": [], "left": [], "stopped_cleanly": False}
        seen = tools.runs.result(context.run, AGREED)
        if isinstance(seen, dict):
            self._refuse_more(seen, context)
        known = seen.get("sequences", {}) if isinstance(seen, dict) else {}
        superuser = str(seen["superuser"]) if isinstance(seen, dict) and seen["superuser"] else str(args["superuser"])
        try:
            carried = tools.carrier.carry(data, incoming, superuser, _placed(known), told(context, tools))
        except BackoutError as error:
            if not (isinstance(seen, dict) and seen["superuser"]):  # it had been down before
                raise
            raise self._up_again(f"sequences could not be advanced: {error.what}", context) from error
        return record(carried)

    def _refuse_more(self, seen: Mapping[str, Json], context: StepContext) -> None:
        """Raise WorldMoved where rows of other databases came in the last moment, with the old server up again."""
        tools, since = self._tools, int(str(seen["counted_to"]))
        run = tools.runs.find(context.run)
        args = run.plan.step(AGREED).args if run is not None else None
        if not since or args is None:
            return
        databases, things = seen["databases"], seen["things"]
        assert isinstance(databases, list)  # noqa: S101 as recorded
        assert isinstance(things, list)  # noqa: S101 same
        told = [AlsoBack.of(each) for each in things if isinstance(each, dict)]
        shown = {thing.name: thing for thing in told if thing.kind is AlsoKind.DATABASE}
        try:
            last: Mapping[int, int] | None = written_last(tools, since)
        except BackoutError as error:
            tools.say(f"what was written in the last moment is not counted: {error.what}")
            last = None
        more = []
        names = {int(str(pair[0])): str(pair[1]) for pair in databases if isinstance(pair, list)}
        names |= {oid: f"with object id {oid}" for oid in last or () if oid and oid not in names}
        for oid, name in names.items():
            before = shown.get(name, AlsoBack(AlsoKind.DATABASE, name, 0))
            if name == tools.database:
                continue
            if last is None:
                text = f"database {brief(name)}, with rows of the last moment that could not be counted"
                more.append(replace(before, count=None, text=text))
            elif last.get(oid) and before.count is not None:
                many = before.count + last[oid]
                text = f"database {brief(name)}, with {many:,} row versions, {last[oid]:,} of them in the last moment"
                more.append(replace(before, count=many, text=text))
        left = uncovered(more, words_of(args))
        if left:
            told_all = "; ".join(thing.text for thing in left)
            raise self._up_again(f"there is more to lose than was agreed to: {told_all}", context)

    def _up_again(self, why: str, context: StepContext) -> WorldMoved:
        """Start the server on what it had, remove what would have come, and return the error that says so."""
        tools, run = self._tools, self._tools.runs.find(context.run)
        assert tools.server is not None  # noqa: S101 a plan of a swap has one
        assert run is not None  # noqa: S101 it is this one
        args = run.plan.step(AGREED).args
        tools.server.start()
        try:
            answers = f"answers again, on timeline {tools.live.facts(within_s=UP_WITHIN_S).timeline}"
        except BackoutError as error:
            answers = f"was started again and does not answer ({error.what})"
        if args["name"]:
            tools.sides.drop(str(args["name"]))
        return WorldMoved(
            f"{why}; the server {answers}, on the data directory that it had, and nothing was exchanged",
            where=tools.environment,
            hint=f"`{args['again']}` shows what there is now, and the words that agree to it",
        )

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Advancing again changes nothing."""
        return NotDone()


def words_of(args: Mapping[str, Json]) -> tuple[str, ...]:
    """Return what was agreed to."""
    accepted = args["accepted"]
    assert isinstance(accepted, list)  # noqa: S101 as planned
    return tuple(map(str, accepted))


def record(carried: Carried) -> dict[str, Json]:
    """Return what became of the sequences as JSON values."""
    return {
        "looked_at": carried.looked_at,
        "advanced": [
            {"database": each.database, "sequence": each.sequence, "before": each.before, "now": each.now}
            for each in carried.advanced
        ],
        "left": [
            {"database": each.database, "sequence": each.sequence, "reason": each.reason} for each in carried.left
        ],
        "stopped_cleanly": carried.stopped_cleanly,
    }


def _placed(known: Json) -> dict[str, tuple[PlacedSequence, ...]]:
    assert isinstance(known, dict)  # noqa: S101 as recorded
    found = {}
    for name, rows in known.items():
        assert isinstance(rows, list)  # noqa: S101 same
        triples = [each for each in rows if isinstance(each, list)]
        found[name] = tuple(PlacedSequence(int(str(oid)), str(named), str(path)) for oid, named, path in triples)
    return found
