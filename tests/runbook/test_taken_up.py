"""A watch that is taken up again after its process died decides when, and what, the uninterrupted one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from crashing import Crash
from values import replace

from backout.model.plan import PlanKind

from line import POLICY, Story, watch

if TYPE_CHECKING:
    from pathlib import Path

WAITS = replace(POLICY, guard=replace(POLICY.guard, confirm_s=20))


def die() -> None:
    raise Crash


def decided(path: Path, *, dies_after_s: float = 0) -> tuple[str, float]:
    """Return the verdict of a watch, and how many seconds after its deployment it came."""
    story = Story(path, WAITS)
    began = story.world.live.created_at
    if dies_after_s:
        story.world.clock.at(began + dies_after_s, die)
        with pytest.raises(Crash):
            watch(story.tools())
    watch(story.tools())
    tools = story.tools()
    run = next(run for run in tools.runs.runs("production") if run.plan.kind is PlanKind.GUARD)
    watched = tools.runs.result(run.id, "watch")
    assert isinstance(watched, dict)
    decision = watched["decision"]
    assert isinstance(decision, dict)
    return str(watched["verdict"]), float(str(decision["at"])) - began


def test_a_verdict_that_waits_to_be_confirmed_waits_no_second_time(tmp_path: Path) -> None:
    """`guard.confirm`: since when it waits is kept, so a restart makes nobody wait longer."""
    verdict, after_s = decided(tmp_path / "whole.sqlite")
    assert (verdict, after_s > 20) == ("regressed", True)
    assert decided(tmp_path / "cut.sqlite", dies_after_s=after_s - 4) == (verdict, pytest.approx(after_s, abs=1.5))
