"""Job workers in a complete recovery: none runs while anything is overwritten, and those of what is live then do."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from recovery_story import ASK, Night, check_closed, check_recovered, check_taken_back, recover, take_back
from values import replace

from backout.errors import PartlyDone, ProviderUnavailable, UsageError, WorldMoved
from backout.model.incident.incident import RunState
from backout.model.jobs import JobsSetup
from backout.model.steps.jobs import StartJobsStep, StopJobsStep
from backout.plan.recovery import OVERWRITES
from backout.ports import find_result
from backout.runbook.recover.prepare import find_stops, prepare
from backout.runbook.recover.undo import find_undoable, prepare_undo
from backout.runbook.safety.aside import gives_way

from line import equip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.runbook.recover.tools import RecoverTools


class WorkingNight(Night):
    """A night whose bad version has workers, which do three jobs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.world.jobs = {self.bad.id: 3}
        self.beside: list[str] = []
        self.watch_application()

    def tools(self, crash_point: Callable[[str], None] | None = None) -> RecoverTools:
        """Return tools with job workers."""
        made = super().tools(crash_point)
        return replace(made, tools=equip(made.tools, jobs=self.world.job_workers))

    def _pass(self, name: str, crash: Callable[[str], None]) -> None:
        if self.world.jobs and name in ("before server.move_in", "before objects.carry_out"):
            self.beside.append(name)
        super()._pass(name, crash)


@pytest.fixture
def night(quick_path: Path) -> WorkingNight:
    return WorkingNight(quick_path)


def check_workers(night: WorkingNight) -> None:
    """Those of what is live run, and no others; none did while anything was overwritten, and never two at once."""
    assert list(night.world.jobs) == [night.world.live.main]
    assert night.beside == []
    assert night.world.most_jobs <= 1


def test_workers_end_before_anything_is_overwritten_and_those_of_the_target_start_last(night: WorkingNight) -> None:
    """Two steps of the plan, whose results are read back; no worker is asked for the plan."""
    night.world.calls.clear()
    plan = prepare(night.tools(), ASK)
    assert not any("job_workers" in each for each in night.world.calls)
    actions = [step.action for step in plan.steps]
    stop = actions.index("stop_jobs")
    assert actions[stop - 1] == "recover_maintenance"
    assert stop < min(actions.index(each) for each in OVERWRITES if each in actions)
    assert actions[-2:] == ["recover_report", "start_jobs"]
    assert plan.steps[stop].title == "stop the job workers of every version; what is in flight has 10 s"
    assert sum(note.startswith("order: job workers end behind the page") for note in plan.notes) == 1
    run = recover(night.tools())
    night.stop_watching()
    check_recovered(night)
    check_workers(night)
    stopped = find_result(night.tools().tools.runs, run.id, StopJobsStep)
    started = find_result(night.tools().tools.runs, run.id, StartJobsStep)
    assert stopped is not None and (stopped.versions, stopped.in_flight) == ((night.bad.id,), 3)  # noqa: PT018
    assert started is not None and started.version == night.world.live.main  # noqa: PT018


def test_an_undo_has_the_workers_of_before_run(night: WorkingNight) -> None:
    """Those of the target end first."""
    recover(night.tools())
    assert take_back(night.tools()) is not None
    night.stop_watching()
    check_taken_back(night)
    check_workers(night)


def test_an_undo_of_what_is_closed_starts_them(night: WorkingNight) -> None:
    """The recovery stopped them, and came no further than the objects."""

    def fail(name: str) -> None:
        if name == "before objects.carry_out":
            raise ProviderUnavailable("it failed")

    night.watch_application(fail)
    with pytest.raises(PartlyDone):
        recover(night.tools())
    check_closed(night)
    assert night.world.jobs == {}
    night.watch_application()
    assert take_back(night.tools()) is not None
    night.stop_watching()
    check_taken_back(night)
    check_workers(night)


def test_a_recovery_that_is_given_up_has_them_run_again(night: WorkingNight) -> None:
    """Before the first overwrite: everything that it stopped goes on."""

    def fail(name: str) -> None:
        if name == "before fence.prove":
            raise ProviderUnavailable("it failed")

    night.watch_application(fail)
    with pytest.raises(WorldMoved):
        recover(night.tools())
    night.stop_watching()
    check_taken_back(night)
    check_workers(night)


def test_workers_that_do_not_end_give_the_recovery_up(night: WorkingNight) -> None:
    """They may write; who they are and how many jobs they do is said, and nothing was overwritten."""
    night.world.jobs_hang = True
    with pytest.raises(WorldMoved, match=r"after 10 s job workers .* 3 jobs in flight still run; they may still write"):
        recover(night.tools())
    night.stop_watching()
    check_taken_back(night)
    assert night.world.jobs == {night.bad.id: 3}


def test_workers_of_another_version_that_do_not_end_leave_the_run_to_resume(night: WorkingNight) -> None:
    """Those of the live one are not started beside them, and the application is open all the same."""
    night.world.jobs, night.world.jobs_hang = {night.good.id: 1}, True
    with pytest.raises(PartlyDone, match=r"1 job in flight run, so those of version"):
        recover(night.tools())
    assert night.world.live.sole == night.bad.id
    assert night.world.fence.live.mark is None
    night.world.jobs_hang = False
    night.world.jobs = {}
    with pytest.raises(WorldMoved, match="nothing was overwritten"):
        recover(night.tools())
    night.stop_watching()
    check_taken_back(night)
    check_workers(night)


def test_workers_that_do_not_start_hold_up_neither_the_report_nor_another_run(night: WorkingNight) -> None:
    """Exit code 5; it counts as made, also when a rollback has ended it."""

    def fail(name: str) -> None:
        if name == "before job_workers.start":
            raise ProviderUnavailable("it failed")

    night.watch_application(fail)
    with pytest.raises(PartlyDone):
        recover(night.tools())
    tools = night.tools()
    (run,) = tools.tools.runs.runs("production")
    assert len(night.world.reports.texts) == 1
    assert gives_way(run)
    assert find_undoable(tools).id == run.id
    night.watch_application()
    recover(night.tools())
    night.watch_application(fail)
    with pytest.raises(PartlyDone):
        take_back(night.tools())
    tools = night.tools()
    tools.tools.runs.ask(tools.tools.runs.runs("production")[0].id, "abort", actor="ops@host", reason="a rollback")
    assert tools.tools.runs.runs("production")[0].state is RunState.ABORTED
    with pytest.raises(UsageError, match="no recovery to take back"):
        find_undoable(tools)


def test_what_must_not_be_stopped_is_said(night: WorkingNight) -> None:
    """In the notes of the plan, as with --no-commands; without workers there is no word of them."""
    made = night.tools()
    withheld = JobsSetup(1.0, withheld="why")

    class Kept:
        setup = withheld

    plan = prepare(replace(made, tools=equip(made.tools, jobs=Kept())), ASK)
    assert not plan.has(StopJobsStep)
    assert "job workers are not stopped: why; end them first, as they write" in plan.notes
    bare = replace(made, tools=equip(made.tools, jobs=None))
    assert find_stops(bare, with_caches=False).jobs is None
    assert not any("job worker" in note for note in prepare(bare, ASK).notes)


def test_the_undo_names_what_is_typed_for_the_workers(night: WorkingNight) -> None:
    """A release that is uploaded again has an id only then; an undo knows whose they are."""
    made = night.tools()
    lines = replace(made.tools.rollback.equivalents, stop_jobs="stop {version}", start_jobs="start {version}")
    made = replace(made, tools=equip(made.tools, equivalents=lines))
    typed = {step.action: step.equivalent for step in prepare(made, ASK).steps}
    assert typed["stop_jobs"] == f"stop {night.bad.id}"
    assert typed["start_jobs"] == "# RELEASE: what is live then\nstart RELEASE"
    run = recover(night.tools())
    typed = {step.action: step.equivalent for step in prepare_undo(made, run).steps}
    assert typed["start_jobs"] == f"start {night.bad.id}"


def note_moments(folder: Path) -> list[str]:
    """Return the names of the moments of an undisturbed recovery and its undo."""
    names: list[str] = []
    folder.mkdir()
    night = WorkingNight(folder)
    night.watch_application(names.append)
    recover(night.tools(names.append))
    return names


class Crash(BaseException):
    """The process dies here."""


def test_wherever_it_dies_around_the_workers_those_of_what_is_live_run_at_the_end(quick_path: Path) -> None:
    """Before and after every call of theirs, and the commits beside it: typed again, or taken back."""
    names = note_moments(quick_path / "whole")
    ours = [moment for moment, name in enumerate(names) if "job_workers" in name]
    assert len(ours) >= 12
    for moment in sorted({each + step for each in ours for step in (-1, 0, 1)}):
        for again in (recover, take_back):
            folder = quick_path / f"{moment}-{again.__name__}"
            folder.mkdir()
            night = WorkingNight(folder)
            die_at(night, moment)
            if again is take_back or not night.tools().tools.runs.runs("production")[0].state.is_over:
                again(night.tools())
            night.stop_watching()
            (check_recovered if again is recover else check_taken_back)(night)
            check_workers(night)


def die_at(night: WorkingNight, moment: int) -> None:
    """Recover until that moment."""
    seen = 0

    def count(name: str) -> None:
        nonlocal seen
        seen += 1
        if seen - 1 == moment:
            raise Crash(name)

    night.watch_application(count)
    with suppress(Crash):
        recover(night.tools(count))
    night.watch_application()
