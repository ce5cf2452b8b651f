"""What brings each object back to a moment, against a history that is known exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.analysis.objects.moment import judge_object, judge_objects
from backout.analysis.objects.survey import Surveying
from backout.model.objects.versions import ChangeKind, Moment, ObjectVersion, Outcome
from backout.providers.memory.objects import Content, MemoryBucket

from extent import examples

FOREVER = 10_000.0
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b/c", "d"]),
        st.sampled_from([b"one", b"two", b"three", None]),
        st.sampled_from(["x", "y"]),
        st.sampled_from([0.0, 0.2, 0.5, 1.0, 3.0]),
    ),
    min_size=1,
    max_size=25,
)


@given(STEPS, st.integers(0, 25), st.sampled_from([0.0, 0.1, 0.5]))
@examples(300)
def test_the_bucket_is_as_it_was_and_no_version_is_gone(
    steps: list[tuple[str, bytes | None, str, float]], place: int, after_s: float
) -> None:
    """Whatever was written and deleted: an object is as at the moment, or is named as one that cannot be told."""
    clock = [1000.0]
    bucket = MemoryBucket(lambda: clock[0], lambda _name, effect: effect())
    then: dict[str, Content] = {}
    moment = 1000.0 + after_s
    before_second: dict[str, Content] = {}
    for number, (key, body, owner, gap_s) in enumerate(steps):
        clock[0] += gap_s
        if number <= place:
            moment = clock[0] + after_s
        if body is None:
            bucket.delete(key)
        else:
            bucket.put(key, body, {"owner": owner})
    _replay(steps, moment, then, before_second)
    kept = bucket.contents()
    judged = list(judge_objects(bucket.versions(), Moment(moment, FOREVER)))
    changes = [each.change for each in judged if each.change is not None]
    carried = bucket.carry_out(changes, again=False)
    assert {each.outcome for each in carried} <= {Outcome.DONE, Outcome.SAME}
    live, unclear = bucket.live(), {each.key for each in judged if each.is_ambiguous}
    for key in {key for key, *_ in steps}:
        wanted = before_second if key in unclear else then
        assert live.get(key) == wanted.get(key), (key, unclear)
    assert kept.items() <= bucket.contents().items()
    again = [each.change for each in judge_objects(bucket.versions(), Moment(moment, FOREVER)) if each.change]
    assert all(each.maybe_same for each in again), "a second restore has nothing to do but to look"


def _replay(
    steps: list[tuple[str, bytes | None, str, float]],
    moment: float,
    then: dict[str, Content],
    before_second: dict[str, Content],
) -> None:
    """Fill in what was there at the moment, and at the beginning of its second."""
    at = 1000.0
    for key, body, owner, gap_s in steps:
        at += gap_s
        for seen, until in ((then, moment), (before_second, float(int(moment)))):
            if at < until:
                seen.pop(key, None)
                if body is not None:
                    seen[key] = Content(body, (("owner", owner),))


def version(name: str, at: float, *, marker: bool = False, storage_class: str = "") -> ObjectVersion:
    return ObjectVersion("k", name, at, "" if marker else f"etag-{name}", 0 if marker else 7, marker, storage_class)


def test_two_versions_of_one_second_are_in_the_order_of_the_listing() -> None:
    judged = judge_object([version("bad", 50.0), version("second", 20.0), version("first", 20.0)], Moment(40.0, 90.0))
    assert judged.change is not None
    assert judged.change.version_id == "second"


def test_what_was_written_after_the_damage_stays() -> None:
    versions = [version("good again", 70.0), version("bad", 50.0), version("good", 20.0)]
    judged = judge_object(versions, Moment(40.0, 60.0))
    assert (judged.change, judged.is_newer) == (None, True)


@pytest.mark.parametrize(
    ("versions", "kind", "markers"),
    [
        ([version("m2", 51.0, marker=True), version("m1", 50.0, marker=True), version("v", 1.0)], "undelete", 2),
        ([version("m", 51.0, marker=True), version("bad", 50.0), version("v", 1.0)], "copy", 0),
        ([version("new", 50.0)], "remove", 0),
        ([version("new", 50.0), version("m", 1.0, marker=True)], "remove", 0),
        ([version("m", 51.0, marker=True), version("new", 50.0)], None, 0),
        ([version("v", 1.0)], None, 0),
    ],
)
def test_how_an_object_is_brought_back(versions: list[ObjectVersion], kind: str | None, markers: int) -> None:
    change = judge_object(versions, Moment(40.0, 90.0)).change
    assert (change and change.kind, len(change.markers) if change else 0) == (kind, markers)


def test_a_version_near_the_moment_is_later_and_named() -> None:
    """By the difference of the clocks, or within its second."""
    versions = [version("near", 39.0), version("sure", 30.0)]
    assert judge_object(versions, Moment(40.0, 90.0)).change is None
    for moment in (Moment(40.0, 90.0, slack_s=2.0), Moment(39.5, 90.0)):
        judged = judge_object(versions, moment)
        assert judged.is_ambiguous
        assert judged.change is not None
        assert judged.change.version_id == "sure"


def test_an_archived_version_is_left_and_named_unless_its_marker_is_all_that_hides_it() -> None:
    cold = version("v", 1.0, storage_class="DEEP_ARCHIVE")
    judged = judge_object([version("bad", 50.0), cold], Moment(40.0, 90.0))
    assert (judged.change, judged.is_archived) == (None, True)
    judged = judge_object([version("m", 50.0, marker=True), cold], Moment(40.0, 90.0))
    assert judged.change is not None
    assert judged.change.kind is ChangeKind.UNDELETE


def test_a_survey_counts_each_kind() -> None:
    taking = Surveying()
    versions = [
        ObjectVersion("a", "2", 50.0, is_marker=True),
        ObjectVersion("a", "1", 1.0, "e", 3),
        ObjectVersion("b", "2", 50.0, "f", 4),
        ObjectVersion("b", "1", 1.0, "e", 3),
        ObjectVersion("c", "1", 50.0, "e", 3),
        ObjectVersion("d", "1", 1.0, "e", 3),
        ObjectVersion("e", "2", 50.0, "e", 3),
        ObjectVersion("e", "1", 1.0, "e", 3),
        ObjectVersion("f", "1", 99.0, "e", 3),
    ]
    assert len(list(taking.pass_on(judge_objects(versions, Moment(40.0, 90.0))))) == 4
    found = taking.finish()
    assert (found.objects, found.undeleted, found.changed, found.removed, found.same) == (6, 1, 1, 1, 1)
    assert (found.kept_newer, found.size_bytes, found.began, found.changes) == (1, 3, 1.0, 4)
