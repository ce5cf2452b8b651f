"""Rule 9, once: one automatic rollback in its time, on whatever machine; a bad target is left for the next, once."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from api_gate import api_gate
from values import replace

from backout.analysis.history.remark_text import parse
from backout.errors import PartlyDone, ProviderUnavailable
from backout.model.guard.policy import Mode
from backout.model.guard.signals import ServiceState
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.version import Mark
from backout.providers.memory import make_health, make_steady

from arranged import mark_stable
from line import SERVICES, Story, by_version, roll_back, toolbox, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.guard.signals import Counts, HealthReport
    from backout.model.incident.incident import Run
    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook, Trial

SICK, WELL = make_steady(30, error_rate=0.3), make_steady(30)


@dataclass
class TwoGood(Story):
    """Two proven versions, and a bad one just deployed."""

    newer: Version = field(init=False)
    sick: dict[str, float] = field(init=False)
    """Versions that fail, and since when (Unix seconds)."""

    def __post_init__(self) -> None:
        """Prove a second version, then deploy a bad one."""
        super().__post_init__()
        world = self.world
        world.traffic_rule = WELL
        self.newer = world.upload("newer")
        world.deploy(self.newer)
        assert self.concluded(watch(self.tools(), for_s=25))["action"] == "stable"
        world.clock.sleep(600)
        self.bad = world.upload("worse")
        self.sick = {}
        self.fails(self.bad)
        world.traffic_rule = self._traffic
        world.deploy(self.bad)
        world.clock.sleep(2)

    def _traffic(self, second: int, version: str) -> Counts | None:
        return (SICK if second >= self.sick.get(version, second + 1) else WELL)(second, version)

    def fails(self, *versions: Version) -> None:
        """Have versions fail from now on."""
        self.sick |= {version.id: self.world.clock.now() for version in versions}

    def concluded(self, run: Run) -> dict[str, object]:
        """Return what the watch that led to a run came to."""
        return result(self.tools(), run, "conclude")

    def switches(self) -> list[str]:
        """Return the versions that were made live by backout, in order."""
        return [deployment.main for deployment in self.world.activations]


def result(tools: Toolbox, run: Run, action: str) -> dict[str, object]:
    """Return the result of a step of a run, or of the runs that led to it."""
    found = tools.runs.result(run.id, action)
    if isinstance(found, dict):
        return dict(found)
    cause = tools.runs.find(run.plan.cause)
    assert cause is not None, action
    return result(tools, cause, action)


def is_quarantined(tools: Toolbox, version: Version) -> bool:
    return tools.marks.find_mark("production", version.id, Mark.QUARANTINED) is not None


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_09_once(drillbook: Drillbook) -> None:
    """On the twin: the first bad deployment is rolled back; the next one is held, on another machine as well."""
    first = _rarely(drillbook.trial())
    for _ in range(10):  # what other drills did has left the provider's list
        first.make_live(drillbook.good)
    first.make_live(drillbook.bad)
    ended = first.run("guard", "--json")
    assert ended.code == 1, ended.err
    assert ended.json["action"] == "rollback"
    assert [hop["verified"] for hop in ended.json["hops"]] == [True]
    assert first.live() == drillbook.good
    again = _rarely(drillbook.trial())
    for machine in (first, again):
        pushed = machine.make_live(drillbook.bad)
        ended = machine.run("guard", "--json")
        assert ended.code == 3, ended.err
        assert (ended.json["action"], ended.json["rule"]) == ("hold", "9 once")
        assert "one automatic rollback was made already" in ended.json["why"]
        assert machine.tools().deployments.history()[0].id == pushed.id


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_09_second_hop_on_the_twin(drillbook: Drillbook) -> None:
    """The target answers well at 0 %, and fails under traffic: the next stable version is live within seconds."""
    trial = drillbook.trial()
    sick = drillbook.deploy("good-2")
    mark_stable(trial, drillbook.good)
    mark_stable(trial, sick)
    drillbook.await_a_clean_past(sick)
    trial.make_live(drillbook.bad)
    with contextlib.ExitStack() as faults, api_gate(str(drillbook.stage.twin.api_base_url)) as gate:

        def fail_from_the_switch_on(method: str, path: str) -> None:
            if method == "POST" and "/deployments" in path and gate.posts() == 1:
                faults.enter_context(drillbook.fault("errors", sick, share=0.3))

        gate.before = fail_from_the_switch_on
        ended = trial.behind(gate.url).run("guard", "--json")
    assert ended.code == 1, ended.err
    first, second = ended.json["hops"]
    assert (first["from_version"], first["live_version"], first["verified"]) == (drillbook.bad, sick, False)
    assert (second["from_version"], second["live_version"], second["verified"]) == (sick, drillbook.good, True)
    assert "is bad too" in first["why"]
    assert ended.json["live_version"] == drillbook.good
    assert ended.json["verdict"] == "regressed"
    switches = [d for d in drillbook.trial().tools().deployments.history() if "hop=2" in d.message]
    assert [d.sole for d in switches[:1]] == [drillbook.good]
    assert len(trial.reports()) == 1
    assert f"version {sick[:8]} is bad too" in trial.reports()[0].read_text(encoding="utf-8")


def _rarely(trial: Trial) -> Trial:
    return trial.replace((r'at_most = "[^"]*"', 'at_most = "1 per 6h"'))


def test_rule_09_once_a_machine_with_an_empty_journal_knows(tmp_path: Path) -> None:
    """The provider's list tells what another machine did; after the time is over, guard acts again."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    world = story.world
    second = world.upload("second")
    world.traffic_rule = by_version(second.id)
    world.clock.sleep(60)
    world.deploy(second)
    world.clock.sleep(2)
    elsewhere = toolbox(world, tmp_path / "elsewhere.sqlite", policy=story.policy)
    held = result(elsewhere, watch(elsewhere), "conclude")
    assert held["rule"] == "9 once"
    assert str(held["why"]).endswith(f"(run {parse(world.activations[0].message).run})")  # type: ignore[union-attr]
    assert len(world.activations) == 1
    world.clock.sleep(6 * 3600)
    watch(elsewhere)
    assert world.live.sole == story.good.id


def test_rule_09_once_a_rollback_that_left_the_list(tmp_path: Path) -> None:
    """More deployments than the provider lists came since: a machine that watched one of them meanwhile remembers."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    world = story.world
    elsewhere = toolbox(world, tmp_path / "elsewhere.sqlite", policy=story.policy)
    watch(elsewhere, for_s=25)
    for _ in range(12):
        world.clock.sleep(60)
        world.deploy(story.good)
    world.deploy(story.bad)
    world.clock.sleep(2)
    assert result(elsewhere, watch(elsewhere), "conclude")["rule"] == "9 once"
    assert len(world.activations) == 1


def test_rule_09_once_a_switch_whose_end_nobody_saw(quick_path: Path) -> None:
    """It was made, its answer was lost, a person gave the run up, and the list has forgotten it: it counts."""

    class Killed(BaseException):
        pass

    def die(name: str) -> None:
        if name == "deployments.activate":
            raise Killed

    story = Story(quick_path / "journal.sqlite")
    world = story.world
    world.after_call = die
    with pytest.raises(Killed):
        watch(story.tools())
    world.after_call = None
    runs = story.tools().runs
    runs.ask(runs.runs("production")[0].id, "abort", actor="ops@host", reason="given up")
    for number in range(11):
        world.deploy(world.upload(f"later {number}"))
        world.clock.sleep(5)
    world.deploy(story.good)
    world.clock.sleep(600)
    again = world.upload("bad again")
    world.traffic_rule = by_version(again.id)
    world.deploy(again)
    world.clock.sleep(2)
    run = watch(story.tools())
    concluded = story.tools().runs.result(run.id, "conclude")
    assert isinstance(concluded, dict)
    assert concluded["rule"] == "9 once"
    assert world.live.sole == again.id


def test_rule_09_once_a_persons_rollback_does_not_count(tmp_path: Path) -> None:
    """What somebody typed leaves guard its one."""
    story = Story(tmp_path / "journal.sqlite")
    roll_back(story.tools())
    world = story.world
    second = world.upload("second")
    world.traffic_rule = by_version(second.id)
    world.deploy(second)
    world.clock.sleep(2)
    watch(story.tools())
    assert len(world.activations) == 2


def test_rule_09_flapping(tmp_path: Path) -> None:
    """Bad, rolled back, bad again, and again, within six hours: one automatic rollback, then it is held each time."""
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    for number in range(4):
        story.world.clock.sleep(1200)
        story.world.deploy(story.bad)
        story.world.clock.sleep(2)
        held = result(story.tools(), watch(story.tools()), "conclude")
        assert held["action"] == "hold", number
        assert story.world.live.sole == story.bad.id
        story.world.clock.sleep(60)
        story.world.deploy(story.good)
    assert len(story.world.activations) == 1


def test_rule_09_second_hop(tmp_path: Path) -> None:
    """The target is bad too: it is left within seconds for the next stable one; both are quarantined, one report."""
    story = TwoGood(tmp_path / "journal.sqlite")
    world = story.world
    story.fails(story.newer)
    run = watch(story.tools())
    tools = story.tools()
    assert run.state is RunState.DONE
    assert story.switches() == [story.newer.id, story.good.id]
    assert result(tools, run, "verify")["verified"] is True
    first, second = world.activations
    assert second.created_at - first.created_at < 15
    remark = parse(second.message)
    assert remark is not None
    assert (remark.auto, remark.hop, str(remark.code)[:8]) == (True, 2, story.newer.id[:8])
    assert is_quarantined(tools, story.bad)
    assert is_quarantined(tools, story.newer)
    assert not is_quarantined(tools, story.good)
    (text,) = world.reports.texts.values()
    for words in (story.bad.id, f"version {story.newer.id[:8]} is bad too", f"made live again, {story.good.id}"[:15]):
        assert words in text
    assert text.count("Rollback initiated") == 2


def test_rule_09_second_hop_is_the_same_rollback(tmp_path: Path) -> None:
    """After two hops the next bad deployment is held as after one."""
    story = TwoGood(tmp_path / "journal.sqlite")
    story.fails(story.newer)
    watch(story.tools())
    third = story.world.upload("third")
    story.fails(third)
    story.world.deploy(third)
    story.world.clock.sleep(2)
    assert story.concluded(watch(story.tools()))["rule"] == "9 once"
    assert len(story.world.activations) == 2


def test_rule_09_never_a_third_hop(tmp_path: Path) -> None:
    """Both targets are bad: the second one stays, quarantined, and somebody has to decide."""
    story = TwoGood(tmp_path / "journal.sqlite")
    story.fails(story.newer, story.good)
    oldest = story.world.upload("oldest")
    run = watch(story.tools())
    tools = story.tools()
    assert story.switches() == [story.newer.id, story.good.id]
    assert "tries no third one" in str(result(tools, run, "settle")["why"])
    assert is_quarantined(tools, story.good)
    assert not is_quarantined(tools, oldest)
    (text,) = story.world.reports.texts.values()
    assert "Not acted on: 2 versions in a row were bad" in text


def test_rule_09_no_second_target(tmp_path: Path) -> None:
    """Nothing stable is left: held, the bad target is quarantined, and the reason is told."""
    story = Story(tmp_path / "journal.sqlite")
    now = story.world.clock.now()
    story.world.traffic_rule = lambda second, version: (SICK if second >= now - 2 else WELL)(second, version)
    tools = story.tools()
    run = watch(tools)
    assert [deployment.main for deployment in story.world.activations] == [story.good.id]
    assert "no version may be returned to" in str(result(tools, run, "settle")["why"])
    assert is_quarantined(tools, story.good)


def test_rule_09_a_quarantined_version_is_no_second_target(tmp_path: Path) -> None:
    """The version that would come next was rolled back once: it is passed over."""
    story = TwoGood(tmp_path / "journal.sqlite")
    story.fails(story.newer)
    tools = story.tools()
    mark = tools.marks.find_mark("production", story.good.id, Mark.STABLE)
    assert mark is not None
    tools.marks.mark("production", replace(mark, mark=Mark.QUARANTINED, run="", at=mark.at + 1), actor="ops@host")
    run = watch(story.tools())
    assert story.switches() == [story.newer.id]
    assert "quarantined" in str(result(story.tools(), run, "settle")["why"])


def test_rule_09_a_persons_rollback_is_never_followed_by_a_robots(tmp_path: Path) -> None:
    """A person's rollback to a version that is bad too is watched to its end, and nothing else is done."""
    story = TwoGood(tmp_path / "journal.sqlite")
    story.fails(story.newer)
    began = story.world.clock.now()
    run = roll_back(story.tools())
    assert story.switches() == [story.newer.id]
    assert result(story.tools(), run, "verify")["verified"] is False
    assert story.world.clock.now() - began >= story.policy.criteria.watch_s
    assert result(story.tools(), run, "settle")["why"] == ""


def test_rule_09_a_person_who_was_asked_is_asked_again(tmp_path: Path) -> None:
    """In mode `ask` the second hop is a question of its own."""
    story = TwoGood(tmp_path / "journal.sqlite")
    story.fails(story.newer)
    answers = [True, False]
    run = watch(replace(story.tools(), confirm=lambda _plan: answers.pop(0)), mode=Mode.ASK)
    assert not answers
    assert story.switches() == [story.newer.id]
    assert "it was not confirmed" in str(result(story.tools(), run, "settle")["why"])


@pytest.mark.parametrize("what", ["hold", "hotfix", "estimates"])
def test_rule_09_the_other_rules_hold_between_the_hops(tmp_path: Path, what: str) -> None:
    """A hold set after the first hop, a hotfix, counts that turn into estimates: no second hop."""
    story = TwoGood(tmp_path / "journal.sqlite")
    world = story.world
    story.fails(story.newer)
    hotfix = world.upload("hotfix")
    step, key, words = {
        "hold": ("settle", "why", "a hold is on"),
        "hotfix": ("verify", "summary", "took its place"),
        "estimates": ("settle", "why", "estimates"),
    }[what]

    def between(name: str) -> None:
        if name != "traffic.read" or len(world.activations) != 1 or world.clock.now() < world.live.created_at + 3:
            return
        world.before_call = None
        if what == "hold":
            world.deploy(story.newer, message="[backout hold until=2099-01-01T00:00:00Z] enough")
        elif what == "hotfix":
            world.deploy(hotfix)
        else:
            world.sampled = True

    world.before_call = between
    run = watch(story.tools())
    assert story.switches() == [story.newer.id]
    assert words in str(result(story.tools(), run, step)[key])


def test_rule_09_a_crash_between_the_hops_loses_neither(tmp_path: Path) -> None:
    """The second rollback is handed over in one transaction: whoever picks it up makes exactly two switches."""
    story = TwoGood(tmp_path / "journal.sqlite")
    story.fails(story.newer)

    class Crash(Exception):
        pass

    def crash(name: str) -> None:
        rollbacks = [r for r in story.tools().runs.runs("production") if r.plan.kind is PlanKind.ROLLBACK]
        if name == "deployments.history" and len(rollbacks) == 2:
            story.world.before_call = None
            raise Crash

    story.world.before_call = crash
    with pytest.raises(Exception, match="stopped in step"):
        watch(story.tools())
    run = watch(story.tools())
    assert run.state is RunState.DONE
    assert story.switches() == [story.newer.id, story.good.id]


def test_rule_09_no_hop_on_an_old_measurement(tmp_path: Path) -> None:
    """The API is gone when the target has failed; whoever goes on later does not act on what was measured then."""
    story = TwoGood(tmp_path / "journal.sqlite")
    world = story.world
    story.fails(story.newer)

    def gone(name: str) -> None:
        run = story.tools().runs.runs("production")[0]
        if name == "versions.recent" and story.tools().runs.result(run.id, "report") is not None:
            raise ProviderUnavailable("no answer")

    world.before_call = gone
    with pytest.raises(PartlyDone):
        watch(story.tools())
    world.before_call = None
    world.clock.sleep(60)
    run = watch(story.tools())
    assert story.switches() == [story.newer.id]
    assert "was measured more than 30 s ago" in str(result(story.tools(), run, "settle")["why"])
    assert is_quarantined(story.tools(), story.newer)


def test_rule_09_a_target_whose_service_is_down(tmp_path: Path) -> None:
    """The bad version throws; the target loses its database once it has traffic, as the bad one did not: the next."""
    story = TwoGood(tmp_path / "journal.sqlite")
    world, newer = story.world, story.newer.id
    world.health_rule = lambda at, version: _health(at, version, down=version == newer == world.live.sole)
    watch(story.tools())
    assert story.switches() == [story.newer.id, story.good.id]


def _health(at: float, version: str, *, down: bool) -> HealthReport:
    services = dict.fromkeys(SERVICES, ServiceState.OK)
    return make_health(at, {**services, "database": ServiceState.DOWN} if down else services, version=version)
