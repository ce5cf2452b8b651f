"""What a step made live counts as live where every host was read and shows it; the step is repeated until then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest
from canaries import CANARIES
from pushing import Missing, push
from ramped import Ramped
from recovery_story import Night, check_taken_back, recover
from values import replace

from backout.analysis.history.remark_text import parse
from backout.errors import PartlyDone, WorldMoved
from backout.model.deployment import OnHost
from backout.model.incident.incident import RunState
from backout.model.remark import RemarkKind

from line import watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.deployment import Deployment
    from backout.ports import Deployments
    from backout.providers.memory import World


@dataclass
class OneAway:
    """The provider's port, as one that has two hosts, of which one is not read once a run has switched."""

    world: World
    kinds: tuple[RemarkKind, ...] = (RemarkKind.RAMP, RemarkKind.ROLLBACK)
    secrets: bool = False

    def history(self) -> tuple[Deployment, ...]:
        """Say that a host is away where the newest is a run's own switch."""
        newest, *rest = self.world.deployments.history()
        said = parse(newest.message)
        is_own = said is not None and said.kind in self.kinds
        if is_own or (self.secrets and newest.triggered_by == "secret"):
            newest = replace(newest, hosts=(OnHost("web1", newest.id), OnHost("web2", None, is_read=False)))
        return newest, *rest

    def __getattr__(self, name: str) -> object:
        """Everything else is the provider's."""
        return getattr(self.world.deployments, name)


def test_a_step_up_that_was_not_read_on_every_host_is_not_done(tmp_path: Path) -> None:
    """It is made again until every host shows it."""
    story = Ramped(tmp_path / "journal.sqlite")
    away: object = OneAway(story.world)
    with pytest.raises(PartlyDone, match="web2 was not read"):
        watch(replace(story.tools(), deployments=cast("Deployments", away)))
    assert story.shares() == [{story.good.id: 50.0, story.canary.id: 50.0}]


def test_a_recovery_that_was_not_read_on_every_host_is_not_done(quick_path: Path) -> None:
    """Nor is it when the step is repeated; when the host is back, it ends."""
    night = Night(quick_path)
    away: object = OneAway(night.world)
    for _ in range(2):
        tools = night.tools()
        tools = replace(tools, tools=replace(tools.tools, deployments=cast("Deployments", away)))
        with pytest.raises(PartlyDone, match="web2 was not read"):
            recover(tools)
    assert recover(night.tools()).state is RunState.DONE


@pytest.mark.parametrize("apart", [False, True], ids=["on the newest version", "apart from it"])
def test_secrets_that_were_not_read_on_every_host_are_not_set(tmp_path: Path, *, apart: bool) -> None:
    """Nor are they when the step is repeated; when the host is back, the run ends, and the values are live."""
    story = Missing(tmp_path / "journal.sqlite")
    if apart:
        story.world.deploy(story.good)
    away: object = OneAway(story.world, (RemarkKind.SECRETS,), secrets=True)
    for _ in range(2):
        with pytest.raises(PartlyDone, match="web2 was not read"):
            push(replace(story.tools(), deployments=cast("Deployments", away)))
    assert push(story.tools()).state is RunState.DONE
    assert story.secrets() == CANARIES


def test_a_maintenance_that_was_not_ended_on_every_host_is_not_over(quick_path: Path) -> None:
    """Giving a recovery up is repeated until every host shows what was live before it."""
    night = Night(quick_path)
    fence = night.world.fence

    def open_by_hand(name: str) -> None:
        if name == "sides.promote" and fence.live.mark is not None:
            fence.open(fence.live.mark)

    night.world.after_call = open_by_hand
    away: object = OneAway(night.world, (RemarkKind.SECRETS,))
    for _ in range(2):
        tools = night.tools()
        tools = replace(tools, tools=replace(tools.tools, deployments=cast("Deployments", away)))
        with pytest.raises(PartlyDone, match="web2 was not read"):
            recover(tools)
    night.stop_watching()
    with pytest.raises(WorldMoved, match=r"the fence is gone, and version .* is live"):
        recover(night.tools())
    check_taken_back(night)
