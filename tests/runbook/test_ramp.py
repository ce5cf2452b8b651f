"""A ramp on the memory World: up while it is healthy, straight back when it is not, each step once whatever crashes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from ramped import BUSY, RAMP, Ramped

from backout.analysis.remarks import RemarkKind, parse
from backout.errors import ProviderUnavailable, Refused, WorldMoved
from backout.model.deployment import Mark
from backout.model.incident import RunState
from backout.model.plan import PlanKind
from backout.model.policy import Mode, OnUnmeasured
from backout.plan.ramp import AT_LEAST_S
from backout.providers.memory import quiet
from backout.runbook.explain import explain
from backout.runbook.observed import look_back

from line import watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.incident import Run
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
    """Nobody came: not moved up, and somebody is told; with `accept` the policy moves it up all the same."""
    story.world.traffic_rule = quiet
    tools = replace(story.tools(), health=None)
    run = watch(tools)
    assert concluded(tools, run)["action"] == "hold"
    assert not story.world.activations
    assert len(story.world.notices) == 1


def test_the_policy_may_accept_a_step_without_a_verdict(tmp_path: Path) -> None:
    """`on_unmeasured = accept`: up to the end, and not marked stable."""
    story = Ramped(tmp_path / "journal.sqlite")
    story.policy = replace(RAMP, guard=replace(RAMP.guard, on_unmeasured=OnUnmeasured.ACCEPT))
    story.world.traffic_rule = quiet
    tools = replace(story.tools(), health=None)
    run = watch(tools)
    assert story.world.live.sole == story.canary.id
    assert concluded(tools, run)["action"] == "accept"


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
