"""A gradual deployment on the memory World, for the tests of a ramp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from values import replace

from backout.providers.memory import make_steady

from line import POLICY, Story

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.guard.signals import Counts
    from backout.model.version import Version

RAMP = replace(
    POLICY,
    criteria=replace(POLICY.criteria, watch_s=120),
    guard=replace(POLICY.guard, ramp=(10.0, 50.0, 100.0), baseline_s=900),
)
BUSY = 5000


class Ramped(Story):
    """A proven version, and a canary beside it at 10 %, which fails from a share of `bad_at` percent on."""

    canary: Version

    def __init__(self, path: Path, *, bad_at: float = 200.0, stage_s: float = 120.0, per_s: int = BUSY) -> None:
        super().__init__(path, replace(RAMP, criteria=replace(RAMP.criteria, watch_s=stage_s)))
        self.per_s = per_s
        world = self.world
        world.deploy(self.good)
        world.traffic_rule = make_steady(per_s)
        world.clock.sleep(1000)
        self.canary = world.upload("canary")
        self.bad_at = bad_at
        world.traffic_rule = self.traffic
        world.deploy((self.good.id, 90.0), (self.canary.id, 10.0))
        world.clock.sleep(2)
        world.activations.clear()
        world.notices.clear()

    def traffic(self, second: int, version: str) -> Counts | None:
        """Split the requests as the deployment of that second does."""
        live = self.world.live_at(second)
        share = next((s.percentage for s in live.shares if s.version == version), 0.0) if live else 0.0
        is_bad = version == self.canary.id and share >= self.bad_at
        return (
            make_steady(round(self.per_s * share / 100), error_rate=0.2 if is_bad else 0.0)(second, version)
            if share
            else None
        )

    def shares(self) -> list[dict[str, float]]:
        """Return what the deployments that moved traffic gave to whom, oldest first."""
        return [{s.version: s.percentage for s in d.shares if s.percentage} for d in self.world.activations]
