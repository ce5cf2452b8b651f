"""Rule 10, the kill switch's own end: a week at most, told before, and not while its incident is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.model.guard.policy import Mode
from backout.model.hold import Hold
from backout.model.incident.notice import NoticeKind
from backout.model.plan import PlanKind
from backout.plan.rollback import Request
from backout.providers.files.holds import FileHolds
from backout.providers.memory import make_steady
from backout.runbook.guard import next_deployment
from backout.runbook.incident.open_incident import find_open_incident
from backout.runbook.safety.announce import announce
from backout.runbook.safety.hold import HERE, find_active_hold
from backout.runbook.safety.hold_notices import tell_of_holds

from line import Story, equip, roll_back, toolbox, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.incident.notice import Notice
    from backout.runbook.toolbox import Toolbox

HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A World in which the bad version was just deployed."""
    return Story(quick_path / "journal.sqlite")


def here(story: Story) -> Toolbox:
    """Return the tools of the machine that has the story's journal."""
    return equip(story.tools(), holds=FileHolds(story.path.parent / "holds"))


def elsewhere(story: Story) -> Toolbox:
    """Return the tools of a machine with an empty journal, which has seen nothing."""
    made = toolbox(story.world, story.path.parent / "elsewhere" / "journal.sqlite", policy=story.policy)
    return equip(made, holds=FileHolds(story.path.parent / "elsewhere" / "holds"))


def hold(tools: Toolbox, for_s: float, incident: str = "") -> None:
    """Set a hold as the command does."""
    now = tools.clock.now()
    wanted = Hold(now + for_s, "the data is being mended", "ops@host", now, HERE, incident)
    announce(tools, wanted)


def is_held(tools: Toolbox) -> bool:
    return find_active_hold(tools, tools.deployments.history()) is not None


def told(story: Story) -> list[Notice]:
    return [notice for notice in story.world.notices if notice.kind is NoticeKind.HOLD_ENDS]


def test_rule_10_kill_switch_tells_its_end_a_day_and_an_hour_before(story: Story) -> None:
    """Each of them once, however often somebody looks; a short hold tells only what is news."""
    tools = here(story)
    hold(tools, 3 * DAY)
    counts = []
    for sleep_s in (60.0, 2 * DAY, 60.0, 22 * HOUR, HOUR, 60.0, HOUR):
        story.world.clock.sleep(sleep_s)
        tell_of_holds(tools, tools.deployments.history())
        tell_of_holds(tools, tools.deployments.history())
        counts.append(len({notice.key for notice in told(story)}))
    assert counts == [0, 1, 1, 1, 2, 2, 2]
    hold(tools, 30 * 60.0)
    tell_of_holds(tools, tools.deployments.history())
    assert len({notice.key for notice in told(story)}) == 2


def test_rule_10_kill_switch_tells_its_end_while_guard_watches(story: Story) -> None:
    """Whoever looks tells it: here a watch that began with fifty minutes to go."""
    tools = here(story)
    hold(tools, 2 * HOUR)
    story.world.clock.sleep(70 * 60.0)
    story.world.traffic_rule = make_steady(30)
    watch(tools, for_s=20)
    assert told(story)


def test_rule_10_kill_switch_set_in_an_incident_does_not_end_before_it(story: Story) -> None:
    """Its time is over, the rollback is not verified: it holds on, says so, and ends with the incident."""
    tools = here(story)
    story.world.traffic_rule = make_steady(30, error_rate=0.3)
    assert find_open_incident(tools.runs, "production") == ""
    run = roll_back(tools, Request(message="by hand"))
    assert find_open_incident(tools.runs, "production") == run.id
    hold(tools, HOUR, find_open_incident(tools.runs, "production"))
    story.world.clock.sleep(2 * HOUR)
    assert is_held(tools)
    tell_of_holds(tools, tools.deployments.history())
    assert any("is open" in notice.text for notice in told(story))
    story.world.traffic_rule = make_steady(30)
    assert watch(tools, for_s=25).plan.kind is PlanKind.GUARD
    assert find_open_incident(tools.runs, "production") == ""
    assert not is_held(tools)


def test_rule_10_kill_switch_of_an_incident_elsewhere_holds_here(story: Story) -> None:
    """Another machine cannot know that it is over, and waits, for a week at most; who lifts it ends it everywhere."""
    tools = here(story)
    hold(tools, HOUR, "rollback-1a2b3c4d")
    story.world.clock.sleep(7 * DAY - HOUR)
    assert is_held(elsewhere(story))
    story.world.clock.sleep(2 * HOUR)
    assert not is_held(elsewhere(story))
    hold(tools, HOUR, "rollback-1a2b3c4d")
    story.world.clock.sleep(2 * HOUR)
    assert is_held(elsewhere(story))
    announce(tools, Hold(0.0, "over", "ops@host", tools.clock.now(), HERE))
    assert not is_held(elsewhere(story))


def test_rule_10_a_watch_that_left_a_bad_version_live_is_an_open_incident(story: Story) -> None:
    """Guard only observed: the version it found bad is live, until somebody rolls back and that is verified."""
    tools = here(story)
    run = watch(tools, mode=Mode.OBSERVE)
    assert find_open_incident(tools.runs, "production") == run.id
    roll_back(tools)
    assert find_open_incident(tools.runs, "production") == ""


def test_rule_10_a_run_that_was_interrupted_is_an_open_incident(story: Story) -> None:
    """A rollback that somebody has to take up again."""
    tools = here(story)

    class Crash(BaseException):
        """The process dies here."""

    def die(call: str) -> None:
        if call == "deployments.activate":
            raise Crash

    story.world.after_call = die
    with pytest.raises(Crash):
        roll_back(tools)
    story.world.after_call = None
    assert find_open_incident(tools.runs, "production") == tools.runs.runs("production")[0].id


def test_rule_10_following_tells_it_too(story: Story) -> None:
    """What waits for the next deployment looks at the hold as well."""
    tools = here(story)
    hold(tools, 2 * HOUR)
    story.world.clock.sleep(70 * 60.0)
    found = next_deployment.lives(tools, 5.0)
    next(found)
    found.close()
    assert told(story)
