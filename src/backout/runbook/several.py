"""Several transactions as one damage: one pass over the WAL follows their rows, and two side instances hold most.

Where good transactions wrote a row between bad ones, its versions in between are read as well, each from a side
instance at a moment at which it was the row's own: at most two for each bad transaction, and none where no row is like
that.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from backout.model.chains import Bad
from backout.model.recovery import SideOrder, WalSpan, parse_lsn, show_lsn
from backout.model.rescue import Damage
from backout.plan.restore import Several
from backout.report.times import rfc3339
from backout.runbook.damage import in_database, spans_of
from backout.runbook.finding import way_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.chains import Followed, Image, Stop
    from backout.model.plan import Json
    from backout.model.recovery import Commit, RecoveryTarget
    from backout.runbook.finding import Found
    from backout.runbook.restore import RestoreTools

_SHOWN = 6


def several_of(tools: RestoreTools, found: Found, conflicts: str, skip: tuple[str, ...], *, queues: bool) -> Several:
    """Return what a plan has to know of several transactions that are taken back together.

    Raises:
        Refused: the WAL does not hold all that any of them, or of those that were committed meanwhile, wrote.
    """
    bad = found.damage
    assert found.facts is not None  # noqa: S101 the caller looked
    first, last = (_target(found, each) for each in (bad[0], bad[-1]))
    xids = frozenset(xid for commit in bad for xid in commit.xids)
    written, others = in_database(tools, found.facts, tools.wal.touched(spans_of(tools, found, bad), xids))
    way = way_to(tools, found, last)
    record: dict[str, Json] = {
        "begin": show_lsn(bad[0].lsn),
        "end": show_lsn(bad[-1].lsn),
        "database": found.facts.oid_of(tools.database),
        "ids": [commit.xid for commit in bad],
        "spans": [
            [span.timeline, show_lsn(span.begin_lsn), show_lsn(span.end_lsn), list(span.names)]
            for span in spans_of(tools, found, found.meanwhile, with_last=True)
        ],
        "side": {"backup": way.base.id, "timeline": last.timeline, "wal": list(way.names)},
    }
    ids = [f"{commit.xid} ({rfc3339(commit.at)})" for commit in bad]
    shown = ", ".join(ids if len(ids) <= _SHOWN else [*ids[: _SHOWN - 1], f"... {ids[-1]}"])
    good = len(found.meanwhile) - len(bad)
    notes = (
        f"{len(bad)} transactions are taken back together: {shown}",
        f"{good:,} others were committed meanwhile: what they wrote stays",
        *(f"not looked at: what they wrote to database {name}" for name in others),
    )
    damage = Damage(xids, written, conflicts, skip, queues)
    return Several(first, way_to(tools, found, first), last, way, damage, record, notes)


def _target(found: Found, commit: Commit) -> RecoveryTarget:
    how = f"transaction {commit.xid}, committed at {rfc3339(commit.at)}"
    return replace(found.target, lsn=commit.lsn, timeline=commit.timeline, xid=commit.xid, at=commit.at, how=how)


class Following:
    """Completes a damage of several transactions with the rows that they wrote, once for all steps of a run."""

    def __init__(self, tools: RestoreTools) -> None:
        self._tools = tools
        self._known: dict[str, Damage] = {}

    def completed(self, damage: Damage, told: Json, progress: Callable[[str, int, int], None]) -> Damage:
        """Return a damage with its rows.

        Args:
            told: what the plan says of several transactions, None of one alone.
        """
        if told is None:
            return damage
        assert isinstance(told, dict)  # noqa: S101 as planned
        key = str(sorted(damage.xids))
        if key not in self._known:
            self._known[key] = self._complete(damage, told, progress)
        return replace(self._known[key], conflicts=damage.conflicts, skip=damage.skip, queues=damage.queues)

    def _complete(self, damage: Damage, told: dict[str, Json], progress: Callable[[str, int, int], None]) -> Damage:
        spans, ids = told["spans"], told["ids"]
        assert isinstance(spans, list)  # noqa: S101 as planned
        assert isinstance(ids, list)  # noqa: S101 same
        nodes = frozenset(node for node, _ in damage.written or ())
        ends = (parse_lsn(str(told[name])) for name in ("begin", "end"))
        bad = Bad(frozenset(int(str(xid)) for xid in ids), int(str(told["database"])), nodes, *ends)
        progress("following rows through the WAL", 0, 1)
        followed = self._tools.wal.chains([_span(each) for each in spans], bad)
        images = self._images(followed, told["side"], progress)
        return replace(
            damage,
            chains=followed.chains,
            images=images,
            others=followed.others,
            unknown=followed.unknown,
            removed=followed.removed,
        )

    def _images(
        self, followed: Followed, side: Json, progress: Callable[[str, int, int], None]
    ) -> dict[tuple[Stop, int, str], Image]:
        """Return the versions in between that have to be read, each from a side instance at its moment."""
        wanted: defaultdict[Stop, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        for chain in followed.chains:
            if chain.mixed:
                for _, stop, place in chain.boundaries():
                    wanted[stop][chain.node].append(place)
        found: dict[tuple[Stop, int, str], Image] = {}
        for number, stop in enumerate(sorted(wanted, key=lambda each: (each.lsn, each.inclusive))):
            progress("reading rows in between", number, len(wanted))
            images = self._at(stop, side, wanted[stop])
            found |= {(stop, node, place): image for (node, place), image in images.items()}
        return found

    def _at(self, stop: Stop, side: Json, places: dict[int, list[str]]) -> dict[tuple[int, str], Image]:
        tools = self._tools
        assert isinstance(side, dict)  # noqa: S101 as planned
        wal = side["wal"]
        assert isinstance(wal, list)  # noqa: S101 same
        order = SideOrder(
            f"between-{stop.lsn:x}",
            str(side["backup"]),
            stop.lsn,
            int(str(side["timeline"])),
            tuple(map(str, wal)),
            inclusive=stop.inclusive,
        )
        try:
            made = tools.sides.start(order, lambda _doing, _done, _whole: None)
            return dict(tools.rescuer(tools.database).images(made.dsn, places))
        finally:
            tools.sides.drop(order.name)


def _span(told: Json) -> WalSpan:
    assert isinstance(told, list)  # noqa: S101 as planned
    timeline, begin, end, names = told
    assert isinstance(names, list)  # noqa: S101 same
    return WalSpan(int(str(timeline)), parse_lsn(str(begin)), parse_lsn(str(end)), tuple(map(str, names)))
