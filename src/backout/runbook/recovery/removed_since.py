"""Rows that others inserted after the damage and removed again, read from the WAL up to the moment of the rescue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.recovery.recovery import cut, find_stretches
from backout.errors import BackoutError
from backout.model.database.removed import Removed, Sought
from backout.model.database.wal import parse_lsn
from backout.runbook.recovery.facts import find_timeline, read_archive, read_facts

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.database.removed import RemovedSince
    from backout.model.database.wal import WalSpan
    from backout.model.steps.rescue import RescueStep
    from backout.runbook.recovery.tools import RestoreTools

_ARRIVES_S: Final = 10.0
"""WAL that is streamed is there at once; WAL that comes a segment at a time is not waited for."""
_POLL_S: Final = 0.2
_NOTHING: Final = Removed((), 0)


def make_removed_reader(tools: RestoreTools, args: RescueStep) -> RemovedSince:
    """Return the reader of them for a rescue, or none for one that an earlier version planned.

    Args:
        args: of its step.
    """
    began, first, database = args.damage.since, args.damage.first, args.database
    if began is None or first is None:
        return lambda _nodes, _ours, _until: _NOTHING
    begin, commit, bad = parse_lsn(began), parse_lsn(first), frozenset(args.damage.xids)

    def read(nodes: Collection[int], ours: Collection[int], until_lsn: int) -> Removed:
        facts = read_facts(tools)
        oid = facts.oid_of(database) if facts is not None else None
        if oid is None:
            return _NOTHING
        try:
            spans = _await_wal(tools, begin, until_lsn)
            if not spans:
                return _NOTHING
            rows = tools.wal.find_removed_rows(spans, Sought(oid, frozenset(nodes), bad, frozenset(ours), commit))
        except BackoutError as error:
            tools.say(f"the WAL behind the damage cannot be read ({error.what})")
            return _NOTHING
        return Removed(rows, spans[-1].end_lsn)

    return read


def _await_wal(tools: RestoreTools, begin: int, until_lsn: int) -> tuple[WalSpan, ...]:
    """Return the WAL from one position to another, as far as it exists without a gap."""
    facts = read_facts(tools)
    deadline = tools.clock.now() + _ARRIVES_S
    while True:
        archive = read_archive(tools, facts)
        whole = find_stretches(archive, find_timeline(archive, facts), all_of_it=True)
        held = next((each for each in whole if each[0].begin_lsn <= begin < each[-1].end_lsn), ())
        end = held[-1].end_lsn if held else 0
        if end >= until_lsn or tools.clock.now() > deadline:
            return cut(archive, held, begin, until_lsn)
        tools.clock.sleep(_POLL_S)
