"""What a stopped drill broke in staging is put back, and what somebody else deployed meanwhile is not touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.errors import PartlyDone
from backout.wiring.drills.rehearsal import put_back

from line import Story

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A world in which the good version was live, and the bad one is."""
    story = Story(tmp_path / "journal.sqlite")
    story.world.deploy(story.good)
    story.world.deploy(story.bad)
    return story


@pytest.mark.parametrize("is_known", [True, False])
def test_the_broken_version_gives_way(story: Story, *, is_known: bool) -> None:
    """Also where the drill was stopped before it had read back which one that is."""
    put_back(story.tools(), story.good.id, story.bad.id if is_known else "", str)
    assert story.tools().deployments.history()[0].sole == story.good.id


@pytest.mark.parametrize("is_known", [True, False])
def test_what_somebody_else_deployed_stays(story: Story, *, is_known: bool) -> None:
    """It is told what is live, and how to return to the version that works."""
    fix = story.world.upload("fix")
    story.world.deploy(fix)
    with pytest.raises(PartlyDone, match=f"{fix.id} is live, which the drill did not deploy") as caught:
        put_back(story.tools(), story.good.id, story.bad.id if is_known else "", str)
    assert story.good.id in str(caught.value.hint)
    assert story.tools().deployments.history()[0].sole == fix.id
