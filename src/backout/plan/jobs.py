"""The steps that have job workers follow the traffic, and the plan that does nothing else; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.clock import format_duration
from backout.model.jobs import describe_running
from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.jobs import StartJobsStep, StopJobsStep

if TYPE_CHECKING:
    from backout.model.jobs import JobsLook
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


def plan_jobs(environment: str, version: str, look: JobsLook, lines: Equivalents) -> Plan:
    """Return the plan that has the workers of a version run, which is live, and no others."""
    why = f"job workers follow release {version[:8]}"
    return Plan(PlanKind.JOBS, name_lane(environment), why, list_steps(version, look, lines))


def add_jobs(plan: Plan, look: JobsLook | None, version: str, lines: Equivalents) -> Plan:
    """Return the plan with the steps that have the workers follow the traffic, at its end: nothing waits for them.

    Args:
        look: which workers run; None: the application has none that backout knows of.
        version: what gets the traffic; "": what is live then.
    """
    if look is None:
        return plan
    if not look.can_move:
        return replace(plan, notes=(*plan.notes, f"job workers stay as they are: {look.problem}"))
    steps = (*plan.steps, *list_steps(version, look, lines))
    unknown = (f"which job workers run is not known: {look.problem}",) if look.problem else ()
    return replace(plan, steps=steps, notes=(*plan.notes, *unknown))


def list_steps(version: str, look: JobsLook, lines: Equivalents) -> tuple[Step, ...]:
    """Return the two steps."""
    others = look.list_apart(version) if version else ()
    whose = describe_running(others) if others else f"of every version but {version[:8] or 'the live one'}"
    limit = format_duration(look.within_s)
    gone = "\n".join(_fill(lines.stop_jobs, each) for each in dict.fromkeys(each.version for each in others))
    return (
        Step.of(
            f"stop the job workers {whose}; what is in flight has {limit}",
            StopJobsStep(version=version, within_s=look.within_s),
            gone if lines.stop_jobs else "",
        ),
        Step.of(
            f"start the job workers of version {version[:8] or 'that is live'}",
            StartJobsStep(version=version, within_s=look.within_s),
            _fill(lines.start_jobs, version),
        ),
    )


def _fill(line: str, version: str) -> str:
    return line.replace("{version}", version) if version else ""
