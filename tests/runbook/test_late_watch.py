"""A watch whose counts come late does not end well before they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.model.plan import PlanKind
from backout.providers.memory import make_steady

from line import Story, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.runbook.toolbox import Toolbox

LATE_S = 65.0


def story_of(path: Path, lag_s: float) -> Story:
    story = Story(path / "journal.sqlite")
    story.world.traffic_rule = make_steady(30)
    story.world.traits = replace(story.world.traits, lag_s=lag_s)
    return story


def measure_watch_s(tools: Toolbox) -> float:
    """Watch a version whose requests do not fail, and return for how many seconds it was watched."""
    watch(tools)
    run = next(run for run in tools.runs.runs("production") if run.plan.kind is PlanKind.GUARD)
    watched = tools.runs.result(run.id, "watch")
    assert isinstance(watched, dict)
    assert watched["verdict"] != "regressed"
    return float(watched["decision"]["watched_s"])


def test_a_watch_does_not_end_well_before_its_counts_are_there(tmp_path: Path) -> None:
    """A minute late, it takes a minute longer; seven seconds late, no longer than it was to be."""
    (tmp_path / "late").mkdir()
    (tmp_path / "soon").mkdir()
    late, soon = (
        measure_watch_s(story_of(tmp_path / name, lag_s).tools()) for name, lag_s in (("late", LATE_S), ("soon", 7.0))
    )
    assert late == pytest.approx(soon + LATE_S, abs=3)
