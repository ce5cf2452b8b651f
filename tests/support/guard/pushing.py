"""A World whose live version lacks secrets that a source holds, and how they are set: for the procedures' tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from canaries import CANARIES
from values import replace

from backout.model.guard.signals import ServiceState
from backout.model.plan import Plan
from backout.providers.memory import World, make_steady
from backout.providers.memory.rules import make_health
from backout.runbook.procedures import Actions
from backout.runbook.secrets.secrets import PushAsk, prepare_push

from line import SERVICES, begin_on_server, toolbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.incident.incident import Run
    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox

ASK = PushAsk(names=(), source={"from": "world"}, message="they were missing")


@dataclass
class Missing:
    """A World whose live version lacks secrets that its source holds; without them a critical service is down."""

    path: Path
    world: World = field(default_factory=World)
    said: list[str] = field(default_factory=list)
    good: Version = field(init=False)
    live: Version = field(init=False)

    def __post_init__(self) -> None:
        begin_on_server(self.path)
        world = self.world
        world.traffic_rule = make_steady(30)
        self.good = world.upload("good", secrets={"JWT_SECRET": "of then"})
        world.deploy(self.good)
        world.clock.sleep(600)
        self.live = world.upload("now", secrets={})
        world.deploy(self.live)
        world.clock.sleep(5)
        world.secret_source.kept = {**CANARIES, "API_TOKEN": "t0ken-of-deployments"}
        world.health_rule = self._health
        world.calls.clear()

    def _health(self, at: float, version: str) -> Any:
        well = self.world.builds[version].secrets.get("JWT_SECRET") == CANARIES["JWT_SECRET"]
        state = ServiceState.OK if well else ServiceState.DOWN
        return make_health(at, {**dict.fromkeys(SERVICES, ServiceState.OK), "database": state}, version=version)

    def tools(self, crash_point: Callable[[str], None] | None = None) -> Toolbox:
        """Return fresh tools."""
        return replace(toolbox(self.world, self.path, crash_point=crash_point), say=self.said.append)

    def secrets(self) -> dict[str, str]:
        """Return what the live version has."""
        return self.world.builds[self.world.live.main].secrets


def push(tools: Toolbox, ask: PushAsk = ASK) -> Run:
    """Set them, or go on with that, as the command does."""
    unfinished = next((run for run in tools.runs.runs("production")[:1] if not run.state.is_over), None)
    if unfinished is not None:
        return tools.journal.drive(unfinished.id, Actions(tools), actor="ops@host")
    plan = prepare_push(tools, ask)
    assert isinstance(plan, Plan), plan
    run = tools.journal.submit(plan, actor="ops@host", reason=plan.why)
    return tools.journal.drive(run, Actions(tools), actor="ops@host")


def result(story: Missing, run: Run, step: str) -> dict[str, Any]:
    """Return the recorded result of a step."""
    found = story.tools().runs.result(run.id, step)
    assert isinstance(found, dict)
    return found
