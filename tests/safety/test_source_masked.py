"""The application's own secrets, as their source has them: masked before anything else has read that source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from pathlib import Path

VALUE, SETTING = "Zq8vR2mN8kP4wT9yL3sD6fG1hJ5zA0bC", "plain-setting-of-the-file"
SOURCES = {
    "file": '{ from = "file", path = "app.env" }',
    "env": '{ from = "env", prefix = "PROD_" }',
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("command", [("status",), ("status", "--json")], ids=" ".join)
def test_what_the_application_says_of_its_own_secrets_is_masked(
    tmp_path: Path, kind: str, command: tuple[str, ...]
) -> None:
    """Its name ends like no secret's, and no command has read the source before; a setting beside it stays readable."""
    (tmp_path / "app.env").write_text(f"STRIPE={VALUE}\nMODE={SETTING}\n")
    (tmp_path / "app.env").chmod(0o600)
    with scripted_server() as api, scripted_server() as app:
        api.will(answer({"success": False, "errors": [{"code": 10007, "message": "no such Worker"}]}, 404))
        detail = f"token {VALUE} refused, {SETTING}"
        services = {"database": {"status": "error", "detail": detail}, "cache": {"status": "error", "detail": detail}}
        app.will(answer({"status": "error", "services": services}, 503))
        (tmp_path / "backout.toml").write_text(
            '[app]\nname = "fm5"\n[environments.production]\n'
            f'platform = {{ provider = "cloudflare", script = "fm5", api_base_url = "{api.url}/client/v4" }}\n'
            f'health = {{ url = "{app.url}/health" }}\nservices = {{ database = "critical" }}\n'
            f'secrets = {{ required = ["STRIPE"], source = {SOURCES[kind]} }}\n'
        )
        variables = {"CLOUDFLARE_API_TOKEN": "token-of-the-platform", "CLOUDFLARE_ACCOUNT_ID": "acc"}
        found = backout(tmp_path, *command, "-e", "production", variables={**variables, "PROD_STRIPE": VALUE})
    assert app.asked, found.err
    said = found.out + found.err
    assert VALUE[:16] not in "".join(said.split())
    assert SETTING in "".join(said.split()), said
