"""Rule 19: who guards the guard: a dead-man URL hears it, status says when it was last alive and what is unguarded."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.model.guard.policy import Mode
from backout.model.incident.incident import RunState
from backout.model.incident.notice import Delivery, Notice, NoticeKind
from backout.runbook.guard import guard, next_deployment
from backout.runbook.guard.heartbeat import Heartbeat
from backout.runbook.guard.watch_gap import tell_watch_gap
from backout.runbook.incident.status import read_status

from drillbook import ENV
from line import POLICY, Story, equip, roll_back, watch
from polling import PATIENCE_S, until
from private import write_private
from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from pathlib import Path

    from backout.ports import Clock

    from drillbook import Drillbook

LONG = replace(POLICY, criteria=replace(POLICY.criteria, watch_s=900))
MINUTE = 60.0


@dataclass
class Pings:
    """A dead man that counts, by a World's clock."""

    story: Story
    at: list[float] = field(default_factory=list)

    def ping(self) -> None:
        """Take note."""
        self.at.append(self.story.world.clock.now())


@dataclass
class Told:
    """A notifier that keeps what it was told, each key once."""

    notices: dict[str, Notice] = field(default_factory=dict)

    def tell(self, notice: Notice) -> None:
        """Keep it."""
        self.notices.setdefault(notice.key, notice)

    def flush(self, within_s: float) -> Delivery:
        """Nothing waits."""
        return Delivery()

    def unguarded(self) -> list[Notice]:
        """Return what was told of deployments that nobody watches."""
        return [notice for notice in self.notices.values() if notice.kind is NoticeKind.UNGUARDED]


@dataclass
class Reset:
    """A clock that may be set back."""

    inner: Clock
    back_s: float = 0.0

    def now(self) -> float:
        """Return the time."""
        return self.inner.now() - self.back_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.inner.sleep(seconds)


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A World in which a version was just deployed that is well, and a watch would last a quarter of an hour."""
    story = Story(quick_path / "journal.sqlite", policy=LONG)
    story.world.traffic_rule = lambda second, version: None
    return story


def test_rule_19_watcher_hears_guard_every_minute(story: Story) -> None:
    """A watch of a quarter of an hour pings at once and then each minute; without a dead man nothing happens."""
    pings = Pings(story)
    watch(equip(story.tools(), dead_man=pings))
    assert len(pings.at) >= 15
    gaps = [later - earlier for earlier, later in zip(pings.at, pings.at[1:], strict=False)]
    assert max(gaps) <= MINUTE + 2


def test_rule_19_watcher_hears_guard_when_the_clock_is_set_back(story: Story) -> None:
    """By an hour: the next ping comes within a minute all the same, and then each minute."""
    pings = Pings(story)
    clock = Reset(story.world.clock)
    heartbeat = Heartbeat(equip(story.tools(), dead_man=pings, clock=clock))
    heartbeat.beat()
    clock.back_s = 3600.0
    for _ in range(3):
        clock.sleep(MINUTE)
        heartbeat.beat()
    assert len(pings.at) >= 3


def test_rule_19_watcher_hears_a_guard_that_waits(story: Story) -> None:
    """Waiting for the next deployment is guarding, too."""
    pings = Pings(story)
    world = story.world
    world.clock.at(world.clock.now() + 200, lambda: world.deploy(story.good))
    next_deployment.wait_for_next(equip(story.tools(), dead_man=pings), 600)
    assert len(pings.at) == 4


def test_rule_19_watcher_hears_guard_verify(story: Story) -> None:
    """After a rollback the watch of the success criteria is heard as well: nobody is called for nothing."""
    pings = Pings(story)
    before = story.world.clock.now()
    run = roll_back(equip(story.tools(), dead_man=pings))
    assert run.state is RunState.DONE
    assert len(pings.at) > (story.world.clock.now() - before) / MINUTE - 1


def test_rule_19_watcher_status_finds_a_deployment_that_nobody_watches(story: Story) -> None:
    """From two minutes on it is a finding; it is told once; after the watch time it is over."""
    clock, told = story.world.clock, Told()
    tools = replace(story.tools(), notifier=told)
    clock.sleep(100)
    assert read_status(tools).watch_gap_s is None
    clock.sleep(40)
    for _ in range(3):
        found = read_status(tools)
        assert found.watch_gap_s is not None
        assert any("no guard watches it" in trouble for trouble in found.troubles)
        tell_watch_gap(tools, found.situation, found.watch_gap_s)
    assert len(told.unguarded()) == 1
    assert story.bad.id in told.unguarded()[0].text
    clock.sleep(900)
    assert read_status(tools).watch_gap_s is None


def test_rule_19_watcher_guard_says_that_it_comes_late(story: Story) -> None:
    """A guard that begins after more than two minutes tells it; from then on the deployment is guarded."""
    told, said = Told(), list[str]()
    story.world.clock.sleep(180)
    tools = replace(story.tools(), notifier=told, say=said.append)
    guard.plan(tools, mode=Mode.ACT, for_s=900)
    assert len(told.unguarded()) == 1
    assert any("this deployment was not watched" in text for text in said)


@pytest.mark.parametrize("kind", ["watched", "watched elsewhere", "rolled back", "crashed"])
def test_rule_19_watcher_knows_what_was_watched(story: Story, quick_path: Path, kind: str) -> None:
    """A watch that ended, here or on another machine, or a rollback guards a deployment; a guard that died does not."""

    class Crash(BaseException):
        pass

    def die(name: str) -> None:
        if name == "health.look":
            raise Crash

    world = story.world
    if kind == "watched":
        watch(story.tools(), for_s=130)
    elif kind == "watched elsewhere":
        remark = f"[backout guard-00000000 stable={story.bad.id[:8]}//] well"
        world.deploy(story.bad, message=remark)
        world.clock.sleep(130)
    elif kind == "rolled back":
        roll_back(replace(story.tools(), policy=POLICY))
        world.clock.sleep(130)
    else:
        world.before_call = die
        with pytest.raises(Crash):
            watch(story.tools())
        world.before_call = None
        world.clock.sleep(130)
    unguarded = read_status(story.tools()).watch_gap_s is not None
    assert unguarded is (kind == "crashed")


def test_rule_19_watcher_knows_when_guard_was_last_alive(story: Story) -> None:
    """While it watches its heartbeat counts, after its death the last one, after its end that end."""
    seen: list[float] = []

    class Crash(BaseException):
        pass

    def take_note(name: str) -> None:
        if name == "health.look" and not seen:
            run = story.tools().runs.runs("production")[0]
            assert run.state is RunState.RUNNING
            assert run.alive_at is not None
            seen.append(story.world.clock.now() - run.alive_at)
            raise Crash

    story.world.before_call = take_note
    with pytest.raises(Crash):
        watch(story.tools())
    story.world.before_call = None
    assert seen[0] <= 30
    began = read_status(story.tools()).guard
    assert began is not None
    story.world.clock.sleep(500)
    dead = read_status(story.tools()).guard
    assert dead is not None
    assert dead.state is RunState.INTERRUPTED
    assert dead.alive_at == began.alive_at
    ended = watch(story.tools())
    assert ended.alive_at == ended.ended_at


# --- the real program on the twin -----------------------------------------------------------------------------------


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_19_watcher_of_the_real_program(drillbook: Drillbook) -> None:
    """Guard asks the URL of the configuration, which is shown nowhere; status says that it is alive."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    trial.make_live(drillbook.good)
    with scripted_server() as server:
        server.will(answer({}))
        write_private(trial.folder / "dead-man", f"{server.url}/secret-of-the-ping")
        trial.replace((r"\[journal\]", '[notify.dead_man]\nurl_file = "dead-man"\n\n[journal]'))
        process = trial.start("guard")
        until(lambda: server.asked, 30, "the dead man is asked")
        status = trial.run("status")
        _, err = process.communicate(timeout=PATIENCE_S)
        assert server.asked[0].target == "/secret-of-the-ping"
    assert process.returncode == 0, err
    assert "last alive" in status.out
    assert "secret-of-the-ping" not in err + status.out + status.err
    record = trial.run("status", "--json").json
    assert record["guard"]["alive_at"] == record["guard"]["ended_at"]
    assert record["unguarded"] is False


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_19_watcher_follows_one_deployment_after_the_other(drillbook: Drillbook) -> None:
    """--follow watches each deployment that comes, answers for each, and ends with Ctrl-C."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    trial.make_live(drillbook.good)
    argv = drillbook.argv("guard", "--follow", "--early", "--json", config=trial.config)
    answers = trial.folder / "answers.jsonl"

    def given() -> int:
        return answers.read_text(encoding="utf-8").count('"type":"result"')

    pipes = {"stderr": subprocess.PIPE, "text": True, "env": ENV}
    with answers.open("w") as out, subprocess.Popen(argv, stdout=out, **pipes) as process:  # type: ignore[call-overload]
        until(lambda: given() == 1, 60, "the first watch ends")
        trial.make_live(drillbook.good)
        until(lambda: given() == 2, 60, "the second watch ends")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
