"""The steps that have job workers follow the traffic, and the plan that does nothing else; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.clock import format_duration
from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.jobs import StartJobsStep, StopJobsStep

if TYPE_CHECKING:
    from backout.model.jobs import JobsSetup
    from backout.model.plan import Equivalents

_LANE: Final = "/jobs"


def name_lane(environment: str) -> str:
    """Return what a run that only moves workers keeps in the journal: a rollback must always find the environment free.

    >>> name_lane("production"), get_environment(name_lane("production"))
    ('production/jobs', 'production')
    """
    return environment + _LANE


def get_environment(kept: str) -> str:
    """Return the environment of a lane, or of what is none."""
    return kept.removesuffix(_LANE)


def plan_jobs(environment: str, version: str, setup: JobsSetup, lines: Equivalents) -> Plan:
    """Return the plan that has the workers of a version run, which is live, and no others."""
    why = f"job workers follow release {version[:8]}"
    return Plan(PlanKind.JOBS, name_lane(environment), why, list_steps(version, "", setup, lines))


def add_jobs(plan: Plan, setup: JobsSetup, version: str, leaving: str, lines: Equivalents) -> Plan:
    """Return the plan with the steps that have the workers follow the traffic, at its end: nothing waits for them.

    Which workers run is not asked before: the way back must not wait for that either.

    Args:
        version: what gets the traffic; "": what is live then.
        leaving: what had it before, "" unknown.
    """
    if setup.withheld:
        return replace(plan, notes=(*plan.notes, f"job workers stay as they are: {setup.withheld}"))
    return replace(plan, steps=(*plan.steps, *list_steps(version, leaving, setup, lines)))


def list_steps(version: str, leaving: str, setup: JobsSetup, lines: Equivalents) -> tuple[Step, ...]:
    """Return the two steps."""
    others = f"every version but {version[:8] or 'the live one'}"
    stop = StopJobsStep(version=version, within_s=setup.within_s)
    return (
        Step.of(_describe_stop(others, stop), stop, _fill(lines.stop_jobs, leaving)),
        make_start_step(version, setup, lines),
    )


def make_stop_all_step(leaving: str, setup: JobsSetup, lines: Equivalents) -> Step:
    """Return the step that stops the workers of every version; `leaving`: the one that is live."""
    stop = StopJobsStep(version="", within_s=setup.within_s, every=True)
    return Step.of(_describe_stop("every version", stop), stop, _fill(lines.stop_jobs, leaving))


def make_start_step(version: str, setup: JobsSetup, lines: Equivalents, typed: str = "") -> Step:
    """Return the step that starts the workers of the live version; `typed`: what a person types in its place."""
    title = f"start the job workers of version {version[:8] or 'that is live'}"
    start = StartJobsStep(version=version, within_s=setup.within_s)
    return Step.of(title, start, _fill(lines.start_jobs, typed or version))


def _describe_stop(whose: str, stop: StopJobsStep) -> str:
    return f"stop the job workers of {whose}; what is in flight has {format_duration(stop.within_s)}"


def _fill(line: str, version: str) -> str:
    return line.format(version=version) if version else ""
