"""Marks on versions, per-second counts and checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal import toy

from backout.model.guard.answers import AnswerClass
from backout.model.guard.signals import Counts, RouteCounts, TriggerCounts
from backout.model.version import Mark, VersionId, VersionMark

from extent import examples

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("engine")


def mark(kind: Mark, version: str = "v1", run: str = "guard-1", at: float = 1.0) -> VersionMark:
    return VersionMark(kind, VersionId(version), "hash", at, run, "because", "0003_head")


def test_a_mark_comes_back_as_it_was_and_is_recorded_once_per_run(tmp_path: Path) -> None:
    """The same run saying it again adds nothing; another run does."""
    journal = toy.journal_in(tmp_path)
    first = mark(Mark.STABLE)
    journal.mark("staging", first, actor="guard")
    journal.mark("staging", mark(Mark.STABLE, at=2.0), actor="guard")
    assert journal.marks("staging") == (first,)
    journal.mark("staging", mark(Mark.STABLE, run="guard-2"), actor="guard")
    journal.mark("staging", mark(Mark.QUARANTINED), actor="guard")
    assert [m.mark for m in journal.marks("staging")] == [Mark.STABLE, Mark.STABLE, Mark.QUARANTINED]
    assert [e.actor for e in journal.events(kind="mark", run="guard-1")] == ["guard", "guard"]
    journal.close()


def test_a_version_can_be_released_again_after_it_was_quarantined_again(tmp_path: Path) -> None:
    """A person's mark belongs to no run, so each one is an act of its own and is recorded."""
    journal = toy.journal_in(tmp_path)
    for run in ("rollback-1", "rollback-2"):
        journal.mark("staging", mark(Mark.QUARANTINED, run=run), actor="guard")
        journal.mark("staging", mark(Mark.RELEASED, run=""), actor="person")
    assert [m.mark for m in journal.marks("staging")] == [Mark.QUARANTINED, Mark.RELEASED] * 2
    journal.close()


def test_the_latest_mark_of_a_version_is_found(tmp_path: Path) -> None:
    """By environment, version and kind."""
    journal = toy.journal_in(tmp_path)
    for run, at in (("a", 1.0), ("b", 2.0)):
        journal.mark("staging", mark(Mark.STABLE, run=run, at=at), actor="guard")
    found = journal.find_mark("staging", "v1", Mark.STABLE)
    assert found is not None
    assert found.run == "b"
    assert journal.find_mark("staging", "v2", Mark.STABLE) is None
    assert journal.find_mark("staging", "v1", Mark.RELEASED) is None
    assert journal.find_mark("production", "v1", Mark.STABLE) is None
    journal.close()


def test_counts_replace_an_earlier_row_and_are_read_by_second(tmp_path: Path) -> None:
    """A row of the same version and second is replaced; the interval is half open; environments are apart."""
    journal = toy.journal_in(tmp_path)
    routes = {"/app": RouteCounts(2, 1, {0: 1, 255: 1}), "other": RouteCounts(1, 0)}
    early, late = Counts("v", 10, 3, 1, 2, {0: 1, 255: 2}, routes), Counts("v", 11, 4, 0)
    journal.keep("staging", [late, Counts("v", 10, 1, 1), Counts("v", 12, 9, 9)])
    journal.keep("staging", [early])
    assert journal.load_counts("staging", 10, 12) == (early, late)
    assert journal.load_counts("production", 0, 99) == ()
    journal.close()


def test_the_latest_checkpoint_wins(tmp_path: Path) -> None:
    """Per run and name; what is not JSON is refused."""
    journal = toy.journal_in(tmp_path)
    journal.save_checkpoint("r", "errors", {"e": 1.5})
    journal.save_checkpoint("r", "errors", {"e": 2.5})
    journal.save_checkpoint("r", "latency", [1, None])
    assert journal.load_checkpoint("r", "errors") == {"e": 2.5}
    assert journal.load_checkpoint("r", "latency") == [1, None]
    assert journal.load_checkpoint("other", "errors") is None
    with pytest.raises(TypeError, match="errors"):
        journal.save_checkpoint("r", "errors", {1})  # type: ignore[arg-type]
    journal.close()


def test_what_belongs_to_no_run_is_recorded_once(tmp_path: Path) -> None:
    """An event of the environment, in the chain; the same key of a kind is there already."""
    journal = toy.journal_in(tmp_path)
    noted = journal.note("staging", "change.began", "d1:60", {"share": 0.04}, actor="guard")
    assert noted is not None
    assert (noted.run, noted.step, noted.data) == ("", None, {"share": 0.04, "key": "d1:60"})
    assert journal.note("staging", "change.began", "d1:60", {"share": 0.05}, actor="guard") is None
    assert journal.note("staging", "change.ended", "d1:60", {}, actor="guard") is not None
    assert journal.note("production", "change.began", "d1:60", {}, actor="guard") is not None
    assert next(journal.events(environment="staging", kind="change.*")) == noted
    assert journal.runs() == ()
    assert journal.verify_chain().count == 3
    journal.close()


def test_pruning_takes_counts_and_checkpoints_and_no_events(tmp_path: Path) -> None:
    """What is older goes, the rest and the whole history stays."""
    clock = toy.FakeClock(100.0)
    journal = toy.journal_in(tmp_path, clock=clock)
    journal.submit(toy.plan_named("probed"), actor="me", reason="r")
    journal.keep("staging", [Counts("v", 10, 1, 0), Counts("v", 90, 1, 0)])
    journal.save_checkpoint("old", "d", 1)
    clock.sleep(100)
    journal.save_checkpoint("new", "d", 2)
    assert journal.prune(90) == 1
    assert journal.prune(150) == 2
    assert journal.load_counts("staging", 0, 1000) == ()
    assert (journal.load_checkpoint("old", "d"), journal.load_checkpoint("new", "d")) == (None, 2)
    assert journal.verify_chain().count == 1
    journal.close()


LATENCY = st.dictionaries(st.integers(0, 255), st.integers(1, 10**6), max_size=4)
CLASSES = st.dictionaries(st.sampled_from(AnswerClass), st.integers(1, 10**6), max_size=4)
SIZES = st.dictionaries(st.integers(0, 54), st.integers(1, 99), max_size=3)
COUNTS = st.tuples(
    st.sampled_from(["v1", "v2"]),
    st.integers(0, 20),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    LATENCY,
    st.dictionaries(
        st.text(max_size=64),
        st.tuples(st.integers(0, 99), st.integers(0, 99), LATENCY, CLASSES, SIZES, st.integers(0, 99)).map(
            lambda made: RouteCounts(*made)
        ),
        max_size=3,
    ),
    CLASSES,
    st.integers(0, 99),
    st.dictionaries(
        st.text(max_size=64),
        st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda made: TriggerCounts(*made)),
        max_size=2,
    ),
    st.dictionaries(st.text(max_size=64), LATENCY, max_size=2),
).map(lambda made: Counts(*made))


@examples(25)
@given(st.lists(COUNTS, max_size=20), st.integers(0, 20), st.integers(0, 20))
def test_kept_counts_are_those_that_were_kept_last(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Counts], since: int, until: int
) -> None:
    """Against a dictionary as the model."""
    journal = toy.journal_in(tmp_path_factory.mktemp("counts"), clock=toy.FakeClock())
    model = {(row.second, row.version): row for row in rows}
    journal.keep("staging", rows)
    assert journal.load_counts("staging", since, until) == tuple(
        model[key] for key in sorted(model) if since <= key[0] < until
    )
    journal.close()
