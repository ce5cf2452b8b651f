"""Builds as a pipeline reports them: runs, their jobs, the step that failed."""

from __future__ import annotations

from enum import StrEnum

from backout.model.value import Value


class BuildState(StrEnum):
    """The state of a run, a job or a step."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class BuildJob(Value, frozen=True):
    """One job of a run. `failed_step`: the name of its first step that failed, "" without one."""

    id: str
    name: str
    state: BuildState
    failed_step: str = ""
    url: str = ""


class BuildRun(Value, frozen=True):
    """One run of a pipeline.

    Args:
        id: the provider's.
        name: of the workflow.
        commit: the sha.
        started_at: Unix seconds, None: unknown.
        jobs: with their states; () where they were not requested.
        checks: (name, state) of other checks on that commit.
    """

    id: str
    name: str
    commit: str
    state: BuildState
    branch: str = ""
    url: str = ""
    started_at: float | None = None
    jobs: tuple[BuildJob, ...] = ()
    checks: tuple[tuple[str, BuildState], ...] = ()

    @property
    def failed_job(self) -> BuildJob | None:
        """The first job that failed."""
        return next((job for job in self.jobs if job.state is BuildState.FAILURE), None)
