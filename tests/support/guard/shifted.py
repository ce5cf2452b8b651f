"""Stories of a version that is answered otherwise than the one before it, on the memory World."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from values import replace

from backout.analysis.history.remark_text import parse
from backout.model.guard.policy import SyntheticCheck
from backout.model.guard.signals import HealthReport, Reach, ServiceState
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind
from backout.providers.memory import make_health, make_steady

from line import POLICY, Story, equip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.guard.fetched import Fetched
    from backout.model.guard.policy import GuardPolicy
    from backout.runbook.toolbox import Toolbox

    Route = Callable[[str, str], Fetched | int | None]

NAME = "endpoint:health"
"""The name of the shift of `held`."""
ME = SyntheticCheck("/me", credentials=("Authorization",))
ASKED = replace(POLICY.guard, synthetic=("/app",), checks=(ME,), synthetic_every_s=1.0)


class Paired(Story):
    """A good version that answers every path and names itself; the next one answers as `bad_route` says."""

    bad_route: Route
    names_itself = True

    def __init__(self, path: Path, bad_route: Route, guard: GuardPolicy = ASKED, traffic: int = 1000) -> None:
        super().__init__(path, replace(POLICY, guard=guard))
        world = self.world
        self.bad_route = bad_route
        world.traffic_rule = make_steady(traffic)
        world.route_rule = self.route
        world.health_rule = self.health

    def tools(self, crash_point: Callable[[str], None] | None = None) -> Toolbox:
        """Return fresh tools that send requests of their own."""
        world = self.world
        made = super().tools(crash_point)
        return equip(made, sender=world.health, pairing=world.health, dice=Random(7))  # noqa: S311 - it only orders requests

    def route(self, name: str, version: str) -> Fetched | int | None:
        """Answer as the version does that is asked for; one that is not deployed is ignored."""
        world = self.world
        served = {share.version for share in world.live.shares}
        answering = version if version in served else world.live.main
        return self.bad_route(name, answering) if answering == self.bad.id else 200

    def health(self, now: float, version: str) -> HealthReport:
        """Tell that all is well, and who says so."""
        served = {share.version for share in self.world.live.shares}
        answering = version if version in served else self.world.live.main
        services = dict.fromkeys(self.policy.services, ServiceState.OK)
        return make_health(now, services, version=answering if self.names_itself else None)

    def concluded(self) -> dict[str, object]:
        """Return what followed from the watch."""
        tools = self.tools()
        run = next(run for run in tools.runs.runs("production") if run.plan.kind is PlanKind.GUARD)
        found = tools.runs.result(run.id, "conclude")
        assert isinstance(found, dict)
        return dict(found)

    def pairs(self) -> list[dict[str, float]]:
        """Return what the deployments that asked both versions gave to whom."""
        said = [(parse(made.message), made) for made in self.world.all_deployments]
        return [
            {share.version: share.percentage for share in made.shares}
            for remark, made in said
            if remark is not None and remark.kind is RemarkKind.PAIR
        ]


def gone(_name: str, _version: str) -> int:
    return 404


def denied(name: str, _version: str) -> int:
    return 401 if name == ME.name else 200


def held(path: Path) -> Story:
    """Return a new version whose requests are all well, and whose /health is 404; it was 200 before."""
    story = Story(path)
    world, own = story.world, story.world.health_rule
    world.traffic_rule = make_steady(30)

    def rule(now: float, version: str) -> HealthReport:
        if version != story.bad.id:
            return own(now, version)
        return HealthReport(now, Reach.UNREADABLE, 404, latency_ms=3.0)

    world.health_rule = rule
    return story
