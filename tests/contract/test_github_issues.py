"""Issues against a server that answers as GitHub documents: made once, found again, linked both ways."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.providers.github.client import GitHubClient
from backout.providers.github.issues import GitHubIssues
from backout.providers.memory import WorldClock

from scripted_server import answer, reset, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripted_server import ScriptedServer

TOKEN = "ghs_canary9f8e7d6c5b4a3210"
PAGE = "https://github.com/owner/app/issues/7"
CREATED = answer({"number": 7, "html_url": PAGE, "state": "open", "title": "x", "body": "x"}, 201)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


def issues(server: ScriptedServer) -> GitHubIssues:
    return GitHubIssues(GitHubClient(server.url, lambda: TOKEN, clock=WorldClock(1_000.0)), "owner/app")


def listed(*bodies: str | None, pull: bool = False) -> list[dict[str, object]]:
    more: dict[str, object] = {"pull_request": {"url": "x"}} if pull else {}
    return [
        {"number": number, "html_url": f"{PAGE}{number}", "state": "closed", "body": body, **more}
        for number, body in enumerate(bodies)
    ]


def test_an_issue_is_created_with_its_text(server: ScriptedServer) -> None:
    """Title and text alone, both no longer than GitHub takes; its page is what is returned."""
    server.will(CREATED)
    assert issues(server).create("t" * 300, "b" * 70_000) == PAGE
    (asked,) = server.asked
    assert (asked.method, asked.target) == ("POST", "/repos/owner/app/issues")
    content = json.loads(asked.body)
    assert (len(content["title"]), len(content["body"])) == (256, 60_000)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://github.com/a) | [b](https://evil.example", ""])
def test_what_is_no_page_is_not_believed(server: ScriptedServer, url: str) -> None:
    """It would stand in a table of the report."""
    server.will(answer({"number": 7, "html_url": url, "body": "x"}, 201), answer([{"html_url": url, "body": "m"}]))
    with pytest.raises(ProviderRejected, match="no page"):
        issues(server).create("t", "b")


def test_it_is_found_by_its_mark_on_any_page(server: ScriptedServer) -> None:
    """Closed ones too; a pull request that quotes it is none, and one without a text is passed over."""
    first = [*listed(*["other"] * 98), *listed(None), *listed("<!-- mark -->", pull=True)]
    server.will(answer(first), answer(listed("x", "y <!-- mark -->")))
    assert issues(server).find("<!-- mark -->", 1_795_600_800.0) == f"{PAGE}1"
    assert [asked.target for asked in server.asked] == [
        "/repos/owner/app/issues?state=all&since=2026-11-25T10%3A00%3A00Z&sort=created&direction=desc&per_page=100"
        f"&page={page}"
        for page in (1, 2)
    ]


def test_none_is_found_where_there_is_none(server: ScriptedServer) -> None:
    """A short page is the last one."""
    server.will(answer([]))
    assert issues(server).find("<!-- mark -->", 0.0) is None


@pytest.mark.parametrize(("status", "error"), [(401, AuthError), (403, AuthError), (410, ProviderRejected)])
def test_a_refusal_says_what_is_missing(server: ScriptedServer, status: int, error: type[Exception]) -> None:
    """Without the permission it is named; without issues in the repository the API's own words are told."""
    server.will(answer({"message": "Issues are disabled for this repo"}, status))
    with pytest.raises(error) as caught:
        issues(server).create("t", "b")
    assert TOKEN not in str(caught.value)
    if status == 403:
        assert "issues: write" in str(getattr(caught.value, "hint", ""))


def test_what_may_have_been_created_is_not_created_again(server: ScriptedServer) -> None:
    """The connection breaks after the request: no second one is sent, and it is found the next time."""
    server.will(reset())
    with pytest.raises(ProviderUnavailable):
        issues(server).create("t", "b")
    assert len(server.asked) == 1


CONFIG = """[app]
name = "a"
[journal]
path = ".backout/journal.sqlite"
[incidents]
directory = "incidents"
[environments.production]
platform = {{ provider = "cloudflare", account_id = "a1", script = "s" }}
ci = {{ provider = "github", repository = "owner/app", api_base_url = "{url}", token_env = "GH" }}
"""


def test_two_action_items_become_issues_once_and_the_report_links_them(server: ScriptedServer, tmp_path: Path) -> None:
    """The second answer is lost on the way: typed again, the first is not asked for, the second is found, not made."""
    (tmp_path / "backout.toml").write_text(CONFIG.format(url=server.url))
    variables = {"GH": TOKEN}
    backout(tmp_path, "incident", "open", "checkout is slow")
    backout(tmp_path, "incident", "action", "-m", "alert <on> @failed payments", "--kind", "detect", "--owner", "ada")
    backout(tmp_path, "incident", "action", "-m", "test the import")
    server.will(answer([]), CREATED, answer([]), reset())
    first = backout(tmp_path, "incident", "export", "--issues", variables=variables)
    assert first.code != 0
    made = [json.loads(asked.body) for asked in server.asked if asked.method == "POST"]
    assert [each["title"] for each in made] == ["alert <on> @failed payments", "test the import"]
    assert "\\<on> `@failed`" in made[0]["body"]
    assert "owner: ada" in made[0]["body"]
    server.will(answer([{"number": 8, "html_url": f"{PAGE}8", "body": made[1]["body"]}]))
    again = backout(tmp_path, "incident", "export", "--issues", "--to", str(tmp_path / "out"), variables=variables)
    assert again.code == 0, again.err
    assert f"2. was there: {PAGE}8" in again.out
    assert len([asked for asked in server.asked if asked.method == "POST"]) == 2
    (page,) = (tmp_path / "incidents").glob("*.md")
    assert page.name in made[0]["body"]
    assert f"[issue]({PAGE})" in page.read_text()
    assert f"[issue]({PAGE}8)" in page.read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"incident.json", page.name}
    record = json.loads((tmp_path / "out" / "incident.json").read_text())
    assert [each["url"] for each in record["actions"]] == [PAGE, f"{PAGE}8"]
    done = backout(tmp_path, "incident", "export", "--issues", variables=variables)
    assert "every action item has its issue" in done.out


def test_without_a_repository_it_says_what_to_set_up(tmp_path: Path) -> None:
    """Exit 2: the setting; and without any option, the options."""
    (tmp_path / "backout.toml").write_text(CONFIG.format(url="http://127.0.0.1:1").replace("ci = ", "# ci = "))
    backout(tmp_path, "incident", "open", "checkout is slow")
    nowhere = backout(tmp_path, "incident", "export", "--issues", "--json")
    assert (nowhere.code, nowhere.json["what"]) == (2, "no repository is set up for issues")
    assert backout(tmp_path, "incident", "export", "--json").code == 2
