"""Between two deployments: the history is asked when the hints say so, and all else is looked at all the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.model.hold import Hold
from backout.providers.files.holds import FileHolds
from backout.runbook.guard.follow import FOLLOW_S, wait_for_unwatched
from backout.runbook.guard.next_deployment import lives
from backout.runbook.safety.announce import announce
from backout.runbook.safety.hold import HERE, find_active_hold
from backout.runbook.worker.hints import LIST_HOLDS_S, RESTS_S, Hints

from line import Story, equip, toolbox, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.deployment import Deployment
    from backout.ports import Deployments
    from backout.runbook.toolbox import Toolbox


@dataclass
class Asked:
    """Port Deployments that counts who asks for the history."""

    deployments: Deployments
    times: int = 0

    def history(self) -> tuple[Deployment, ...]:
        self.times += 1
        return self.deployments.history()


@dataclass
class Listed:
    """An environment that is followed, and the list of its account, which is read every ten seconds."""

    path: Path
    shows: bool = True
    answers: bool = True
    beats: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.story = Story(self.path)
        watch(self.story.tools(), for_s=30)
        tools = self.story.tools()
        self.clock = self.story.world.clock
        self.asked = Asked(tools.deployments)
        self.tools: Toolbox = replace(tools, deployments=self.asked)  # type: ignore[arg-type]  # it only looks
        self.hints = Hints(self.clock)
        self._shown_at = self.story.tools().deployments.history()[0].created_at
        self._read_at = float("-inf")

    def wait(self, seconds: float) -> None:
        """Wait as the loop of a worker does; the list is read meanwhile."""
        self.beats.append(self.clock.now())
        for _ in range(int(seconds)):
            self.clock.sleep(1.0)
            if self.answers and self.clock.now() - self._read_at >= 10.0:
                self._read_at = self.clock.now()
                if self.shows:
                    self._shown_at = self.story.tools().deployments.history()[0].created_at
                self.hints.note_list(self._shown_at)

    def follow(self, seconds: float) -> Deployment | None:
        """Follow for so long; return what decides about the traffic then."""
        until = self.clock.now() + seconds
        found = lives(self.tools, FOLLOW_S, self.wait, self.hints)
        live = next(found)
        while self.clock.now() < until:
            live = next(found)
        found.close()
        return live


@pytest.fixture
def listed(quick_path: Path) -> Listed:
    return Listed(quick_path / "journal.sqlite")


def test_a_history_rests_while_the_list_shows_the_same_and_health_is_looked_at(listed: Listed) -> None:
    looks = len(listed.story.world.calls)
    live = listed.follow(RESTS_S - 60.0)
    assert live is not None
    assert listed.asked.times <= 4, "until the list has answered"
    assert len(listed.beats) >= (RESTS_S - 60.0) / FOLLOW_S
    assert listed.story.world.calls[looks:].count("health.look") > 100
    before = listed.asked.times
    listed.follow(2 * RESTS_S)
    assert listed.asked.times in (before + 2, before + 3, before + 4)


def test_a_deployment_that_the_list_shows_ends_the_wait(listed: Listed) -> None:
    world = listed.story.world
    listed.follow(100.0)
    at = world.clock.now() + 300.0
    world.clock.at(at, lambda: world.deploy(world.upload("next")))
    wait_for_unwatched(listed.tools, wait=listed.wait, hints=listed.hints)
    assert at <= world.clock.now() <= at + 10.0 + FOLLOW_S


def test_without_a_list_each_look_asks(listed: Listed) -> None:
    listed.answers = False
    listed.follow(600.0)
    assert listed.asked.times >= 600.0 / FOLLOW_S


def test_a_list_that_is_away_is_believed_for_a_minute(listed: Listed) -> None:
    listed.follow(100.0)
    listed.answers, before = False, listed.asked.times
    listed.follow(LIST_HOLDS_S - 20.0)
    assert listed.asked.times == before + 1, "a follow that begins asks"
    listed.follow(LIST_HOLDS_S)
    assert listed.asked.times > before + 5


def test_a_list_that_does_not_show_what_the_history_holds_is_not_believed(listed: Listed) -> None:
    listed.follow(100.0)
    world = listed.story.world
    listed.shows = False
    world.deploy(world.upload("next"))
    before = listed.asked.times
    listed.follow(300.0)
    assert listed.asked.times >= before + 300.0 / FOLLOW_S


def test_a_history_that_is_late_is_asked_until_it_shows_the_deployment_or_a_minute_is_over(listed: Listed) -> None:
    listed.follow(100.0)
    before = listed.asked.times
    listed.shows = False
    listed._shown_at += 50.0
    listed.follow(300.0)
    assert 60.0 / FOLLOW_S <= listed.asked.times - before <= 2 + 75.0 / FOLLOW_S


def test_a_hold_of_another_machine_is_known_here_as_soon_as_the_list_shows_its_deployment(listed: Listed) -> None:
    folder = listed.path.parent
    listed.tools = equip(listed.tools, holds=FileHolds(folder / "holds"))
    there = toolbox(listed.story.world, folder / "there" / "journal.sqlite", policy=listed.story.policy)
    there = equip(there, holds=FileHolds(folder / "there" / "holds"))

    def hold() -> None:
        now = listed.clock.now()
        announce(there, Hold(now + 7_200.0, "the data is being mended", "ops@host", now, HERE, ""))

    listed.follow(100.0)
    listed.clock.at(listed.clock.now() + 300.0, hold)
    listed.follow(290.0)
    assert find_active_hold(listed.tools) is None
    listed.follow(10.0 + 10.0 + FOLLOW_S)
    assert find_active_hold(listed.tools) is not None


def test_news_in_the_list_wakes_the_loop_once(listed: Listed) -> None:
    history = listed.story.tools().deployments.history()
    listed.hints.note_history(history)
    listed.hints.note_list(history[0].created_at)
    assert not listed.hints.take()
    listed.hints.note_list(history[0].created_at + 10.0)
    assert listed.hints.take()
    listed.hints.note_list(history[0].created_at + 10.0)
    assert not listed.hints.take()
