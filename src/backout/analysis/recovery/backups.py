"""Judgements on backups: which kind is next, which may be pruned, and whether the live cluster is protected; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.recovery.ages import list_ages
from backout.model.database.backups import Choice, Protection, Retention, Window
from backout.model.database.recovery import BackupKind, sort_by_wal
from backout.model.database.wal import MINIMAL, NO_END, show_lsn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from backout.model.database.backups import Cluster, LastProof
    from backout.model.database.recovery import BaseBackup
    from backout.model.database.wal import WalGap, WalRead, WalSegment

_INCREMENTAL_SINCE: Final = 170000
"""The first server version that can take incremental backups."""
_DAY_S: Final = 86_400.0
_AHEAD_S: Final = 3600.0
"""Clocks of two machines are no further apart: what is dated later was dated by one that was wrong."""
_PAGE_BYTES: Final = 8192
ALARM_SHARE: Final = 0.5
"""Of max_slot_wal_keep_size: from here on it needs attention, since at the whole of it WAL is lost."""


def choose(
    backups: Sequence[BaseBackup], cluster: Cluster, *, full_every_s: float, wanted: BackupKind | None = None
) -> Choice:
    """Return what to take next: incremental where it is possible, full where the newest chain is too old.

    Args:
        backups: the complete ones.
        wanted: what a person asked for.

    Raises:
        ValueError: an incremental one was asked for and is not possible; the text says why.
    """
    backups = sort_by_wal(backups)
    if wanted is BackupKind.FULL:
        return Choice(BackupKind.FULL, None, "a full backup was asked for")
    obstacle = _explain_obstacle(backups, cluster)
    if obstacle:
        if wanted is BackupKind.INCREMENTAL:
            raise ValueError(obstacle)
        return Choice(BackupKind.FULL, None, obstacle)
    parent = backups[-1]
    age_s = cluster.at - _find_full(parent, backups).began_at
    if wanted is None and age_s >= full_every_s:
        return Choice(BackupKind.FULL, None, "the newest full backup is older than backup.full_every")
    return Choice(BackupKind.INCREMENTAL, parent.id, f"on {parent.id}")


def _explain_obstacle(backups: Sequence[BaseBackup], cluster: Cluster) -> str:
    if cluster.server_version < _INCREMENTAL_SINCE:
        return "this server's version has no incremental backups"
    if not cluster.summarize_wal:
        return "summarize_wal is off: ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf()"
    if not backups:
        return "there is no backup yet"
    newest = backups[-1]
    if newest.system_identifier != cluster.system_identifier:
        return "the newest backup is of another cluster"
    if newest.timeline != cluster.timeline:
        return f"the newest backup is of timeline {newest.timeline}, the cluster is on {cluster.timeline}"
    return ""


def _find_full(backup: BaseBackup, backups: Sequence[BaseBackup]) -> BaseBackup:
    by_id = {each.id: each for each in backups}
    while backup.parent is not None and backup.parent in by_id:
        backup = by_id[backup.parent]
    return backup


def find_chain(backup: BaseBackup, backups: Sequence[BaseBackup]) -> tuple[BaseBackup, ...]:
    """Return a backup with everything that it builds on, the full one first; () when a part of it is missing."""
    by_id, chain = {each.id: each for each in backups}, [backup]
    while (parent := chain[0].parent) is not None:
        if parent not in by_id or len(chain) > len(by_id):
            return ()
        chain.insert(0, by_id[parent])
    return tuple(chain)


def retain(
    backups: Sequence[BaseBackup],
    *,
    now: float,
    keep_s: float,
    timeline: int | None = None,
    history: Mapping[int, Sequence[tuple[int, int]]] | None = None,
) -> Retention:
    """Return what may go so that every moment of the last `keep_s` seconds can still be returned to.

    That needs the newest verified backup from before that window, all later ones, and whatever those build on. The
    newest one may be of a branch that was undone since: then the newest one that leads to where the cluster is now is
    needed as well. The newest verified chain stays whatever its age; without a verified backup everything stays.

    What came first the WAL says, not a clock; a clock that jumped makes nothing old (`list_ages`); no single reading of
    it decides: what is old has to be so by this machine's time now and by the time of the last backup but one.

    Args:
        timeline: of the cluster now, None when it cannot be asked: then no branch is taken for an undone one.
        history: of each timeline but the first, those before it with the position at which each was left.
    """
    backups = sort_by_wal(backups)
    age = dict(zip((each.id for each in backups), list_ages([each.ended_at for each in backups], now), strict=True))
    verified = [each for each in backups if each.verified_at is not None and find_chain(each, backups)]
    if not verified:
        return Retention(tuple(each.id for each in backups), (), None)
    readings = [now, *(each.ended_at for each in backups[-2:-1] if keep_s > 0)]  # of nothing, nothing is promised
    before = _list_before(verified, age, min(readings) - keep_s, keep_s)
    first = before[-1] if before else verified[0]
    kept = {each.id for each in backups[backups.index(first) :]}
    branches = {each.timeline for each in before} if timeline is None else {timeline}
    for branch in branches:
        kept |= {each.id for each in [each for each in before if leads_to(each, branch, history or {})][-1:]}
    for each in backups:
        if each.id in kept:
            kept |= {part.id for part in find_chain(each, backups)}
    keep = tuple(each for each in backups if each.id in kept)
    newest = keep[-1].system_identifier
    begin = min(each.begin_lsn for each in keep if each.system_identifier == newest)
    return Retention(tuple(each.id for each in keep), tuple(each.id for each in backups if each.id not in kept), begin)


def _list_before(
    verified: Sequence[BaseBackup], age: Mapping[str, float], until: float, keep_s: float
) -> list[BaseBackup]:
    """Return the verified backups that are older than what is kept, by the pauses between all and by the clock."""
    return [each for each in verified if age[each.id] >= keep_s and each.ended_at <= until]


def retain_others(
    own: Sequence[BaseBackup],
    others: Sequence[BaseBackup],
    *,
    now: float,
    keep_s: float,
    last_commit: Callable[[str], float],
) -> tuple[Retention, ...]:
    """Return what may go of the backups of other clusters in the same store, a retention for each cluster.

    Each is kept as if it were alone. One goes as a whole when it has ended before all that is kept: its last commit is
    known, and a backup of our own was taken after that which is itself older than what is kept.

    Args:
        last_commit: returns when a cluster's last commit was made that was read back, 0: not known.
    """
    ours = sort_by_wal(own)
    age = dict(zip((each.id for each in ours), list_ages([each.ended_at for each in ours], now), strict=True))
    old = _list_before([each for each in ours if each.verified_at is not None], age, now - keep_s, keep_s)
    found = []
    for system in sorted({each.system_identifier for each in others}):
        theirs = [each for each in others if each.system_identifier == system]
        ended = max([last_commit(system), *(each.ended_at for each in theirs)])
        if last_commit(system) and any(each.began_at > ended for each in old):
            found.append(Retention((), tuple(each.id for each in sort_by_wal(theirs)), None))
            continue
        alone = retain(theirs, now=now, keep_s=keep_s)
        wal = () if alone.wal_before is None else ((system, alone.wal_before),)
        found.append(Retention(alone.keep, alone.remove, None, wal))
    return tuple(found)


def spare_doubtful(
    found: Retention, backups: Sequence[BaseBackup], doubtful: Sequence[BaseBackup], *, now: float, keep_s: float
) -> Retention:
    """Return a retention that also has the backups which may not be used: not signed, or signed with another key.

    They protect nothing, so they push nothing out; but a person may still take one by its name. So they stay, and the
    WAL behind them, as long as if they were good.
    """
    if found.wal_before is None:
        return found  # nothing goes
    every = sorted((*backups, *doubtful), key=lambda each: each.ended_at)
    age = dict(zip((each.id for each in every), list_ages([each.ended_at for each in every], now), strict=True))
    kept = {each.id for each in doubtful if age[each.id] < keep_s}
    if all(age[each.id] < keep_s for each in backups if each.verified_at is not None):
        kept |= {each.id for each in [each for each in doubtful if age[each.id] >= keep_s][-1:]}
    for each in doubtful:
        if each.id in kept:
            kept |= {part.id for part in find_chain(each, (*doubtful, *backups))}
    ours = {each.system_identifier for each in backups}
    lsns = [each.begin_lsn for each in doubtful if each.id in kept and each.system_identifier in ours]
    stay = tuple(each.id for each in doubtful if each.id in kept)
    gone = tuple(each.id for each in doubtful if each.id not in kept)
    return Retention((*stay, *found.keep), (*found.remove, *gone), min([found.wal_before, *lsns]), found.others)


def leads_to(backup: BaseBackup, timeline: int, history: Mapping[int, Sequence[tuple[int, int]]]) -> bool:
    """Whether a replay from a backup comes to a timeline: it is on it, or on one before it that was left later."""
    if backup.timeline == timeline:
        return True
    return any(number == backup.timeline and backup.end_lsn <= until for number, until in history.get(timeline, ()))


def reach(backup: BaseBackup, wal: Iterable[WalSegment]) -> int | None:
    """Return the last position that a replay from a backup reaches on its timeline; None: it gets never consistent."""
    at = backup.begin_lsn
    for segment in sorted(wal, key=lambda each: each.begin_lsn):
        if segment.timeline == backup.timeline and segment.begin_lsn <= at < segment.end_lsn:
            at = segment.end_lsn
    return at if at >= backup.end_lsn else None


def find_windows(backups: Sequence[BaseBackup], wal: Sequence[WalSegment]) -> tuple[Window, ...]:
    """Return what can be returned to, oldest first: a hole in the archive divides it."""
    found: list[Window] = []
    system = backups[-1].system_identifier if backups else ""
    for base in backups:
        ours = base.system_identifier == system and base.verified_at is not None and bool(find_chain(base, backups))
        end = reach(base, wal) if ours else None
        if end is None:
            continue
        last = found[-1] if found else None
        if last is not None and last.timeline == base.timeline and last.to_lsn >= base.end_lsn:
            found[-1] = replace(last, to_lsn=max(last.to_lsn, end))
        else:
            found.append(Window(base.id, base.timeline, base.ended_at, base.end_lsn, end))
    return tuple(found)


def find_base(cluster: Cluster, backups: Sequence[BaseBackup]) -> BaseBackup | None:
    """Return the newest verified base backup from which the cluster would be restored; None: there is none."""
    ours = [each for each in sort_by_wal(backups) if each.system_identifier == cluster.system_identifier]
    verified = [each for each in ours if each.verified_at is not None and find_chain(each, backups)]
    if not verified:
        return None
    return next((each for each in reversed(verified) if each.timeline == cluster.timeline), verified[-1])


def judge_protection(
    cluster: Cluster,
    backups: Sequence[BaseBackup],
    wal: Sequence[WalSegment],
    gaps: Sequence[WalGap] = (),
    read: WalRead | None = None,
) -> Protection:
    """Return whether the cluster as it runs now can be brought back to any moment since its newest base backup.

    A swap, a promotion, a lost slot and wal_level `minimal` all end the protection until a new verified base backup
    exists.

    Args:
        gaps: WAL that was lost, or cannot be replayed.
        read: what was read back of it; None where that is not asked.
    """
    base = find_base(cluster, backups)
    if base is None:
        ours = any(each.system_identifier == cluster.system_identifier for each in backups)
        other = "the backups are of another cluster" if backups and not ours else "there is no verified base backup"
        return Protection(protected=False, why=other)
    if base.timeline != cluster.timeline:
        why = f"the newest base backup is of timeline {base.timeline}, the cluster is on {cluster.timeline}"
        return Protection(protected=False, why=why, base=base.id)
    end = reach(base, wal)
    if end is None:
        return Protection(protected=False, why=f"the WAL that base backup {base.id} needs is not there", base=base.id)
    if cluster.wal_level == "minimal":
        why = "wal_level is minimal: what is written now is in no WAL that can be replayed"
        return Protection(protected=False, why=why, base=base.id, reaches_lsn=end)
    lost = next((gap for gap in gaps if gap.timeline == base.timeline and gap.end_lsn > base.begin_lsn), None)
    if lost is not None:
        span = f"from {show_lsn(lost.begin_lsn)}"
        span += f" to {show_lsn(lost.end_lsn)}" if lost.end_lsn < NO_END else " on"
        what = "WAL cannot be replayed" if lost.why == MINIMAL else "WAL was lost"
        return Protection(
            protected=False,
            why=f"{what} {span} ({lost.why}): take a new base backup",
            base=base.id,
            reaches_lsn=min(end, lost.begin_lsn),
        )
    if read is not None and (read.timeline, read.end_lsn >= end) != (base.timeline, True):
        seen = show_lsn(read.end_lsn) if read.timeline == base.timeline else "nowhere"
        why = f"the WAL since base backup {base.id} is read back to {seen} only, and it reaches to {show_lsn(end)}"
        return Protection(protected=False, why=why, base=base.id, reaches_lsn=end)
    if cluster.slot is None or not cluster.slot.active:
        why = "WAL is not being received: what was written since is in no backup"
        return Protection(protected=False, why=why, base=base.id, reaches_lsn=end)
    kept_from = (cluster.slot.restart_lsn or 0) // cluster.segment_bytes * cluster.segment_bytes
    if kept_from > end:
        why = f"the archive ends at {show_lsn(end)}, and the server keeps WAL from {show_lsn(kept_from)} on"
        return Protection(protected=False, why=why, base=base.id, reaches_lsn=end)
    why = f"from base backup {base.id} on"
    at = read.commit_at if read is not None else None
    behind = _measure_behind(cluster, end)
    return Protection(protected=True, why=why, base=base.id, reaches_lsn=end, reaches_at=at, behind_bytes=behind)


def _measure_behind(cluster: Cluster, end: int) -> int:
    """Return how much of its WAL the server has that the archive does not.

    A record may end with zeros, which do not tell how far a file was received: in a page the receiver's word counts.
    """
    behind = max(0, cluster.lsn - end)
    flushed = cluster.slot.flush_lsn if cluster.slot is not None else None
    return 0 if behind < _PAGE_BYTES and flushed is not None and flushed >= cluster.lsn else behind


def explain_proof_alarm(last: LastProof, backups: Sequence[BaseBackup], now: float, within_s: float) -> str:
    """Return why the proofs need attention, "" for nothing: an untried backup may not restore.

    Args:
        within_s: how old the last one may be; where there is none, the oldest backup. 0: no limit.
    """
    if not within_s or not backups:
        return ""
    if last.failed:
        return make_failed_proof_alarm(last.failed)
    days = within_s / _DAY_S
    if last.at is not None and last.at - now > _AHEAD_S:
        return "the last proof of the backups is dated in the future: a clock was wrong, and its age is unknown"
    if last.at is not None and now - last.at > within_s:
        return f"the last proof of the backups is {(now - last.at) / _DAY_S:.0f} days old, and {days:g} are allowed"
    if last.at is None and now - min(each.ended_at for each in backups) > within_s:
        return f"no backup was restored as a proof in {days:g} days"
    return ""


def make_failed_proof_alarm(why: str) -> str:
    """Return the alarm of a proof that failed."""
    return f"the last proof of the backups failed: {why}"


def is_proof_due(last: LastProof, now: float, within_s: float) -> bool:
    """Whether it is time for another proof: half of what is allowed has passed, or the last one failed.

    >>> from backout.model.database.backups import LastProof
    >>> [is_proof_due(each, 100.0, 60.0) for each in (LastProof(), LastProof(69.0), LastProof(71.0), LastProof(9999.0))]
    [True, True, False, True]
    """
    return last.at is None or bool(last.failed) or not -_AHEAD_S <= now - last.at < within_s / 2


def explain_slot_alarm(cluster: Cluster) -> str:
    """Return what is wrong with the receiver's slot, "" when nothing is."""
    slot, limit = cluster.slot, cluster.slot_limit_bytes
    if slot is None:
        return ""
    if slot.status is not None and slot.status.value == "lost":
        return "the slot is lost: the server removed WAL that was not received yet"
    if limit is None:
        return "max_slot_wal_keep_size is not set: a receiver that stops would fill the server's disk"
    share = slot.retained_bytes / limit if limit else 1.0
    if share >= ALARM_SHARE:
        return f"the server keeps {share:.0%} of max_slot_wal_keep_size for the receiver; at 100 % WAL is lost"
    return ""
