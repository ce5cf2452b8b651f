"""Whether a target can be reached, before anything is touched: the base, the WAL, and what is missing; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.recovery.backups import leads_to
from backout.model.database.wal import WalSpan, show_lsn
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from backout.model.database.recovery import BaseBackup, Commit
    from backout.model.database.wal import WalSegment

FOREVER = 1 << 64
_MB = 1 << 20
_SPARE = 64 * _MB
"""What a server writes on its own beside the data: its control files, statistics, a segment of WAL."""


class Archive(Value, frozen=True):
    """The material for a restore.

    Args:
        history: of each timeline but the first, the ones before it with the position at which each was left.
    """

    backups: tuple[BaseBackup, ...]
    wal: tuple[WalSegment, ...]
    history: Mapping[int, Sequence[tuple[int, int]]]


class Machine(Value, frozen=True):
    """The machine and server of the restore; None: unknown.

    Args:
        system_identifier, server_version: of the live server.
        tools_version: the major version of our programs.
        free_bytes: where the side instance would lie.
        copies: whether the base is copied or only laid under.
    """

    tools_version: int
    system_identifier: str | None = None
    server_version: int | None = None
    free_bytes: int | None = None
    copies: bool = True


class Route(Value, frozen=True):
    """A way to a target: from this base, through this WAL."""

    base: BaseBackup
    spans: tuple[WalSpan, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The segments to lay out, in order."""
        return tuple(dict.fromkeys(name for span in self.spans for name in span.names))

    @property
    def end_lsn(self) -> int:
        """How far the WAL goes without a gap."""
        return self.spans[-1].end_lsn


class Unreachable(Value, frozen=True):
    """Why a target cannot be reached, each reason a sentence, and what to do."""

    reasons: tuple[str, ...]
    options: tuple[str, ...] = ()


def find_newest_timeline(archive: Archive) -> int:
    """Return the timeline on which the newest WAL (or base) lies."""
    of_wal = [each.timeline for each in archive.wal]
    return max((*of_wal, *(each.timeline for each in archive.backups)), default=1)


def find_base_before(archive: Archive, timeline: int, lsn: int, *, is_last: bool = False) -> BaseBackup | None:
    """Return the newest verified base on the way to `timeline` that is consistent before `lsn`.

    Args:
        is_last: the last record of the archive stands at `lsn`, and is replayed: the one that ends a backup will do.
    """
    fits = [
        base
        for base in archive.backups
        if base.verified_at is not None
        and (base.begin_lsn if is_last else base.end_lsn) <= lsn
        and _is_on_the_way(archive, timeline, base)
    ]
    return max(fits, key=lambda base: base.end_lsn, default=None)


def find_chain(archive: Archive, base: BaseBackup, timeline: int) -> tuple[tuple[WalSpan, ...], str]:
    """Return the unbroken WAL from a base on along the timelines, and the segment that is missing after it ("": none).

    The last timeline ends where its WAL does, and then nothing is missing unless later segments are there. Of one that
    was left in the middle of a segment, that segment is there again as the next timeline's first one, up to that place
    and beyond: what was received of the old one (`.partial`) may end earlier.
    """
    found: list[WalSpan] = []
    position = base.begin_lsn
    way = _list_timelines(archive, timeline)
    for place, (number, until) in enumerate(way):
        if until <= position:
            continue
        begin, names = position, []
        segments = sorted((each for each in archive.wal if each.timeline == number), key=lambda each: each.begin_lsn)
        for each in segments:
            if each.begin_lsn <= position < each.end_lsn:
                names.append(each.name)
                position = min(each.end_lsn, until)
        if names:
            found.append(WalSpan(number, begin, position, tuple(names)))
        later = {each for each, _ in way[place + 1 :]}
        if position < until and not _is_covered(archive, later, position):
            beyond = [each for each in archive.wal if each.begin_lsn > position and _leads_to(archive, timeline, each)]
            missing = _name_segment(archive.wal, number, position) if beyond or until < FOREVER or not found else ""
            return tuple(found), missing
    return tuple(found), ""


def _is_covered(archive: Archive, timelines: Collection[int], position: int) -> bool:
    return any(each.timeline in timelines and each.begin_lsn <= position < each.end_lsn for each in archive.wal)


def find_stretches(archive: Archive, timeline: int, *, all_of_it: bool = False) -> tuple[tuple[WalSpan, ...], ...]:
    """Return all WAL from the oldest base on that leads to a timeline, in unbroken stretches, the oldest one first.

    A hole ends a stretch. What is after it can be read, and replayed from a base that was made there: a search
    for a transaction covers all of them, and `find_route` says whether its place can be reached.

    Args:
        all_of_it: from before the oldest base as well; nothing can be replayed there, but read.
    """
    begins = [base.begin_lsn for base in archive.backups if _is_on_the_way(archive, timeline, base)]
    found: list[tuple[WalSpan, ...]] = []
    position = 0 if all_of_it else min(begins, default=FOREVER)
    for number, until in _list_timelines(archive, timeline):
        segments = sorted((each for each in archive.wal if each.timeline == number), key=lambda each: each.begin_lsn)
        for each in segments:
            end = min(each.end_lsn, until)
            if end <= max(position, each.begin_lsn):
                continue
            begin = max(each.begin_lsn, position)
            span = WalSpan(number, begin, end, (each.name,))
            last = found[-1] if found else ()
            if not last or begin > position:
                found.append((span,))
            elif last[-1].timeline == number:
                found[-1] = (*last[:-1], WalSpan(number, last[-1].begin_lsn, end, (*last[-1].names, each.name)))
            else:
                found[-1] = (*last, span)
            position = end
    return tuple(found)


def find_wal_before(archive: Archive, timeline: int, lsn: int) -> tuple[tuple[WalSpan, ...], ...]:
    """Return the unbroken WAL that ends at a position, in pieces, the nearest one first.

    Each piece but the last one begins where a base backup does, so that a search for the beginning of something reads
    no more than it must.
    """
    whole = next(
        (
            each
            for each in find_stretches(archive, timeline, all_of_it=True)
            if each[0].begin_lsn < lsn <= each[-1].end_lsn
        ),
        (),
    )
    begins = {base.begin_lsn for base in archive.backups if _is_on_the_way(archive, timeline, base)}
    pieces, end = [], lsn
    for begin in sorted((each for each in {*begins, 0} if each < lsn), reverse=True):
        piece = cut(archive, whole, begin, end)
        if piece:
            pieces.append(piece)
            end = piece[0].begin_lsn
    return tuple(pieces)


def cut(archive: Archive, spans: Sequence[WalSpan], begin: int, end: int) -> tuple[WalSpan, ...]:
    """Return the part of some WAL within `[begin, end)`."""
    places = {each.name: each for each in archive.wal}
    found = []
    for span in spans:
        first, last = max(span.begin_lsn, begin), min(span.end_lsn, end)
        if first < last:
            names = [name for name in span.names if places[name].begin_lsn < last and first < places[name].end_lsn]
            found.append(WalSpan(span.timeline, first, last, tuple(names)))
    return tuple(found)


def keep_own_cluster(archive: Archive, system_identifier: str | None) -> Archive:
    """Return an archive without the bases of other clusters, unless there are no others.

    Positions of another cluster's WAL cannot be compared with ours. Where the live database does not say who it is, the
    newest base does.
    """
    newest = max(archive.backups, key=lambda base: base.ended_at, default=None)
    wanted = system_identifier or (newest.system_identifier if newest is not None else "")
    ours = tuple(base for base in archive.backups if base.system_identifier == wanted)
    return replace(archive, backups=ours) if ours else archive


def find_route(
    archive: Archive, lsn: int, timeline: int, machine: Machine, *, is_last: bool = False
) -> Route | Unreachable:
    """Return the way to `lsn` on `timeline`, or every reason why there is none; is_last: see `find_base_before`."""
    if not archive.backups:
        return Unreachable(("there is no base backup",), ("Make one: backout db backup.",))
    base = find_base_before(archive, timeline, lsn, is_last=is_last)
    if base is None:
        return _explain_no_base(archive, timeline, lsn)
    reasons, options = _list_differences(base, machine), []
    spans, missing = find_chain(archive, base, timeline)
    end = spans[-1].end_lsn if spans else base.begin_lsn
    if end <= lsn and missing:
        hole = f"the archive has a hole: WAL segment {missing} is missing"
        reasons.append(f"{hole}, and the target {show_lsn(lsn)} is after it")
        options.append(f"A target before {show_lsn(end)} can be reached.")
    elif end <= lsn:
        reasons.append(f"the target {show_lsn(lsn)} is after the end of the archived WAL, {show_lsn(end)}")
        options.append("If the server runs: `backout db points add NAME` writes a record behind it; then try again.")
    kept = tuple(replace(span, names=span.names) for span in spans if span.begin_lsn <= lsn)
    size = sum(each.end_lsn - each.begin_lsn for each in archive.wal if any(each.name in s.names for s in kept))
    needed = size * 2 + _SPARE + (base.size_bytes if machine.copies else 0)
    if machine.free_bytes is not None and machine.free_bytes < needed:
        reasons.append(f"{needed // _MB:,} MB are needed for it, and {machine.free_bytes // _MB:,} MB are free")
    return Unreachable(tuple(reasons), tuple(options)) if reasons else Route(base, kept)


def _list_differences(base: BaseBackup, machine: Machine) -> list[str]:
    reasons = []
    major = base.server_version // 10_000
    if machine.system_identifier is not None and machine.system_identifier != base.system_identifier:
        reasons.append(
            f"backup {base.id} is of another database: its system identifier is {base.system_identifier}, "
            f"the live one's {machine.system_identifier}"
        )
    if machine.tools_version != major:
        reasons.append(f"backup {base.id} is of Postgres {major}, and the programs here are {machine.tools_version}")
    if machine.server_version is not None and machine.server_version // 10_000 != major:
        live = machine.server_version // 10_000
        reasons.append(f"backup {base.id} is of Postgres {major}, the live server is {live}")
    return reasons


def _explain_no_base(archive: Archive, timeline: int, lsn: int) -> Unreachable:
    on_the_way = [base for base in archive.backups if _is_on_the_way(archive, timeline, base)]
    unverified = [base for base in on_the_way if base.verified_at is None and base.end_lsn <= lsn]
    if unverified:
        return Unreachable(
            (f"the base backup {unverified[-1].id} was not found whole: it is not verified",),
            (f"Read it again: backout db backups verify {unverified[-1].id}.",),
        )
    first = min((base.end_lsn for base in on_the_way if base.verified_at is not None), default=None)
    if first is None:
        return Unreachable((f"no verified base backup leads to timeline {timeline}",), ("backout db backups",))
    return Unreachable(
        (f"the target {show_lsn(lsn)} is before the first base backup, consistent from {show_lsn(first)} on",)
    )


def _list_timelines(archive: Archive, timeline: int) -> list[tuple[int, int]]:
    """Return the timelines that lead to this one, and where each is left."""
    return [*archive.history.get(timeline, ()), (timeline, FOREVER)]


def _is_on_the_way(archive: Archive, timeline: int, base: BaseBackup) -> bool:
    return leads_to(base, timeline, archive.history)


def _leads_to(archive: Archive, timeline: int, segment: WalSegment) -> bool:
    return any(
        number == segment.timeline and segment.begin_lsn < until for number, until in _list_timelines(archive, timeline)
    )


def _name_segment(wal: Iterable[WalSegment], timeline: int, lsn: int) -> str:
    size = max((each.end_lsn - each.begin_lsn for each in wal if not each.partial), default=16 * _MB)
    number, per_file = lsn // size, (1 << 32) // size
    return f"{timeline:08X}{number // per_file:08X}{number % per_file:08X}"


# --- which commit is meant -------------------------------------------------------------------------------------------


class ByTime(Value, frozen=True):
    """The first commit that is not older than a time, and what in the order of the WAL contradicts it.

    Args:
        commit: None when there is none.
        is_first: nothing in this WAL is older than the time, so that an earlier one may lie before it.
        older: commits behind it that bear earlier times, the last of them; how many there are.
        after_them: the first one behind those that is not older than the time.
    """

    commit: Commit | None = None
    is_first: bool = True
    older: Commit | None = None
    count: int = 0
    after_them: Commit | None = None


_JITTER_S = 1.0
"""Commits of one second stand in the WAL in any order: the time is taken before the record is written."""
LOOK_ON = 256 * _MB
"""WAL behind a commit in which the clock is still looked for going back."""


def find_first_after(commits: Iterable[Commit], at: float) -> ByTime:
    """Return the first commit in the WAL that is not older than a time, and whether the clock went back behind it.

    A server's clock that was ahead for a moment, or was put back, gives one time to two places.
    """
    found = ByTime()
    for commit in commits:
        if found.commit is None:
            found = replace(found, commit=commit) if commit.at >= at else replace(found, is_first=False)
        elif commit.lsn > found.commit.lsn + LOOK_ON or commit.timeline != found.commit.timeline:
            break
        elif commit.at < at - _JITTER_S:
            found = replace(found, older=commit, count=found.count + 1, after_them=None)
        elif found.older is not None and found.after_them is None and commit.at >= at:
            found = replace(found, after_them=commit)
    return found


def find_transaction(commits: Iterable[Commit], xid: int) -> Commit | None:
    """Return the commit of a transaction, whichever of its ids was named."""
    return next((commit for commit in commits if xid in commit.xids), None)
