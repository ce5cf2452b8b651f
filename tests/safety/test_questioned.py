"""A target at 0 % is compared by what it answers; what was marked stable and is contradicted is for a person alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from crashing import dies_at
from shifted import ME, NAME, Paired, held
from values import replace

from backout.analysis.history.seal import Seal
from backout.analysis.history.stability import find_questioned
from backout.errors import Refused
from backout.model.guard.fetched import Fetched
from backout.model.guard.policy import Mode, SyntheticCheck
from backout.model.incident.incident import RunState
from backout.model.plan import Equivalents, Plan, PlanRefused
from backout.model.remark import Code, Remark, RemarkKind
from backout.model.version import Mark, VersionId, VersionMark
from backout.plan.rollback import Request
from backout.providers.memory import make_steady
from backout.report.times import format_day
from backout.runbook.guard.accept import accept
from backout.runbook.guard.supervisor import note_marks
from backout.runbook.incident.in_need import Sources, look_in_need
from backout.runbook.observe import observe
from backout.runbook.rollback.panic import list_lines_in_need
from backout.runbook.rollback.rollback import prepare

from extent import by_extent, sampled
from line import POLICY, Story, equip, roll_back, toolbox, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.deployment import Deployment
    from backout.model.guard.policy import GuardPolicy
    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox

ASKED = replace(POLICY.guard, synthetic=("/app",), synthetic_every_s=1.0)
LINES = Equivalents(activate="npx wrangler rollback {version} --message {message}", live="look")
PAGE = Fetched(200, {"content-type": "text/html"}, "hello")


class Answering(Story):
    """Two proven versions, `good` and then `newer`, and a bad one; each answers requests as `answers` says."""

    newer: Version

    def __init__(self, path: Path, guard: GuardPolicy = ASKED) -> None:
        super().__init__(path, replace(POLICY, guard=guard))
        world = self.world
        self.answers: dict[str, Fetched] = {}
        world.traffic_rule = make_steady(30)
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
        answers: dict[str, Fetched] = getattr(self, "answers", {})
        world.route_rule = lambda name, version: answers.get(f"{version} {name}", answers.get(version, PAGE))
        own = world._tell_services
        world.health_rule = lambda now, version: replace(own(now, version), version=version)
        return equip(super().tools(crash_point), sender=world.health)


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
    doubt = find_questioned(marks, story.newer.id)
    assert doubt is not None
    assert why in doubt.why
    assert find_questioned(marks, story.good.id) is None
    assert any("is questioned now" in text for text in said)
    tools = story.tools()
    known = look_in_need(Sources("production", tools.runs, tools.marks, story.path.with_name("card.md")))
    assert story.newer.id not in str(list_lines_in_need(tools.rollback.equivalents, known))


@pytest.mark.parametrize("status", [503, 401, 302])
def test_what_fails_on_both_versions_questions_nothing(story: Answering, status: int) -> None:
    """A database or an identity provider that is down: a target gets no traffic, and may be returned to later."""
    story.answers[story.newer.id] = story.answers[story.bad.id] = Fetched(status, {"location": "/sorry"})
    roll_back(story.tools(), ROLL_BACK)
    assert story.world.live.sole == story.good.id
    assert find_questioned(story.tools().marks.marks("production"), story.newer.id) is None


@pytest.mark.parametrize("bound", [("newer", "bad"), ("bad",)])
def test_durable_objects_that_run_the_bad_code_are_no_reason_against_a_target(
    story: Answering, bound: tuple[str, ...]
) -> None:
    """They follow the switch: what fails on both through them says nothing of a target that is bound to them too."""
    story.answers[story.newer.id] = story.answers[story.bad.id] = Fetched(500)
    for name in bound:
        builds, version = story.world.builds, getattr(story, name)
        with_objects = replace(version, bindings=("durable_object_namespace:ROOMS",))
        builds[version.id] = replace(builds[version.id], version=with_objects)
    run = roll_back(story.tools(), ROLL_BACK)
    assert story.world.live.sole == (story.newer.id if len(bound) == 2 else story.good.id)
    proof = story.tools().runs.result(run.id, "prove")
    assert isinstance(proof, dict)
    assert ("whose code Durable Objects run until the switch" in str(proof["tried"])) is (len(bound) == 2)


def test_credentials_that_ran_out_are_no_reason_against_a_target(tmp_path: Path) -> None:
    """They were let in when it was live, and no version lets them in now: that says nothing of any of them."""
    story = Answering(tmp_path / "journal.sqlite", replace(ASKED, checks=(ME,)))
    for version in (story.newer, story.good, story.bad):
        story.answers[f"{version.id} {ME.name}"] = Fetched(401)
    roll_back(story.tools(), ROLL_BACK)
    assert story.world.live.sole == story.newer.id
    assert find_questioned(story.tools().marks.marks("production"), story.newer.id) is None


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
    _, other = prepare(story.tools(), automatic)
    assert isinstance(other, Plan)
    assert other.step("activate").args["version"] not in (story.newer.id, story.good.id)
    _, refused = prepare(story.tools(), replace(automatic, accept_unproven=False))
    assert isinstance(refused, PlanRefused)
    assert "questioned" in refused.reason
    assert any(f"backout rollback {story.newer.id} -e production" in option for option in refused.options)


def test_a_healthy_watch_ends_the_question(story: Answering) -> None:
    """The newest word counts."""
    doubted(story, story.newer)
    story.world.deploy(story.newer)
    story.world.clock.sleep(2)
    story.world.traffic_rule = make_steady(1000)
    watch(story.tools(), mode=Mode.ACT)
    assert find_questioned(story.tools().marks.marks("production"), story.newer.id) is None


def other_machine(story: Story) -> Toolbox:
    """Return the tools of a machine that shares nothing with this one but the provider."""
    return toolbox(story.world, story.path.with_name("other.sqlite"), policy=story.policy)


def questions(story: Story) -> list[Deployment]:
    """Return the deployments that say that a version is questioned, oldest first."""
    return [made for made in story.world.all_deployments if "questioned=" in made.message]


def test_another_machine_reads_the_question_too(story: Answering) -> None:
    """It stands at the provider, in a deployment that moves no traffic; no robot there chooses it, a person may."""
    story.answers[story.newer.id] = Fetched(404)
    roll_back(story.tools(), ROLL_BACK)
    (remark,) = questions(story)
    assert remark.sole == story.good.id
    there = other_machine(story)
    doubt = find_questioned(observe(there).marks, story.newer.id)
    assert doubt is not None
    assert "/app answers 404" in doubt.why
    automatic = Request(message="guard: bad", cause="guard-1", detected="bad")
    _, refused = prepare(there, automatic)
    assert isinstance(refused, PlanRefused)
    assert f"it was marked stable, which has been questioned since {format_day(doubt.at)}" in str(refused)
    _, typed = prepare(there, Request(message="why", target=story.newer.id))
    assert isinstance(typed, Plan)


def test_what_was_stable_before_ends_no_question(story: Answering) -> None:
    """A machine that reads both at the provider, again and again: by its journal alone it does not go back there."""
    story.answers[story.newer.id] = Fetched(404)
    roll_back(story.tools(), ROLL_BACK)
    there = other_machine(story)
    for _ in range(2):
        note_marks(there, there.deployments.history())
    assert find_questioned(there.marks.marks("production"), story.newer.id) is not None
    known = look_in_need(Sources("production", there.runs, there.marks, story.path.with_name("card.md")))
    assert known.ways == ()
    said, line, _ = list_lines_in_need(LINES, known)  # not struck off silently, and nothing to paste unread
    assert "questioned since" in said
    assert line.startswith("# ")
    assert story.newer.id in line


def test_a_question_is_written_although_no_target_is_left(story: Answering) -> None:
    """The rollback is refused; what was found out on its way is known everywhere."""
    for version in (story.newer, story.good):
        story.answers[version.id] = Fetched(404)
    with pytest.raises(Refused, match="no target answers well"):
        roll_back(story.tools(), ROLL_BACK)
    marks = observe(other_machine(story)).marks
    assert all(find_questioned(marks, version.id) for version in (story.newer, story.good))


def test_where_marks_are_signed_a_question_is_signed(story: Answering) -> None:
    """One that nobody with the key wrote questions nothing: else anybody takes every target away."""
    seal = Seal("account/worker", (b"0123456789abcdef-one",))
    there = replace(other_machine(story), seal=seal)
    forged = Remark(RemarkKind.QUESTIONED, "guard-1", code=Code.of(story.good), text="it is bad")
    story.world.deploy(story.bad, message=str(forged))
    assert find_questioned(observe(there).marks, story.good.id) is None
    assert find_questioned(observe(replace(there, seal=None)).marks, story.good.id) is not None  # where no key is set
    story.answers[story.newer.id] = Fetched(404)
    roll_back(replace(story.tools(), seal=seal), ROLL_BACK)
    assert find_questioned(observe(there).marks, story.newer.id) is not None


def stable_and_then_held(path: Path) -> Story:
    """Return a version that was marked stable, and whose /health is 404 when it is deployed and watched again."""
    story = held(path)
    world = story.world
    rule, world.health_rule = world.health_rule, world._tell_services
    world.traffic_rule = make_steady(1000)
    watch(story.tools())
    world.clock.sleep(100)
    world.deploy(story.good)
    world.clock.sleep(100)
    world.deploy(story.bad)
    world.clock.sleep(2)
    world.health_rule = rule
    return story


def test_a_watch_that_is_held_questions_the_version_everywhere(tmp_path: Path) -> None:
    """Without the routes of visitors in what everybody reads; a person's word ends it, there as well."""
    story = stable_and_then_held(tmp_path / "journal.sqlite")
    watch(story.tools())
    (remark,) = questions(story)
    assert remark.message.endswith("1 shift in what is answered, see the journal")
    there = other_machine(story)
    assert find_questioned(observe(there).marks, story.bad.id) is not None
    note_marks(there, there.deployments.history())
    accept(story.tools(), NAME, "it moved")
    note_marks(there, there.deployments.history())
    assert find_questioned(observe(there).marks, story.bad.id) is None
    assert find_questioned(there.marks.marks("production"), story.bad.id) is None  # also when it has left the list


def test_a_healthy_watch_ends_what_an_outage_outside_began(tmp_path: Path) -> None:
    """Nobody could be asked whether it was the deployment; the hold says what ends it when that is over."""
    story = stable_and_then_held(tmp_path / "journal.sqlite")
    run = watch(story.tools())
    told = story.tools().runs.result(run.id, "conclude")
    assert "a healthy watch ends it: `backout guard -e production`" in str(told)
    story.world.health_rule = story.world._tell_services
    story.world.clock.sleep(5)
    watch(story.tools())
    assert find_questioned(story.tools().marks.marks("production"), story.bad.id) is None
    there = other_machine(story)
    assert find_questioned(observe(there).marks, story.bad.id) is None


def test_both_that_fail_alike_question_nothing_in_a_watch(tmp_path: Path) -> None:
    """An identity provider that is down while a stable version is watched again: the old one is asked as well."""
    story = Paired(tmp_path / "journal.sqlite", lambda _name, _version: 200)
    watch(story.tools())
    assert story.concluded()["action"] == "stable"
    story.world.clock.sleep(100)
    story.world.deploy(story.good)
    story.world.clock.sleep(100)
    story.world.deploy(story.bad)
    story.world.clock.sleep(2)
    story.world.route_rule = lambda name, _version: 401 if name == ME.name else 200
    watch(story.tools())
    assert story.concluded()["action"] == "hold"
    assert "asked the same, fails as well" in str(story.concluded()["why"])
    assert find_questioned(story.tools().marks.marks("production"), story.bad.id) is None


@pytest.mark.parametrize("mode", [Mode.OBSERVE, pytest.param(Mode.ACT, marks=pytest.mark.long)])
def test_what_writes_nothing_writes_no_question(tmp_path: Path, mode: Mode) -> None:
    """A guard that only observes, and one while a hold is on: it is said, and stands in the journal."""
    story = stable_and_then_held(tmp_path / "journal.sqlite")
    if mode is Mode.ACT:
        story.world.deploy(story.bad, message="[backout hold until=2027-01-15T20:00:00Z] migrating")
    said: list[str] = []
    watch(replace(story.tools(), say=said.append), mode=mode)
    assert questions(story) == []
    assert any(text.startswith("the provider was not told (questioned)") for text in said)
    assert find_questioned(story.tools().marks.marks("production"), story.bad.id) is not None


def questioned_once(story: Story, version: Version) -> bool:
    """Whether one deployment says it, another machine reads it, and the journal has it once."""
    marks = story.tools().marks.marks("production")
    here = [mark for mark in marks if mark.mark is Mark.QUESTIONED and mark.version == version.id]
    there = find_questioned(observe(other_machine(story)).marks, version.id)
    return len(here) == 1 and len(questions(story)) == 1 and there is not None


@pytest.mark.proof
def test_crash_while_a_version_is_questioned(quick_path: Path) -> None:
    """Whatever the moment, in a rollback's proof: the same command typed again writes it, once."""
    for moment in sampled(300, 60, 20):
        story = Answering(quick_path / str(moment) / "journal.sqlite")
        story.answers[story.newer.id] = Fetched(404)
        if not dies_at(story, moment + 1, lambda tools: roll_back(tools, ROLL_BACK)):
            break
        if story.tools().runs.runs("production")[0].state is not RunState.DONE or not questions(story):
            roll_back(story.tools(), ROLL_BACK)
        assert questioned_once(story, story.newer), moment
        assert story.world.live.sole == story.good.id, moment


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
@pytest.mark.proof
def test_crash_while_a_watch_is_held(quick_path: Path) -> None:
    """The same at the end of a watch."""
    whole, seen = stable_and_then_held(quick_path / "whole" / "journal.sqlite"), []
    whole.world.before_call = whole.world.after_call = seen.append
    watch(whole.tools(crash_point=seen.append))
    total = len(seen)
    for moment in range(total - 70, total, by_extent(14, 4, proof=1)):
        story = stable_and_then_held(quick_path / str(moment) / "journal.sqlite")
        if dies_at(story, moment + 1, watch) and not story.tools().runs.runs("production")[0].state.is_over:
            watch(story.tools())
        assert questioned_once(story, story.bad), moment
