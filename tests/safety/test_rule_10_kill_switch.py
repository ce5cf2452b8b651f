"""Rule 10: a hold stops every automatic action, at any moment before the switch, on every machine."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from api_gate import Answer, api_gate
from values import replace

from backout.analysis.history.remarks import find_hold
from backout.errors import BackoutError, Refused
from backout.model.clock import to_utc
from backout.model.hold import Hold
from backout.model.incident.incident import RunState
from backout.model.plan import Plan, PlanKind
from backout.plan.rollback import Request
from backout.providers.clock import CorrectedClock
from backout.providers.files.holds import FileHolds
from backout.runbook.rollback.rollback import prepare
from backout.runbook.safety.announce import announce
from backout.runbook.safety.hold import HERE, describe_hold, find_active_hold
from backout.twin.home import HOSTS

from line import Story, equip, roll_back, watch
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.providers.memory import World
    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook, Trial

HOUR = 3600.0


@dataclass
class Machine:
    """One machine on a World: a journal and holds of its own, and a clock that may be wrong."""

    story: Story
    folder: Path
    clock_error_s: float = 0.0

    def tools(self, crash_point: Callable[[str], None] | None = None) -> Toolbox:
        """Return fresh tools of this machine."""
        known = self.story.tools(crash_point)
        return equip(known, holds=FileHolds(self.folder), clock=Skewed(self.story.world, self.clock_error_s))

    def hold(self, for_s: float = 2 * HOUR, *, local: bool = False) -> None:
        """Set a hold as the command does."""
        self._switch(self.tools().clock.now() + for_s, local=local)

    def lift(self, *, local: bool = False) -> None:
        """Lift it."""
        self._switch(0.0, local=local)

    def _switch(self, until: float, *, local: bool) -> None:
        tools = self.tools()
        wanted = Hold(until, "by hand now", "ops@host", tools.clock.now(), HERE)
        assert tools.safety.holds is not None
        tools.safety.holds.write("production", wanted)
        if not local:
            announce(tools, wanted)

    def is_held(self) -> bool:
        """Whether this machine may do nothing by itself now."""
        tools = self.tools()
        return find_active_hold(tools, tools.deployments.history()) is not None


@dataclass
class Skewed:
    """A World's clock as a machine with a wrong one sees it."""

    world: World
    error_s: float

    def now(self) -> float:
        """Return the wrong time."""
        return self.world.clock.now() + self.error_s

    def sleep(self, seconds: float) -> None:
        """Move the World's clock."""
        self.world.clock.sleep(seconds)


@dataclass
class Measured:
    """A provider whose clock was measured against this machine's."""

    ahead_s: float

    def offset_s(self) -> float | None:
        """Return by how much it is ahead."""
        return self.ahead_s


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A World in which the bad version was just deployed."""
    return Story(quick_path / "journal.sqlite")


@pytest.fixture
def here(story: Story, quick_path: Path) -> Machine:
    """The machine on which guard runs."""
    return Machine(story, quick_path / "here")


@pytest.fixture
def there(story: Story, quick_path: Path) -> Machine:
    """Another machine."""
    return Machine(story, quick_path / "there")


def moved(story: Story) -> list[str]:
    """Return the versions that anything of ours gave traffic to."""
    return [deployment.main for deployment in story.world.activations]


def test_rule_10_it_is_said_who_typed_a_hold(story: Story, tmp_path: Path) -> None:
    """The provider knows the owner of the token alone; this host knows who typed it."""
    tools, now = equip(story.tools(), holds=FileHolds(tmp_path / "holds")), story.world.clock.now()
    announce(tools, Hold(now + 600.0, "by hand now", "me@laptop", now, HERE))
    found = find_active_hold(tools, tools.deployments.history())
    assert found is not None
    assert found.by == "me@laptop"
    assert found.where.startswith("deployment ")


def test_rule_10_another_machine_says_who_set_a_hold(story: Story, tmp_path: Path) -> None:
    """Its message names them; one that names nobody was set by whoever has that token, and nobody is accused."""
    here = equip(story.tools(), holds=FileHolds(tmp_path / "here"))
    there = equip(story.tools(), holds=FileHolds(tmp_path / "there"))
    now = story.world.clock.now()
    announce(here, Hold(now + 600.0, "by hand now", "me@laptop", now, HERE))
    found = find_active_hold(there, there.deployments.history())
    assert found is not None
    assert (found.by, found.why) == ("me@laptop, with the token of dev@example.com", "by hand now")
    assert "set by me@laptop, with the token of dev@example.com, deployment" in describe_hold(found)
    story.world.clock.sleep(1)
    ends = to_utc(now + 900.0)
    story.world.deploy(
        (story.world.live.main, 100.0), message=f"[backout hold until={ends:%Y-%m-%dT%H:%M:%SZ}] migrating"
    )
    found = find_active_hold(there, there.deployments.history())
    assert found is not None
    assert (found.by, found.why) == ("whoever has the token of dev@example.com", "migrating")


def test_rule_10_kill_switch_forbids_the_decision(story: Story, here: Machine, there: Machine) -> None:
    """Guard says what it would do and why it does not; a person's own rollback goes on, and its plan says so."""
    there.hold()
    said: list[str] = []
    tools = replace(here.tools(), say=said.append)
    run = watch(tools)
    concluded = tools.runs.result(run.id, "conclude")
    assert isinstance(concluded, dict)
    assert (concluded["action"], concluded["rule"]) == ("hold", "10 hold")
    assert "by hand now" in str(concluded["why"])
    assert moved(story) == []
    assert any("a hold is on" in text for text in said), "a running guard says that it is held"
    _, plan = prepare(here.tools(), Request(message="by hand"))
    assert isinstance(plan, Plan)
    assert any("a hold is on" in note for note in plan.notes)
    roll_back(here.tools())
    assert moved(story) == [story.good.id]


def calls_until_the_switch(quick_path: Path) -> tuple[int, int]:
    """Return how many port calls an unheld watch makes until its switch, and which is its last look at the history."""
    story = Story(quick_path / "measured.sqlite")
    watch(story.tools())
    switch = story.world.calls.index("deployments.activate")
    last = max(n for n, name in enumerate(story.world.calls[:switch]) if name == "deployments.history")
    return switch, last


@pytest.mark.parametrize("place", ["the provider", "the file"])
def test_rule_10_kill_switch_at_every_call_between_decision_and_switch(quick_path: Path, place: str) -> None:
    """Set at any of the last twenty calls, it stops the switch: nothing gets traffic, and the reason is said."""
    switch, last = calls_until_the_switch(quick_path)
    for moment in range(switch - 20, last + 1):
        story = Story(quick_path / f"{moment}.sqlite")
        machine = Machine(story, quick_path / f"holds-{moment}")
        Setting(story, machine, moment, at_provider=place == "the provider").arm()
        reason = ""
        try:
            run = watch(machine.tools())
            concluded = machine.tools().runs.result(run.id, "conclude")
            reason = str(concluded["why"]) if isinstance(concluded, dict) else ""
        except Refused as error:
            reason = f"{error.rule}: {error.what}"
            assert story.world.reports.texts, "the refusal of an automatic rollback is reported"
        assert moved(story) == [], f"a hold set before call {moment} was overrun"
        assert "a hold is on" in reason, reason


def test_rule_10_kill_switch_ends_after_a_week_whatever_it_says(story: Story, here: Machine, there: Machine) -> None:
    """A mark at the provider and a file of this host alike; nobody forgets a guard for years."""
    world, day_s = story.world, 24 * HOUR
    holds = here.tools().safety.holds
    assert holds is not None
    holds.write("production", Hold(9e12, "for ever", "ops", world.clock.now(), HERE))
    world.deploy(story.bad, message="[backout hold until=2099-01-01T00:00:00Z] for ever")
    for sleep_s, is_held in ((0.0, True), (7 * day_s - 60, True), (61.0, False)):
        world.clock.sleep(sleep_s)
        assert (here.is_held(), there.is_held()) == (is_held, is_held)


@dataclass
class Setting:
    """Sets a hold at one port call: before its answer by another machine at the provider, or after it in our file."""

    story: Story
    machine: Machine
    moment: int
    at_provider: bool
    done: bool = False

    def arm(self) -> None:
        """Wait for the moment."""
        if self.at_provider:
            self.story.world.before_call = self._set
        else:
            self.story.world.after_call = self._set

    def _set(self, _name: str) -> None:
        world = self.story.world
        if self.done or len(world.calls) <= self.moment:
            return
        self.done = True
        if self.at_provider:
            live = [(share.version, share.percentage) for share in world.live.shares]
            world.deploy(*live, message="[backout hold until=2099-01-01T00:00:00Z] x")
        else:
            self.machine.hold(local=True)


class Crash(BaseException):
    """The process dies here."""


def test_rule_10_kill_switch_counts_for_a_resumed_run(story: Story, here: Machine, there: Machine) -> None:
    """A guard that died right before its switch, resumed after a hold was set, does not switch."""

    def die(name: str) -> None:
        if name == "deployments.activate":
            raise Crash

    story.world.before_call = die
    with pytest.raises(Crash):
        watch(here.tools())
    story.world.before_call = None
    there.hold()
    with pytest.raises(Refused, match="a hold is on"):
        watch(here.tools())
    newest = here.tools().runs.runs("production")[0]
    assert (newest.plan.kind, newest.state) == (PlanKind.ROLLBACK, RunState.FAILED)
    assert moved(story) == []


@pytest.mark.parametrize("clock_error_s", [0.0, -HOUR, HOUR, 30 * HOUR])
def test_rule_10_kill_switch_is_one_switch_for_two_machines(quick_path: Path, clock_error_s: float) -> None:
    """Set here it holds there, lifted there it is lifted here, and so back, also when a clock is wrong by hours."""
    story = Story(quick_path / "journal.sqlite")
    here, there = Machine(story, quick_path / "here", clock_error_s), Machine(story, quick_path / "there")
    live = story.world.live.main
    here.hold(for_s=100 * HOUR)
    assert (here.is_held(), there.is_held()) == (True, True)
    story.world.clock.sleep(60)
    there.lift()
    assert (here.is_held(), there.is_held()) == (False, False)
    story.world.clock.sleep(60)
    there.hold(for_s=100 * HOUR)
    assert (here.is_held(), there.is_held()) == (True, True)
    story.world.clock.sleep(60)
    here.lift()
    assert (here.is_held(), there.is_held()) == (False, False)
    assert story.world.live.main == live
    assert moved(story) == [], "a hold moves no traffic"


def test_rule_10_kill_switch_ends_by_itself(story: Story, here: Machine, there: Machine) -> None:
    """After its time, automatic actions are allowed again on both machines."""
    here.hold(for_s=HOUR)
    story.world.clock.sleep(HOUR - 1)
    assert (here.is_held(), there.is_held()) == (True, True)
    story.world.clock.sleep(2)
    assert (here.is_held(), there.is_held()) == (False, False)


def test_rule_10_kill_switch_of_one_host_is_lifted_there_only(story: Story, here: Machine, there: Machine) -> None:
    """What was never announced cannot be known elsewhere; a local lift leaves the provider's hold alone."""
    here.hold(local=True)
    assert (here.is_held(), there.is_held()) == (True, False)
    there.lift()
    assert here.is_held()
    here.lift(local=True)
    assert not here.is_held()
    there.hold()
    here.lift(local=True)
    assert here.is_held()


def test_rule_10_kill_switch_outlasts_the_providers_list(story: Story, here: Machine, there: Machine) -> None:
    """The provider lists ten deployments; a machine that saw the hold once goes on holding."""
    here.hold()
    assert there.is_held()
    for _ in range(12):
        story.world.deploy(story.bad, message="another push")
    assert find_hold(story.tools().deployments.history()) is None
    assert (here.is_held(), there.is_held()) == (True, True)


def test_rule_10_kill_switch_never_undoes_a_switch_beside_it(story: Story, there: Machine) -> None:
    """A rollback that lands between reading what is live and writing the hold on it is put back at once."""
    world = story.world

    def roll_back_meanwhile(name: str) -> None:
        if name == "deployments.deploy":
            world.before_call = None
            world.deploy(story.good, message="somebody's rollback")

    world.before_call = roll_back_meanwhile
    there.hold()
    assert world.live.sole == story.good.id
    assert there.is_held()


@pytest.mark.parametrize("clock_error_s", [-3 * HOUR, 3 * HOUR])
@pytest.mark.parametrize("local", [True, False])
def test_rule_10_kill_switch_lasts_as_long_as_was_said(quick_path: Path, clock_error_s: float, *, local: bool) -> None:
    """Two hours set on a machine whose clock is wrong by three are two hours there, and everywhere."""
    story = Story(quick_path / "journal.sqlite")
    here, there = Machine(story, quick_path / "here"), Machine(story, quick_path / "there")
    wrong = Skewed(story.world, clock_error_s)
    measured = Measured(-clock_error_s)
    tools = equip(here.tools(), clock=CorrectedClock(wrong, measured), provider_clock=measured)
    assert tools.safety.holds is not None
    wanted = Hold(wrong.now() + 2 * HOUR, "by hand now", "ops@host", wrong.now(), HERE)  # as the command does
    tools.safety.holds.write("production", wanted)
    if not local:
        announce(tools, wanted)

    def held() -> tuple[bool, bool]:
        return find_active_hold(tools, tools.deployments.history()) is not None, there.is_held()

    assert held() == (True, not local)
    story.world.clock.sleep(2 * HOUR - 5)
    assert held() == (True, not local)
    story.world.clock.sleep(10)
    assert held() == (False, False)


def test_rule_10_kill_switch_beside_a_target_that_cannot_be_deployed(
    story: Story, here: Machine, there: Machine
) -> None:
    """A failed proof left one with old secrets at 0 %: the hold is set all the same, and the traffic is as it was."""
    world = story.world
    rotated = world.upload("rotated", secrets={"TOKEN": "new"})
    world.deploy((rotated.id, 100.0), (story.good.id, 0.0), message="[backout rollback-1a2b3c4d prove] at 0 %")
    here.hold()
    assert (here.is_held(), there.is_held()) == (True, True)
    assert world.live.sole == rotated.id


@pytest.mark.parametrize("damage", ["", "{", '{"until": "soon"}', "\x00\xff", "directory"])
def test_rule_10_kill_switch_is_on_when_its_file_is_damaged(here: Machine, damage: str) -> None:
    """Nobody knows that no hold was set, so one is; a new hold or lift replaces the file."""
    here.hold(local=True)
    file = here.folder / "production.json"
    if damage == "directory":
        file.unlink()
        file.mkdir()
        assert here.is_held()
        with pytest.raises(BackoutError, match="cannot be written"):
            here.lift()
        return
    file.write_text(damage, encoding="latin-1")
    assert here.is_held()
    here.lift()
    assert not here.is_held()


def test_rule_10_kill_switch_file_is_private_and_whole(here: Machine) -> None:
    """Mode 0600 in a folder 0700; no half-written file is left."""
    os.umask(before := os.umask(0))
    try:
        here.hold(local=True)
    finally:
        os.umask(before)
    names = sorted(path.name for path in here.folder.iterdir())
    assert names == ["production.json"]
    assert stat.S_IMODE((here.folder / "production.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(here.folder.stat().st_mode) == 0o700


# --- the real program on the twin -----------------------------------------------------------------------------------


def bad_live(drillbook: Drillbook) -> Trial:
    """Return a trial in which the bad version just took the good one's place."""
    trial = drillbook.trial()
    trial.run("unhold", "-m", "a new trial")
    trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    return trial


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_10_kill_switch_between_decision_and_switch_from_another_machine(drillbook: Drillbook) -> None:
    """Guard has decided and handed over to its rollback; a hold from another machine comes before its switch."""
    trial, other = bad_live(drillbook), drillbook.trial()
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        trial.behind(gate.url)
        answers: list[int] = []

        def hold_once(method: str, path: str) -> None:
            runs = trial.tools().runs.runs("production")
            decided = bool(runs) and runs[0].plan.kind is PlanKind.ROLLBACK and not runs[0].state.is_over
            if method == "GET" and path.endswith("/deployments") and decided and not answers:
                answers.append(other.run("hold", "-m", "I am on it", "--json").code)

        gate.before = hold_once
        ended = trial.run("guard", "--json")
        assert answers == [0]
        assert ended.code == 3, ended.err
        assert "10 hold" in ended.err
        assert "I am on it" in ended.err
        assert trial.live() == drillbook.bad
        assert trial.newest()["state"] == "failed"
        assert trial.run("rollback", "-m", "by hand", "--confirm", "production", "--no-wait").code == 0
        assert trial.live() == drillbook.good
    assert other.run("unhold", "--json").json["held"] is False


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.calm
@pytest.mark.parametrize("journal", ["absent", "damaged", "locked", "directory"])
def test_rule_10_kill_switch_needs_no_journal(drillbook: Drillbook, journal: str) -> None:
    """The hold is set here and at the provider, whatever is wrong with the journal; nothing is asked."""
    trial = bad_live(drillbook)
    file = trial.folder / "journal.sqlite"
    lock = sqlite3.connect(file, isolation_level=None)
    if journal != "locked":
        lock.close()
        trial.forget_marks()
    else:
        lock.execute("BEGIN EXCLUSIVE")
    if journal == "damaged":
        file.write_bytes(b"no database" * 400)
    elif journal == "directory":
        file.mkdir()
    try:
        ended = trial.run("hold", "--for", "30m", "-m", "the journal is gone", "--json")
    finally:
        lock.close()
    assert ended.code == 0, ended.err
    assert (ended.json["schema"], ended.json["held"], ended.json["everywhere"]) == ("backout.hold/1", True, True)
    remark = trial.tools().deployments.history()[0].remark
    assert remark is not None
    assert remark.text.startswith("by ")
    assert remark.text.endswith(": the journal is gone")
    assert trial.live() == drillbook.bad
    assert file.exists() is (journal != "absent")
    assert trial.run("unhold", "--json").code == 0


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.calm
def test_rule_10_kill_switch_without_the_provider_holds_this_host(drillbook: Drillbook) -> None:
    """API down, or no Caddy: exit 5, held here, and the command that makes it the same everywhere."""
    trial = bad_live(drillbook)
    with contextlib.ExitStack() as stack:
        if drillbook.home == HOSTS:
            trial.replace((r'releases = "[^"]*"', 'releases = "gone"'))
        else:
            gate = stack.enter_context(api_gate(str(drillbook.stage.twin.api_base_url)))
            trial.behind(gate.url)
            gate.when("GET", "/deployments", *[Answer()] * 50)
        ended = trial.run("hold", "-m", "no API", "--json")
    assert ended.code == 5, ended.err
    assert (ended.json["held"], ended.json["everywhere"]) == (True, False)
    assert "backout hold -e production" in ended.err
    written = json.loads((trial.folder / ".backout" / "holds" / "production.json").read_text())
    assert written["why"] == "no API"
    if drillbook.home == HOSTS:
        return
    missing = trial.replace((r"(?m)^token_file = .*\n", "")).run("hold", "-m", "no token either", "--json")
    assert missing.code == 5
    assert missing.json["held"] is True


@pytest.mark.long
@pytest.mark.calm
def test_rule_10_kill_switch_wants_a_reason_and_no_confirmation(drillbook: Drillbook) -> None:
    """Without -m: exit 3 naming the flag, nothing set. With it: no question, production or not."""
    trial = drillbook.trial()
    ended = trial.run("hold", "--json")
    assert ended.code == 3
    assert "-m" in ended.json["hint"]
    assert not (trial.folder / ".backout" / "holds").exists()
    local = trial.run("hold", "--for", "90s", "-m", "WHY", "--local", "--json")
    assert (local.code, local.json["everywhere"]) == (0, False)
    assert trial.run("hold", "--for", "soon", "-m", "WHY", "--local").code == 2


@pytest.mark.calm
@pytest.mark.long
def test_rule_10_kill_switch_is_refused_beyond_a_week(drillbook: Drillbook) -> None:
    """The command says the limit, and sets nothing; a week itself is allowed."""
    trial = drillbook.trial()
    ended = trial.run("hold", "--for", "8d", "-m", "for long", "--local", "--json")
    assert (ended.code, "7 days" in ended.err + json.dumps(ended.json)) == (2, True)
    assert not (trial.folder / ".backout" / "holds").exists()
    assert trial.run("hold", "--for", "7d", "-m", "for long", "--local").code == 0


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_10_kill_switch_is_noticed_by_a_running_guard(drillbook: Drillbook) -> None:
    """A guard that watches says within seconds that it is held, and does nothing in the end."""
    trial, other = bad_live(drillbook), drillbook.trial()
    guard = trial.start("guard")
    until(lambda: trial.tools().runs.runs("production"), 30, "guard begins")
    assert other.run("hold", "-m", "from elsewhere").code == 0
    _, err = guard.communicate(timeout=PATIENCE_S)
    assert guard.returncode in (1, 3)
    assert "a hold is on" in err
    assert trial.live() == drillbook.bad
    assert other.run("unhold").code == 0
