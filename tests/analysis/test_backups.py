"""Which backup comes next, what may go, and whether a cluster is protected: tables, and many histories."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from values import replace

from backout.analysis.recovery import backups as backups_analysis
from backout.analysis.recovery.backups import (
    choose,
    explain_slot_alarm,
    find_chain,
    find_windows,
    judge_protection,
    reach,
    retain,
)
from backout.model.database.backups import Cluster, Slot, WalStatus
from backout.model.database.recovery import BackupKind, BaseBackup
from backout.model.database.wal import WalGap, WalRead, WalSegment

DAY = 86400.0
SEGMENT = 16 << 20
SLOT = Slot("backout_lab", True, WalStatus.RESERVED, 5 * SEGMENT, 0)
CLUSTER = Cluster(
    at=100 * DAY,
    system_identifier="7",
    timeline=1,
    lsn=5 * SEGMENT + 100,
    server_version=180006,
    segment_bytes=SEGMENT,
    size_bytes=1,
    replication=True,
    summarize_wal=True,
    slot_limit_bytes=10 * SEGMENT,
    slot=SLOT,
)


def backup(number: int, parent: int | None = None, *, at: float | None = None, verified: bool = True) -> BaseBackup:
    at = number * DAY if at is None else at
    return BaseBackup(
        id=f"{number:04d}",
        kind=BackupKind.FULL if parent is None else BackupKind.INCREMENTAL,
        parent=None if parent is None else f"{parent:04d}",
        began_at=at,
        ended_at=at + 1,
        begin_lsn=number * SEGMENT + 40,
        end_lsn=number * SEGMENT + 90,
        timeline=1,
        system_identifier="7",
        server_version=180006,
        size_bytes=1,
        stored_bytes=1,
        verified_at=at + 1 if verified else None,
    )


def segments(first: int, last: int, *, timeline: int = 1) -> tuple[WalSegment, ...]:
    return tuple(WalSegment(f"{n}", timeline, n * SEGMENT, (n + 1) * SEGMENT) for n in range(first, last))


@pytest.mark.parametrize(
    ("backups", "cluster", "kind", "why"),
    [
        ((), CLUSTER, BackupKind.FULL, "there is no backup yet"),
        ((backup(99),), CLUSTER, BackupKind.INCREMENTAL, "on 0099"),
        ((backup(90),), CLUSTER, BackupKind.FULL, "older than backup.full_every"),
        ((backup(90), backup(99, 90)), CLUSTER, BackupKind.FULL, "older than backup.full_every"),
        ((backup(99),), replace(CLUSTER, summarize_wal=False), BackupKind.FULL, "summarize_wal is off"),
        ((backup(99),), replace(CLUSTER, server_version=160004), BackupKind.FULL, "no incremental backups"),
        ((backup(99),), replace(CLUSTER, system_identifier="8"), BackupKind.FULL, "another cluster"),
        ((backup(99),), replace(CLUSTER, timeline=2), BackupKind.FULL, "timeline 1, the cluster is on 2"),
    ],
    ids=["none", "fresh", "old", "old chain", "no summaries", "old server", "other cluster", "other timeline"],
)
def test_the_kind_of_the_next_backup(
    backups: tuple[BaseBackup, ...], cluster: Cluster, kind: BackupKind, why: str
) -> None:
    """Incremental where it is possible and the chain is young; otherwise full, and it says why."""
    found = choose(backups, cluster, full_every_s=7 * DAY)
    assert found.kind is kind
    assert why in found.why


def test_an_incremental_backup_that_is_asked_for_and_impossible_is_refused() -> None:
    """The reason is the same; asked for full, it is always full."""
    with pytest.raises(ValueError, match="no backup yet"):
        choose((), CLUSTER, full_every_s=DAY, wanted=BackupKind.INCREMENTAL)
    assert choose((backup(99),), CLUSTER, full_every_s=DAY, wanted=BackupKind.FULL).parent is None
    assert choose((backup(9),), CLUSTER, full_every_s=DAY, wanted=BackupKind.INCREMENTAL).parent == "0009"


def test_retention_keeps_what_the_window_needs() -> None:
    """The newest backup from before the window, what it builds on, and everything later."""
    chain = (backup(1), backup(2, 1), backup(10), backup(11, 10), backup(12, 11), backup(20), backup(21, 20))
    found = retain(chain, now=22 * DAY, keep_s=9.5 * DAY)
    assert found.keep == ("0010", "0011", "0012", "0020", "0021")
    assert found.remove == ("0001", "0002")
    assert found.wal_before == 10 * SEGMENT + 40


@pytest.mark.parametrize(
    ("timeline", "history", "gone"),
    [
        (1, {}, ()),
        (2, {2: ((1, 3 * SEGMENT),)}, ("0001",)),
        (3, {3: ((1, 8 * SEGMENT),)}, ()),
        (3, {3: ((1, 3 * SEGMENT), (2, 8 * SEGMENT))}, ("0001",)),
        (None, {}, ()),
    ],
    ids=["undone", "swapped", "promoted after the undo", "swapped twice", "not known"],
)
def test_retention_keeps_the_base_of_the_branch_that_lives(
    timeline: int | None, history: dict[int, tuple[tuple[int, int], ...]], gone: tuple[str, ...]
) -> None:
    """A swap was undone: the newest backup before the window is of the branch that is gone."""
    swapped = replace(backup(5), timeline=2)
    backups = (backup(1), swapped, *(replace(backup(number), timeline=timeline or 1) for number in (9, 10)))
    found = retain(backups, now=11 * DAY, keep_s=3 * DAY, timeline=timeline, history=history)
    assert found.remove == gone
    assert found.wal_before == (5 if gone else 1) * SEGMENT + 40


def test_a_clock_that_is_wrong_removes_no_backup() -> None:
    """Forty days ahead for one backup, then put right: nothing young goes; the WAL says which backup is the newest."""
    daily = tuple(backup(number, at=number * DAY) for number in range(1, 6))
    ahead = replace(backup(6, at=46 * DAY), id="9999")
    assert retain((*daily, ahead), now=46 * DAY, keep_s=35 * DAY).remove == ()
    right = backup(7, at=7 * DAY)
    assert retain((*daily, right, ahead), now=7 * DAY, keep_s=35 * DAY).remove == ()
    live = replace(CLUSTER, lsn=9 * SEGMENT, at=7 * DAY + 60)
    assert choose((*daily, right, ahead), live, full_every_s=20 * DAY).parent == right.id
    much_later = tuple(backup(number, at=number * DAY) for number in range(8, 90))
    assert retain((*daily, right, *much_later, ahead), now=90 * DAY, keep_s=35 * DAY).remove[0] == "0001"


@pytest.mark.parametrize("keep_days", [0.25, 0.5, 1, 2, 3, 35])
@pytest.mark.parametrize("every_h", [1, 6, 24])
@pytest.mark.parametrize("off_days", [-400, -40, -1.5, -1, 1, 1.5, 40, 400])
def test_no_single_wrong_clock_removes_what_is_needed(keep_days: float, every_h: int, off_days: float) -> None:
    """One backup dated in the future or the past, and retention by that clock: the true window keeps its base.

    The last one may come soon after the one before, as one that was made by hand does.
    """
    for last_h in (0.5, every_h):
        true = [number * every_h / 24 * DAY for number in range(1, 80)]
        true.append(true[-1] + last_h / 24 * DAY)
        daily = [replace(backup(number), began_at=at - 1, ended_at=at) for number, at in enumerate(true, start=1)]
        for wrong in (len(daily) - 1, len(daily) - 2, 40):
            off = off_days * DAY
            history = [*daily]
            history[wrong] = replace(daily[wrong], began_at=true[wrong] + off - 1, ended_at=true[wrong] + off)
            now = true[-1] + (off if wrong == len(daily) - 1 else 0)
            found = retain(history, now=now, keep_s=keep_days * DAY)
            needed = [each for each, at in zip(daily, true, strict=True) if at > true[-1] - keep_days * DAY]
            before = [each for each, at in zip(daily, true, strict=True) if at <= true[-1] - keep_days * DAY]
            gone = {each.id for each in (*before[-1:], *needed)} - set(found.keep)
            assert not gone, (wrong, last_h, sorted(gone))
            if abs(off_days) > 1.5 * every_h / 24:
                continue
            assert len(found.keep) <= len(needed) + 8  # and what is old goes all the same


def test_another_cluster_in_the_store_is_kept_as_if_it_were_alone() -> None:
    """Two that write side by side; one that ended before all that is kept goes, one that nobody knows of stays."""
    ours = tuple(backup(number) for number in range(1, 40))
    theirs = tuple(replace(backup(number), id=f"b{number:02}", system_identifier="8") for number in range(1, 40))
    (found,) = backups_analysis.retain_others(
        ours, theirs, now=40 * DAY, keep_s=5 * DAY, last_commit=lambda _: 39.5 * DAY
    )
    assert found.keep == tuple(f"b{number}" for number in range(33, 40))
    assert found.others == (("8", 33 * SEGMENT + 40),)
    quiet = theirs[:3]
    (writing,) = backups_analysis.retain_others(
        ours, quiet, now=40 * DAY, keep_s=5 * DAY, last_commit=lambda _: 39.5 * DAY
    )
    (unknown,) = backups_analysis.retain_others(ours, quiet, now=40 * DAY, keep_s=5 * DAY, last_commit=lambda _: 0.0)
    (ended,) = backups_analysis.retain_others(
        ours, quiet, now=40 * DAY, keep_s=5 * DAY, last_commit=lambda _: 3.5 * DAY
    )
    assert (writing.remove, unknown.remove, ended.remove) == ((), (), ("b01", "b02", "b03"))
    (young,) = backups_analysis.retain_others(
        ours, quiet, now=40 * DAY, keep_s=38 * DAY, last_commit=lambda _: 3.5 * DAY
    )
    assert young.remove == ()
    assert backups_analysis.retain_others(ours, (), now=40 * DAY, keep_s=5 * DAY, last_commit=lambda _: 0.0) == ()


def test_a_branch_that_was_undone_takes_no_protection_away() -> None:
    """A base backup of the other timeline is newer, and the one of the timeline that lives holds still."""
    undone = replace(backup(98), timeline=2)
    live = replace(CLUSTER, lsn=99 * SEGMENT, slot=replace(SLOT, restart_lsn=99 * SEGMENT))
    state = judge_protection(live, (backup(90), undone), segments(90, 100))
    assert (state.protected, state.base) == (True, "0090")


def test_retention_never_removes_the_only_verified_chain() -> None:
    """However old it is; and without a verified one nothing goes."""
    old, unverified = backup(1), backup(50, verified=False)
    assert retain((old, unverified), now=100 * DAY, keep_s=DAY).remove == ()
    assert retain((unverified,), now=100 * DAY, keep_s=DAY) == retain((unverified,), now=1e9, keep_s=0)
    assert retain((unverified,), now=100 * DAY, keep_s=DAY).wal_before is None


@example(kinds=[(False, True), (True, True)], keep_days=0, later=0)  # the last one ended a second from now
@given(
    kinds=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30),
    keep_days=st.integers(0, 40),
    later=st.integers(0, 40),
)
def test_retention_never_breaks_a_chain(kinds: list[tuple[bool, bool]], keep_days: int, later: int) -> None:
    """Of any history: every kept backup can be restored, the newest verified one is kept, and no needed WAL goes."""
    history: list[BaseBackup] = []
    for number, (full, verified) in enumerate(kinds, start=1):
        parent = None if full or not history else number - 1
        history.append(backup(number, parent, verified=verified))
    now = len(kinds) * DAY + later * DAY
    found = retain(history, now=now, keep_s=keep_days * DAY)
    kept = [each for each in history if each.id in found.keep]
    assert sorted(found.keep + found.remove) == [each.id for each in history]
    assert all({part.id for part in find_chain(each, history)} <= set(found.keep) for each in kept)
    verified_ones = [each for each in history if each.verified_at is not None]
    if verified_ones:
        assert verified_ones[-1].id in found.keep
        assert found.wal_before == min(each.begin_lsn for each in kept)
        needed = [each for each in verified_ones if each.ended_at <= now - keep_days * DAY][-1:]
        assert all(each.id in found.keep for each in needed)


def test_how_far_a_replay_reaches() -> None:
    """To the first hole; not at all when the backup's own WAL is missing; other timelines do not count."""
    base = backup(3)
    assert reach(base, segments(3, 6)) == 6 * SEGMENT
    assert reach(base, (*segments(3, 5), *segments(6, 9))) == 5 * SEGMENT
    assert reach(base, segments(4, 9)) is None
    assert reach(base, segments(3, 6, timeline=2)) is None


def test_the_windows_that_can_be_returned_to() -> None:
    """One while the archive has no hole; a hole divides it, and what is not verified opens none."""
    chain = (backup(3), backup(5, 3), backup(8))
    whole = find_windows(chain, segments(3, 10))
    assert [(span.base, span.from_lsn, span.to_lsn) for span in whole] == [("0003", 3 * SEGMENT + 90, 10 * SEGMENT)]
    holes = find_windows(chain, (*segments(3, 4), *segments(5, 6), *segments(8, 10)))
    assert [(span.base, span.to_lsn // SEGMENT) for span in holes] == [("0003", 4), ("0005", 6), ("0008", 10)]
    assert find_windows((backup(3, verified=False),), segments(3, 10)) == ()
    assert find_windows((), ()) == ()


@pytest.mark.parametrize(
    ("cluster", "backups", "wal", "gaps", "why"),
    [
        (CLUSTER, (backup(3),), segments(3, 6), (), None),
        (CLUSTER, (), (), (), "no verified base backup"),
        (CLUSTER, (backup(3, verified=False),), segments(3, 6), (), "no verified base backup"),
        (replace(CLUSTER, system_identifier="8"), (backup(3),), segments(3, 6), (), "another cluster"),
        (replace(CLUSTER, timeline=2), (backup(3),), segments(3, 6), (), "timeline 1, the cluster is on 2"),
        (CLUSTER, (backup(3),), (), (), "is not there"),
        (replace(CLUSTER, slot=None), (backup(3),), segments(3, 6), (), "not being received"),
        (replace(CLUSTER, slot=replace(SLOT, active=False)), (backup(3),), segments(3, 6), (), "not being received"),
        (CLUSTER, (backup(3),), segments(3, 4), (), "the archive ends at 0/4000000"),
        (CLUSTER, (backup(3),), segments(3, 6), (WalGap(1.0, 1, 1, 9 * SEGMENT, "lost"),), "WAL was lost"),
        (CLUSTER, (backup(3),), segments(3, 6), (WalGap(1.0, 1, 1, 3 * SEGMENT, "lost"),), None),
    ],
    ids=[
        "protected", "no backup", "unverified", "swapped", "timeline", "no wal", "no slot", "inactive", "hole", "gap",
        "gap before the base",
    ],
)  # fmt: skip
def test_whether_the_cluster_is_protected(
    cluster: Cluster,
    backups: tuple[BaseBackup, ...],
    wal: tuple[WalSegment, ...],
    gaps: tuple[WalGap, ...],
    why: str | None,
) -> None:
    """Every way to lose the protection is named."""
    found = judge_protection(cluster, backups, wal, gaps)
    assert found.protected is (why is None)
    assert why is None or why in found.why


@pytest.mark.parametrize(
    ("lsn", "flushed", "behind"),
    [
        (6 * SEGMENT, None, 0),
        (6 * SEGMENT + 5_000_000, 6 * SEGMENT, 5_000_000),
        (6 * SEGMENT + 40, 6 * SEGMENT + 40, 0),
        (6 * SEGMENT + 40, 6 * SEGMENT, 40),
        (6 * SEGMENT + 9000, 6 * SEGMENT + 9000, 9000),
    ],
    ids=["all of it", "far behind", "zeros at the end", "a commit behind", "flushed and not here"],
)
def test_the_claim_ends_where_the_archive_does(lsn: int, flushed: int | None, behind: int) -> None:
    """A receiver that lags is no gap; what it has not received is named, and the last commit that was read."""
    live = replace(CLUSTER, lsn=lsn, slot=replace(SLOT, flush_lsn=flushed))
    found = judge_protection(live, (backup(3),), segments(3, 6), (), WalRead(1, 3 * SEGMENT, 6 * SEGMENT, 90 * DAY))
    assert (found.protected, found.behind_bytes) == (True, behind)
    assert "from base backup 0003 on, up to 0/6000000 (last commit 1970-04-01 00:00:00 UTC)" in found.claim
    assert (f"{behind:,} bytes of WAL since are not received" in found.claim) is bool(behind)


@pytest.mark.parametrize(
    ("slot", "limit", "words"),
    [
        (None, None, ""),
        (SLOT, 10 * SEGMENT, ""),
        (replace(SLOT, retained_bytes=5 * SEGMENT), 10 * SEGMENT, "keeps 50%"),
        (replace(SLOT, retained_bytes=5 * SEGMENT - 1), 10 * SEGMENT, ""),
        (SLOT, None, "max_slot_wal_keep_size is not set"),
        (replace(SLOT, status=WalStatus.LOST), 10 * SEGMENT, "the slot is lost"),
    ],
    ids=["no slot", "quiet", "half", "nearly half", "no limit", "lost"],
)
def test_the_alarm_of_the_slot(slot: Slot | None, limit: int | None, words: str) -> None:
    """At half of max_slot_wal_keep_size somebody has to look."""
    found = explain_slot_alarm(replace(CLUSTER, slot=slot, slot_limit_bytes=limit))
    assert words in found
    assert bool(found) is bool(words)
