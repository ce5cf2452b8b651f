"""What looks at a version tell the watch of its successor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.detector.probes import ENDPOINT
from backout.model.guard.signals import ServiceState
from backout.providers.memory import make_health
from backout.runbook.probing.looks import Seen, find_long_down, remember

from line import SERVICES, Story

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_down_for_long_is_as_usual(tmp_path: Path) -> None:
    """What look after look shows down for an hour is as usual; not what was up, or not looked at, meanwhile."""
    story = Story(tmp_path / "journal.sqlite")
    tools, now = story.tools(), story.world.clock.now()

    def look(ago_s: float, *down: str) -> None:
        states = {**dict.fromkeys(SERVICES, ServiceState.OK), **dict.fromkeys(down, ServiceState.DOWN)}
        remember(tools, story.good.id, Seen((make_health(now - ago_s, states, version=story.good.id),), (), ()))

    for ago_s in range(7200, 0, -240):
        look(ago_s, *(("database",) if ago_s == 1920 else ("database", "storage")))
    assert find_long_down(tools, story.good.id, now) == {"database", ENDPOINT}
    assert find_long_down(tools, story.good.id, now - 6000) == set()
    look(-86_400, "database")
    look(-90_240, "database")
    assert find_long_down(tools, story.good.id, now + 90_300) == set()
