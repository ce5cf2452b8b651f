"""`backout dora` from the command line, where the provider does not answer: the journal tells what it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli_shell import backout

from scripted_server import refused_url

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """[app]
name = "a"
[journal]
path = "journal.sqlite"
[environments.production]
platform = {{ provider = "cloudflare", account_id = "a1", script = "s", api_base_url = "{url}/client/v4" }}
"""


def test_without_anything_known_no_figure_is_invented(tmp_path: Path) -> None:
    """Exit 0, nulls and zeros, and a note on what could not be read."""
    (tmp_path / "backout.toml").write_text(CONFIG.format(url=refused_url()))
    answer = backout(tmp_path, "dora", "--since", "7d", "--json", variables={"CLOUDFLARE_API_TOKEN": "t" * 40})
    assert answer.code == 0, answer.err
    metrics, notes = answer.json["metrics"], answer.json["notes"]
    assert isinstance(metrics, dict)
    assert isinstance(notes, list)
    assert (metrics["lead_time"]["value"], metrics["change_failure_rate"]["shown"]) == (None, "0 of 0")
    assert metrics["deployment_frequency"]["value"] == 0
    assert "provider" in notes[0]


def test_a_window_has_a_length(tmp_path: Path) -> None:
    """Exit 2, with what to type."""
    (tmp_path / "backout.toml").write_text(CONFIG.format(url=refused_url()))
    answer = backout(tmp_path, "dora", "--since", "0s", "--json")
    assert (answer.code, answer.json["hint"]) == (2, "--since 30d")
