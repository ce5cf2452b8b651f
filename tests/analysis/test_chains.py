"""What a row would be without some of the transactions that wrote it, from its versions alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backout.model.database.chains import Chain, Image, Stay, Step, choose_moments

WRITES = st.lists(
    st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(1, 10_000)), min_size=1, max_size=12
).filter(lambda writes: any(bad for bad, *_ in writes))


@given(WRITES)
def test_good_writes_alone_are_left_whatever_the_order(writes: list[tuple[bool, str, int]]) -> None:
    """Only the versions at the ends of runs are asked for."""
    versions: list[Image] = [dict.fromkeys("abc", b"0")]
    ideal = dict(versions[0])
    steps = []
    for number, (bad, column, value) in enumerate(writes):
        written = f"{number}-{value}".encode()
        versions.append({**versions[-1], column: written})
        steps.append(Step(100 + number, bad, f"(0,{number})"))
        if not bad:
            ideal[column] = written
    chain = Chain(1, "(9,9)", tuple(steps))
    asked = {0, len(steps), *(number for number, _, _ in chain.boundaries())}

    def image(number: int) -> Image | None:
        assert number in asked
        return versions[number]

    assert chain.without_bad(image) == ideal
    first = next(number for number, step in enumerate(steps) if step.bad)
    assert chain.mixed == (first > 0 or not all(step.bad for step in steps[first:]))


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)).map(sorted).filter(lambda ends: ends[0] < ends[1])))
def test_every_version_can_be_read_at_one_of_the_moments_and_no_fewer_would_do(ends: list[list[int]]) -> None:
    """As many as there are stays of which no two overlap, and each lies where a stay begins."""
    stays = [Stay(*each) for each in ends]
    found = choose_moments(stays)
    assert found == sorted(found)
    assert {*found} <= {each.begin for each in stays}
    assert all(any(each.begin <= moment < each.end for moment in found) for each in stays)
    apart, free_from = 0, 0
    for each in sorted(stays, key=lambda one: one.end):
        if each.begin >= free_from:
            apart, free_from = apart + 1, each.end
    assert len(found) == apart


def test_versions_are_read_between_a_good_commit_and_a_bad_one() -> None:
    """Whichever of the two comes first."""
    chain = Chain(1, None, (Step(1, False, "(0,1)"), Step(5, True, "(0,2)"), Step(9, False, None)))
    assert list(chain.boundaries()) == [(1, Stay(1, 5), "(0,1)"), (2, Stay(5, 9), "(0,2)")]
    images: dict[int, Image | None] = {0: None, 1: {"a": b"1"}, 2: {"a": b"2"}, 3: None}
    assert chain.without_bad(images.get) is None


def test_a_row_that_a_bad_one_deleted_is_what_the_good_ones_had_made_of_it() -> None:
    """Its last good version, and not the one before all."""
    chain = Chain(1, "(0,1)", (Step(1, False, "(0,2)"), Step(5, True, None)))
    images: dict[int, Image | None] = {0: {"a": b"0", "b": b"0"}, 1: {"a": b"0", "b": b"1"}, 2: None}
    assert chain.without_bad(images.get) == {"a": b"0", "b": b"1"}
