"""Failures of two seconds that heal by themselves lead to no rollback; those that go on do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.plan import PlanKind
from backout.providers.memory import make_steady

from line import Story, by_version, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.guard.signals import Counts


def test_two_seconds_that_heal_roll_nothing_back(tmp_path: Path) -> None:
    """Half of the requests fail for two seconds, ten seconds after the deployment: a person decides at the end."""
    story = Story(tmp_path / "journal.sqlite")
    deployed_at = story.world.live.created_at
    failing, well = by_version(story.bad.id, error_rate=0.5), make_steady(30)

    def rule(second: int, version: str) -> Counts | None:
        return (failing if 10 <= second - deployed_at < 12 else well)(second, version)

    story.world.traffic_rule = rule
    tools = story.tools()
    watch(tools)
    assert story.world.live.sole == story.bad.id
    run = next(run for run in tools.runs.runs("production") if run.plan.kind is PlanKind.GUARD)
    found = tools.runs.result(run.id, "conclude")
    assert isinstance(found, dict)
    assert found["action"] == "hold"
    assert "but that is over" in str(found["why"])
