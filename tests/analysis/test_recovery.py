"""The preflight of a restore: every reason why a target cannot be reached, and the way to one that can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import replace

from backout.analysis.recovery.recovery import (
    Archive,
    Machine,
    Route,
    Unreachable,
    find_chain,
    find_first_after,
    find_route,
    find_stretches,
    find_transaction,
    find_wal_before,
    keep_own_cluster,
)
from backout.model.database.recovery import BackupKind, BaseBackup, Commit
from backout.model.database.wal import WalSegment

MB = 1 << 20
SIZE = 16 * MB
HERE = Machine(18, "777", 180006, free_bytes=1 << 40)


def base(name: str, begin: int, end: int, *, timeline: int = 1, verified: bool = True) -> BaseBackup:
    return BaseBackup(
        name, BackupKind.FULL, None, begin, end, begin, end, timeline, "777", 180006, 100 * MB, 10 * MB,
        verified_at=1.0 if verified else None,
    )  # fmt: skip


def segment(number: int, *, timeline: int = 1, filled: int = SIZE) -> WalSegment:
    begin = number * SIZE
    return WalSegment(f"{timeline:08X}{0:08X}{number:08X}", timeline, begin, begin + filled, partial=filled < SIZE)


def archive(*, without: int = -1) -> Archive:
    """Bases at the begin of segments 2 and 6; WAL from 2 on to the middle of 9."""
    wal = [segment(number) for number in range(2, 9) if number != without] + [segment(9, filled=SIZE // 2)]
    bases = (base("a", 2 * SIZE, 2 * SIZE + 100), base("b", 6 * SIZE, 6 * SIZE + 100))
    return Archive(bases, tuple(wal), {})


def at(position: float) -> int:
    return int(position * SIZE)


def reached(lsn: int, found: Archive | None = None, machine: Machine = HERE, timeline: int = 1) -> Route:
    way = find_route(found or archive(), lsn, timeline, machine)
    assert isinstance(way, Route), way
    return way


def why_not(lsn: int, found: Archive | None = None, machine: Machine = HERE, timeline: int = 1) -> str:
    way = find_route(found or archive(), lsn, timeline, machine)
    assert isinstance(way, Unreachable), way
    return "; ".join(way.reasons)


def test_the_newest_base_before_the_target_is_taken() -> None:
    """The less there is to replay, the sooner it is there."""
    assert reached(at(5.5)).base.id == "a"
    assert reached(at(6.5)).base.id == "b"
    assert reached(at(6.5)).names[0] == segment(6).name
    assert reached(at(9.2)).end_lsn == at(9.5)


def test_what_begins_before_it_is_consistent_is_too_new() -> None:
    """A base is consistent from its end on."""
    assert reached(6 * SIZE + 50).base.id == "a"


@pytest.mark.parametrize(
    ("position", "says"),
    [(1.5, "before the first base backup"), (9.5, "after the end of"), (900, "after the end of")],
)
def test_a_target_outside_the_window_is_refused(position: float, says: str) -> None:
    """Each end is named."""
    assert says in why_not(at(position))


def test_a_hole_is_refused_by_the_name_of_the_segment() -> None:
    """Also when it lies before a newer base that would do without it, if the target does not."""
    assert f"WAL segment {segment(4).name} is missing" in why_not(at(5.5), archive(without=4))
    assert reached(at(6.5), archive(without=4)).base.id == "b"
    assert reached(at(3.5), archive(without=4)).base.id == "a"
    assert f"WAL segment {segment(7).name} is missing" in why_not(at(8.5), archive(without=7))


def test_nothing_is_restored_from_what_was_not_found_whole() -> None:
    """An unverified base is passed over; alone it is a reason."""
    found = archive()
    doubtful = replace(found, backups=(found.backups[0], replace(found.backups[1], verified_at=None)))
    assert reached(at(6.5), doubtful).base.id == "a"
    assert "not verified" in why_not(at(6.5), replace(found, backups=(replace(found.backups[0], verified_at=None),)))
    assert "no base backup" in why_not(at(6.5), Archive((), (), {}))


def test_every_difference_is_named_at_once() -> None:
    """Another database, another version here and there, no room: one answer."""
    said = why_not(at(6.5), machine=Machine(17, "778", 170001, free_bytes=MB))
    for part in ("another database", "the programs here are 17", "the live server is 17", "MB are free"):
        assert part in said
    assert reached(at(6.5), machine=Machine(18, None, None, None)).base.id == "b"
    little = replace(HERE, free_bytes=300 * MB)
    assert "MB are needed" in why_not(at(5.5), machine=little)
    assert reached(at(6.5), machine=replace(little, copies=False)).base.id == "b"


def test_a_new_timeline_is_reached_over_the_old_one() -> None:
    """After a swap: timeline 2 left timeline 1 in the middle of segment 8; what 1 went on with does not count."""
    wal = (*archive().wal, segment(8, timeline=2), segment(9, timeline=2))
    found = Archive(archive().backups, wal, {2: ((1, at(8.5)),)})
    way = reached(at(9.6), found, timeline=2)
    assert [span.timeline for span in way.spans] == [1, 2]
    assert way.spans[0].end_lsn == way.spans[1].begin_lsn == at(8.5)
    assert segment(9).name not in way.names
    late = replace(found, backups=(*found.backups, base("late", at(8.7), at(8.8))))
    assert reached(at(9.6), late, timeline=2).base.id == "b"


@pytest.mark.parametrize("filled", [0.0, 0.1, 0.49], ids=["nothing", "a little", "all but zeros at its end"])
def test_what_was_not_received_of_the_old_timeline_stands_in_the_new_ones_first_segment(filled: float) -> None:
    """A failover: the old one's last segment is `.partial`, and ends before the place where it was left."""
    old = [segment(number) for number in range(2, 8)] + ([segment(8, filled=at(filled))] if filled else [])
    wal = (*old, segment(8, timeline=2), segment(9, timeline=2))
    found = Archive(archive().backups, wal, {2: ((1, at(8.5)),)})
    way = reached(at(9.6), found, timeline=2)
    assert way.spans[0].end_lsn == way.spans[1].begin_lsn == at(8 + filled)
    assert segment(8, timeline=2).name in way.names
    gone = Archive(found.backups, tuple(each for each in wal if each.name != segment(7).name), found.history)
    assert "hole" in why_not(at(9.6), gone, timeline=2)
    without = replace(found, wal=(*old, segment(9, timeline=2)))
    assert "hole" in why_not(at(9.6), without, timeline=2)


@given(missing=st.sets(st.integers(2, 9)), position=st.integers(2 * SIZE + 100, 10 * SIZE))
def test_a_route_covers_every_byte_to_beyond_the_target(missing: set[int], position: int) -> None:
    """Whatever is missing: either the way is whole, or it is refused."""
    wal = tuple(segment(number) for number in range(2, 10) if number not in missing)
    found = Archive(archive().backups, wal, {})
    way = find_route(found, position, 1, HERE)
    if isinstance(way, Route):
        covered = {each.name: each for each in wal}
        reach = way.base.begin_lsn
        for name in way.names:
            assert covered[name].begin_lsn <= reach
            reach = covered[name].end_lsn
        assert reach > position
    else:
        assert way.reasons


def test_the_chain_ends_where_the_wal_does() -> None:
    """No segment is missing when nothing lies behind."""
    spans, missing = find_chain(archive(), archive().backups[0], 1)
    assert missing == ""
    assert spans[-1].end_lsn == at(9.5)


def test_commits_are_found_by_any_of_their_ids_and_by_time_in_wal_order() -> None:
    """Commit times may run backwards in the WAL: the first one that is late enough counts."""
    commits = [Commit(10, 1, 1, 5.0), Commit(11, 2, 1, 9.0, subxids=(12, 13)), Commit(14, 3, 1, 8.0)]
    assert find_transaction(commits, 13) == commits[1]
    assert find_transaction(commits, 99) is None
    assert find_first_after(commits, 7.0).commit == commits[1]
    assert find_first_after(commits, 9.5).commit is None


def test_what_lies_behind_a_hole_is_another_stretch() -> None:
    """Each is whole in itself; WAL from before the oldest base, which nothing leads to, is none."""
    found = find_stretches(archive(without=4), 1)
    assert [(each[0].begin_lsn, each[-1].end_lsn) for each in found] == [
        (2 * SIZE, 4 * SIZE),
        (5 * SIZE, at(9.5)),
    ]
    early = replace(archive(), wal=(segment(0), segment(1), *archive().wal))
    assert [(each[0].begin_lsn, each[-1].end_lsn) for each in find_stretches(early, 1)] == [(2 * SIZE, at(9.5))]
    assert find_stretches(Archive((), archive().wal, {}), 1) == ()


def test_a_stretch_goes_on_over_a_new_timeline() -> None:
    """And what the old one went on with is not in it; a hole before the switch divides it all the same."""
    wal = (*archive().wal, segment(8, timeline=2), segment(9, timeline=2))
    found = Archive(archive().backups, wal, {2: ((1, at(8.5)),)})
    (whole,) = find_stretches(found, 2)
    assert [(span.timeline, span.begin_lsn, span.end_lsn) for span in whole] == [
        (1, 2 * SIZE, at(8.5)),
        (2, at(8.5), 10 * SIZE),
    ]
    holed = replace(found, wal=tuple(each for each in wal if each != segment(7) and each != segment(8)))
    assert [(each[0].timeline, each[0].begin_lsn) for each in find_stretches(holed, 2)] == [
        (1, 2 * SIZE),
        (2, 8 * SIZE),
    ]


@given(missing=st.sets(st.integers(2, 9)))
def test_the_wal_that_any_base_leads_through_lies_in_one_stretch(missing: set[int]) -> None:
    """Whatever can be restored can be found; and nothing is in two stretches, or in none."""
    wal = tuple(segment(number) for number in range(2, 10) if number not in missing)
    found = Archive(archive().backups, wal, {})
    divided = find_stretches(found, 1)
    assert [name for each in divided for span in each for name in span.names] == [each.name for each in wal]
    for stretch in divided:
        assert sum(span.end_lsn - span.begin_lsn for span in stretch) == SIZE * sum(len(s.names) for s in stretch)
    for base_ in found.backups:
        names = {name for span in find_chain(found, base_, 1)[0] for name in span.names}
        assert not names or any(names <= {name for span in each for name in span.names} for each in divided)


def test_after_swap_undo_and_swap_each_stretch_leads_over_the_timelines_that_were_left() -> None:
    """Timeline 2 was swapped in and undone; 3 left the first one later: the WAL of 2 is nobody's."""
    one = [segment(number) for number in range(2, 8)]
    two = [segment(number, timeline=2) for number in range(4, 12)]
    three = [segment(number, timeline=3) for number in range(7, 10)]
    bases = (base("a", 2 * SIZE, 2 * SIZE + 100), base("b", 5 * SIZE, 5 * SIZE + 100, timeline=2))
    history = {2: ((1, at(4.5)),), 3: ((1, at(7.5)),)}
    found = Archive(bases, (*one, *two, *three), history)
    (stretch,) = find_stretches(found, 3)
    assert [(each.timeline, each.begin_lsn, each.end_lsn) for each in stretch] == [
        (1, at(2), at(7.5)),
        (3, at(7.5), at(10)),
    ]
    assert reached(at(9), found, timeline=3).base.id == "a"


def test_the_wal_behind_a_position_is_read_piece_by_piece_back_to_a_hole() -> None:
    """The nearest piece first, each but the last from a base on; a hole ends it, WAL before all bases does not."""
    found = archive()
    pieces = find_wal_before(found, 1, at(8.5))
    assert [(each[0].begin_lsn, each[-1].end_lsn) for each in pieces] == [(at(6), at(8.5)), (at(2), at(6))]
    assert [len(name) for piece in pieces for span in piece for name in span.names] == [24] * 7
    older = replace(found, wal=(segment(1), *found.wal))
    assert [each[0].begin_lsn for each in find_wal_before(older, 1, at(8.5))] == [at(6), at(2), at(1)]
    holed = archive(without=4)
    assert [each[0].begin_lsn for each in find_wal_before(holed, 1, at(8.5))] == [at(6), at(5)]


def test_bases_of_another_cluster_are_not_compared_with_ours() -> None:
    """Their positions mean nothing here: the farthest one of them was taken for the newest base."""
    foreign = replace(base("x", 6 * SIZE, 6 * SIZE + 200), system_identifier="778")
    both = replace(archive(), backups=(*archive().backups, foreign))
    assert "another database" in why_not(at(6.5), both)
    assert reached(at(6.5), keep_own_cluster(both, "777")).base.id == "b"
    assert keep_own_cluster(both, None).backups == archive().backups or keep_own_cluster(both, None).backups == (
        foreign,
    )
    assert keep_own_cluster(archive(), "779") == archive()
