"""A shift in what is answered is told through the channels when it is established, once, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from crashing import dies_at
from journal_engines import on_both
from shifted import ASKED, NAME, Paired, gone, held
from values import replace

from backout.model.guard.fetched import Fetched
from backout.model.guard.policy import Mode
from backout.model.incident.notice import NoticeKind
from backout.providers.memory import make_steady
from backout.runbook.guard.accept import accept

from extent import sampled
from line import Story, watch

if TYPE_CHECKING:
    from pathlib import Path


def told(story: Story) -> list[NoticeKind]:
    return [notice.kind for notice in story.world.notices]


def test_a_shift_that_holds_is_told_at_once_and_once(tmp_path: Path) -> None:
    """Not first at the end of the watch; its end says what became of it."""
    story = held(tmp_path / "journal.sqlite")
    began = story.world.clock.now()
    watch(story.tools())
    first, last = story.world.notices
    assert (first.kind, last.kind) == (NoticeKind.HELD, NoticeKind.HELD)
    assert first.at - began < 20
    assert last.at - began > 50
    assert "answers 404 now" in first.title
    assert "guard goes on watching, and the end is told" in first.text
    assert f"backout guard accept {NAME} -e production -m WHY" in first.next
    assert first.facts["shifts"] == NAME
    assert "was told: the health endpoint answered 200" in last.text
    assert "that is so, and waits for a person" in last.text


@pytest.mark.proof
@on_both
def test_a_watch_that_is_taken_up_again_tells_it_no_second_time(quick_path: Path) -> None:
    """Whatever the moment of the crash: told when it is established, and at the end; the journal knows it."""
    for moment in sampled(900, 150, 40):
        story = held(quick_path / f"{moment}.sqlite")
        if not dies_at(story, moment + 1, watch):
            break
        newest, *before = story.tools().runs.runs("production")
        if not before or not newest.state.is_over:
            watch(story.tools())
        assert told(story) == [NoticeKind.HELD, NoticeKind.HELD], moment


def test_a_hold_that_a_person_ended_meanwhile_is_told_as_over(tmp_path: Path) -> None:
    """Who was woken learns that nothing waits for anybody any more."""
    story = held(tmp_path / "journal.sqlite")
    story.world.traffic_rule = make_steady(1000)
    story.world.clock.at(story.world.clock.now() + 30, lambda: accept(story.tools(), NAME, "it moved"))
    watch(story.tools())
    assert told(story) == [NoticeKind.HELD, NoticeKind.SHIFT]
    last = story.world.notices[-1]
    assert "is healthy after all, and nothing waits for a person" in last.title
    assert "a person accepted it since" in last.text
    assert "is marked stable" in last.text


def test_what_is_told_only_wakes_nobody(tmp_path: Path) -> None:
    """A page that moved: one calm notice, none at the healthy end."""
    moved = Fetched(301, {"location": "/new"}, ends=200, hops=1)
    story = Paired(tmp_path / "journal.sqlite", lambda name, _version: moved if name == "/app" else 200)
    watch(story.tools())
    assert story.concluded()["action"] == "stable"
    assert told(story) == [NoticeKind.SHIFT]
    (notice,) = story.world.notices
    assert not notice.kind.is_critical
    assert "That alone is no reason to hold or to roll back" in notice.text
    assert notice.next == ("backout status -e production",)


def test_nobody_is_woken_for_what_asking_both_decides(tmp_path: Path) -> None:
    """404 for guard's own requests, and the version before is asked beside: rolled back, and that is told."""
    story = Paired(tmp_path / "journal.sqlite", gone)
    watch(story.tools())
    assert NoticeKind.HELD not in told(story)
    assert told(story)[-1] is NoticeKind.ROLLED_BACK


def test_a_shift_about_which_nobody_can_be_asked_is_told_at_once(tmp_path: Path) -> None:
    """Mode observe asks nothing, so nothing is waited for."""
    story = Paired(tmp_path / "journal.sqlite", gone, replace(ASKED, checks=()))
    watch(story.tools(), mode=Mode.OBSERVE)
    assert told(story) == [NoticeKind.HELD, NoticeKind.HELD]
