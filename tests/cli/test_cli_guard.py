"""The commands of `guard` that look ahead and back: what a wrong call is told, and where help stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """[app]
name = "a"
[environments.production]
platform = { provider = "cloudflare", account_id = "a1", script = "s" }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A configuration without a token and without a journal."""
    (tmp_path / "backout.toml").write_text(CONFIG)
    return tmp_path


@pytest.mark.parametrize("arguments", [(), ("requests.jsonl", "--since", "30d")])
def test_replay_wants_a_file_or_a_time(project: Path, arguments: tuple[str, ...]) -> None:
    """One of the two, and it says both ways."""
    answer = backout(project, "guard", "replay", *arguments, "--json")
    assert answer.code == 2
    assert answer.json["error"] == "UsageError"
    assert "--since 30d" in str(answer.json["hint"])


def test_replay_since_a_time_that_is_none(project: Path) -> None:
    """The flag is named."""
    answer = backout(
        project, "guard", "replay", "--since", "yesterday", "--json", variables={"CLOUDFLARE_API_TOKEN": "t" * 40}
    )
    assert (answer.code, answer.json["where"]) == (2, "--since")


@pytest.mark.parametrize("arguments", [("plan",), ("replay", "--since", "30d")])
def test_without_a_token_nothing_is_read(project: Path, arguments: tuple[str, ...]) -> None:
    """Exit 4, with what to set."""
    answer = backout(project, "guard", *arguments, "--json")
    assert (answer.code, answer.json["error"]) == (4, "AuthError")


def test_explain_needs_no_token(project: Path) -> None:
    """The journal alone answers; an unknown run leads to the list."""
    answer = backout(project, "guard", "explain", "guard-1", "--json")
    assert (answer.code, answer.json["hint"]) == (2, "backout runs list")


def test_plan_takes_no_nonsense(project: Path) -> None:
    """No probes is no question."""
    assert backout(project, "guard", "plan", "--probes", "0").code == 2


@pytest.mark.parametrize("name", ["plan", "explain", "replay"])
def test_help_has_examples_and_fits(project: Path, name: str) -> None:
    """Each with the lines to type."""
    answer = backout(project, "help", "guard", name)
    assert answer.code == 0
    assert "Examples:" in answer.out
    assert f"backout guard {name}" in answer.out
