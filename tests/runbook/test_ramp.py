"""A ramp on the memory World: up while it is healthy, straight back when it is not, each step once whatever crashes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest
from ramped import BUSY, RAMP, Ramped
from values import replace

from backout.analysis.history.remark_text import parse
from backout.errors import PartlyDone, ProviderUnavailable, Refused, WorldMoved
from backout.model.guard.policy import Mode, OnUnmeasured
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind
from backout.model.version import Mark, VersionId, VersionMark
from backout.plan.ramp import AT_LEAST_S
from backout.providers.memory import quiet
from backout.runbook.guard.follow import wait_for_unwatched
from backout.runbook.hindsight.explain import explain
from backout.runbook.hindsight.track_record import look_back

from line import watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.deployment import Deployment
    from backout.model.guard.signals import Counts
    from backout.model.incident.incident import Run
    from backout.ports import Deployments
    from backout.providers.memory import World
    from backout.runbook.toolbox import Toolbox


@pytest.fixture
def story(tmp_path: Path) -> Ramped:
    return Ramped(tmp_path / "journal.sqlite")


def concluded(tools: Toolbox, run: Run) -> dict[str, object]:
    found = tools.runs.result(run.id, "conclude")
    assert isinstance(found, dict)
    return dict(found)


def test_a_healthy_version_is_moved_up_to_all_of_the_traffic(story: Ramped) -> None:
    """10 %, 50 %, 100 %: each step read back and told in its message; the last watch marks it stable."""
    run = watch(story.tools())
    assert story.shares() == [{story.good.id: 50.0, story.canary.id: 50.0}, {story.canary.id: 100.0}]
    assert concluded(story.tools(), run)["action"] == "stable"
    remarks = [parse(made.message) for made in story.world.activations]
    assert [remark.kind for remark in remarks if remark] == [RemarkKind.RAMP, RemarkKind.RAMP]
    assert [remark.text[:9] for remark in remarks if remark] == ["to 50 %: ", "to 100 %:"]
    kinds = [each.plan.kind for each in story.tools().runs.runs("production")[:5]]
    assert kinds == [PlanKind.GUARD, PlanKind.RAMP, PlanKind.GUARD, PlanKind.RAMP, PlanKind.GUARD]
    assert story.world.notices == []


def test_each_step_takes_its_time(story: Ramped) -> None:
    """However sure the evidence from before is: what breaks under more traffic needs a minute to show."""
    begun = story.world.live.created_at
    watch(story.tools())
    half, whole = (made.created_at for made in story.world.activations)
    assert half - begun >= AT_LEAST_S
    assert whole - half >= AT_LEAST_S
    assert story.world.clock.now() - whole >= 120, "the last step is watched to its end: leaks take minutes"


@pytest.mark.long
def test_each_step_waits_for_the_durable_objects_that_follow_it(story: Ramped) -> None:
    """They may run the code of before for five minutes after each deployment."""
    builds, canary = story.world.builds, story.canary
    with_objects = replace(canary, bindings=("durable_object_namespace:ROOMS",))
    builds[canary.id] = replace(builds[canary.id], version=with_objects)
    begun = story.world.live.created_at
    watch(story.tools(), for_s=400)
    half, whole = (made.created_at for made in story.world.activations)
    assert min(half - begun, whole - half) >= 300


def test_evidence_is_carried_across_the_steps(story: Ramped) -> None:
    """The last verdict counts the requests of all steps, and its explanation knows the shares."""
    run = watch(story.tools())
    tools = story.tools()
    found = explain(tools.runs, tools.counts, RAMP, run.id)
    assert [share for _, share in found.recorded.steps] == [0.5, 1.0]
    assert found.recorded.split == 0.1
    first = story.world.activations[0].created_at
    assert found.recorded.since < first - AT_LEAST_S + 5
    seconds = {row.second for row in found.recorded.counts if row.version == story.canary.id}
    assert min(seconds) < first < max(seconds)
    assert found.decision.requests > 50 * BUSY


@pytest.mark.parametrize("bad_at", [10.0, 50.0, 100.0])
def test_a_bad_version_goes_straight_back(tmp_path: Path, bad_at: float) -> None:
    """Whatever the step: no way down the ramp, the old version has everything at once, verified, with one report."""
    story = Ramped(tmp_path / "journal.sqlite", bad_at=bad_at)
    run = watch(story.tools())
    steps = {10.0: 0, 50.0: 1, 100.0: 2}[bad_at]
    assert run.plan.kind is PlanKind.ROLLBACK
    assert run.state is RunState.DONE
    assert len(story.world.activations) == steps + 1
    assert story.world.live.sole == story.good.id
    marks = [mark.version for mark in story.tools().marks.marks("production") if mark.mark is Mark.QUARANTINED]
    assert marks[-1] == story.canary.id
    (text,) = story.world.reports.texts.values()
    assert ("moved up to 50 %" in text) is (steps > 0)
    detected = story.tools().runs.result(run.plan.cause, "watch")
    assert isinstance(detected, dict)
    assert detected["verdict"] == "regressed"
    tools = story.tools()
    assert explain(tools.runs, tools.counts, RAMP, run.id).decision.verdict == "regressed"


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ASK])
def test_only_an_armed_guard_moves_anything(story: Ramped, mode: Mode) -> None:
    """In the other modes a split is watched as before, to the end of the watch."""
    watch(story.tools(), mode=mode)
    assert not story.world.activations


def test_a_cut_over_has_no_ramp(tmp_path: Path) -> None:
    """A version that has everything already is watched as before."""
    story = Ramped(tmp_path / "journal.sqlite")
    story.world.deploy(story.canary)
    story.world.clock.sleep(2)
    story.world.activations.clear()
    run = watch(story.tools())
    assert "ramp" not in run.plan.step("watch").args
    assert not story.world.activations


def test_without_a_verdict_it_stays_where_it_is(story: Ramped) -> None:
    """Nobody came: not moved up, and somebody is told."""
    story.world.traffic_rule = quiet
    tools = replace(story.tools(), health=None)
    run = watch(tools)
    assert concluded(tools, run)["action"] == "hold"
    assert not story.world.activations
    assert len(story.world.notices) == 1


def test_no_policy_moves_up_what_was_not_measured(tmp_path: Path) -> None:
    """`on_unmeasured = accept` accepts what is live, never more traffic: it stays at its share, and that is said."""
    story = Ramped(tmp_path / "journal.sqlite")
    story.policy = replace(RAMP, guard=replace(RAMP.guard, on_unmeasured=OnUnmeasured.ACCEPT))
    story.world.traffic_rule = quiet
    tools = replace(story.tools(), health=None)
    run = watch(tools)
    found = concluded(tools, run)
    assert (found["action"], found["rule"]) == ("hold", "13 sources")
    assert found["why"] == "not moved up: no request and no health answer was seen"
    assert not story.world.activations
    assert len(story.world.notices) == 1


class Crash(BaseException):
    """Kills the process at a moment that the test chose."""


def crash(story: Ramped, moment: Callable[[Run], bool]) -> None:
    """Let guard run until the first call of the newest run at which `moment` holds, and die there."""

    def die(_name: str) -> None:
        if moment(story.tools().runs.runs("production")[0]):
            raise Crash

    story.world.before_call = die
    with pytest.raises(Crash):
        watch(story.tools())
    story.world.before_call = None


def stepped_up(story: Ramped, after_s: float = 0.0) -> Callable[[Run], bool]:
    """Return the moment some seconds after the newest step, in the watch of it."""
    made = story.world.activations
    return lambda run: (
        bool(made) and run.plan.kind is PlanKind.GUARD and story.world.clock.now() >= made[-1].created_at + after_s
    )


def is_taken_up(story: Ramped) -> bool:
    """Whether a guard that follows has something to watch before the next deployment, an hour later."""
    world, now = story.world, story.world.clock.now()
    world.clock.at(now + 3600, lambda: world.deploy(world.upload("next")))
    wait_for_unwatched(story.tools())
    return world.clock.now() < now + 3600


def silent(name: str) -> None:
    """Let the source of counts not answer."""
    if name == "traffic.read":
        raise ProviderUnavailable("no answer")


def test_rule_13_a_gap_in_the_counts_of_a_step_moves_nothing_up(story: Ramped) -> None:
    """Guard dies after the step to 50 %, and an hour later its source has nothing of that hour: it stays at 50 %."""
    crash(story, stepped_up(story))
    made, traffic = story.world.activations[-1].created_at, story.world.traffic_rule
    story.world.clock.sleep(3600)
    back = story.world.clock.now()
    story.world.traffic_rule = lambda second, version: None if made <= second < back else traffic(second, version)
    tools = replace(story.tools(), health=None)
    found = concluded(tools, watch(tools))
    assert (found["action"], found["rule"]) == ("hold", "13 sources")
    assert found["why"] == "not moved up: hardly any request was counted at 50 % of the traffic"
    assert len(story.world.activations) == 1


def test_rule_13_a_step_is_seen_for_half_a_minute_after_a_gap(story: Ramped) -> None:
    """Two minutes of a step of ten are missing: guard goes on once it has seen the version at its share."""
    story = Ramped(story.path.with_name("other.sqlite"), stage_s=600)
    crash(story, stepped_up(story))
    made, traffic = story.world.activations[-1].created_at, story.world.traffic_rule
    story.world.clock.sleep(120)
    back = story.world.clock.now()
    story.world.traffic_rule = lambda second, version: None if made <= second < back else traffic(second, version)
    tools = story.tools()
    assert concluded(tools, watch(tools))["action"] == "stable"
    assert 20 <= story.world.activations[1].created_at - back <= 40


@pytest.mark.parametrize("after_s", [0, 50])
def test_rule_13_a_source_that_is_down_after_a_restart_moves_nothing_up(story: Ramped, after_s: float) -> None:
    """Guard dies during the step, and is back when its source does not answer: what it saw before is old by then."""
    crash(story, stepped_up(story, after_s))
    story.world.clock.sleep(60)
    story.world.before_call = silent
    tools = replace(story.tools(), health=None)
    found = concluded(tools, watch(tools))
    assert (found["action"], found["rule"]) == ("hold", "13 sources")
    assert len(story.world.activations) == 1


def test_rule_13_nothing_is_stable_whose_last_step_was_not_seen(story: Ramped) -> None:
    """At 100 % the source went away: what was seen at 50 % marks nothing stable."""
    world = story.world
    crash(story, lambda run: len(world.activations) == 2 and stepped_up(story)(run))
    world.before_call = silent
    tools = replace(story.tools(), health=None)
    found = concluded(tools, watch(tools))
    assert found["action"] == "hold"
    assert "told nothing newer than 30 s; the verdict is advice; not marked stable" in str(found["why"])


def test_rule_13_a_step_rests_on_a_fresh_verdict(story: Ramped) -> None:
    """Guard dies between verdict and step, and goes on three hours later: nothing is moved up, and it watches anew."""
    crash(story, lambda run: run.plan.kind is PlanKind.RAMP)
    story.bad_at = 10.0
    story.world.clock.sleep(3 * 3600)
    with pytest.raises(Refused, match="the verdict that allows this step is 3 h old"):
        watch(story.tools())
    assert not story.world.activations
    assert is_taken_up(story)
    watch(story.tools())
    assert story.world.live.sole == story.good.id


def test_code_that_cannot_be_read_is_not_moved_up_while_something_is_quarantined(story: Ramped) -> None:
    """Nobody knows whether it is that code."""
    tools = story.tools()
    bad = VersionMark(Mark.QUARANTINED, VersionId("0" * 36), "code-bad", story.world.clock.now(), "run-1", "it failed")
    tools.marks.mark("production", bad, actor="ops@host")
    build = story.world.builds[story.canary.id]
    story.world.builds[story.canary.id] = replace(build, version=replace(build.version, code_hash=None))
    found = concluded(tools, watch(tools))
    assert found["action"] == "hold"
    assert "its code cannot be read" in str(found["why"])
    assert "not moved up" in str(found["why"])
    assert not story.world.activations


def test_errors_that_the_warm_up_grants_hold_no_step(tmp_path: Path) -> None:
    """8 % fail in the first 30 seconds, a tenth is granted: moved up and marked stable."""
    story = Ramped(tmp_path / "journal.sqlite")
    guard = replace(RAMP.guard, warm_up_s=30.0, warm_up_errors=0.1)
    story.policy = replace(RAMP, guard=guard)
    begun, traffic = story.world.live.created_at, story.world.traffic_rule

    def starting(second: int, version: str) -> Counts | None:
        counted = traffic(second, version)
        cold = counted is not None and version == story.canary.id and second < begun + 30
        return replace(counted, errors=counted.requests * 8 // 100) if counted is not None and cold else counted

    story.world.traffic_rule = starting
    tools = story.tools()
    assert concluded(tools, watch(tools))["action"] == "stable"
    first = tools.runs.result(tools.runs.runs("production")[4].id, "watch")
    assert isinstance(first, dict)
    decision = first["decision"]
    assert isinstance(decision, dict)
    assert float(str(decision["errors"])) > float(str(decision["requests"])) * RAMP.criteria.error_rate_below


@dataclass
class Late:
    """The provider's port, whose list shows what a ramp made only `lag_s` later."""

    world: World
    lag_s: float = 8.0

    def history(self) -> tuple[Deployment, ...]:
        """Leave out what is too new."""
        since = self.world.clock.now() - self.lag_s
        listed = self.world.deployments.history()
        return tuple(each for each in listed if parse(each.message) is None or each.created_at < since)

    def __getattr__(self, name: str) -> object:
        """Everything else is the provider's."""
        return getattr(self.world.deployments, name)


def test_a_step_that_is_listed_late_is_watched(story: Ramped) -> None:
    """The run waits for it instead of failing beside a share that is live; guard goes on with it, and makes it once."""
    late: object = Late(story.world)
    tools = replace(story.tools(), deployments=cast("Deployments", late))
    with pytest.raises(PartlyDone, match="the step was made, and is not listed yet"):
        watch(tools)
    assert story.shares() == [{story.good.id: 50.0, story.canary.id: 50.0}]
    assert is_taken_up(story)
    assert concluded(story.tools(), watch(story.tools()))["action"] == "stable"
    assert len(story.shares()) == 2


def test_a_step_whose_run_was_given_up_is_watched(story: Ramped) -> None:
    """Made, and aborted before its watch began: guard follows up on what is live, and it is no rollback of its own."""
    made = story.world.activations
    crash(story, lambda run: bool(made) and run.plan.kind is PlanKind.RAMP)
    tools = story.tools()
    tools.journal.ask(tools.runs.runs("production")[0].id, "abort", actor="ops@host", reason="given up")
    assert tools.runs.runs("production")[0].state is RunState.ABORTED
    assert is_taken_up(story)
    watch(tools)
    assert story.world.live.sole == story.canary.id


def test_rule_8_a_hotfix_during_a_step_voids_the_ramp(story: Ramped) -> None:
    """A deployment that guard did not start on: nothing is moved, neither up nor back."""
    hotfix = story.world.upload("hotfix")
    story.world.clock.at(story.world.clock.now() + 20, lambda: story.world.deploy(hotfix))
    run = watch(story.tools())
    assert concluded(story.tools(), run)["action"] == "void"
    assert story.world.live.sole == hotfix.id
    assert not story.world.activations


def test_rule_8_a_hotfix_between_verdict_and_step(story: Ramped) -> None:
    """The live deployment is read again just before the step: exit 6, the hotfix stays."""
    hotfix = story.world.upload("hotfix")
    done: list[str] = []

    def before(name: str) -> None:
        newest = next(iter(story.tools().runs.runs("production")))
        if name == "deployments.history" and newest.plan.kind is PlanKind.RAMP and not done:
            done.append(name)
            story.world.deploy(hotfix)

    story.world.before_call = before
    with pytest.raises(WorldMoved):
        watch(story.tools())
    assert story.world.live.sole == hotfix.id
    assert not story.world.activations


def held(story: Ramped) -> None:
    """Set a hold as another machine does: a deployment of what is live, with a message."""
    pairs = [(str(share.version), share.percentage) for share in story.world.live.shares]
    story.world.deploy(*pairs, message="[backout hold until=2099-01-01T00:00:00Z] stop")


def test_rule_10_a_hold_stops_the_ramp(story: Ramped) -> None:
    """Set during the watch: the verdict stands, the version stays at its share, and the rule is named."""
    story.world.clock.at(story.world.clock.now() + 20, lambda: held(story))
    tools = story.tools()
    run = watch(tools)
    found = concluded(tools, run)
    assert (found["action"], found["rule"]) == ("hold", "10 hold")
    assert str(found["why"]).startswith("not moved up: a hold is on")
    assert not story.world.activations


def test_rule_13_estimates_move_nothing_up(story: Ramped) -> None:
    """A source that samples is advice, for more traffic as for a rollback."""
    story.world.sampled = True
    tools = story.tools()
    found = concluded(tools, watch(tools))
    assert (found["action"], found["rule"]) == ("hold", "13 sources")
    assert not story.world.activations


def test_rule_14_another_split_than_asked_for_is_said(story: Ramped) -> None:
    """Only what the provider says is live counts."""
    world = story.world

    def after(name: str) -> None:
        if name == "deployments.deploy" and parse(world.live.message):
            ours = world.all_deployments[-1]
            world.all_deployments[-1] = replace(ours, shares=world.all_deployments[-2].shares)

    world.after_call = after
    with pytest.raises((WorldMoved, Refused)):
        watch(story.tools())


def test_a_step_whose_answer_was_lost_is_found(story: Ramped) -> None:
    """The provider made the deployment and did not answer: it is recognised by its message, and made once."""
    lost: list[str] = []

    def after(name: str) -> None:
        if name == "deployments.deploy" and not lost:
            lost.append(name)
            raise ProviderUnavailable("no answer", where="memory")

    story.world.after_call = after
    run = watch(story.tools())
    assert concluded(story.tools(), run)["action"] == "stable"
    assert story.shares() == [{story.good.id: 50.0, story.canary.id: 50.0}, {story.canary.id: 100.0}]


def test_the_look_back_knows_the_steps(story: Ramped) -> None:
    """Three watches of one version, none of them an alarm."""
    watch(story.tools())
    found = look_back(story.tools(), last=3)
    assert [each.action for each in found.watches] == ["ramp", "ramp", "stable"]
    assert found.cases == ()


def test_the_plan_says_what_may_follow(story: Ramped) -> None:
    """The steps to come stand in the plan, and each has its line to type (safety rule 20)."""
    watch(story.tools())
    runs = story.tools().runs.runs("production")
    first = runs[4].plan
    assert "move it up (50 %, 100 %)" in first.step("conclude").title
    ramp = runs[3].plan
    assert ramp.step("ramp").title.startswith(f"give version {story.canary.id[:8]} 50 % of the traffic, 50 % stay with")
