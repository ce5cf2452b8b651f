"""What a pipeline's runner says of itself, and what backout.toml puts before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.config import Environment
from backout.config.init.workflow import find_workflow
from backout.config.schema.environment import Ci
from backout.errors import AuthError, UsageError

from private import write_private

if TYPE_CHECKING:
    from pathlib import Path

RUNNER = {
    "GITHUB_SHA": "9d3ac17", "GITHUB_REPOSITORY": "owner/app", "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_RUN_ID": "4711", "GITHUB_API_URL": "https://api.github.com", "GITHUB_TOKEN": "ghs_canary",
}  # fmt: skip


def test_all_of_it_comes_from_the_runner() -> None:
    """Without a ci section; the token is masked from then on and never shown."""
    masked: list[str] = []
    found = find_workflow(Environment(RUNNER, masked.append), None, "production")
    assert (found.repository, found.commit, found.environment) == ("owner/app", "9d3ac17", "production")
    assert found.run_url == "https://github.com/owner/app/actions/runs/4711"
    assert found.api_base_url == "https://api.github.com"
    assert masked == ["ghs_canary"]
    assert "ghs_canary" not in repr(found)


def test_the_file_comes_first(tmp_path: Path) -> None:
    """Repository, API and the token's variable; then the token's file."""
    ci = Ci(provider="github", repository="org/other", api_base_url="https://git.example.com/api/v3", token_env="PAT")
    found = find_workflow(Environment({**RUNNER, "PAT": "from-pat"}), ci, "production")
    assert (found.repository, found.api_base_url) == ("org/other", "https://git.example.com/api/v3")
    assert found.token.reveal() == "from-pat"
    write_private(tmp_path / "token", "from-file\n")
    ci = Ci(provider="github", repository="org/other", token_file=tmp_path / "token")
    assert find_workflow(Environment(RUNNER), ci, "production").token.reveal() == "from-file"


@pytest.mark.parametrize("missing", ["GITHUB_SHA", "GITHUB_REPOSITORY"])
def test_outside_a_workflow(missing: str) -> None:
    """The variable is named."""
    with pytest.raises(UsageError, match=missing):
        find_workflow(Environment({**RUNNER, missing: ""}), None, "production")


def test_no_token() -> None:
    """The variable that was looked at is named."""
    with pytest.raises(AuthError, match="GITHUB_TOKEN is not set"):
        find_workflow(Environment({**RUNNER, "GITHUB_TOKEN": ""}), None, "production")
    named = Ci(provider="github", repository="org/other", token_env="PAT")
    with pytest.raises(AuthError, match="PAT is not set"):
        find_workflow(Environment(RUNNER), named, "production")


def test_a_run_page_that_is_not_known_is_empty() -> None:
    """No half of an address."""
    assert find_workflow(Environment({**RUNNER, "GITHUB_RUN_ID": ""}), None, "production").run_url == ""
