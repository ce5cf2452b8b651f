"""What a step made live counts as live where every host was read and shows it; the step is repeated until then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest
from ramped import Ramped
from recovery_story import Night, recover
from values import replace

from backout.analysis.history.remark_text import parse
from backout.errors import PartlyDone
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

    def history(self) -> tuple[Deployment, ...]:
        """Say that a host is away where the newest is a run's own switch."""
        newest, *rest = self.world.deployments.history()
        said = parse(newest.message)
        if said is not None and said.kind in (RemarkKind.RAMP, RemarkKind.ROLLBACK):
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
