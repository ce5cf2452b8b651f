"""What a run meets that is taken up again later: it is judged by what is known then, and nobody forgets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec.structs import replace

from backout.errors import PartlyDone, ProviderUnavailable, Refused, WorldMoved
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.plan.rollback import Request
from backout.runbook.guard.follow import FOLLOW_S, wait_for_unwatched

from line import Story, roll_back, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.incident.incident import Run
    from backout.runbook.toolbox import Toolbox

SWITCH = "deployments.activate"


class HeldUntil:
    """Runs whose holder counts as alive until a moment: its lease has not run out yet."""

    def __init__(self, tools: Toolbox, until: float) -> None:
        self._runs, self._clock, self._until = tools.runs, tools.clock, until

    def runs(self, environment: str) -> tuple[Run, ...]:
        return tuple(map(self._hold, self._runs.runs(environment)))

    def find(self, run: str) -> Run | None:
        found = self._runs.find(run)
        return None if found is None else self._hold(found)

    def _hold(self, run: Run) -> Run:
        is_held = run.state is RunState.INTERRUPTED and self._clock.now() < self._until
        return replace(run, state=RunState.RUNNING) if is_held else run


class Crash(BaseException):
    """The process dies here."""


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A World in which the bad version was just deployed."""
    return Story(quick_path / "journal.sqlite")


def dies_before_the_switch(story: Story, tools: Toolbox | None = None) -> None:
    """Have a guard die between the proof and the switch."""

    def die(name: str) -> None:
        if name == SWITCH:
            raise Crash

    story.world.before_call = die
    with pytest.raises(Crash):
        watch(tools or story.tools())
    story.world.before_call = None
    story.world.calls.clear()


def test_a_migration_that_came_meanwhile_stops_the_switch(story: Story) -> None:
    """The plan was judged before it; an hour later the rules are asked again (safety rule 4), and a report says so."""
    dies_before_the_switch(story)
    story.world.clock.sleep(3600)
    story.world.migrate("20270101000000_drop")
    with pytest.raises(Refused) as caught:
        watch(story.tools())
    assert caught.value.rule == "4 schema"
    assert "20270101000000_drop" in caught.value.what
    assert story.world.live.shares[0].version == story.bad.id
    assert SWITCH not in story.world.calls
    newest = story.tools().runs.runs("production")[0]
    assert (newest.plan.kind, newest.state) == (PlanKind.ROLLBACK, RunState.FAILED)
    assert any("20270101000000_drop" in text for text in story.world.reports.texts.values())


def test_an_old_plan_that_no_rule_forbids_goes_on(story: Story) -> None:
    """Nothing changed meanwhile but the time."""
    dies_before_the_switch(story)
    story.world.clock.sleep(3600)
    assert watch(story.tools()).state is RunState.DONE
    assert story.world.live.sole == story.good.id


def test_an_old_plan_to_a_version_named_by_a_person_goes_on(story: Story) -> None:
    """That nobody proved it was accepted when it was planned."""
    world = story.world
    unproven = world.upload("unproven")

    def die(name: str) -> None:
        if name == SWITCH:
            raise Crash

    world.before_call = die
    request = Request(message="it fails", target=unproven.id, wait=False)
    with pytest.raises(Crash):
        roll_back(story.tools(), request)
    world.before_call = None
    world.clock.sleep(3600)
    assert roll_back(story.tools(), request).state is RunState.DONE
    assert world.live.sole == unproven.id


def test_a_hotfix_that_remarks_pushed_out_of_the_list_is_not_rolled_back(story: Story) -> None:
    """Ten remarks on it, and the provider lists neither it nor the bad deployment: what has traffic decides."""
    dies_before_the_switch(story)
    world = story.world
    hotfix = world.upload("hotfix")
    world.deploy(hotfix)
    for _ in range(10):
        world.clock.sleep(60)
        world.deploy(hotfix, message="[backout hold until=0] lifted")
    with pytest.raises((WorldMoved, PartlyDone), match="on which this plan rests"):
        watch(story.tools())
    assert (world.live.sole, SWITCH in world.calls) == (hotfix.id, False)


def test_a_guard_that_follows_goes_on_with_its_rollback(story: Story) -> None:
    """The provider does not answer at the switch: the next look finds the run, not only another deployment."""
    world = story.world

    def fail(name: str) -> None:
        if name == SWITCH:
            raise ProviderUnavailable("503", where="memory")

    world.before_call = fail
    with pytest.raises(PartlyDone):
        watch(story.tools())
    world.before_call = None
    began = world.clock.now()
    wait_for_unwatched(story.tools())
    assert world.clock.now() == began
    assert watch(story.tools()).state is RunState.DONE
    assert world.live.sole == story.good.id


def test_a_rollback_whose_holder_died_goes_on_when_its_lease_has_run_out(story: Story) -> None:
    """Whoever takes over may look before that: the run is held then, and what is live was watched."""
    dies_before_the_switch(story)
    tools, clock = story.tools(), story.world.clock
    free_at = clock.now() + 20

    def wait(seconds: float) -> None:
        assert clock.now() < free_at + 60, "nobody goes on with it"
        clock.sleep(seconds)

    wait_for_unwatched(replace(tools, runs=cast("Any", HeldUntil(tools, free_at))), wait=wait)
    assert free_at <= clock.now() <= free_at + 2 * FOLLOW_S
    assert watch(story.tools()).state is RunState.DONE
    assert story.world.live.sole == story.good.id
