"""Rule 3: this machine's clock is measured against the provider's; a wrong one neither misleads nor hurries a watch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from api_gate import api_gate

from backout.cli.support import outcome
from backout.errors import Refused
from backout.journal.sqlite import SqliteJournal
from backout.model.guard.policy import Mode
from backout.model.guard.verdict import Decision, Verdict
from backout.model.plan import Plan
from backout.plan.rollback import Request
from backout.providers.clock import CorrectedClock
from backout.providers.memory import World, WorldClock, make_steady
from backout.runbook.procedures import Actions
from backout.runbook.rollback.rollback import prepare
from backout.runbook.safety.clock import measure_clock

from extent import long
from line import Story, equip, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook

import msgspec

HOUR = 3600.0
ROLLBACK = ("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")


# --- the real program on the twin ------------------------------------------------------------------------------------


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
@pytest.mark.calm
@pytest.mark.parametrize("shift_s", [HOUR, long(-HOUR)])
def test_rule_03_clock(drillbook: Drillbook, shift_s: float) -> None:
    """Beyond two seconds a target given as a time is exit 3 with both clocks; by its id it is rolled back as ever."""
    trial = drillbook.trial()
    good = trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    time = datetime.fromtimestamp(good.created_at + 0.001, UTC).isoformat()
    assert trial.run("rollback", time, "--dry-run", "--json").json["to_version"] == drillbook.good
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        gate.date_shift_s = shift_s
        trial.behind(gate.url)
        for target in (time, "1 minute ago"):
            refused = trial.run("rollback", target, *ROLLBACK[1:])
            assert (refused.code, refused.json["rule"]) == (3, "3 clock")
            here, there = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", refused.json["what"])
            seen = (datetime.fromisoformat(there[:19]) - datetime.fromisoformat(here[:19])).total_seconds()
            assert abs(seen - shift_s) <= 60
            assert "deployments list" in refused.json["options"][0]
        assert gate.posts() == 0
        status = trial.run("status", "--json").json
        assert abs(status["clock_offset_s"] - shift_s) < 60
        word = "behind" if shift_s > 0 else "ahead of"
        assert f"{word} the provider's" in trial.run("status").out
        notes = trial.run("rollback", "--dry-run", "--json").json["plan"]["notes"]
        assert any(f"{word} the provider's" in note for note in notes)
        assert trial.run("guard", "--observe", "--for", "1s").err.count(f"{word} the provider's") == 1
        ended = trial.run(*ROLLBACK)
    assert ended.code == 0, ended.err
    assert ended.json["live_version"] == drillbook.good


@pytest.mark.long
@pytest.mark.calm
def test_rule_03_a_second_is_no_difference(drillbook: Drillbook) -> None:
    """The header has whole seconds: within two, clocks agree, and a time is a target."""
    trial = drillbook.trial()
    good = trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    time = datetime.fromtimestamp(good.created_at + 0.001, UTC).isoformat()
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        gate.date_shift_s = 0.4
        ended = trial.behind(gate.url).run("rollback", time, "--dry-run", "--json")
    assert ended.json["to_version"] == drillbook.good
    assert not any("clock" in note for note in ended.json["plan"]["notes"])


# --- the whole line on the World with a machine whose clock is wrong -------------------------------------------------


@dataclass
class WrongClock:
    """Port Clock of a machine that is `skew_s` ahead of the World."""

    world: World
    skew_s: float

    def now(self) -> float:
        return self.world.clock.now() + self.skew_s

    def sleep(self, seconds: float) -> None:
        self.world.clock.sleep(seconds)


@dataclass
class Measured:
    """Port ProviderClock: what the first answer of the platform told this process."""

    world: World
    skew_s: float
    calls_before: int

    def offset_s(self) -> float | None:
        answered = any(call.startswith("deployments.") for call in self.world.calls[self.calls_before :])
        return -self.skew_s if answered else None


def process(story: Story, skew_s: float) -> Toolbox:
    """Return the tools of a fresh process on that machine, its journal on the machine's own clock."""
    wrong = WrongClock(story.world, skew_s)
    measured = Measured(story.world, skew_s, len(story.world.calls))
    journal = SqliteJournal(story.path, wrong)
    return equip(
        story.tools(),
        clock=CorrectedClock(wrong, measured),
        provider_clock=measured,
        journal=journal,
        runs=journal,
        marks=journal,
        counts=journal,
        checkpoints=journal,
    )


SKEWS = [HOUR, -HOUR, 45.0, -45.0]


def decided(tools: Toolbox, guard_run: str) -> Decision:
    watched = tools.runs.result(guard_run, "watch")
    assert isinstance(watched, dict)
    return msgspec.convert(watched["decision"], Decision)


def regressed(path: Path, skew_s: float) -> tuple[Decision, str, int, float]:
    """Return the decision, what is live, the exit code and how long all of it took, on a machine that wrong."""
    story = Story(path)
    begun = story.world.clock.now()
    tools = process(story, skew_s)
    ended = watch(tools, mode=Mode.ACT)
    live = "good" if story.world.live.main == story.good.id else "bad"
    took_s = story.world.clock.now() - begun
    return decided(tools, ended.plan.cause), live, outcome.find_exit_code(tools, ended), took_s


@pytest.mark.parametrize("skew_s", SKEWS)
def test_rule_03_a_regression_is_rolled_back_as_by_a_right_clock(quick_path: Path, skew_s: float) -> None:
    """Verdict, evidence, time to it, rollback, its verification and the exit code are the same."""
    right = regressed(quick_path / "right.sqlite", 0.0)
    wrong = regressed(quick_path / "wrong.sqlite", skew_s)
    assert right[0].verdict is Verdict.REGRESSED
    assert wrong == right


@pytest.mark.parametrize("skew_s", SKEWS)
def test_rule_03_a_healthy_watch_lasts_as_long_as_it_should(quick_path: Path, skew_s: float) -> None:
    """It neither ends at once nor goes on for hours, nor rolls anything back."""
    story = Story(quick_path / "journal.sqlite")
    story.world.traffic_rule = make_steady(30)
    deployed_at = story.world.live.created_at
    tools = process(story, skew_s)
    watch(tools, mode=Mode.ACT, for_s=300)
    assert 299 <= story.world.clock.now() - deployed_at <= 303
    assert story.world.live.main == story.bad.id


class Crash(BaseException):
    """A kill -9 of the process."""


@pytest.mark.parametrize("skew_s", SKEWS)
def test_rule_03_a_resumed_watch_measures_before_it_compares(quick_path: Path, skew_s: float) -> None:
    """A new process knows no offset: it asks before it goes on, as every command that drives a run does."""
    story = Story(quick_path / "journal.sqlite")
    world = story.world
    world.traffic_rule = make_steady(30)
    deployed_at = world.live.created_at

    def crash(call: str) -> None:
        if call == "traffic.read" and world.clock.now() > deployed_at + 60:
            raise Crash

    world.before_call = crash
    with pytest.raises(Crash):
        watch(process(story, skew_s), mode=Mode.ACT, for_s=300)
    world.before_call = None
    tools = process(story, skew_s)
    (unfinished, *_) = tools.runs.runs("production")
    measure_clock(tools)
    tools.journal.drive(unfinished.id, Actions(tools), actor="ops@host")
    assert 299 <= world.clock.now() - deployed_at <= 303


def test_rule_03_a_time_is_refused_and_a_name_is_not(quick_path: Path) -> None:
    """Whatever names a version is taken; a number of seconds within the tolerance is no difference."""
    story = Story(quick_path / "journal.sqlite")
    with pytest.raises(Refused) as refused:
        prepare(process(story, HOUR), Request(message="it fails", target="5 minutes ago"))
    assert (refused.value.rule, refused.value.exit_code) == ("3 clock", 3)
    for target in (story.good.id, story.good.id[:8], "good", "1"):
        _, plan = prepare(process(story, HOUR), Request(message="it fails", target=target))
        assert isinstance(plan, Plan)
    _, plan = prepare(process(story, 1.5), Request(message="it fails", target="5 minutes ago"))
    assert isinstance(plan, Plan)


def test_rule_03_corrected_time_does_not_jitter() -> None:
    """Measurements that differ by less than the tolerance move nothing; a clock that was set right is taken again."""

    class Offsets:
        value: float | None = None

        def offset_s(self) -> float | None:
            return self.value

    offsets, inner = Offsets(), WorldClock(1000.0)
    clock = CorrectedClock(inner, offsets)
    assert clock.now() == 1000.0
    for measured, shown in ((1.9, 1000.0), (60.2, 1060.2), (60.9, 1060.2), (59.0, 1060.2), (0.4, 1000.0)):
        offsets.value = measured
        assert clock.now() == pytest.approx(shown)
