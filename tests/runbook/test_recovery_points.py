"""Recovery points on the World: recorded around deployments and on demand, and listed with what each part lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.errors import ProviderUnavailable, UsageError
from backout.model.database.recovery import RestorePoint
from backout.model.recovery_point import PointPart
from backout.runbook.recovery.points import (
    PointSources,
    find_recovery_point,
    list_recovery_points,
    mark_recovery_point,
)
from backout.runbook.recovery.restore_points import BEFORE_DEPLOYMENT, await_point, list_noted, mark_meanwhile

from line import Story, equip

if TYPE_CHECKING:
    from pathlib import Path

    from backout.runbook.toolbox import Toolbox


class Marker:
    """Port PointMarker that counts, or fails."""

    def __init__(self, story: Story, problem: str = "") -> None:
        self.story = story
        self.problem = problem
        self.marked: list[str] = []

    def mark(self, name: str) -> RestorePoint:
        if self.problem:
            raise ProviderUnavailable(self.problem)
        self.marked.append(name)
        return RestorePoint(name, 100 + len(self.marked), 1, 900, self.story.world.clock.now(), "")


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A World with a good version and a bad one."""
    return Story(quick_path / "journal.sqlite")


def equipped(story: Story, marker: Marker) -> Toolbox:
    return equip(story.tools(), points=marker)


def test_a_point_around_a_deployment_has_the_live_version(story: Story) -> None:
    """Once, although the run is resumed; and the restore point has the same name."""
    marker = Marker(story)
    tools, live = equipped(story, marker), story.world.live.main
    for _ in range(2):
        await_point(mark_meanwhile(tools, BEFORE_DEPLOYMENT, "next", "run-1", live=live))
    assert marker.marked == ["before-deployment-run-1"]
    (point,) = list_recovery_points(tools, PointSources())
    assert (point.name, point.version, point.why) == ("before-deployment-run-1", live, BEFORE_DEPLOYMENT)
    assert point.is_complete
    assert set(point.parts) == set(PointPart) - {PointPart.OBJECTS}


def test_a_database_that_is_down_makes_a_point_that_says_so(story: Story) -> None:
    """The rest of it stands."""
    tools = equipped(story, Marker(story, "the database is down"))
    await_point(mark_meanwhile(tools, BEFORE_DEPLOYMENT, "next", "run-1", live=story.good.id))
    (point,) = list_recovery_points(tools, PointSources())
    assert point.parts[PointPart.DATABASE].missing == "the database is down"
    assert not point.parts[PointPart.CODE].missing


def test_where_there_is_only_code_nothing_is_recorded(story: Story) -> None:
    """Its history is the provider's; and asked for, that is said."""
    tools = story.tools()
    assert mark_meanwhile(tools, BEFORE_DEPLOYMENT, "next", "run-1", live="") is None
    with pytest.raises(UsageError, match="nothing to bring back but the code"):
        mark_recovery_point(tools, "mine", None)


def test_a_bucket_alone_is_enough(story: Story) -> None:
    """There is no restore point then."""
    tools = equip(story.tools(), keeps_objects=True)
    await_point(mark_meanwhile(tools, BEFORE_DEPLOYMENT, "next", "run-1", live=story.good.id))
    assert [each.version for each in list_noted(tools.journal, "production")] == [story.good.id]


def test_on_demand_with_the_fingerprints_of_the_source(story: Story) -> None:
    """They are known then where backout set none; a name is taken once."""
    world = story.world
    world.secret_source.kept = {"JWT_SECRET": "hunter2-hunter2"}
    world.deploy(world.upload("with", secrets={"JWT_SECRET": "hunter2-hunter2"}))
    marker = Marker(story)
    tools = equipped(story, marker)
    mark_recovery_point(tools, "mine", marker)
    with pytest.raises(UsageError, match="exists"):
        mark_recovery_point(tools, "mine", marker)
    found = find_recovery_point(tools, "mine", PointSources())
    fingerprint = world.fingerprints.of("JWT_SECRET", "hunter2-hunter2")
    assert dict(found.parts[PointPart.SECRETS].detail) == {"JWT_SECRET": fingerprint}
    assert found.version == world.live.main


def test_a_time_and_nonsense(story: Story) -> None:
    """A time before the bad deployment is the good version; the future and nonsense are errors that say so."""
    tools = equipped(story, Marker(story))
    story.world.clock.sleep(120)
    assert find_recovery_point(tools, "110 seconds ago", PointSources()).version
    for text, why in (("2099-01-01", "in the future"), ("nonsense", "no time, no recovery point")):
        with pytest.raises(UsageError, match=why):
            find_recovery_point(tools, text, PointSources())


def test_a_version_that_is_gone_makes_its_point_incomplete(story: Story) -> None:
    """Where it is not kept here either."""
    tools = equipped(story, Marker(story))
    await_point(mark_meanwhile(tools, BEFORE_DEPLOYMENT, "next", "run-1", live="gone"))
    (point,) = list_recovery_points(tools, PointSources())
    assert "not kept here" in point.parts[PointPart.CODE].missing
