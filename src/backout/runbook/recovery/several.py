"""Several transactions as one damage: one pass over the WAL follows their rows; two side instances hold most.

Where good transactions wrote a row between bad ones, the versions in between are read as well, each at a moment when it
was current: at most two for each bad transaction. One more side instance goes from moment to moment for that; it is
only made if there are such rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import Busy
from backout.model.database.chains import Bad, Stay, choose_moments
from backout.model.database.rescue import Damage
from backout.model.database.wal import parse_lsn, show_lsn
from backout.model.steps.rescue import SeveralRecord, SideRecord
from backout.plan.restore import Several
from backout.report.times import format_time
from backout.runbook.recovery.damage import find_spans, select_database
from backout.runbook.recovery.target import find_way

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.database.chains import Followed, Image
    from backout.model.database.recovery import Commit, RecoveryTarget
    from backout.runbook.recovery.target import Found
    from backout.runbook.recovery.tools import RestoreTools

_SHOWN = 6


def make_several(tools: RestoreTools, found: Found, conflicts: str, skip: tuple[str, ...], *, queues: bool) -> Several:
    """Return what a plan needs to know about several transactions that are taken back together.

    Raises:
        Refused: the WAL does not hold everything written by them, or by those committed in between.
    """
    bad = found.damage
    assert found.facts is not None
    first, last = (_make_target(found, each) for each in (bad[0], bad[-1]))
    xids = frozenset(xid for commit in bad for xid in commit.xids)
    written, others = select_database(
        tools, found.facts, tools.wal.find_written_relations(find_spans(tools, found, bad), xids)
    )
    way = find_way(tools, found, last)
    spans = find_spans(tools, found, found.meanwhile, with_last=True)
    record = SeveralRecord(
        begin=show_lsn(bad[0].lsn),
        end=show_lsn(bad[-1].lsn),
        database=found.facts.oid_of(tools.database),
        ids=tuple(commit.xid for commit in bad),
        spans=tuple(
            (span.timeline, show_lsn(span.begin_lsn), show_lsn(span.end_lsn), tuple(span.names)) for span in spans
        ),
        side=SideRecord(backup=way.base.id, timeline=last.timeline, wal=tuple(way.names)),
    )
    ids = [f"{commit.xid} ({format_time(commit.at)})" for commit in bad]
    shown = ", ".join(ids if len(ids) <= _SHOWN else [*ids[: _SHOWN - 1], f"... {ids[-1]}"])
    good = len(found.meanwhile) - len(bad)
    notes = (
        f"{len(bad)} transactions are taken back together: {shown}",
        f"{good:,} others were committed meanwhile: what they wrote stays",
        *(f"not looked at: what they wrote to database {name}" for name in others),
    )
    damage = Damage(xids, written, conflicts, skip, queues)
    return Several(first, find_way(tools, found, first), last, way, damage, record, spans[0].begin_lsn, notes)


def _make_target(found: Found, commit: Commit) -> RecoveryTarget:
    how = f"transaction {commit.xid}, committed at {format_time(commit.at)}"
    return replace(found.target, lsn=commit.lsn, timeline=commit.timeline, xid=commit.xid, at=commit.at, how=how)


class Following:
    """Adds to a damage of several transactions the rows that they wrote, once for all steps of a run.

    Args:
        apart: the end of its side instance's name: what only counts goes on beside a run, and removes its own.
    """

    def __init__(self, tools: RestoreTools, apart: str = "") -> None:
        self._tools = tools
        self._known: dict[str, Damage] = {}
        self._apart = apart

    def complete(self, damage: Damage, told: SeveralRecord | None, progress: Callable[[str, int, int], None]) -> Damage:
        """Return a damage with its rows.

        Args:
            told: what the plan says about several transactions, None for a single one.
        """
        if told is None:
            return damage
        key = str(sorted(damage.xids))
        if key not in self._known:
            self._known[key] = self._complete(damage, told, progress)
        return replace(self._known[key], conflicts=damage.conflicts, skip=damage.skip, queues=damage.queues)

    def _complete(self, damage: Damage, told: SeveralRecord, progress: Callable[[str, int, int], None]) -> Damage:
        assert told.database is not None
        nodes = frozenset(node for node, _ in damage.written or ())
        bad = Bad(frozenset(told.ids), told.database, nodes, parse_lsn(told.begin), parse_lsn(told.end))
        progress("following rows through the WAL", 0, 1)
        followed = self._tools.wal.chains(told.wal(), bad)
        images = self._images(followed, told.side, progress)
        return replace(
            damage,
            chains=followed.chains,
            images=images,
            others=followed.others,
            unknown=followed.unknown,
            removed=followed.removed,
        )

    def _images(
        self, followed: Followed, side: SideRecord, progress: Callable[[str, int, int], None]
    ) -> dict[tuple[Stay, int, str], Image]:
        """Return the versions in between to read; one side instance goes from moment to moment."""
        wanted = {
            (stay, chain.node, place)
            for chain in followed.chains
            if chain.mixed
            for _, stay, place in chain.boundaries()
        }
        stops = choose_moments(stay for stay, *_ in wanted)
        at: defaultdict[int, list[tuple[Stay, int, str]]] = defaultdict(list)
        for each in wanted:
            at[stops[bisect_left(stops, each[0].begin)]].append(each)
        stays = [Stay(stop, min(stay.end for stay, *_ in at[stop])) for stop in stops]
        found: dict[tuple[Stay, int, str], Image] = {}

        def look(stop: Stay, dsn: str) -> bool:
            progress("reading rows in between", stops.index(stop.begin), len(stops))
            places: defaultdict[int, list[str]] = defaultdict(list)
            for _, node, place in at[stop.begin]:
                places[node].append(place)
            try:
                images = read(dsn, places)
            except Busy:
                return False
            found.update({each: images[each[1:]] for each in at[stop.begin] if each[1:] in images})
            return True

        if not stays:
            return {}
        with self._tools.rescuer(self._tools.database).images() as read:
            order = side.order(stops[-1])
            self._tools.walker.walk(replace(order, name=order.name + self._apart), stays, look)
        return found
