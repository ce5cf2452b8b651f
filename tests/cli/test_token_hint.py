"""A token that the API refuses: the hint names where that very token was found, and no other place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from scripted_server import answer as answering
from scripted_server import scripted_server

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """[app]
name = "a"
[environments.production]
platform = {{ provider = "cloudflare", account_id = "a1", script = "s", api_base_url = "{url}/client/v4"{more} }}
"""
TOKEN = "0123456789abcdef0123456789abcdef01234567"
REFUSED = {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}], "result": None}


@pytest.mark.parametrize(
    ("more", "variables", "place"),
    [
        ("", {"CLOUDFLARE_API_TOKEN": TOKEN}, "CLOUDFLARE_API_TOKEN"),
        ("", {"CLOUDFLARE_API_TOKEN_FILE": "{folder}/token"}, "the file {folder}/token"),
        (', token_env = "DEPLOY"', {"DEPLOY": TOKEN, "CLOUDFLARE_API_TOKEN": TOKEN}, "DEPLOY"),
        (', token_file = "token"', {"CLOUDFLARE_API_TOKEN": TOKEN}, "the file {folder}/token"),
        (', token_file = "token", read_token_env = "READER"', {"READER": TOKEN}, "READER"),
    ],
    ids=["variable", "variable of a file", "token_env", "token_file", "read_token_env"],
)
@pytest.mark.parametrize("status", [401, 403])
def test_the_hint_names_the_place_of_the_token(
    tmp_path: Path, more: str, variables: dict[str, str], place: str, status: int
) -> None:
    """401: where to put a valid one; 403: which one lacks the permission."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    given = {name: value.format(folder=tmp_path) for name, value in variables.items()}
    with scripted_server() as server:
        server.will(answering(REFUSED, status))
        (tmp_path / "backout.toml").write_text(CONFIG.format(url=server.url, more=more))
        answer = backout(tmp_path, "deployments", "list", "--json", variables=given)
    where, hint = place.format(folder=tmp_path), str(answer.json["hint"])
    assert answer.code == 4
    assert where in hint, hint
    assert ("CLOUDFLARE_API_TOKEN" in hint) is (where == "CLOUDFLARE_API_TOKEN")
    if status == 401:
        assert hint.startswith("put a valid token with" if where.startswith("the file") else f"set {where} to a valid")
    assert TOKEN not in answer.out + answer.err
