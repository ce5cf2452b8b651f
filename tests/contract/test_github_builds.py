"""Port Builds on GitHub Actions, against a server that answers as documented."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.model.incident.builds import BuildState
from backout.providers.exchange import Limits
from backout.providers.github.builds import LONGEST_LOG, GitHubBuilds
from backout.providers.github.client import GitHubClient
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry

from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripted_server import ScriptedServer, Step

TOKEN = "ghs_canary9f8e7d6c5b4a3210"
SHA = "9d3ac17b20f84a1e8c2d45e6f7a8b9c0d1e2f304"


def run(number: int, conclusion: str | None, *, name: str = "Deploy", sha: str = SHA) -> dict[str, object]:
    return {
        "id": number, "name": name, "head_sha": sha, "head_branch": "main", "event": "push",
        "status": "in_progress" if conclusion is None else "completed", "conclusion": conclusion,
        "html_url": f"https://github.com/owner/app/actions/runs/{number}", "run_started_at": "2026-03-01T10:00:00Z",
    }  # fmt: skip


def runs(*found: dict[str, object]) -> Step:
    return answer({"total_count": len(found), "workflow_runs": list(found)})


JOBS = answer({"total_count": 2, "jobs": [
    {"id": 7, "run_id": 30, "name": "lint", "status": "completed", "conclusion": "success", "steps": []},
    {"id": 8, "run_id": 30, "name": "deploy", "status": "completed", "conclusion": "failure",
     "html_url": "https://github.com/owner/app/actions/runs/30/job/8",
     "steps": [{"name": "Set up job", "status": "completed", "conclusion": "success", "number": 1},
               {"name": "Run npm run build", "status": "completed", "conclusion": "failure", "number": 2},
               {"name": "Deploy", "status": "completed", "conclusion": "skipped", "number": 3}]},
]})  # fmt: skip
CHECKS = answer({"total_count": 1, "check_runs": [
    {"name": "Workers Builds: fm5-production", "status": "completed", "conclusion": "failure"}]})  # fmt: skip
STATUSES = answer({"state": "pending", "statuses": [{"context": "ci/other", "state": "pending"}]})


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


def builds(url: str, branch: str = "") -> GitHubBuilds:
    retry = Retry(attempts=2, first_wait_s=1.0, longest_wait_s=4.0, total_s=30.0)
    limits = Limits(connect_s=0.4, read_s=0.4, total_s=0.6, body_bytes=100_000)
    client = GitHubClient(url, lambda: TOKEN, clock=WorldClock(1000.0), retry=retry, limits=limits)
    return GitHubBuilds(client, "owner/app", branch=branch)


def test_the_run_that_failed_with_its_job_its_step_and_the_other_checks(server: ScriptedServer) -> None:
    """Two workflows ran on the newest commit; the one that failed is told, though the other one is newer."""
    server.will(
        runs(run(31, "success", name="Docs"), run(30, "failure"), run(9, "failure", sha="0" * 40)),
        JOBS,
        CHECKS,
        STATUSES,
    )
    found = builds(server.url).latest()
    assert found is not None
    assert (found.id, found.name, found.state, found.commit, found.branch) == (
        "30",
        "Deploy",
        BuildState.FAILURE,
        SHA,
        "main",
    )
    assert found.started_at == 1772359200.0
    assert found.failed_job is not None
    assert (found.failed_job.id, found.failed_job.name, found.failed_job.failed_step) == (
        "8",
        "deploy",
        "Run npm run build",
    )
    assert found.checks == (("Workers Builds: fm5-production", BuildState.FAILURE), ("ci/other", BuildState.RUNNING))
    assert [asked.target for asked in server.asked] == [
        "/repos/owner/app/actions/runs?per_page=20",
        "/repos/owner/app/actions/runs/30/jobs?filter=latest&per_page=100",
        f"/repos/owner/app/commits/{SHA}/check-runs?per_page=100",
        f"/repos/owner/app/commits/{SHA}/status?per_page=100",
    ]


def test_a_commit_or_a_branch_can_be_named(server: ScriptedServer) -> None:
    server.will(runs())
    assert builds(server.url).latest(SHA) is None
    assert builds(server.url, branch="main").latest() is None
    assert [asked.target for asked in server.asked] == [
        f"/repos/owner/app/actions/runs?per_page=20&head_sha={SHA}",
        "/repos/owner/app/actions/runs?per_page=20&branch=main",
    ]


def test_checks_that_the_token_may_not_read_are_left_out(server: ScriptedServer) -> None:
    refused = answer({"message": "Resource not accessible by integration"}, 403)
    server.will(runs(run(30, None)), answer({"jobs": []}), refused, refused)
    found = builds(server.url).latest()
    assert found is not None
    assert found.state is BuildState.RUNNING
    assert found.checks == ()


def test_the_log_lies_on_another_host_which_never_sees_the_token(server: ScriptedServer) -> None:
    with scripted_server() as elsewhere:
        elsewhere.will(answer(b"##[error]exit 1\n"))
        server.will(answer(b"", 302, Location=f"{elsewhere.url}/logs/8.txt?sig=abc"))
        assert builds(server.url).log("8") == "##[error]exit 1\n"
        assert server.asked[0].target == "/repos/owner/app/actions/jobs/8/logs"
        assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"
        (asked,) = elsewhere.asked
        assert asked.target == "/logs/8.txt?sig=abc"
        assert "authorization" not in asked.headers
        assert TOKEN not in str(asked)


def test_of_a_long_log_the_end_is_kept(server: ScriptedServer) -> None:
    with scripted_server() as elsewhere:
        elsewhere.will(answer(b"x" * LONGEST_LOG + b"the end"))
        server.will(answer(b"", 302, Location=f"{elsewhere.url}/8"))
        text = builds(server.url).log("8")
        assert len(text) == LONGEST_LOG
        assert text.endswith("the end")


def test_what_is_refused_names_the_permission(server: ScriptedServer) -> None:
    server.will(answer({"message": "Resource not accessible by integration"}, 403))
    with pytest.raises(AuthError) as refused:
        builds(server.url).latest()
    assert "actions: read" in refused.value.hint
    server.will(answer({"message": "Gone"}, 410))
    with pytest.raises(ProviderRejected):
        builds(server.url).log("8")


def test_a_link_that_does_not_answer_or_leads_to_another_scheme(server: ScriptedServer) -> None:
    with scripted_server() as elsewhere:
        elsewhere.will(answer({"error": "expired"}, 403))
        server.will(answer(b"", 302, Location=f"{elsewhere.url}/8"))
        with pytest.raises(ProviderRejected) as expired:
            builds(server.url).log("8")
        assert expired.value.status == 403
        gone = elsewhere.url
    server.will(answer(b"", 302, Location=f"{gone}/8"))
    with pytest.raises(ProviderUnavailable):
        builds(server.url).log("8")
    server.will(answer(b"", 302, Location="https://logs.example.com/8"))
    with pytest.raises(ProviderRejected):
        builds(server.url).log("8")


@pytest.mark.parametrize("location", ["http://[half", "http://app:port/8"])
def test_a_link_that_is_no_address(server: ScriptedServer, location: str) -> None:
    server.will(answer(b"", 302, Location=location))
    with pytest.raises(ProviderRejected, match="not an address"):
        builds(server.url).log("8")
