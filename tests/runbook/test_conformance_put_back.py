"""A trial of a platform that failed leaves what was live before it, or says what is live instead."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.errors import PartlyDone, ProviderUnavailable, WorldMoved
from backout.model.deployment import Share
from backout.runbook.conformance import try_platform

from line import Story

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backout.model.conformance import Trial
    from backout.model.deployment import Deployment
    from backout.ports import Deployments
    from backout.runbook.toolbox import Toolbox


class Greedy:
    """Port Deployments of a platform that gives half of the traffic to what was to get none."""

    def __init__(self, inner: Deployments, other: str, *, is_lost: bool) -> None:
        self.inner = inner
        self.other = other
        self.is_lost = is_lost
        self.went_wrong = False

    def history(self) -> tuple[Deployment, ...]:
        return self.inner.history()

    def deploy(self, shares: Sequence[Share], **more: object) -> Deployment:
        if self.went_wrong and self.is_lost:
            raise ProviderUnavailable("it does not answer any more")
        if "made live again" in str(more["message"]):
            self.went_wrong = True
            half = (Share(shares[0].version, 50.0), Share(self.other, 50.0))  # type: ignore[arg-type]
            return self.inner.deploy(half, **more)  # type: ignore[arg-type]
        return self.inner.deploy(shares, **more)  # type: ignore[arg-type]


def try_greedy(quick_path: Path, *, is_lost: bool) -> tuple[Story, list[Trial]]:
    story = Story(quick_path / "journal.sqlite")
    story.world.deploy(story.good)
    tools = story.tools()
    greedy = Greedy(tools.deployments, story.bad.id, is_lost=is_lost)
    found: list[Trial] = []
    try_platform(lambda: replace(tools, deployments=greedy), found.append)
    return story, found


def test_what_a_failed_question_left_is_put_back(quick_path: Path) -> None:
    """The promise was that no traffic is moved."""
    story, found = try_greedy(quick_path, is_lost=False)
    assert [each.name for each in found if each.passed is False] == ["again"]
    assert story.world.live.sole == story.good.id


def test_what_cannot_be_put_back_is_said(quick_path: Path) -> None:
    """Nobody goes to sleep on a split that nobody wanted."""
    with pytest.raises(PartlyDone, match="could not be put back or read"):
        try_greedy(quick_path, is_lost=True)


class Comparing:
    """Port Deployments of a platform that compares with what was looked at, for one operator."""

    one_at_a_time = threading.Lock()

    def __init__(self, inner: Deployments, *, forgets_placements: bool) -> None:
        self.inner = inner
        self.forgets_placements = forgets_placements
        self.seen = ""

    def history(self) -> tuple[Deployment, ...]:
        with self.one_at_a_time:
            found = self.inner.history()
        self.seen = found[0].id
        return found

    def deploy(self, shares: Sequence[Share], **more: object) -> Deployment:
        with self.one_at_a_time:
            places = self.forgets_placements and any(share.percentage == 0 for share in shares)
            if not places and self.inner.history()[0].id != self.seen:
                raise WorldMoved("something else is live")
            made = self.inner.deploy(shares, **more)  # type: ignore[arg-type]
        self.seen = made.id
        return made


@pytest.mark.parametrize("forgets_placements", [False, True])
def test_a_placement_that_rests_on_an_older_look_has_to_be_refused(
    quick_path: Path, *, forgets_placements: bool
) -> None:
    """Else a rollback would be proved beside what somebody else made live since."""
    story = Story(quick_path / "journal.sqlite")
    tools, world = story.tools(), story.world
    found: list[Trial] = []

    def open_tools() -> Toolbox:
        return replace(tools, deployments=Comparing(world.deployments, forgets_placements=forgets_placements))

    try_platform(open_tools, found.append)
    wrong = {each.name: each.found for each in found if each.passed is False}
    said = "a version was placed beside an older deployment than the one that is live"
    assert wrong == ({"at 0 %": said} if forgets_placements else {})
    assert world.live.sole == story.bad.id
