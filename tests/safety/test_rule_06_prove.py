"""Rule 6, prove the target first: nothing gets traffic before it answered well at 0 % of it, by its own name."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from api_gate import Answer, api_gate
from values import replace

from backout.analysis.history.remark_text import parse
from backout.errors import Busy, NoSplit, Refused, WorldMoved
from backout.model.checkup import CheckState
from backout.model.deployment import Share
from backout.model.guard.signals import HealthReport, Reach, ServiceState, sum_counts
from backout.model.incident.incident import RunState
from backout.model.plan import Plan, PlanKind
from backout.model.remark import RemarkKind
from backout.model.token import Needed
from backout.plan.rollback import Request
from backout.providers.memory import make_health, make_steady, quiet
from backout.report.incident.incident import render
from backout.runbook.incident.card import make_card
from backout.runbook.incident.checkup_questions import Here, Platform
from backout.runbook.incident.report import make_incident
from backout.runbook.rollback.rollback import prepare

from arranged import mark_stable
from line import SERVICES, Story, by_version, roll_back, toolbox, watch
from polling import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.checkup import Check
    from backout.model.deployment import Deployment
    from backout.model.incident.incident import Run
    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook, Trial

WELL = dict.fromkeys(SERVICES, ServiceState.OK)


@dataclass
class Proving(Story):
    """Two proven versions and a bad one just deployed; `answers` says how a version's health differs from well.

    `nameless`: versions that do not say who answered. `said`: what a person was told.
    """

    newer: Version = field(init=False)
    answers: dict[str, Callable[[float], HealthReport]] = field(default_factory=dict)
    nameless: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prove a second version, then deploy the bad one again."""
        super().__post_init__()
        world = self.world
        world.traffic_rule = make_steady(30)
        self.newer = world.upload("newer")
        world.deploy(self.newer)
        assert self.tools().runs.result(watch(self.tools(), for_s=25).id, "conclude")["action"] == "stable"  # type: ignore[index,call-overload]
        world.clock.sleep(600)
        self.bad = world.upload("worse")
        world.traffic_rule = by_version(self.bad.id)
        world.health_rule = self._health
        world.deploy(self.bad)
        world.clock.sleep(5)
        world.activations.clear()
        world.calls.clear()

    def _health(self, now: float, version: str) -> HealthReport:
        rule = self.answers.get(version)
        report = rule(now) if rule else make_health(now, WELL, version=version)
        return replace(report, version=None) if version in self.nameless else report

    def tools(self, crash_point: Callable[[str], None] | None = None) -> Toolbox:
        """Return fresh tools that say things into `said`."""
        return replace(super().tools(crash_point), say=self.said.append)

    def is_down(self, version: Version, *services: str) -> None:
        """Have services down on a version, which names itself."""
        states = {**WELL, **dict.fromkeys(services, ServiceState.DOWN)}
        self.answers[version.id] = lambda now: make_health(now, states, version=version.id)

    def is_broken(self, version: Version) -> None:
        """Have a version answer 500 without a word."""
        self.answers[version.id] = lambda now: HealthReport(now, Reach.UNREADABLE, 500)

    def proof(self, run: Run) -> dict[str, Any]:
        """Return the result of the proof."""
        found = self.tools().runs.result(run.id, "prove")
        assert isinstance(found, dict)
        return found

    def proofs(self) -> list[Deployment]:
        """Return the deployments that were made to prove something, oldest first."""
        return [d for d in self.world.all_deployments if (r := parse(d.message)) and r.kind is RemarkKind.PROVE]

    def refused(self, request: Request | None = None) -> Refused:
        """Return the refusal of a rollback, after which the traffic is as it was."""
        before = self.world.live.sole
        with pytest.raises(Refused) as caught:
            roll_back(self.tools(), request)
        assert self.world.live.sole == before
        assert self.world.activations == []
        assert caught.value.exit_code == 3
        return caught.value


@pytest.fixture
def story(quick_path: Path) -> Proving:
    return Proving(quick_path / "journal.sqlite")


ACCEPTED = Request(message="it fails", accept_unproven=True)


def test_rule_06_prove(story: Proving) -> None:
    """The target stands at 0 % beside the current version, answers by its own name, and only then gets the traffic."""
    looks: list[tuple[str, ...]] = []
    story.world.before_call = lambda name: (
        looks.append(tuple(f"{s.version[:8]}@{s.percentage:g}" for s in story.world.live.shares))
        if name == "health.look" and not story.world.activations
        else None
    )
    run = roll_back(story.tools())
    assert story.world.live.sole == story.newer.id
    assert looks == [(f"{story.bad.id[:8]}@100", f"{story.newer.id[:8]}@0")] * 2
    proof = story.proof(run)
    assert (proof["version"], proof["proved"], proof["carried_from"]) == (story.newer.id, True, None)
    assert [entry["ok"] for entry in proof["tried"]] == [True]
    assert "proved at 0 % of the traffic" in next(iter(story.world.reports.texts.values()))


def test_rule_06_no_wait_is_between_two_good_answers(story: Proving) -> None:
    """A healthy target costs no sleep."""
    before = story.world.clock.now()
    moments: list[float] = []
    story.world.before_call = lambda name: moments.append(story.world.clock.now()) if "activate" in name else None
    roll_back(story.tools(), Request(message="it fails", wait=False))
    assert moments == [before]


def test_rule_06_a_bad_target_is_followed_by_the_next(story: Proving) -> None:
    """A critical service is down on the newest stable version alone: the one before it is proved and made live."""
    story.is_down(story.newer, "database")
    run = roll_back(story.tools())
    proof = story.proof(run)
    assert story.world.live.sole == story.good.id == proof["version"]
    assert [(entry["version"], entry["ok"]) for entry in proof["tried"]] == [
        (story.newer.id, False),
        (story.good.id, True),
    ]
    assert "database is down on it, and not on the current version" in proof["tried"][0]["why"]
    assert [d.shares[1].version for d in story.proofs()] == [story.newer.id, story.good.id]
    assert any(story.newer.id in text for text in story.said)
    tools = story.tools()
    assert tools.runs.result(run.id, "read_back")["version"] == story.good.id  # type: ignore[index,call-overload]
    assert tools.runs.result(run.id, "verify")["verified"] is True  # type: ignore[index,call-overload]
    assert story.newer.id[:8] in render(make_incident(tools, run.id))


@pytest.mark.parametrize("way", ["broken", "unreachable", "route"])
def test_rule_06_every_way_to_be_bad(story: Proving, way: str) -> None:
    """A 500 that is no report, no answer at all, a configured route that fails: each is bad, and the next is taken."""
    if way == "broken":
        story.is_broken(story.newer)
    elif way == "unreachable":
        story.answers[story.newer.id] = lambda now: HealthReport(now, Reach.UNREACHABLE)
    else:
        guard = replace(story.policy.guard, prove=("/api/things",))
        story.policy = replace(story.policy, guard=guard)
        story.world.route_rule = lambda path, version: 503 if version == story.newer.id else 404
    run = roll_back(story.tools())
    assert story.world.live.sole == story.good.id
    assert [entry["ok"] for entry in story.proof(run)["tried"]] == [False, True]


def test_rule_06_when_no_target_is_left_it_is_refused(story: Proving) -> None:
    """All candidates bad: exit 3 with every reason, the traffic untouched, and --accept-unproven does not help."""
    story.is_down(story.newer, "database")
    story.is_broken(story.good)
    for request in (None, ACCEPTED):
        error = story.refused(request)
        assert error.rule == "6 proof"
        assert story.newer.id in error.what
        assert story.good.id in error.what
    newest = story.tools().runs.runs("production")[0]
    assert newest.state is RunState.FAILED


def looked(story: Proving) -> Check:
    """Return what doctor says of the version to go back to."""

    def never() -> NoReturn:
        raise AssertionError("nobody asks for the identity, nor this host")

    here = Here(story.world.clock, never, never, story.path)
    platform = Platform(
        story.tools, never, "production", story.policy, needed=Needed((), ""), places={}, required=(), here=here
    )
    question = next(each for each in platform.lane() if each.name == "stable_version")
    (check,) = question.ask()
    return check


def test_rule_06_a_target_that_failed_is_not_the_first_one_named_afterwards(story: Proving) -> None:
    """Rollback, card and doctor say the next one; having been live since ends that."""
    story.is_down(story.newer, "database")
    story.refused(Request(message="it fails", target=story.newer.id))
    _, plan = prepare(story.tools(), Request(message="it fails"))
    card = make_card(story.tools())
    assert isinstance(plan, Plan)
    assert plan.step("activate").args["version"] == card.target == card.stable == story.good.id
    assert story.good.id in looked(story).why
    (passed_over,) = [note for note in plan.notes if note.startswith(f"not {story.newer.id}")]
    assert "its last proof, at " in passed_over
    assert "database is down on it" in passed_over
    assert any(story.newer.id in note and "is tried" in note for note in plan.notes)  # behind the other one
    story.world.clock.sleep(60)
    story.world.deploy(story.newer)
    story.world.clock.sleep(60)
    story.world.deploy(story.world.upload("worse still"))
    _, plan = prepare(story.tools(), Request(message="it fails"))
    assert isinstance(plan, Plan)
    assert plan.step("activate").args["version"] == story.newer.id
    assert "failed" not in plan.notes[1]


def test_rule_06_a_target_that_failed_is_told_where_there_is_no_other(story: Proving) -> None:
    """The plan, the card and doctor do not praise it without a word; it is asked again all the same."""
    story.is_down(story.newer, "database")
    story.is_broken(story.good)
    story.refused()
    _, plan = prepare(story.tools(), Request(message="it fails"))
    assert isinstance(plan, Plan)
    assert plan.step("activate").args["version"] == story.newer.id
    assert "failed: database is down on it" in plan.notes[1]
    assert plan.notes[1] in make_card(story.tools()).notes
    check = looked(story)
    assert check.state is CheckState.MISSING
    assert "failed: database is down on it" in check.why


def test_rule_06_a_named_target_has_no_alternatives(story: Proving) -> None:
    """A person who names a version gets that one or none."""
    story.is_down(story.newer, "storage")
    error = story.refused(Request(message="it fails", target=story.newer.id))
    assert error.rule == "6 proof"
    assert story.good.id not in error.what


def test_rule_06_an_alternative_is_judged_by_all_rules_again(story: Proving) -> None:
    """One that has the code of the version being left is passed over, although nobody looked at it before."""
    story.is_down(story.newer, "database")
    builds = story.world.builds
    same = replace(builds[story.good.id].version, code_hash=story.bad.code_hash)
    plan = prepare(story.tools(), Request(message="it fails"))[1]
    assert isinstance(plan, Plan)
    builds[story.good.id] = replace(builds[story.good.id], version=same)
    run = story.tools().journal.submit(plan, actor="ops@host", reason="it fails")
    with pytest.raises(Refused, match="the same code"):
        roll_back(story.tools())
    assert run
    assert story.world.activations == []


def test_rule_06_a_shared_outage_is_no_fault_of_the_target(story: Proving) -> None:
    """The database is down on the current version as well: the target is taken, and the proof says so."""
    story.is_down(story.bad, "database")
    story.is_down(story.newer, "database")
    run = roll_back(story.tools(), Request(message="it fails", wait=False))
    assert story.world.live.sole == story.newer.id
    assert "database is down on the current version as well" in story.proof(run)["why"]


def test_rule_06_the_same_unspecific_trouble_on_both_is_no_measurement(story: Proving) -> None:
    """Both answer 503 and name nothing: refused, until a person accepts it."""
    sick = HealthReport(0.0, Reach.ANSWERED, 503, ServiceState.DOWN)
    for version in (story.bad, story.newer):
        story.answers[version.id] = lambda now, v=version: replace(sick, at=now, version=v.id)  # type: ignore[misc]
    assert "so does the current version" in story.refused().what
    roll_back(story.tools(), replace(ACCEPTED, wait=False))
    assert story.world.live.sole == story.newer.id


def test_rule_06_an_answer_by_another_version_is_not_there_yet(story: Proving) -> None:
    """The override reaches the edge after two seconds: the current version's good answers prove nothing."""
    since = story.world.clock.now()
    own = story.world.health_rule

    def slow(now: float, version: str) -> HealthReport:
        return own(now, version if now >= since + 2 else story.bad.id)

    story.world.health_rule = slow
    run = roll_back(story.tools(), Request(message="it fails", wait=False))
    assert story.proof(run)["proved"] is True
    assert story.world.live.sole == story.newer.id
    assert 2 <= story.world.activations[0].created_at - since < 5


@pytest.mark.parametrize("is_good", [True, False])
def test_rule_06_a_platform_that_is_slow_today_is_waited_for(story: Proving, *, is_good: bool) -> None:
    """The override reaches the edge after 25 seconds; from then on the target is asked as ever, and that is told."""
    if not is_good:
        story.is_down(story.newer, "database")
    since, own = story.world.clock.now(), story.world.health_rule
    story.world.health_rule = lambda now, version: own(now, version if now >= since + 25 else story.bad.id)
    proof = story.proof(roll_back(story.tools(), Request(message="it fails", wait=False)))
    assert story.world.live.sole == (story.newer if is_good else story.good).id
    assert 25 <= story.world.activations[0].created_at - since < 32
    assert [each["ok"] for each in proof["tried"]] == ([True] if is_good else [False, True])
    assert len([line for line in story.said if "is asked until it is reached" in line]) == 1


def test_rule_06_an_override_that_never_arrives_is_no_measurement(story: Proving) -> None:
    """After thirty seconds of the wrong version's answers it is refused; nothing was proved, nothing was disproved."""
    own, since = story.world.health_rule, story.world.clock.now()
    story.world.health_rule = lambda now, version: own(now, story.bad.id)
    error = story.refused()
    assert error.rule == "6 proof"
    assert "answered in its place" in error.what
    assert 30 <= story.world.clock.now() - since < 33


def test_rule_06_where_a_person_accepts_an_unproven_target_it_is_not_waited_for(story: Proving) -> None:
    """An override that does not work costs an outage five seconds, not thirty."""
    own, since = story.world.health_rule, story.world.clock.now()
    story.world.health_rule = lambda now, version: own(now, story.bad.id)
    roll_back(story.tools(), replace(ACCEPTED, wait=False))
    assert 5 <= story.world.activations[0].created_at - since < 8


def test_rule_06_an_application_that_hides_its_version_is_refused(story: Proving) -> None:
    """Nobody can tell who answered: exit 3; a person may accept it, and that is recorded."""
    story.nameless = {version.id for version in (story.good, story.newer, story.bad)}
    error = story.refused()
    assert error.rule == "6 proof"
    assert any("--accept-unproven" in option for option in error.options)
    run = roll_back(story.tools(), ACCEPTED)
    assert story.world.live.sole == story.newer.id
    assert story.proof(run)["proved"] is None
    assert any("NOT proved" in text for text in story.said)


def test_rule_06_the_current_version_names_itself_and_the_target_does_not(story: Proving) -> None:
    """Then an answer without a name is the target's."""
    story.nameless = {story.newer.id}
    run = roll_back(story.tools(), Request(message="it fails", wait=False))
    assert story.proof(run)["proved"] is True


def test_rule_06_guard_does_not_accept_what_is_not_measured(story: Proving) -> None:
    """Even where the policy accepts unproven versions: only a person, or a total outage, goes on without a proof."""
    story.nameless = {version.id for version in (story.good, story.newer, story.bad)}
    story.policy = replace(story.policy, guard=replace(story.policy.guard, accept_unproven=True))
    with pytest.raises(Refused) as caught:
        watch(story.tools())
    assert caught.value.rule == "6 proof"
    assert story.world.live.sole == story.bad.id
    assert any("cannot be proved" in text for text in story.world.reports.texts.values())


@pytest.mark.parametrize("counted", [True, False])
def test_rule_06_a_total_outage_skips_the_proof_loudly(story: Proving, *, counted: bool) -> None:
    """Nearly all answers are errors (or, without counts, health is down twice): any version is better; it is said."""
    story.is_broken(story.bad)
    story.nameless = {story.newer.id}
    story.world.traffic_rule = by_version(story.bad.id, error_rate=1.0) if counted else quiet
    story.world.clock.sleep(20)
    run = roll_back(story.tools(), Request(message="it is down", wait=False))
    proof = story.proof(run)
    assert story.world.live.sole == story.newer.id
    assert (proof["proved"], story.proofs()) == (None, [])
    assert proof["why"].startswith("not proved")
    assert any("NOT proved" in text for text in story.said)
    assert "NOT proved" in render(make_incident(story.tools(), run.id))


def test_rule_06_a_sick_health_endpoint_beside_good_answers_is_no_total_outage(story: Proving) -> None:
    """A quiet night: three visitors were answered, only /health says no. The target is proved all the same."""
    seldom = make_steady(1)
    story.world.traffic_rule = lambda second, version: seldom(second, version) if second % 5 == 0 else None
    story.is_broken(story.bad)
    story.is_broken(story.newer)
    story.is_broken(story.good)
    story.world.clock.sleep(60)
    assert story.refused().rule == "6 proof"


def test_rule_06_many_errors_are_no_total_outage(story: Proving) -> None:
    """Half of the answers are errors: the other half would be lost to a broken target, so it is proved."""
    story.world.traffic_rule = by_version(story.bad.id, error_rate=0.5)
    story.world.clock.sleep(20)
    story.is_down(story.newer, "database")
    roll_back(story.tools(), Request(message="it fails", wait=False))
    assert story.world.live.sole == story.good.id


def test_rule_06_without_a_health_check_nothing_is_blocked(story: Proving) -> None:
    """Not set up is said in the plan and in the result, and stops nothing."""
    tools = replace(story.tools(), health=None)
    _, plan = prepare(tools, Request(message="it fails", wait=False))
    assert isinstance(plan, Plan)
    assert any("no health check is set up" in note for note in plan.notes)
    run = roll_back(tools, Request(message="it fails", wait=False))
    assert story.world.live.sole == story.newer.id
    assert story.proof(run)["proved"] is None
    assert story.proofs() == []


def test_rule_06_a_split_that_leaves_no_room_is_no_measurement(story: Proving) -> None:
    """Two versions share the traffic already, and no provider takes a third: refused, until a person accepts it."""
    other = story.world.upload("other")
    story.world.deploy((story.bad.id, 50.0), (other.id, 50.0))
    story.world.clock.sleep(5)
    with pytest.raises(Refused, match="split already"):
        roll_back(story.tools(), Request(message="it fails", target=story.newer.id))
    roll_back(story.tools(), replace(ACCEPTED, target=story.newer.id, wait=False))
    assert story.world.live.sole == story.newer.id


def test_rule_06_a_target_that_no_deployment_can_hold_beside_what_is_live_is_no_measurement(story: Proving) -> None:
    """As versions with other `exports`: nothing is held against it; a person may accept it, and it is live alone."""

    def refuse(name: str) -> None:
        if name == "deployments.deploy":
            raise NoSplit("their `exports` differ", status=400, code=100405)

    story.world.before_call = refuse
    with pytest.raises(Refused, match="cannot be put beside what is live: their `exports` differ") as caught:
        roll_back(story.tools(), Request(message="it fails", target=story.newer.id, wait=False))
    assert "stands at 0 %" not in str(caught.value.options)
    roll_back(story.tools(), replace(ACCEPTED, target=story.newer.id, wait=False))
    assert story.world.live.sole == story.newer.id


def test_rule_06_a_target_in_the_split_is_asked_where_it_is(story: Proving) -> None:
    """The canary is left for the version beside it: the shares stay while that one is proved."""
    story.world.deploy(story.newer)
    story.world.clock.sleep(5)
    story.world.deploy((story.newer.id, 90.0), (story.bad.id, 10.0))
    story.world.clock.sleep(5)
    run = roll_back(story.tools(), Request(message="it fails", wait=False))
    assert story.proof(run)["proved"] is True
    assert story.proofs()[0].shares == (Share(story.newer.id, 90.0), Share(story.bad.id, 10.0))
    assert story.world.live.sole == story.newer.id


def test_rule_06_the_world_moves_while_it_is_proved(story: Proving) -> None:
    """A hotfix between the proof and the switch: exit 6, and the hotfix stays."""
    hotfix = story.world.upload("hotfix")

    def deploy(name: str) -> None:
        if name == "health.look":
            story.world.before_call = None
            story.world.deploy(hotfix, message="hotfix")

    story.world.before_call = deploy
    with pytest.raises(WorldMoved):
        roll_back(story.tools())
    assert story.world.live.sole == hotfix.id


def test_rule_06_a_hotfix_in_the_same_moment_is_put_back(story: Proving) -> None:
    """It came after our look and before our deployment, which took its traffic: it gets it back at once."""
    hotfix = story.world.upload("hotfix")

    def deploy(name: str) -> None:
        if name == "deployments.deploy":
            story.world.before_call = None
            story.world.deploy(hotfix, message="hotfix")

    story.world.before_call = deploy
    with pytest.raises(WorldMoved):
        roll_back(story.tools())
    assert story.world.live.sole == hotfix.id


def test_rule_06_another_run_is_proving(story: Proving) -> None:
    """Its target stands at 0 %: we are busy, and make no deployment; a run of ours that has ended keeps nobody away."""
    shares = (Share(story.bad.id, 100.0), Share(story.newer.id, 0.0))
    story.world.deployments.deploy(shares, message="[backout rollback-0a1b2c3d prove] asked at 0 %")
    made = len(story.world.all_deployments)
    with pytest.raises(Busy) as caught:
        roll_back(story.tools())
    assert caught.value.exit_code == 6
    assert len(story.world.all_deployments) == made
    story.world.clock.sleep(121)
    story.is_down(story.newer, "database")
    story.is_down(story.good, "database")
    story.refused()
    story.answers.clear()
    roll_back(story.tools(), Request(message="it fails", wait=False))
    assert story.world.live.sole == story.newer.id


def test_rule_06_a_refused_proof_of_another_machine_is_not_in_the_way_for_long(story: Proving) -> None:
    """Its target stays at 0 %; the person who reads the refusal elsewhere half a minute later is not busy."""
    story.nameless = {version.id for version in (story.good, story.newer, story.bad)}
    story.refused()
    story.world.clock.sleep(31)
    tools = replace(
        toolbox(story.world, story.path.parent / "other.sqlite", policy=story.policy), say=story.said.append
    )
    roll_back(tools, replace(ACCEPTED, wait=False))
    assert story.world.live.sole == story.newer.id


def test_rule_06_a_target_that_the_provider_does_not_take_is_followed_by_the_next(story: Proving) -> None:
    """A bucket that it is bound to is gone."""
    build = story.world.builds[story.newer.id]
    story.world.builds[story.newer.id] = replace(build, buckets=("gone",))
    run = roll_back(story.tools(), Request(message="it fails", wait=False))
    assert story.world.live.sole == story.good.id
    assert "a bound resource is gone" in story.proof(run)["tried"][0]["why"]


class Crash(BaseException):
    """The process dies here."""


@pytest.mark.long
@pytest.mark.parametrize("when", ["before", pytest.param("after", marks=pytest.mark.long)])
def test_rule_06_a_crash_anywhere_in_the_search_comes_to_the_same_end(quick_path: Path, when: str) -> None:
    """The first target is bad: whatever the moment, going on makes the second one live, and piles up nothing."""
    moment = 0
    while True:
        story = Proving(quick_path / f"{when}-{moment}.sqlite")
        story.is_down(story.newer, "database")
        count = -1

        def crash(name: str, at: int = moment) -> None:
            nonlocal count
            count += 1
            if count == at:
                raise Crash(name)

        setattr(story.world, f"{when}_call", crash)
        try:
            roll_back(story.tools(), Request(message="it fails", wait=False))
        except Crash:
            story.world.before_call = story.world.after_call = None
            newest = story.tools().runs.runs("production")[0]
            if newest.plan.kind is not PlanKind.ROLLBACK or newest.state is not RunState.DONE:
                roll_back(story.tools(), Request(message="it fails", wait=False))
        else:
            break
        finally:
            story.world.before_call = story.world.after_call = None
        assert story.world.live.sole == story.good.id, moment
        assert [d.sole for d in story.world.activations] == [story.good.id]
        asked = [next(s.version for s in d.shares if s.percentage == 0) for d in story.proofs()]
        assert asked == [story.newer.id, story.good.id], moment
        moment += 1
    assert moment > 20


# --- the real program on the twin ---


def proof_of(trial: Trial) -> dict[str, Any]:
    """Return the proof of the newest run, as the journal has it."""
    found = trial.tools().runs.result(trial.newest()["run_id"], "prove")
    assert isinstance(found, dict)
    return found


@pytest.mark.both_homes
@pytest.mark.calm
@pytest.mark.long
def test_rule_06_prove_on_the_twin(drillbook: Drillbook, record_property: Callable[[str, object], None]) -> None:
    """The real application names its version through the real override, at 0 %; then it gets the traffic."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    ended = trial.run("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["to_version"] == ended.json["live_version"] == drillbook.good
    assert (ended.json["proof"]["version"], ended.json["proof"]["proved"]) == (drillbook.good, True)
    assert proof_of(trial)["proved"] is True
    history = trial.tools().deployments.history()
    assert [share.percentage for share in history[1].shares] == [100.0, 0.0]
    steps = [e for e in trial.tools().journal.events(run=trial.newest()["run_id"]) if e.step == 0]
    record_property("proof_s", round(steps[-1].at - steps[0].at, 3))


ROLLBACK = ("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")


@pytest.mark.long
@pytest.mark.calm
@pytest.mark.parametrize("happened", [False, True], ids=["not done", "done, answer cut"])
def test_rule_06_a_proof_without_a_usable_answer_on_the_twin(drillbook: Drillbook, *, happened: bool) -> None:
    """Whether the target stands at 0 % is looked up, and the rollback goes on: nobody waits for a person here."""
    broken = Answer(200, b'{"succ', after=True, cut=True) if happened else Answer(503)
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        trial = drillbook.trial().behind(gate.url)
        bad = trial.make_live(drillbook.bad)
        gate.when("POST", "/deployments", broken)
        ended = trial.run(*ROLLBACK)
        assert ended.code == 0, ended.err
        assert (ended.json["live_version"], ended.json["proof"]["proved"]) == (drillbook.good, True)
        assert trial.tools().deployments.history()[2].id == bad.id


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.calm
def test_rule_06_a_target_broken_now_on_the_twin(drillbook: Drillbook) -> None:
    """The newest stable version cannot reach its database any more: the proof finds it, and the one before is taken."""
    trial = drillbook.trial()
    sick = drillbook.upload_sick()
    trial.make_live(sick)
    mark_stable(trial, sick)
    trial.make_live(drillbook.bad)
    ended = trial.run(*ROLLBACK)
    assert ended.code == 0, ended.err
    assert ended.json["live_version"] == ended.json["to_version"] == drillbook.good
    tried = ended.json["proof"]["tried"]
    assert [(entry["version"], entry["ok"]) for entry in tried] == [(sick, False), (drillbook.good, True)]
    assert "database is down on it" in tried[0]["why"]
    assert sick in ended.err


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_06_a_total_outage_on_the_twin(drillbook: Drillbook) -> None:
    """Every answer of the live version is an error: no proof, said loudly, and the good version is back."""
    trial = drillbook.trial()
    down = drillbook.deploy("errors-all")
    traffic, since = trial.tools().traffic, int(time.time())
    assert traffic is not None

    def failed() -> bool:
        rows = [row for row in traffic.read(since, since + 60).counts if row.version == down]
        return sum_counts(rows)[1] >= 30

    until(failed, 30, "visitors see errors", every_s=0.2)
    ended = trial.run(*ROLLBACK)
    assert ended.code == 0, ended.err
    assert ended.json["live_version"] == drillbook.good
    assert ended.json["proof"]["proved"] is None
    assert "NOT proved" in ended.err


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
@pytest.mark.calm
def test_rule_06_an_application_that_hides_its_version_on_the_twin(drillbook: Drillbook) -> None:
    """Without the binding that names the version nobody can tell who answered: exit 3, until a person accepts it."""
    trial = drillbook.trial()
    bad, good = (drillbook.upload_nameless(version) for version in (drillbook.bad, drillbook.good))
    trial.make_live(good)
    mark_stable(trial, good)
    trial.make_live(bad)
    refused = trial.run(*ROLLBACK)
    assert refused.code == 3, refused.out
    assert refused.json["rule"] == "6 proof"
    assert trial.live() == bad
    ended = trial.run(*ROLLBACK, "--accept-unproven")
    assert ended.code == 0, ended.err
    assert ended.json["live_version"] == good
    assert ended.json["proof"]["proved"] is None
    assert "NOT proved" in ended.err
