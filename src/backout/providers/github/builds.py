"""Port Builds on GitHub Actions: the newest run, its jobs, the step that failed, and that job's log.

Source: REST API of GitHub, version 2022-11-28: list workflow runs for a repository, list jobs for a workflow run,
download job logs for a workflow run (a redirect to another host, whose link holds for a minute), list check runs for a
Git reference, get the combined status for a specific reference. The token needs `actions: read`, `checks: read` and
`statuses: read`; without the last two, the checks of other systems are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from backout.errors import AuthError, ProviderRejected
from backout.model.incident.builds import BuildJob, BuildRun, BuildState
from backout.providers.clock import parse_unix_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.providers.github.client import GitHubClient

PERMISSION: Final = "actions: read"
LONGEST_LOG: Final = 4_000_000
"""Bytes of a log that are kept, from its end: what failed stands there."""
_CONCLUSIONS: Final = {
    "success": BuildState.SUCCESS,
    "neutral": BuildState.SUCCESS,
    "skipped": BuildState.SKIPPED,
    "cancelled": BuildState.CANCELLED,
    "stale": BuildState.CANCELLED,
    "failure": BuildState.FAILURE,
    "timed_out": BuildState.FAILURE,
    "startup_failure": BuildState.FAILURE,
    "action_required": BuildState.FAILURE,
    "error": BuildState.FAILURE,
    "pending": BuildState.RUNNING,
}


class _Run(msgspec.Struct):
    id: int
    name: str | None = None
    head_sha: str = ""
    head_branch: str | None = None
    status: str | None = None
    conclusion: str | None = None
    html_url: str = ""
    run_started_at: str | None = None


class _Runs(msgspec.Struct):
    workflow_runs: tuple[_Run, ...] = ()


class _Step(msgspec.Struct):
    name: str = ""
    conclusion: str | None = None


class _Job(msgspec.Struct):
    id: int
    name: str = ""
    status: str = ""
    conclusion: str | None = None
    html_url: str | None = None
    steps: tuple[_Step, ...] = ()


class _Jobs(msgspec.Struct):
    jobs: tuple[_Job, ...] = ()


class _Check(msgspec.Struct):
    name: str = ""
    status: str = ""
    conclusion: str | None = None


class _Checks(msgspec.Struct):
    check_runs: tuple[_Check, ...] = ()


class _Status(msgspec.Struct):
    context: str = ""
    state: str = ""


class _Statuses(msgspec.Struct):
    statuses: tuple[_Status, ...] = ()


class GitHubBuilds:
    """Port Builds of one repository. Args: repository: owner/name. branch: whose runs count when no commit is named."""

    def __init__(self, client: GitHubClient, repository: str, *, branch: str = "") -> None:
        self._client = client
        self._path = f"repos/{quote(repository)}"
        self._branch = branch

    def latest(self, commit: str = "") -> BuildRun | None:
        """Return the newest run (of that commit, when one is named) with its jobs, or None; errors as the client.

        Of several workflows on one commit the newest that failed is returned, or the newest.
        """
        query = {"per_page": "20", **({"head_sha": commit} if commit else {})}
        if self._branch and not commit:
            query["branch"] = self._branch
        runs = self._client.get(f"{self._path}/actions/runs", _Runs, query, permission=PERMISSION).workflow_runs
        if not runs:
            return None
        same = [run for run in runs if run.head_sha == runs[0].head_sha]
        run = next((each for each in same if _parse_state(each.conclusion) is BuildState.FAILURE), same[0])
        jobs = self._client.get(
            f"{self._path}/actions/runs/{run.id}/jobs",
            _Jobs,
            {"filter": "latest", "per_page": "100"},
            permission=PERMISSION,
        )
        return BuildRun(
            id=str(run.id),
            name=run.name or "",
            commit=run.head_sha,
            branch=run.head_branch or "",
            state=_parse_state(run.conclusion),
            url=run.html_url,
            started_at=None if run.run_started_at is None else parse_unix_s(run.run_started_at),
            jobs=tuple(_make_job(job) for job in jobs.jobs),
            checks=tuple(self._checks(run.head_sha)),
        )

    def log(self, job: str) -> str:
        """Return the log of a job, the end of it when it is very long; ProviderRejected (410) when it is gone."""
        raw = self._client.download(f"{self._path}/actions/jobs/{quote(job)}/logs", permission=PERMISSION)
        return raw[-LONGEST_LOG:].decode("utf-8", "replace")

    def _checks(self, commit: str) -> Iterator[tuple[str, BuildState]]:
        """Yield what other systems say of that commit; what the token may not read is left out."""
        try:
            found = self._client.get(f"{self._path}/commits/{commit}/check-runs", _Checks, {"per_page": "100"})
            yield from ((check.name, _parse_state(check.conclusion)) for check in found.check_runs)
        except (AuthError, ProviderRejected):
            pass
        try:
            combined = self._client.get(f"{self._path}/commits/{commit}/status", _Statuses, {"per_page": "100"})
            yield from ((status.context, _parse_state(status.state)) for status in combined.statuses)
        except (AuthError, ProviderRejected):
            pass


def _make_job(job: _Job) -> BuildJob:
    failed = next((step.name for step in job.steps if _parse_state(step.conclusion) is BuildState.FAILURE), "")
    return BuildJob(str(job.id), job.name, _parse_state(job.conclusion), failed, job.html_url or "")


def _parse_state(conclusion: str | None) -> BuildState:
    """Return the state that a conclusion means; without one it still runs."""
    return BuildState.RUNNING if conclusion is None else _CONCLUSIONS.get(conclusion, BuildState.FAILURE)
