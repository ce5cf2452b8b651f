"""Guard on the memory World: every verdict leads to exactly the action that the policy allows."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.cli.guard.guard import refuse_another_mode
from backout.errors import DecisionNeeded, ProviderUnavailable, Refused, SecretsChanged, WorldMoved
from backout.model.guard.policy import Mode
from backout.model.guard.signals import Counts, ServiceState
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.version import Mark
from backout.plan.rollback import Request
from backout.providers.memory import make_health, make_steady
from backout.runbook.guard import guard
from backout.runbook.guard.telemetry_gate import PAGE_S

from line import POLICY, Story, by_version, roll_back, watch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backout.model.incident.incident import Run
    from backout.ports import CountsStore
    from backout.runbook.toolbox import Toolbox


def concluded(tools: Toolbox, run: Run) -> dict[str, object]:
    found = tools.runs.result(run.plan.cause or run.id, "conclude")
    assert isinstance(found, dict)
    return dict(found)


def test_bad_deployment_is_rolled_back_verified_and_reported(tmp_path: Path) -> None:
    """The main job: detected in seconds, the stable version is live, the bad one quarantined, one report is there."""
    story = Story(tmp_path / "journal.sqlite")
    tools = story.tools()
    run = watch(tools)
    assert run.plan.kind is PlanKind.ROLLBACK
    assert run.state is RunState.DONE
    assert story.world.live.sole == story.good.id
    assert len(story.world.activations) == 1
    assert story.world.activations[0].message.startswith(f"[backout {run.id} auto bad={story.bad.id[:8]}/")
    verified = tools.runs.result(run.id, "verify")
    assert isinstance(verified, dict)
    assert verified["verified"] is True
    quarantine = tools.marks.find_mark("production", story.bad.id, Mark.QUARANTINED)
    assert quarantine is not None
    assert quarantine.code_hash == story.bad.code_hash
    (text,) = story.world.reports.texts.values()
    assert "TypeError: x is undefined" in text
    decision = tools.runs.result(run.plan.cause, "watch")
    assert isinstance(decision, dict)
    assert decision["verdict"] == "regressed"


def test_second_guard_on_the_good_version_leaves_it_alone(tmp_path: Path) -> None:
    """After the rollback the restored version is watched, found healthy, and nothing more is changed."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    run = watch(story.tools())
    assert concluded(story.tools(), run)["action"] == "stable"
    assert len(story.world.activations) == 1


def test_observe_changes_nothing_and_says_what_it_would_do(tmp_path: Path) -> None:
    """In the default mode the verdict is reported with the target that would have been taken."""
    story = Story(tmp_path / "journal.sqlite")
    tools = story.tools()
    run = watch(tools, mode=Mode.OBSERVE)
    result = concluded(tools, run)
    assert result["action"] == "hold"
    assert result["target"] == story.good.id
    assert not story.world.activations
    assert len(story.world.reports.texts) == 1


def test_ask_without_a_terminal_is_refused(tmp_path: Path) -> None:
    """Nobody there to ask is never a yes."""
    story = Story(tmp_path / "journal.sqlite")
    with pytest.raises(DecisionNeeded):
        watch(story.tools(), mode=Mode.ASK)
    assert not story.world.activations


@pytest.mark.parametrize(("answer", "activations"), [(True, 1), (False, 0)])
def test_ask_does_what_the_person_says(tmp_path: Path, answer: bool, activations: int) -> None:
    """Yes rolls back, no holds."""
    story = Story(tmp_path / "journal.sqlite")
    watch(replace(story.tools(), confirm=lambda _plan: answer), mode=Mode.ASK)
    assert len(story.world.activations) == activations


def test_a_hotfix_during_the_watch_voids_the_verdict(tmp_path: Path) -> None:
    """A deployment that guard did not start on is never rolled back by an old verdict."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    world.traffic_rule = by_version(story.bad.id, error_rate=0.0)
    hotfix = world.upload("hotfix")
    world.clock.at(world.clock.now() + 7, lambda: world.deploy(hotfix))
    run = watch(story.tools())
    assert concluded(story.tools(), run)["action"] == "void"
    assert world.live.sole == hotfix.id
    assert not world.activations


def test_a_hotfix_between_decision_and_switch_stops_the_rollback(tmp_path: Path) -> None:
    """The live deployment is read again just before the switch (here it changes after the plan was made)."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    hotfix = world.upload("hotfix")
    tools = story.tools()
    submitted: list[str] = []

    def deploy_after_the_handover(name: str) -> None:
        if (
            name == "deployments.history"
            and not submitted
            and tools.runs.runs("production")[0].plan.kind is PlanKind.ROLLBACK
        ):
            submitted.append(name)
            world.deploy(hotfix)

    world.before_call = deploy_after_the_handover
    with pytest.raises(Exception, match="on which this plan rests"):
        watch(tools)
    assert world.live.sole == hotfix.id
    assert not world.activations
    assert tools.runs.runs("production")[0].state is RunState.FAILED


def test_one_automatic_rollback_in_six_hours(tmp_path: Path) -> None:
    """A second bad deployment soon after is held and reported, a later one is rolled back."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    world = story.world
    second = world.upload("second")
    world.traffic_rule = by_version(second.id)
    world.clock.sleep(60)
    world.deploy(second)
    world.clock.sleep(2)
    run = watch(story.tools())
    assert "already" in str(concluded(story.tools(), run)["why"])
    assert world.live.sole == second.id
    world.clock.sleep(7 * 3600)
    watch(story.tools())
    assert world.live.sole == story.good.id


def test_a_rollback_that_never_switched_does_not_count_as_one(tmp_path: Path) -> None:
    """Stopped by a hotfix before its switch, a rollback leaves guard free to act on the next bad deployment."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    hotfix = world.upload("hotfix")
    tools = story.tools()

    def deploy_after_the_handover(name: str) -> None:
        handed_over = tools.runs.runs("production")[0].plan.kind is PlanKind.ROLLBACK
        if name == "deployments.history" and handed_over and world.live.sole != hotfix.id:
            world.deploy(hotfix)

    world.before_call = deploy_after_the_handover
    with pytest.raises(WorldMoved):
        watch(tools)
    world.before_call = None
    world.traffic_rule = by_version(hotfix.id, error_rate=1.0)
    world.clock.sleep(2)
    watch(story.tools())
    assert len(world.activations) == 1
    assert world.live.sole == story.good.id


def test_a_changed_secret_stops_guard_with_a_report(tmp_path: Path) -> None:
    """A robot never brings old secrets back: it ends before the switch, and the report says what to decide."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    world.traffic_rule = make_steady(30)
    world.put_secret("JWT_SECRET", "rotated")
    world.clock.sleep(2)
    world.traffic_rule = by_version(world.live.main)
    with pytest.raises(SecretsChanged):
        watch(story.tools())
    assert not world.activations
    (text,) = world.reports.texts.values()
    assert "secrets changed" in text


@pytest.mark.parametrize(
    ("recorded", "asked", "allowed"), [("act", "observe", False), ("act", "act", True), ("observe", "act", False)]
)
def test_an_interrupted_watch_goes_on_only_in_its_own_mode(
    tmp_path: Path, recorded: str, asked: str, allowed: bool
) -> None:
    """`guard --observe` never picks up a watch that may roll back."""
    story = Story(tmp_path / "journal.sqlite")
    tools = story.tools()
    plan = guard.plan(tools, mode=Mode(recorded), for_s=60)
    found = tools.runs.find(tools.journal.submit(plan, actor="ops@host", reason="watch"))
    assert found is not None
    with nullcontext() if allowed else pytest.raises(Refused, match="mode"):
        refuse_another_mode(found, Mode(asked))


def test_a_critical_service_down_is_a_reason_by_itself(tmp_path: Path) -> None:
    """Without a single failed request, three probes with the database down roll back; email down does not."""
    for service, acts in (("database", True), ("email", False)):
        story = Story(tmp_path / f"{service}.sqlite")
        world = story.world
        world.traffic_rule = make_steady(30)
        bad = story.bad.id
        ok = dict(world.services)

        def health(
            at: float, version: str, service: str = service, bad: str = bad, ok: dict[str, ServiceState] = ok
        ) -> object:
            state = ServiceState.DOWN if service == "database" else ServiceState.DEGRADED
            return make_health(at, {**ok, service: state} if version == bad else ok, version=version)

        world.health_rule = health  # type: ignore[assignment]
        watch(story.tools())
        assert bool(world.activations) is acts, service


def test_a_migration_with_the_bad_version_is_refused_and_reported(tmp_path: Path) -> None:
    """Safety rule 4: the schema changed, so code is not rolled back; result and report say why."""
    story = Story(tmp_path / "journal.sqlite")
    story.world.migrate("20270115_add_column")
    tools = story.tools()
    run = watch(tools)
    result = concluded(tools, run)
    assert result["action"] == "refused"
    assert result["rule"] == "4 schema"
    assert "20270115_add_column" in str(result["why"])
    assert not story.world.activations
    assert len(story.world.reports.texts) == 1


def test_a_source_that_does_not_answer_is_no_verdict(tmp_path: Path) -> None:
    """No counts and no health: unmeasured, nothing is changed."""
    story = Story(tmp_path / "journal.sqlite")

    def silent(name: str) -> None:
        if name == "traffic.read":
            raise ProviderUnavailable("no answer")

    story.world.before_call = silent
    tools = replace(story.tools(), health=None)
    run = watch(tools)
    watched = tools.runs.result(run.id, "watch")
    assert isinstance(watched, dict)
    assert watched["verdict"] == "unmeasured"
    assert concluded(tools, run)["action"] == "hold"
    assert not story.world.activations


def test_sampled_counts_are_advice_only(tmp_path: Path) -> None:
    """Safety rule 13: a sampled source never carries an automatic rollback."""
    story = Story(tmp_path / "journal.sqlite")
    story.world.traits = replace(story.world.traits, sampled=True)
    run = watch(story.tools())
    assert "advice" in str(concluded(story.tools(), run)["why"])
    assert not story.world.activations


def test_two_rollbacks_in_a_row_never_ping_pong(tmp_path: Path) -> None:
    """The second rollback is refused or goes further back; the bad version never comes back."""
    story = Story(tmp_path / "journal.sqlite")
    roll_back(story.tools())
    assert story.world.live.sole == story.good.id
    with pytest.raises(AssertionError, match="quarantined"):
        roll_back(story.tools())
    assert story.world.live.sole == story.good.id


def test_after_a_secret_change_the_good_code_comes_back_only_with_a_decision(tmp_path: Path) -> None:
    """`secret put` on the bad code: its predecessor is the same code, and the older secret is a person's decision."""
    story = Story(tmp_path / "journal.sqlite", policy=POLICY)
    story.world.put_secret("JWT_SECRET", "rotated")
    story.world.clock.sleep(1)
    with pytest.raises(DecisionNeeded):
        roll_back(story.tools())
    assert not story.world.activations
    run = roll_back(story.tools(), Request(message="go", force_secrets=True))
    assert run.state is RunState.DONE
    assert story.world.live.sole == story.good.id


@dataclass
class Pages:
    """The store of counts, and how many rows it was asked for at a time."""

    journal: CountsStore
    sizes: list[int] = field(default_factory=list)

    def keep(self, environment: str, counts: Sequence[Counts]) -> None:
        self.journal.keep(environment, counts)

    def load_counts(self, environment: str, since: int, until: int) -> tuple[Counts, ...]:
        found = self.journal.load_counts(environment, since, until)
        self.sizes.append(len(found))
        return found

    def prune(self, older_than: float) -> int:
        return self.journal.prune(older_than)


def test_a_long_watch_that_is_taken_up_again_reads_what_it_counted_in_pages(tmp_path: Path) -> None:
    """Every request counts once, and no more than an hour of seconds stands in memory at a time."""
    story = Story(tmp_path / "journal.sqlite")
    tools = story.tools()
    since, hours = int(story.world.live.created_at) + 1, 3
    rows = [Counts(story.bad.id, since + second, 2, 0) for second in range(hours * 3600)]
    tools.counts.keep("production", rows)
    story.world.clock.sleep(hours * 3600)
    pages = Pages(tools.counts)
    run = watch(replace(tools, counts=pages, traffic=None), mode=Mode.OBSERVE, for_s=hours * 3600 + 60)
    found = tools.runs.result(run.id, "watch")
    assert isinstance(found, dict)
    decision = found["decision"]
    assert isinstance(decision, dict)
    assert decision["requests"] == 2 * len(rows)
    assert max(pages.sizes) <= PAGE_S
