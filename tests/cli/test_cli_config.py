"""`backout config`: what is in force, and every mistake."""

from __future__ import annotations

import tomllib
from pathlib import Path

from cli_shell import backout

from backout import config

SAMPLE = Path(__file__).parents[2] / "examples" / "fm5"


def test_show_is_toml_again(tmp_path: Path) -> None:
    """What is shown can be read by a TOML parser, dotted keys and all."""
    (tmp_path / "backout.toml").write_text((SAMPLE / "backout.toml").read_text())
    answer = backout(tmp_path, "config", "show", "-e", "production", "--origin")
    shown = tomllib.loads(answer.out)["environments"]["production"]
    assert shown["guard"]["mode"] == "observe"
    assert shown["criteria"]["error_rate"] == {"below": 0.01, "for": "5m"}
    assert "# backout.toml:" in answer.out
    assert "# default" in answer.out
    assert "staging" not in answer.out


def test_show_says_what_is_in_effect(tmp_path: Path) -> None:
    """Times as people write them, and what a variable or a name decides where the file says nothing."""
    (tmp_path / "backout.toml").write_text(
        '[app]\nname = "a"\n[environments.production]\nplatform = { provider = "cloudflare", script = "s" }\n'
        'database = { provider = "postgres", url_env = "DB", backup = { keep = "35d", full_every = "1h30m" } }\n'
    )
    variables = {"CLOUDFLARE_ACCOUNT_ID": "0123"}
    answer = backout(tmp_path, "config", "show", "--origin", variables=variables)
    for line in (
        'platform.account_id = "0123"  # CLOUDFLARE_ACCOUNT_ID',
        'platform.token_env = "CLOUDFLARE_API_TOKEN"  # default',
        "protected = true  # the environment's name",
        'database.backup.keep = "35d"  # backout.toml:5',
        'database.backup.full_every = "1h30m"',
        'guard.at_most = "1 per 6h"  # default',
    ):
        assert f"environments.production.{line}" in answer.out, answer.out
    settings = backout(tmp_path, "config", "show", "--json", variables=variables).json["settings"]
    assert isinstance(settings, dict)
    assert settings["environments.production.database.backup.keep"] == 3_024_000
    (tmp_path / "again.toml").write_text(answer.out.replace("environments.production.protected", "#"))
    assert backout(tmp_path, "config", "check", "--config", str(tmp_path / "again.toml")).code == 0


def test_show_never_shows_a_secret(tmp_path: Path) -> None:
    """Variables with secrets in them are named, not read."""
    (tmp_path / "backout.toml").write_text((SAMPLE / "backout.toml").read_text())
    secrets = {"CLOUDFLARE_API_TOKEN": "canary-token", "DATABASE_URL": "postgres://u:canary-word@h/d"}
    for arguments in (("--json",), ("--origin",), ("-v",)):
        answer = backout(tmp_path, "config", "show", "-e", "production", *arguments, variables=secrets)
        assert answer.code == 0
        assert "canary" not in answer.out + answer.err
        assert "DATABASE_URL" in answer.out


def test_check_says_ok_and_what_is_not_set_up(tmp_path: Path) -> None:
    """Warnings do not change the exit code."""
    (tmp_path / "backout.toml").write_text((SAMPLE / "backout.toml").read_text())
    answer = backout(tmp_path, "config", "check")
    assert answer.code == 0
    said = ["! backout.toml is valid, with 8 warnings", "  environments: production, staging"]
    assert answer.out.splitlines()[:2] == said
    assert "! environments.production: traffic is not set up" in answer.out
    record = backout(tmp_path, "config", "check", "--json").json
    assert (record["ok"], record["mistakes"]) == (True, [])


def test_check_finds_no_file(tmp_path: Path) -> None:
    """No configuration is exit 2 with `backout init` to type."""
    answer = backout(tmp_path, "config", "check")
    assert answer.code == 2
    assert "backout init" in answer.err


def test_the_example_that_is_printed_is_right(tmp_path: Path) -> None:
    """`backout config example > backout.toml` is a configuration."""
    answer = backout(tmp_path, "config", "example")
    (tmp_path / "backout.toml").write_text(answer.out)
    assert config.find_mistakes(answer.out, tmp_path / "backout.toml") == ()
    assert backout(tmp_path, "config", "check").code == 0
