"""Counts that come late: how long they are waited for, and those of which version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.guard.signals import CountsPage, SourceTraits
from backout.runbook.guard.late_counts import awaits_counts, wait_for

from line import Story, equip, watch

if TYPE_CHECKING:
    from pathlib import Path


LATE_S = 65.0


class _Source:
    """A source that can wait for one version, and remembers for which."""

    def __init__(self, lag_s: float) -> None:
        self.traits = SourceTraits("late", lag_s, sampled=False, has_status=True, has_version=True)
        self.watched: list[str] = []

    def watch(self, version: str) -> None:
        self.watched.append(version)

    def read(self, since: int, until: int) -> CountsPage:
        return CountsPage((), since)


def test_counts_that_never_come_hold_nothing_for_ever(tmp_path: Path) -> None:
    """They are waited for as long as the source may be late, and not where it never answered."""
    story = Story(tmp_path / "journal.sqlite")
    tools = equip(story.tools(), traffic=_Source(LATE_S))
    now = tools.clock.now()
    assert awaits_counts(tools, int(now) - 60, now)
    assert awaits_counts(tools, int(now) - 100, now - LATE_S)
    assert not awaits_counts(tools, int(now) - 600, now - LATE_S - 6)
    assert not awaits_counts(tools, None, now)
    assert not awaits_counts(tools, int(now) + 1, now)
    assert not awaits_counts(equip(story.tools(), traffic=_Source(7.0)), int(now) - 60, now)


def test_a_watch_waits_for_its_own_version(tmp_path: Path) -> None:
    """As long as it lasts; a source that cannot tell is left alone."""
    story = Story(tmp_path / "journal.sqlite")
    source = _Source(7.0)
    wait_for(equip(story.tools(), traffic=source), "v2")
    assert source.watched == ["v2"]
    wait_for(story.tools(), "v2")
    source.watched.clear()
    watch(equip(story.tools(), traffic=source))
    assert source.watched == [story.bad.id, ""]
