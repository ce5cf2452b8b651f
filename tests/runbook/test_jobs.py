"""Job workers follow the traffic: stopped and started as steps of their own, counted, read back, never two at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from crashing import dies_at
from journal_engines import on_both
from ramped import Ramped

from backout.errors import PartlyDone, ProviderUnavailable, WorldMoved
from backout.model.incident.incident import RunState
from backout.model.jobs import JobsSetup
from backout.model.plan import Equivalents, Plan, PlanKind
from backout.model.steps.jobs import StartJobsStep, StopJobsStep
from backout.plan.jobs import add_jobs, name_lane, plan_jobs
from backout.plan.rollback import Request
from backout.ports import find_result
from backout.runbook.procedures import Actions
from backout.runbook.rollback import already
from backout.runbook.rollback.panic import find_in_the_way, stand_aside
from backout.runbook.rollback.rollback import prepare

from extent import sampled
from line import Story, equip, roll_back, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.incident.incident import Event
    from backout.runbook.toolbox import Toolbox


class Working(Story):
    """The bad version's workers do three jobs."""

    def tools(self, crash_point: Callable[[str], None] | None = None) -> Toolbox:
        """Return tools with job workers."""
        return equip(super().tools(crash_point), jobs=self.world.job_workers)

    def begin(self) -> Working:
        """Have the workers of the live version run."""
        self.world.jobs = {self.bad.id: 3}
        return self


def test_a_rollback_stops_the_workers_of_the_bad_version_then_starts_those_of_the_good_one(tmp_path: Path) -> None:
    """Planning asks no worker; how many jobs there were is in the result; nothing ran beside anything else."""
    story = Working(tmp_path / "journal.sqlite").begin()
    asked: list[str] = []
    story.world.before_call = asked.append
    _, plan = prepare(story.tools(), Request(message="it fails"))
    story.world.before_call = None
    assert isinstance(plan, Plan)
    assert not any("job_workers" in each for each in asked)
    titles = [step.title for step in plan.steps]
    stop = titles.index(f"stop the job workers of every version but {story.good.id[:8]}; what is in flight has 10 s")
    assert titles[stop + 1] == f"start the job workers of version {story.good.id[:8]}"
    assert stop == len(titles) - 2  # nothing waits for them
    run = roll_back(story.tools())
    stopped = find_result(story.tools().runs, run.id, StopJobsStep)
    started = find_result(story.tools().runs, run.id, StartJobsStep)
    assert stopped is not None and (stopped.versions, stopped.in_flight) == ((story.bad.id,), 3)  # noqa: PT018
    assert started is not None and (started.version, started.hosts) == (story.good.id, ("world",))  # noqa: PT018
    assert story.world.jobs == {story.good.id: 0}
    assert story.world.most_jobs == 1


def test_without_job_workers_a_plan_has_no_such_steps(tmp_path: Path) -> None:
    """As for every application that names none."""
    _, plan = prepare(Story(tmp_path / "journal.sqlite").tools(), Request(message="it fails"))
    assert isinstance(plan, Plan)
    assert not plan.has(StopJobsStep)


def test_what_must_not_be_moved_is_said(tmp_path: Path) -> None:
    """In the plan's notes."""
    plan = get_plan(Story(tmp_path / "journal.sqlite").tools())
    left = add_jobs(plan, JobsSetup(1.0, withheld="why"), "v", "", Equivalents())
    assert (left.steps, left.notes[-1]) == (plan.steps, "job workers stay as they are: why")


def test_workers_that_do_not_end_are_counted_and_the_others_wait(tmp_path: Path) -> None:
    """Exit code 5: the traffic is back; the run goes on when somebody has ended them."""
    story = Working(tmp_path / "journal.sqlite").begin()
    story.world.jobs_hang = True
    with pytest.raises(PartlyDone, match=r"after 10 s job workers .* 3 jobs in flight still run"):
        roll_back(story.tools())
    assert story.world.live.sole == story.good.id
    assert story.world.jobs == {story.bad.id: 3}
    tools = story.tools()
    left = tools.runs.runs("production")[0]
    assert [tools.runs.result(left.id, each) is not None for each in ("verify", "report", "settle")] == [True] * 3
    story.world.jobs_hang = False
    run = roll_back(story.tools())
    assert run.state is RunState.DONE
    assert story.world.jobs == {story.good.id: 0}


def test_another_rollback_does_not_wait_for_workers_of_the_first_one(tmp_path: Path) -> None:
    """The run keeps the environment only as a watch does: panic and a rollback end it, and move the workers."""
    story = Working(tmp_path / "journal.sqlite").begin()
    story.world.jobs_hang = True
    with pytest.raises(PartlyDone):
        roll_back(story.tools())
    tools = story.tools()
    run = tools.runs.runs("production")[0]
    assert find_in_the_way(tools) == (run, False)  # panic goes on with what has just gone back
    assert already.is_meant_again(tools, run)
    story.world.deploy(story.world.upload("hotfix"))
    assert find_in_the_way(tools) == (run, True)
    assert not already.is_meant_again(tools, run)
    assert stand_aside(tools) is None
    story.world.jobs_hang = False
    roll_back(tools)
    assert story.world.jobs == {str(story.world.live.sole): 0}


def test_workers_are_waited_for_until_a_rollback_is_typed(tmp_path: Path) -> None:
    """A step that waits for jobs in flight looks for a request to end."""
    story = Working(tmp_path / "journal.sqlite").begin()
    story.world.jobs_hang = True
    tools = story.tools()

    def ask(event: Event) -> None:
        if event.kind == "step.start" and event.data["action"] == "stop_jobs":
            tools.runs.ask(event.run, "abort", actor="ops@host", reason="rollback: further")

    run = tools.journal.submit(get_plan(tools), actor="ops@host", reason="it fails")
    tools.journal.drive(run, Actions(tools), actor="ops@host", notify=ask)
    ended = tools.runs.runs("production")[0]
    assert ended.state is RunState.ABORTED
    started = tools.journal.events(run=run, kind="step.start")
    assert tools.clock.now() - max(each.at for each in started) < 5.0


def get_plan(tools: Toolbox) -> Plan:
    """Return the plan of a rollback."""
    _, plan = prepare(tools, Request(message="it fails"))
    assert isinstance(plan, Plan)
    return plan


def test_a_hotfix_in_between_keeps_its_own_workers(tmp_path: Path) -> None:
    """The workers belong to whoever changed what is live last."""
    story = Working(tmp_path / "journal.sqlite").begin()
    tools = story.tools()
    plan = plan_jobs("production", story.bad.id, JobsSetup(10.0), tools.rollback.equivalents)
    run = tools.journal.submit(plan, actor="ops@host", reason="why")
    story.world.deploy(story.world.upload("hotfix"))
    with pytest.raises(WorldMoved, match="the job workers are left to whoever changed that"):
        tools.journal.drive(run, Actions(tools), actor="ops@host")
    assert story.world.jobs == {story.bad.id: 3}
    assert tools.runs.runs(name_lane("production"))[0].state is RunState.FAILED


def test_workers_of_a_version_that_another_one_replaced_meanwhile_are_not_left_running(tmp_path: Path) -> None:
    """Also where their start failed on one of the hosts, so that nobody waits for them."""
    story = Working(tmp_path / "journal.sqlite").begin()

    def fail(name: str) -> None:
        if name == "job_workers.start":
            story.world.after_call = None
            story.world.deploy(story.world.upload("hotfix"))
            raise ProviderUnavailable("the command ended with exit code 1", where="web2")

    story.world.after_call = fail
    with pytest.raises(WorldMoved):
        roll_back(story.tools())
    assert story.world.jobs == {}


def test_guard_moves_the_workers_with_the_code(tmp_path: Path) -> None:
    """Alone: they are part of the code that it moves."""
    story = Working(tmp_path / "journal.sqlite").begin()
    watch(story.tools())
    assert story.world.live.sole == story.good.id
    assert story.world.jobs == {story.good.id: 0}


@pytest.mark.long
def test_the_last_watch_of_a_ramp_moves_the_workers(tmp_path: Path) -> None:
    """Behind its verdict: the watch waits for nothing."""
    story = Ramped(tmp_path / "journal.sqlite", bad_at=200.0, stage_s=12.0, per_s=100_000)
    story.world.jobs = {story.good.id: 1}
    tools = equip(story.tools(), health=None, jobs=story.world.job_workers)
    watch(tools)
    assert story.shares() == [{story.good.id: 50.0, story.canary.id: 50.0}, {story.canary.id: 100.0}]
    assert story.world.jobs == {story.canary.id: 0}
    newest, *before = tools.runs.runs("production")
    assert [step.action for step in newest.plan.steps] == ["watch", "conclude", "stop_jobs", "start_jobs"]
    assert not any(run.plan.has(StopJobsStep) for run in before)


def list_moments(story: Working) -> list[str]:
    """Return the name of each moment of a rollback at which a process can die."""
    names: list[str] = []
    story.world.before_call = story.world.after_call = names.append
    roll_back(story.tools(crash_point=names.append))
    story.world.before_call = story.world.after_call = None
    return names


@pytest.mark.long
@pytest.mark.rotating("crash sweeps", 6)
@on_both
def test_a_crash_at_every_moment_then_again_moves_them_once(quick_path: Path) -> None:
    """Each moment around a call to the workers, and samples of the others: same end, never two versions at once."""
    names = list_moments(Working(quick_path / "whole.sqlite").begin())
    ours = [number for number, name in enumerate(names, 1) if "job_workers" in name]
    assert len(ours) >= 12
    around = {each + step for each in ours for step in (-1, 0, 1)}
    for moment in sorted({*around, *sampled(len(names), 40, 12)} - {0}):
        story = Working(quick_path / f"{moment}.sqlite").begin()
        if dies_at(story, moment, roll_back):
            newest = story.tools().runs.runs("production")[0]
            if newest.plan.kind is not PlanKind.ROLLBACK or newest.state is not RunState.DONE:
                roll_back(story.tools())
        assert story.world.jobs == {story.good.id: 0}, moment
        assert story.world.most_jobs == 1, moment
        assert len(story.world.activations) == 1, moment
