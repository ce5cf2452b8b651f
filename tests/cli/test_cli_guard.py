"""The commands of `guard` that look ahead and back: what a wrong call is told, and where help stands."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from streamed import await_line

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


def test_replay_from_a_pipe_answers_each_tick_at_once_and_names_bad_lines_at_the_end(tmp_path: Path) -> None:
    """What feeds the pipe may wait for an answer before it goes on; stdout holds nothing but answers."""
    argv = [sys.executable, "-m", "backout", "guard", "replay", "-"]
    with subprocess.Popen(
        argv, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write('{"type":"start","deploy_ts":1000.5,"old":"v1","new":"v2"}\nnonsense\n')
        for t in range(5):
            second = f'{{"ts":{1000.6 + t},"version":"v2","outcome":"exception"}}\n{{"type":"tick","ts":{1001 + t}}}\n'
            process.stdin.write(second * 2)
            process.stdin.flush()
            found = [json.loads(await_line(process, "")) for _ in range(2)]
            assert [answer["ts"] for answer in found] == [1001 + t] * 2
        process.stdin.close()
        rest, told = process.stdout.read(), process.stderr.read()
    assert (process.returncode, rest, found[-1]["verdict"]) == (0, "", "rollback")
    assert "passed over 1 line: JSON is malformed" in told
    assert "line 2" in told


def test_replay_since_a_time_that_is_none(project: Path) -> None:
    """The flag is named."""
    answer = backout(
        project, "guard", "replay", "--since", "yesterday", "--json", variables={"CLOUDFLARE_API_TOKEN": "t" * 40}
    )
    assert (answer.code, answer.json["where"]) == (2, "--since")


@pytest.mark.parametrize("typed", ["soon", "0s"])
def test_a_watch_of_a_time_that_is_none(project: Path, typed: str) -> None:
    """It is a mistake in the command, and not in backout.toml."""
    answer = backout(project, "guard", "--for", typed, "--json", variables={"CLOUDFLARE_API_TOKEN": "t" * 40})
    assert (answer.code, answer.json["where"], answer.json["hint"]) == (2, "--for", "--for 15m")


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
