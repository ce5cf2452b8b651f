"""The GitHub client against a server that answers as documented: what is sent, and what each answer means."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from backout.errors import AuthError, BackoutError, ConfigError, ProviderRejected, ProviderUnavailable
from backout.model.guard.pipeline import PipelineState
from backout.providers.exchange import Limits
from backout.providers.github.client import GitHubClient
from backout.providers.github.deployments import GitHubDeployment
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry

from scripted_server import answer, hang, raw_answer, refused_url, reset, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripted_server import ScriptedServer, Step

TOKEN = "ghs_canary9f8e7d6c5b4a3210"
SHA = "9d3ac17b20f84a1e8c2d45e6f7a8b9c0d1e2f304"
LIMITS = Limits(connect_s=0.4, read_s=0.4, total_s=0.6, body_bytes=100_000)
RETRY = Retry(attempts=3, first_wait_s=1.0, longest_wait_s=4.0, total_s=30.0)
RUN = "https://github.com/owner/app/actions/runs/4711"

NONE = answer([])
ONE = answer([{"id": 41, "sha": SHA, "environment": "production", "task": "deploy"}])
CREATED = answer({"id": 42, "sha": SHA, "environment": "production", "statuses_url": "x"}, 201)
POSTED = answer({"id": 1, "state": "success", "description": "x"}, 201)


def no(status: int, message: str, errors: object = None, **headers: str) -> Step:
    """Answer an error as the API does."""
    body = {"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)}
    return answer(body if errors is None else {**body, "errors": errors}, status, **headers)


LIMITED = no(403, "API rate limit exceeded for installation.", x_ratelimit_remaining="0", x_ratelimit_reset="1012")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


@pytest.fixture
def clock() -> WorldClock:
    return WorldClock(1000.0)


def deployment(url: str, clock: WorldClock, token: str = TOKEN) -> GitHubDeployment:
    client = GitHubClient(url, lambda: token, clock=clock, retry=RETRY, limits=LIMITS)
    return GitHubDeployment(client, "owner/app", commit=SHA, environment="production", log_url=RUN)


def told(error: BackoutError) -> str:
    """Everything of an error that a person or a log could get to see, its causes included."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts += [str(cause), str(getattr(cause, "hint", ""))]
        cause = cause.__cause__ or cause.__context__
    return " ".join(texts)


def test_a_deployment_is_looked_for_created_once_and_shown(server: ScriptedServer, clock: WorldClock) -> None:
    """None of this commit and environment: one is made that merges nothing and waits for nothing; then statuses."""
    server.will(NONE, CREATED, POSTED)
    port = deployment(server.url, clock)
    port.show(PipelineState.IN_PROGRESS, "backout watches it")
    port.show(PipelineState.SUCCESS, "healthy: 0 of 900 requests failed")
    paths = [f"{asked.method} {asked.target}" for asked in server.asked]
    assert paths == [
        f"GET /repos/owner/app/deployments?sha={SHA}&environment=production&per_page=1",
        "POST /repos/owner/app/deployments",
        "POST /repos/owner/app/deployments/42/statuses",
        "POST /repos/owner/app/deployments/42/statuses",
    ]
    assert json.loads(server.asked[1].body) == {
        "ref": SHA, "environment": "production", "description": "watched by backout",
        "auto_merge": False, "required_contexts": [],
    }  # fmt: skip
    assert json.loads(server.asked[2].body) == {
        "state": "in_progress", "description": "backout watches it", "environment": "production",
        "auto_inactive": False, "log_url": RUN,
    }  # fmt: skip
    assert json.loads(server.asked[3].body)["auto_inactive"] is True


def test_the_page_links_to_the_application(server: ScriptedServer, clock: WorldClock) -> None:
    """Where its health endpoint is; without one there is no link, which is what the tests above show."""
    server.will(ONE, POSTED)
    client = GitHubClient(server.url, lambda: TOKEN, clock=clock)
    page = GitHubDeployment(
        client, "owner/app", commit=SHA, environment="production", log_url=RUN, url="https://shop.example.com"
    )
    page.show(PipelineState.SUCCESS, "healthy")
    assert json.loads(server.asked[1].body)["environment_url"] == "https://shop.example.com"


def test_headers(server: ScriptedServer, clock: WorldClock) -> None:
    """The version of the API, the media type, who asks; the token in its header only."""
    server.will(ONE, POSTED)
    deployment(server.url, clock).show(PipelineState.FAILURE, "x")
    for asked in server.asked:
        assert asked.headers["authorization"] == f"Bearer {TOKEN}"
        assert asked.headers["x-github-api-version"] == "2022-11-28"
        assert asked.headers["accept"] == "application/vnd.github+json"
        assert asked.headers["user-agent"].startswith("backout/")
        assert TOKEN not in asked.target + asked.body.decode()
    assert server.asked[-1].target == "/repos/owner/app/deployments/41/statuses"


def test_below_another_base_url(server: ScriptedServer, clock: WorldClock) -> None:
    """An enterprise server has its API below a path."""
    server.will(ONE, POSTED)
    deployment(f"{server.url}/api/v3/", clock).show(PipelineState.ERROR, "x")
    assert {asked.target[:14] for asked in server.asked} == {"/api/v3/repos/"}
    with pytest.raises(ConfigError):
        deployment("ftp://x", clock)


def test_a_description_has_at_most_140_characters(server: ScriptedServer, clock: WorldClock) -> None:
    """Longer ones are cut, and one sees it."""
    server.will(ONE, POSTED)
    port = deployment(server.url, clock)
    port.show(PipelineState.FAILURE, "é" * 140)
    port.show(PipelineState.FAILURE, "é" * 141)
    texts = [json.loads(asked.body)["description"] for asked in server.asked[1:]]
    assert texts == ["é" * 140, "é" * 139 + "…"]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (no(404, "Not Found"), "not to be seen with this token"),
        (no(409, "Conflict merging main into 9d3ac17"), "Conflict merging"),
        (no(422, "Validation Failed", [{"resource": "Deployment", "field": "ref", "code": "invalid"}]), "ref invalid"),
        (no(422, "No ref found for: 9d3ac17", ["one", "two"]), "No ref found for: 9d3ac17; one; two"),
        (no(410, "Gone"), "refused the request"),
    ],
    ids=["404", "409", "422", "422 with words", "410"],
)
def test_a_no_is_told_with_the_apis_words(server: ScriptedServer, clock: WorldClock, step: Step, words: str) -> None:
    """Once, with the status, and never repeated."""
    server.will(NONE, step)
    with pytest.raises(ProviderRejected, match=words) as caught:
        deployment(server.url, clock).show(PipelineState.SUCCESS, "x")
    assert 404 <= caught.value.status <= 422
    assert len(server.asked) == 2
    assert clock.now() == 1000.0


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token(server: ScriptedServer, clock: WorldClock, status: int) -> None:
    """Bad credentials, or a job without the permission; the token is not told, even where the API quotes it."""
    server.will(no(status, f"Resource not accessible by integration {TOKEN}"))
    with pytest.raises(AuthError, match="Resource not accessible") as caught:
        deployment(server.url, clock).show(PipelineState.SUCCESS, "x")
    assert TOKEN not in told(caught.value)
    assert ("deployments: write" in (caught.value.hint or "")) == (status == 403)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("step", "waited"),
    [
        (LIMITED, 12.0),
        (no(429, "slow down", Retry_After="7"), 7.0),
        (no(403, "You have exceeded a secondary rate limit.", Retry_After="3"), 3.0),
    ],
    ids=["403 until a time", "429", "secondary"],
)
def test_a_rate_limit_is_waited_for(server: ScriptedServer, clock: WorldClock, step: Step, waited: float) -> None:
    """As long as it says, also before the POST that creates: it did nothing."""
    server.will(NONE, step, CREATED, POSTED)
    deployment(server.url, clock).show(PipelineState.SUCCESS, "x")
    assert clock.now() == 1000.0 + waited
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "step",
    [
        no(403, "API rate limit exceeded", x_ratelimit_remaining="0", x_ratelimit_reset="4600"),
        no(403, "You have exceeded a secondary rate limit and have been temporarily blocked"),
        no(429, "slow down"),
    ],
    ids=["for an hour", "secondary without a time", "429 without a time"],
)
def test_a_long_rate_limit_ends_it_at_once(server: ScriptedServer, clock: WorldClock, step: Step) -> None:
    """Nobody waits a minute for this page; it is no question of the token."""
    server.will(step)
    with pytest.raises(ProviderUnavailable, match=r"rate limit .* asks to wait (60|3600) s"):
        deployment(server.url, clock).show(PipelineState.SUCCESS, "x")
    assert clock.now() == 1000.0
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "step", [no(502, "Server Error"), answer(b"<html>", 503), reset(), hang()], ids=["502", "HTML", "reset", "hang"]
)
def test_trouble_of_the_server(server: ScriptedServer, clock: WorldClock, step: Step) -> None:
    """Looking and showing are repeated; creating is not, since it may have happened."""
    server.will(step, ONE, step, POSTED)
    deployment(server.url, clock).show(PipelineState.SUCCESS, "x")
    assert len(server.asked) >= 4
    server.asked.clear()
    server.will(NONE, step)
    with pytest.raises(ProviderUnavailable):
        deployment(server.url, clock).show(PipelineState.SUCCESS, "x")
    assert [asked.method for asked in server.asked].count("POST") == 1


def test_nobody_listens(clock: WorldClock) -> None:
    """The error names the call."""
    with pytest.raises(ProviderUnavailable, match="GET http://127"):
        deployment(refused_url(), clock).show(PipelineState.SUCCESS, "x")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_repository_that_moved_is_followed(server: ScriptedServer, clock: WorldClock, status: int) -> None:
    """With the same method and body, on the same host."""
    moved = f"{server.url}/repositories/7/deployments"
    server.will(
        no(status, "Moved", Location=f"{moved}?sha={SHA}"), NONE, no(status, "Moved", Location=moved), CREATED, POSTED
    )
    deployment(server.url, clock).show(PipelineState.SUCCESS, "x")
    assert [f"{asked.method} {asked.target}" for asked in server.asked][1:4:2] == [
        f"GET /repositories/7/deployments?sha={SHA}", "POST /repositories/7/deployments",
    ]  # fmt: skip
    assert server.asked[2].body == server.asked[3].body


def test_the_token_is_sent_to_no_other_host(server: ScriptedServer, clock: WorldClock) -> None:
    """A redirect to another host, or in circles, ends it."""
    with scripted_server() as other:
        server.will(no(307, "Moved", Location=f"{other.url}/repos/owner/app/deployments"))
        with pytest.raises(ProviderRejected, match="another host"):
            deployment(server.url, clock).show(PipelineState.SUCCESS, "x")
        assert other.connections == 0
    server.will(no(307, "Moved", Location="/repos/owner/app/deployments"))
    with pytest.raises(ProviderUnavailable, match="circles"):
        deployment(server.url, clock).show(PipelineState.SUCCESS, "x")
    assert len(server.asked) == 5


@pytest.mark.parametrize("body", [b"{", b'{"message": "Auto-merged main into 9d3ac17 on deployment."}', b"[]"])
def test_an_answer_of_another_shape(server: ScriptedServer, clock: WorldClock, body: bytes) -> None:
    """Accepted, but without the id that everything rests on."""
    server.will(NONE, answer(body, 202))
    with pytest.raises(ProviderUnavailable, match="expected shape"):
        deployment(server.url, clock).show(PipelineState.SUCCESS, "x")
    server.will(raw_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"))
    with pytest.raises(ProviderUnavailable, match="larger than"):
        deployment(server.url, clock).show(PipelineState.SUCCESS, "x")


@pytest.mark.parametrize("token", ["", "two words", "bad\r\nX-Injected: 1"])
def test_a_token_that_cannot_be_one_is_never_sent(server: ScriptedServer, clock: WorldClock, token: str) -> None:
    """It is refused here, without being quoted."""
    with pytest.raises(AuthError) as caught:
        deployment(server.url, clock, token).show(PipelineState.SUCCESS, "x")
    assert not token or token not in told(caught.value)
    assert server.connections == 0
