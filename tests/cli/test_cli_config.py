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
    assert shown["criteria"]["error_rate"] == {"below": 0.01, "for": 300}
    assert "# backout.toml:" in answer.out
    assert "# default" in answer.out
    assert "staging" not in answer.out


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
    assert answer.out.splitlines()[:2] == ["✓ backout.toml is right", "  environments: production, staging"]
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
    assert config.mistakes_in(answer.out, tmp_path / "backout.toml") == ()
    assert backout(tmp_path, "config", "check").code == 0
