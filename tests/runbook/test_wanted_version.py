"""`backout guard --version-id`: the version that a job deployed is watched, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.errors import WorldMoved
from backout.model.guard.policy import Mode
from backout.model.steps.guard import WatchStep
from backout.runbook.guard import guard
from backout.runbook.guard.wanted_version import LISTED_S, is_watch_of

from line import Story

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "journal.sqlite")


def test_the_version_that_was_deployed_is_watched(story: Story) -> None:
    """Named as wrangler writes it, whatever its letters."""
    plan = guard.plan(story.tools(), mode=Mode.ACT, for_s=60, version=story.bad.id.upper())
    assert plan.arguments(WatchStep).version == story.bad.id


def test_another_jobs_deployment_is_not_judged_in_its_place(story: Story) -> None:
    """It was overtaken: nothing is planned, and it was waited for no longer than a list may be late."""
    begun = story.world.clock.now()
    with pytest.raises(WorldMoved, match=f"was to be watched, and {story.bad.id} is what came last"):
        guard.plan(story.tools(), mode=Mode.ACT, for_s=60, version=story.good.id)
    assert story.world.clock.now() - begun <= LISTED_S + 10


def test_a_watch_that_is_taken_up_answers_for_its_own_version_alone(story: Story) -> None:
    """An earlier job's watch was interrupted: its verdict is no verdict on what this job deployed."""
    tools = story.tools()
    plan = guard.plan(tools, mode=Mode.ACT, for_s=60)
    run = tools.runs.find(tools.journal.submit(plan, actor="ops@host", reason=plan.why))
    assert run is not None
    assert is_watch_of(tools, run, story.bad.id.upper())
    assert is_watch_of(tools, run, "")
    assert not is_watch_of(tools, run, story.good.id)


def test_a_version_that_is_listed_late_is_waited_for(story: Story) -> None:
    """The deployment of a moment ago may be missing in the list for some seconds."""
    late = story.world.upload("late")
    listed_at = story.world.clock.now() + 20
    made = []

    def deploy_late(call: str) -> None:
        if call == "deployments.history" and story.world.clock.now() >= listed_at and not made:
            made.append(story.world.deploy(late))

    story.world.before_call = deploy_late
    plan = guard.plan(story.tools(), mode=Mode.ACT, for_s=60, version=late.id)
    assert plan.arguments(WatchStep).version == late.id


def test_beside_another_version_that_came_later_it_is_not_watched(story: Story) -> None:
    """In a split the newcomer is on trial; a watch of the other one would judge the wrong deployment."""
    late = story.world.upload("late")
    story.world.deploy((story.bad.id, 90), (late.id, 10))
    with pytest.raises(WorldMoved):
        guard.plan(story.tools(), mode=Mode.ACT, for_s=60, version=story.bad.id)
