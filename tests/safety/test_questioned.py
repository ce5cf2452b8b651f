"""A target at 0 % is compared by what it answers; what was marked stable and is contradicted is for a person alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backout.analysis.stability import questioned
from backout.errors import Refused
from backout.model.deployment import Mark, VersionId, VersionMark
from backout.model.fetched import Fetched
from backout.model.plan import Plan, PlanRefused
from backout.model.policy import Mode, SyntheticCheck
from backout.plan.rollback import Request
from backout.providers.memory import steady
from backout.runbook.in_need import Sources, look_in_need
from backout.runbook.panic import lines_in_need
from backout.runbook.rollback import prepare

from line import POLICY, Story, roll_back, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.deployment import Version
    from backout.runbook.toolbox import Toolbox

ASKED = replace(POLICY.guard, synthetic=("/app",), synthetic_every_s=1.0)
PAGE = Fetched(200, {"content-type": "text/html"}, "hello")


class Answering(Story):
    """Two proven versions, `good` and then `newer`, and a bad one; each answers requests as `answers` says."""

    newer: Version

    def __init__(self, path: Path) -> None:
        super().__init__(path, replace(POLICY, guard=ASKED))
        world = self.world
        self.answers: dict[str, Fetched] = {}
        world.traffic_rule = steady(30)
        self.newer = world.upload("newer")
        world.deploy(self.newer)
        watch(self.tools(), for_s=25, mode=Mode.ACT)
        world.clock.sleep(600)
        self.bad = world.upload("worse")
        world.deploy(self.bad)
        world.clock.sleep(2)
        world.activations.clear()

    def tools(self, crash_point: Callable[[str], None] | None = None) -> Toolbox:
        """Return fresh tools; who answers is known."""
        world = self.world
        world.route_rule = lambda _name, version: getattr(self, "answers", {}).get(version, PAGE)
        own = world._tell_services
        world.health_rule = lambda now, version: replace(own(now, version), version=version)
        return replace(super().tools(crash_point), sender=world.health)


@pytest.fixture
def story(tmp_path: Path) -> Answering:
    return Answering(tmp_path / "journal.sqlite")


ROLL_BACK = Request(message="it fails", wait=False)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Fetched(404, {"content-type": "text/html"}), "/app answers 404, and answered well when it was live"),
        (Fetched(302, {"location": "/login"}), "/app answers 302, and answered well when it was live"),
        (Fetched(200, {"content-type": "application/json"}), "application/json, and text/html when it was live"),
    ],
)
def test_a_target_that_does_not_answer_as_it_did_gets_no_traffic(story: Answering, answer: Fetched, why: str) -> None:
    """By class and content type, never by bytes; the next one is taken, and that it was stable is questioned."""
    story.answers[story.newer.id] = answer
    story.answers[story.good.id] = replace(PAGE, body="another page of another length")
    said: list[str] = []
    run = roll_back(replace(story.tools(), say=said.append), ROLL_BACK)
    assert story.world.live.sole == story.good.id
    proof = story.tools().runs.result(run.id, "prove")
    assert isinstance(proof, dict)
    assert why in str(proof["tried"])
    marks = story.tools().marks.marks("production")
    doubt = questioned(marks, story.newer.id)
    assert doubt is not None
    assert why in doubt.why
    assert questioned(marks, story.good.id) is None
    assert any("is questioned now" in text for text in said)
    tools = story.tools()
    known = look_in_need(Sources("production", tools.runs, tools.marks, story.path.with_name("card.md")))
    assert story.newer.id not in str(lines_in_need(tools.equivalents, known))


def test_a_declared_word_decides_whatever_the_current_version_says(story: Answering) -> None:
    """The bad version has it not either: that excuses nothing."""
    story.policy = replace(POLICY, guard=replace(ASKED, synthetic=(), checks=(SyntheticCheck("/x", word="welcome"),)))
    for version in (story.newer, story.good, story.bad):
        story.answers[version.id] = replace(PAGE, body="nothing")
    with pytest.raises(Refused, match="without the word 'welcome'"):
        roll_back(story.tools(), ROLL_BACK)


def test_where_nothing_is_declared_the_first_page_is_compared(story: Answering) -> None:
    """A target that answers 404 where the current version answers well is none to return to."""
    story.policy = POLICY
    for version in (story.newer, story.good):
        story.answers[version.id] = Fetched(404)
    with pytest.raises(Refused, match="/ answers 404, and the current version answers well"):
        roll_back(story.tools(), ROLL_BACK)
    story.answers[story.bad.id] = Fetched(404)  # as bad on the version being left
    roll_back(story.tools(), ROLL_BACK)
    assert story.world.live.sole == story.newer.id


def doubted(story: Answering, *versions: Version) -> None:
    for version in versions:
        mark = VersionMark(
            Mark.QUESTIONED, VersionId(version.id), None, story.world.clock.now(), "guard-x", "it is 404"
        )
        story.tools().marks.mark("production", mark, actor="ops@host")


def test_no_robot_returns_to_what_is_questioned_and_a_person_may(story: Answering) -> None:
    """Not even where the policy accepts unproven versions; with nothing else left the refusal names it, to be typed."""
    doubted(story, story.newer)
    automatic = Request(message="guard: bad", cause="guard-1", detected="bad", accept_unproven=True)
    _, plan = prepare(story.tools(), automatic)
    assert isinstance(plan, Plan)
    assert plan.step("activate").args["version"] == story.good.id
    _, typed = prepare(story.tools(), Request(message="why", target=story.newer.id))
    assert isinstance(typed, Plan)
    assert typed.step("activate").args["version"] == story.newer.id
    doubted(story, story.good)
    _, refused = prepare(story.tools(), replace(automatic, accept_unproven=False))
    assert isinstance(refused, PlanRefused)
    assert "questioned" in refused.reason
    assert any(f"backout rollback {story.newer.id} -e production" in option for option in refused.options)


def test_a_healthy_watch_ends_the_question(story: Answering) -> None:
    """The newest word counts."""
    doubted(story, story.newer)
    story.world.deploy(story.newer)
    story.world.clock.sleep(2)
    story.world.traffic_rule = steady(1000)
    watch(story.tools(), mode=Mode.ACT)
    assert questioned(story.tools().marks.marks("production"), story.newer.id) is None
