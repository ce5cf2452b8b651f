"""The steps that have job workers and timers run for the live version alone: stop the others, start its own."""

from __future__ import annotations

from typing import ClassVar, Final

from backout.model.steps.base import Arguments, Result


class StopJobsResult(Result, frozen=True, kw_only=True):
    """Whose workers were stopped, and how many jobs they were doing then; all of these have ended."""

    versions: tuple[str, ...]
    in_flight: int


class StopJobsStep(Arguments[StopJobsResult], frozen=True, kw_only=True):
    """Stop the workers of every version but one.

    Args:
        version: whose workers stay; "": that of the version which is live.
        within_s: how long the jobs in flight may take.
        every: none stay, whatever is live.
    """

    action: ClassVar[str] = "stop_jobs"
    omitted: ClassVar[frozenset[str]] = frozenset({"every"})
    version: str
    within_s: float
    every: bool = False


class StartJobsResult(Result, frozen=True, kw_only=True):
    """Whose workers run, and on which hosts."""

    version: str
    hosts: tuple[str, ...]


class StartJobsStep(Arguments[StartJobsResult], frozen=True, kw_only=True):
    """Start the workers of the version that is live.

    Args:
        version: the version, "": which one is live.
        within_s: how long they may take until they run.
    """

    action: ClassVar[str] = "start_jobs"
    version: str
    within_s: float


MOVING: Final = frozenset({StopJobsStep.action, StartJobsStep.action})
"""The steps that nothing waits for at the end of a plan; a run that hands over leaves them out."""
