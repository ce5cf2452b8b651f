"""What a verdict never leads to: a rollback for another's failure, a mark on the wrong version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from values import replace

from backout.errors import ProviderUnavailable
from backout.model.guard.policy import OnInconclusive
from backout.model.guard.signals import ServiceState
from backout.model.version import Mark
from backout.providers.memory import make_steady

from line import POLICY, Story, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.incident.incident import Run


def _concluded(story: Story, run: Run) -> dict[str, object]:
    found = story.tools().runs.result(run.plan.cause or run.id, "conclude")
    assert isinstance(found, dict)
    return dict(found)


def test_no_policy_rolls_back_for_a_service_that_was_down_before(tmp_path: Path) -> None:
    """Safety rule 12 stands above `on_inconclusive = rollback`."""
    policy = replace(POLICY, guard=replace(POLICY.guard, on_inconclusive=OnInconclusive.ROLLBACK))
    story = Story(tmp_path / "journal.sqlite", policy)
    world = story.world
    world.deploy(story.good)
    world.services = {**world.services, "database": ServiceState.DOWN}
    world.traffic_rule = make_steady(30)
    watch(story.tools(), for_s=20)  # the last look at the good version: its database is down
    world.clock.sleep(5)
    world.deploy(world.upload("next"))
    world.clock.sleep(2)
    world.activations.clear()
    found = _concluded(story, watch(story.tools(), for_s=20))
    assert found["action"] == "hold"
    assert "not the deployment" in str(found["why"])
    assert not world.activations


def test_a_healthy_watch_does_not_mark_quarantined_code_stable(tmp_path: Path) -> None:
    """A person put the quarantined version back and it does well: only `deployments release` lifts the quarantine."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    story.world.traffic_rule = make_steady(2000)
    story.world.deploy(story.bad)
    story.world.clock.sleep(2)
    found = _concluded(story, watch(story.tools(), for_s=60))
    assert "quarantined" in str(found["why"]), found
    marks = story.tools().marks.marks("production")
    assert not [m for m in marks if m.version == story.bad.id and m.mark is Mark.STABLE]


def test_a_deployment_that_the_watch_could_not_see_voids_a_healthy_verdict(tmp_path: Path) -> None:
    """While the platform did not answer another deployment was made: nothing is marked stable."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    world.traffic_rule = make_steady(2000)
    plan_made = world.clock.now()

    def deaf(call: str) -> None:
        waited = world.clock.now() - plan_made
        if call == "deployments.history" and waited > 5 and not deaf.asked_last:  # type: ignore[attr-defined]
            if waited >= 58:
                world.deploy(world.upload("hotfix"))
                deaf.asked_last = True  # type: ignore[attr-defined]
            raise ProviderUnavailable("no answer", where="memory")

    deaf.asked_last = False  # type: ignore[attr-defined]
    world.before_call = deaf
    found = _concluded(story, watch(story.tools(), for_s=60))
    assert deaf.asked_last  # type: ignore[attr-defined]
    assert found["action"] == "void", found
