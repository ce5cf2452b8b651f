"""A version whose health endpoint does not answer 200 any more, on the memory World: never healthy, never stable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.model.guard.signals import HealthReport, Reach
from backout.model.version import Mark
from backout.providers.memory import make_steady

from line import Story, watch

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("status", [404, 302, 200])
def test_a_version_without_its_health_endpoint_is_not_marked_stable(tmp_path: Path, status: int) -> None:
    """404, a redirect, a page of HTML in its place, while every request is answered: held, and the reason says it."""
    story = Story(tmp_path / "journal.sqlite")
    world, own = story.world, story.world.health_rule
    world.traffic_rule = make_steady(1000)
    lost = lambda now: HealthReport(now, Reach.UNREADABLE, status, latency_ms=3.0)  # noqa: E731
    world.health_rule = lambda now, version: lost(now) if version == story.bad.id else own(now, version)
    tools = story.tools()
    run = watch(tools)
    concluded = tools.runs.result(run.id, "conclude")
    assert isinstance(concluded, dict)
    assert concluded["action"] == "hold"
    assert "health endpoint" in str(concluded["why"])
    assert [mark.version for mark in tools.marks.marks("production") if mark.mark is Mark.STABLE] == [story.good.id]
