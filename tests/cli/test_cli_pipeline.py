"""`guard --summary --outputs --deployment-status`: every end is told, and what cannot be told changes nothing."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout, make_shell

from backout.cli.guard.pipeline import Wanted, run_and_tell
from backout.errors import Interrupted, PartlyDone

from polling import PATIENCE_S
from scripted_server import answer, scripted_server
from workflow_runner import ROOT, read_outputs, read_yaml

if TYPE_CHECKING:
    from pathlib import Path

GUARD = ("guard", "--summary", "page.md", "--outputs", "outputs", "-e", "production")


def end(folder: Path) -> str:
    return read_outputs((folder / "outputs").read_text(encoding="utf-8"))["result"]


def test_an_error_before_the_watch_is_told(tmp_path: Path) -> None:
    """No configuration at all: exit 2, and both files say so; they are appended to."""
    (tmp_path / "page.md").write_text("before\n")
    ended = backout(tmp_path, *GUARD)
    assert ended.code == 2
    assert end(tmp_path) == "error"
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.startswith("before\n### backout guard, production: 💥")
    assert "no backout.toml here" in page
    assert "- backout init, or --config FILE" in page


def test_files_that_cannot_be_written_change_nothing(tmp_path: Path) -> None:
    """A warning each, and the command's own exit code."""
    ended = backout(tmp_path, "guard", "--summary", "no/such/folder", "--outputs", ".", "-e", "production")
    assert ended.code == 2
    assert ended.err.count("cannot be written") == 2
    assert ended.err.count("the verdict stands") == 2


def test_a_status_outside_a_workflow_is_said_once(tmp_path: Path) -> None:
    """The missing variable is named; nothing else changes."""
    ended = backout(tmp_path, *GUARD, "--deployment-status")
    assert ended.code == 2
    assert ended.err.count("GITHUB_REPOSITORY is not set") == 1
    assert end(tmp_path) == "error"


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (RuntimeError("a mistake"), 1, "RuntimeError: a mistake"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(130), 130, "interrupted"),
        (Interrupted("stopped", hint="backout runs resume guard-1"), 130, "- backout runs resume guard-1"),
        (PartlyDone("half way", hint="backout runs resume guard-1"), 5, "half way"),
    ],
    ids=["mistake", "second Ctrl-C", "exit", "Ctrl-C", "partly done"],
)
def test_whatever_ends_it_is_told_and_goes_on(tmp_path: Path, raised: BaseException, code: int, words: str) -> None:
    """The page, the outputs and the deployment's status; then the same exception."""
    variables = {"GITHUB_SHA": "9d3ac17", "GITHUB_REPOSITORY": "owner/app", "GITHUB_TOKEN": "ghs_canary"}
    with scripted_server() as server:
        server.will(answer([{"id": 7}]), answer({"state": "x"}, 201))
        shell = make_shell(tmp_path, {**variables, "GITHUB_API_URL": server.url, "BACKOUT_ENVIRONMENT": "production"})

        def command() -> int:
            raise raised

        with pytest.raises(type(raised)):
            run_and_tell(shell, Wanted("page.md", "outputs", status=True), command)
    assert [b'"in_progress"' in asked.body for asked in server.asked] == [False, True, False]
    assert b'"state":"error"' in server.asked[-1].body
    assert end(tmp_path) == "error"
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert words in page
    assert f"| Exit code | {code} |" in page


def test_a_status_that_may_not_be_set_is_said_once(tmp_path: Path) -> None:
    """At the first failure; after it nothing more is tried, and the code is the command's."""
    variables = {"GITHUB_SHA": "9d3ac17", "GITHUB_REPOSITORY": "owner/app", "GITHUB_TOKEN": "ghs_canary"}
    with scripted_server() as server:
        server.will(answer({"message": "Not Found"}, 404))
        shell = make_shell(tmp_path, {**variables, "GITHUB_API_URL": server.url, "BACKOUT_ENVIRONMENT": "production"})
        assert run_and_tell(shell, Wanted(status=True), lambda: 0) == 0
        assert len(server.asked) == 1
    said = shell.output.stderr.getvalue()  # type: ignore[attr-defined]
    assert said.count("the deployment's status could not be set") == 1


def test_an_api_that_cannot_be_asked_changes_nothing(tmp_path: Path) -> None:
    """A base URL that no request can be made of: said once, and the code is the command's."""
    variables = {"GITHUB_SHA": "9d3ac17", "GITHUB_REPOSITORY": "owner/app", "GITHUB_TOKEN": "ghs_canary"}
    with scripted_server() as server:
        server.will(answer([]))
        url = f"{server.url}/ü"
        shell = make_shell(tmp_path, {**variables, "GITHUB_API_URL": url, "BACKOUT_ENVIRONMENT": "production"})
        assert run_and_tell(shell, Wanted("page.md", "outputs", status=True), lambda: 0) == 0
        assert server.asked == []
    said = shell.output.stderr.getvalue()  # type: ignore[attr-defined]
    assert said.count("the deployment's status could not be set") == 1


def test_nothing_asked_for_nothing_told(tmp_path: Path) -> None:
    """No file and no call without the options."""
    assert run_and_tell(make_shell(tmp_path), Wanted(), lambda: 7) == 7
    assert list(tmp_path.iterdir()) == []


def test_a_secret_that_was_read_is_masked(tmp_path: Path) -> None:
    """In the page and the outputs, as everywhere."""
    shell = make_shell(tmp_path)
    shell.redactor.register("hunter2-hunter2")

    def command() -> int:
        raise RuntimeError("hunter2-hunter2")

    with pytest.raises(RuntimeError):
        run_and_tell(shell, Wanted("page.md", "outputs"), command)
    assert "hunter2" not in (tmp_path / "page.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("outputs", "code", "green"),
    [
        ("guarded=false requires-counts=false", 7, True),
        ("guarded=false requires-counts=true", 7, False),
        ("guarded=true requires-counts=false", 7, False),
        ("guarded=false requires-counts=false", 1, False),
    ],
)
def test_the_action_is_green_with_a_warning_where_nothing_could_be_guarded(
    tmp_path: Path, outputs: str, code: int, *, green: bool
) -> None:
    """And red for whatever guard found, and where counts are required."""
    step = read_yaml((ROOT / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"][-1]
    program = tmp_path / "python"
    lines = "\\n".join(["result=inconclusive", *outputs.split()])
    program.write_text(f'#!/bin/sh\nprintf "{lines}\\n" >> "$GITHUB_OUTPUT"\nexit {code}\n')
    program.chmod(0o755)
    variables = dict.fromkeys(step["env"], "") | {"PYTHON": str(program), "ENVIRONMENT": "production"}
    variables |= {"GITHUB_EVENT_NAME": "push", "PATH": "/usr/bin:/bin"}
    variables |= {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    argv = ["/usr/bin/env", "bash", "-e", "-c", step["run"]]
    done = subprocess.run(argv, env=variables, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == (0 if green else code)
    assert ("::warning title=backout::" in done.stdout) is green
