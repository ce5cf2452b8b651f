"""Rule 16: containers, workflows, builds and static files, of which no version is a part: named in each plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from values import replace

from backout.analysis.attached import ASSETS
from backout.cli.support.outcome import list_revert_commands
from backout.errors import ProviderUnavailable
from backout.model.attached import Attached, BuildTrigger, Container, Workflow
from backout.model.guard.policy import Mode
from backout.model.plan import Plan
from backout.model.triggers import Fate
from backout.plan.rollback import Request
from backout.runbook.guard.guard import plan as plan_watch
from backout.runbook.hindsight.forecast import foresee
from backout.runbook.rollback.rollback import prepare

from line import Story, equip, roll_back

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.triggers import Coverage

ROOM, FLOW = "durable_object_namespace:ROOM", "workflow:ORDERS"
FOUND = Attached(
    containers=(Container("shop-room", "registry/shop:2", is_rolling=True),),
    workflows=(Workflow("orders", 3), Workflow("mail")),
    builds=(BuildTrigger(("main",), "npx wrangler deploy", "shop"),),
)


def attached_story(path: Path, found: Attached, *bindings: str, uploader: str = "wrangler") -> Story:
    """Return the story whose bad version has these bindings."""
    told = Story(path / "journal.sqlite")
    told.world.uploader, told.world.attached = uploader, found
    bad = told.world.upload("worse", bindings=bindings, git_sha="badc0de")
    told.world.deploy(bad)
    return told


def lines(story: Story, request: Request | None = None) -> dict[str, Coverage]:
    """Return what the plan says it covers, by what."""
    _, plan = prepare(story.tools(), request or Request(message="it fails"))
    assert isinstance(plan, Plan)
    return {line.what: line for line in plan.coverage}


def test_rule_16_containers_workflows_and_builds_are_named(quick_path: Path) -> None:
    """Images and instances are not covered; the next push deploys over the rollback."""
    found = lines(attached_story(quick_path, FOUND, ROOM, FLOW, uploader="workersci"))
    line = found["container shop-room"]
    assert line.fate is Fate.NOT_COVERED
    assert "image registry/shop:2" in line.why
    assert "a rollout of it is under way" in line.why
    line = found["instances of workflow orders"]
    assert line.fate is Fate.NOT_COVERED
    assert "3 of its instances have begun" in line.why
    assert "instances of workflow mail" not in found
    line = found["Workers Builds"]
    assert (line.fate, line.why) == (
        Fate.STAYS,
        "the next push to main of shop deploys over this (npx wrangler deploy)",
    )


def test_rule_16_nothing_is_asked_that_no_binding_tells_of(quick_path: Path) -> None:
    """The calls are limited; in a hurry none is made, which the plan says."""
    told = attached_story(quick_path, FOUND)
    lines(told)
    assert "attachments.read" not in told.world.calls
    told = attached_story(quick_path, FOUND, FLOW)
    found = lines(told, Request(message="it fails", wait=False))
    assert "attachments.read" not in told.world.calls
    line = found["routes, custom domains, queue consumers and workflows"]
    assert line.why == "not looked at, to be quick"
    found = lines(told)
    assert "container shop-room" not in found
    assert "instances of workflow orders" in found


def test_rule_16_what_cannot_be_read_is_not_measured(quick_path: Path) -> None:
    """With the permission; a platform that does not answer stops no plan."""
    why = 'the token may not read them (permission "Workers Containers Read")'
    told = attached_story(quick_path, Attached(workflows=(), unread={"containers": why}), ROOM, FLOW)
    assert lines(told)["containers"].why == f"not measured: {why}"

    def fail(name: str) -> None:
        if name == "attachments.read":
            raise ProviderUnavailable("the API does not answer")

    told.world.before_call = fail
    found = lines(told)
    assert found["containers"].why == found["workflows"].why == "not measured: the API does not answer"


def test_rule_16_the_next_push_is_what_to_type_next(quick_path: Path) -> None:
    """The commit is reverted before it is pushed over the rollback."""
    told = attached_story(quick_path, FOUND, uploader="workersci")
    run = roll_back(told.tools())
    assert list_revert_commands(run) == (
        "git revert badc0de  # Workers Builds: the next push to main of shop deploys over this (npx wrangler deploy)",
    )
    assert list_revert_commands(roll_back(Story(quick_path / "2.sqlite").tools())) == ()


def test_rule_16_files_that_no_version_shares_are_told_of_in_a_split(quick_path: Path) -> None:
    """Guard says so when it begins, and for a holdback; not where each visitor stays on one version."""
    told = attached_story(quick_path, FOUND, "assets:ASSETS")
    live = told.world.live.main
    said: list[str] = []
    tools = equip(told.tools(), say=said.append)
    assert plan_watch(tools, mode=Mode.ACT, for_s=900).notes == ()
    told.world.deploy((live, 10.0), (told.good.id, 90.0))
    assert plan_watch(tools, mode=Mode.ACT, for_s=900).notes == (ASSETS,)
    assert said[-1] == ASSETS
    sticky = replace(tools.policy, guard=replace(tools.policy.guard, sticky=True))
    assert plan_watch(replace(tools, policy=sticky), mode=Mode.ACT, for_s=900).notes == ()
    told.world.deploy(live)
    held = replace(tools.policy, guard=replace(tools.policy.guard, holdback=10))
    assert plan_watch(replace(tools, policy=held), mode=Mode.ACT, for_s=900).notes == (ASSETS,)


def test_rule_16_guard_plan_tells_of_it_before_a_deployment(quick_path: Path) -> None:
    """Whatever way is advised."""
    told = attached_story(quick_path, FOUND, ROOM, "assets:ASSETS")
    told.world.clock.sleep(60)
    warnings = foresee(told.tools(), synthetic_per_s=1.0).warnings
    assert [text.partition(":")[0] for text in warnings] == ["static files", "container shop-room"]
