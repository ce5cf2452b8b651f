"""Rule 5, target: never quarantined or the same code, secrets there, in the window; unproven only if accepted."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.model.plan import PlanRefused
from backout.plan.rollback import Request
from backout.runbook.rollback.rollback import prepare

from line import POLICY, Story, by_version, equip, watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.model.plan import Json
    from backout.model.version import Version

    from drillbook import Drillbook, Trial

WHY = ("-m", "it fails", "--confirm", "production", "--json")
ROLLBACK = ("rollback", "--no-wait", *WHY)


def refusal(story: Story, target: Version | None = None, *, accept_unproven: bool = True) -> PlanRefused:
    """Return why a rollback is refused where nobody kept any version's code."""
    wish = Request(message="it fails", target=target.id if target else None, accept_unproven=accept_unproven)
    _, outcome = prepare(equip(story.tools(), bundle_store=None), wish)
    assert isinstance(outcome, PlanRefused), outcome
    return outcome


def test_rule_05_target_is_never_quarantined(tmp_path: Path) -> None:
    """Neither by name, nor under another id with the same code, whatever a person accepts."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    again = story.world.upload("again", code="bad")
    for target in (story.bad, again):
        assert refusal(story, target).rule == "5 quarantined"


def test_rule_05_target_is_never_older_than_the_minimum(tmp_path: Path) -> None:
    """Who can make a new version fail has not the old hole back: by no robot, by no name, under no other id."""
    guarded = replace(POLICY, guard=replace(POLICY.guard, minimum_version=2))
    story = Story(tmp_path / "journal.sqlite", policy=guarded)
    assert story.world.live.sole == story.bad.id
    run = watch(story.tools())
    concluded = story.tools().runs.result(run.id, "conclude")
    assert isinstance(concluded, dict)
    assert (concluded["action"], concluded["rule"]) == ("refused", "5 minimum")
    story.world.lists_details = True
    again = story.world.upload("again", code="good")
    for target in (story.good, again):
        refused = refusal(story, target)
        assert refused.rule == "5 minimum"
        assert any("guard.minimum_version" in option for option in refused.options)
    assert story.world.live.sole == story.bad.id


def test_rule_05_target_is_never_the_same_code(tmp_path: Path) -> None:
    """After a change of secrets alone the stable version would bring nothing; the refusal names what helps."""
    story = Story(tmp_path / "journal.sqlite")
    story.world.deploy(story.good)
    story.world.deploy(story.world.upload("same", code="good"))
    refused = refusal(story, story.good)
    assert refused.rule == "5 same code"
    assert any("a secret or a setting made the difference" in option for option in refused.options)


def test_rule_05_target_has_its_secrets(tmp_path: Path) -> None:
    """A version whose secret was deleted since would come up without it."""
    story = Story(tmp_path / "journal.sqlite")
    needy = story.world.upload("needy", secrets={"TOKEN": "canary"})
    story.world.deploy(needy)
    story.world.deploy(story.world.upload("bare", secrets={}))
    refused = refusal(story, needy)
    assert refused.rule == "7 secrets"
    assert "TOKEN" in refused.reason


def test_rule_05_target_is_within_the_window(tmp_path: Path) -> None:
    """What the provider no longer deploys is no target, however proven it is."""
    story = Story(tmp_path / "journal.sqlite")
    for number in range(100):
        story.world.upload(f"build {number}")
    assert refusal(story).rule == "5 target"
    assert refusal(story, story.good).rule == "5 target"
    assert not story.world.activations


@pytest.mark.parametrize("accepts", [False, True])
def test_rule_05_target_unproven_is_a_robots_only_by_policy(tmp_path: Path, accepts: bool) -> None:
    """A robot takes an unproven version when the policy says so, never by itself; the plan says which it is."""
    policy = replace(POLICY, guard=replace(POLICY.guard, accept_unproven=accepts))
    story = Story(tmp_path / "journal.sqlite", policy)
    world = story.world
    story.path = tmp_path / "other" / "journal.sqlite"  # a machine that knows nothing
    for _ in range(10):  # the mark at the provider has left the list
        world.deploy(story.good)
    world.traffic_rule = by_version(story.bad.id)
    world.deploy(story.bad)
    world.clock.sleep(2)
    assert refusal(story, accept_unproven=False).rule == "5 unproven"
    ended = watch(story.tools())
    found: Json = story.tools().runs.result(ended.plan.cause or ended.id, "conclude")
    assert isinstance(found, dict)
    if accepts:
        assert found["action"] == "rollback"
        assert any("UNPROVEN" in note for note in ended.plan.notes)
        assert world.live.sole == story.good.id
    else:
        assert (found["action"], found["rule"]) == ("refused", "5 unproven")
        assert world.live.sole == story.bad.id


@contextlib.contextmanager
def without_a_secret(trial: Trial) -> Iterator[None]:
    """Have the newest version live, then one that lost a secret; in the end all secrets are back."""
    trial.book.deploy("good")
    trial.book.remove_secret("EMAIL_API_KEY")
    try:
        yield
    finally:
        trial.book.put_secrets_back()


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.calm
def test_rule_05_target(drillbook: Drillbook) -> None:
    """The program: unproven is asked for, quarantined and same code are refused, a secret that is gone as well."""
    trial = drillbook.trial().forget_marks()
    trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    unproven = trial.run(*ROLLBACK)
    assert (unproven.code, unproven.json["rule"]) == (3, "5 unproven")
    assert any("--accept-unproven" in option for option in unproven.json["options"])
    dry = trial.run("rollback", "--dry-run", "--accept-unproven", "--json")
    assert (dry.code, dry.json["to_version"]) == (0, drillbook.good)
    assert any("UNPROVEN" in note for note in dry.json["plan"]["notes"])
    assert trial.run(*ROLLBACK, "--accept-unproven").code == 0
    back = trial.run("rollback", drillbook.bad, "--no-wait", "--accept-unproven", *WHY)
    assert (back.code, back.json["rule"]) == (3, "5 quarantined")
    assert any("deployments release" in option for option in back.json["options"])

    drillbook.deploy("good")
    same = trial.run("rollback", drillbook.good, "--no-wait", "--accept-unproven", *WHY)
    assert (same.code, same.json["rule"]) == (3, "5 same code")
    assert any("a secret or a setting" in option for option in same.json["options"])

    with without_a_secret(trial):
        live = trial.live()
        gone = trial.run("rollback", drillbook.bad, "--no-wait", "--accept-unproven", *WHY)
        assert gone.code == 3
        released = trial.run("deployments", "release", drillbook.bad, *WHY)
        assert released.code == 0, released.err
        gone = trial.run("rollback", drillbook.bad, "--no-wait", "--accept-unproven", *WHY)
        assert (gone.code, gone.json["rule"]) == (3, "7 secrets")
        assert "EMAIL_API_KEY" in gone.json["what"]
        assert trial.live() == live
