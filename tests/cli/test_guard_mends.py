"""What `guard` says when it set a secret in place of a rollback: the last line of JSON, and in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from canaries import CANARIES, leaks_in
from cli_shell import Stream, make_shell

from backout.cli.guard.guard import finish
from backout.cli.guard.live import Live
from backout.cli.support.session import Session
from backout.journal.stop import StopRequest
from backout.wiring.diagnosis import load_catalogue

from line import Story, equip, thrown, watch

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Return a World in which the bad version lacks a secret that the source holds."""
    made = Story(tmp_path / "journal.sqlite")
    text = "Error: Environment variable not found: JWT_SECRET"
    made.world.log_rule = lambda _since, until: (thrown(made.bad.id, until, text),) * 40
    made.world.secret_source.kept = dict(CANARIES)
    made.world.clock.sleep(1)
    return made


def ended(story: Story, folder: Path, *, as_json: bool) -> tuple[int, str, str]:
    """Watch to the end, and return the exit code, stdout and stderr of what the command says about it."""
    shell = make_shell(folder)
    shell.output.json = as_json
    tools = equip(story.tools(), catalogue=load_catalogue)
    session = Session(shell, tools, StopRequest(lambda: None), Live(shell.output, "guard", stream=as_json))
    code = finish(session, watch(tools))
    out, err = shell.output.stdout, shell.output.stderr
    assert isinstance(out, Stream)
    assert isinstance(err, Stream)
    assert leaks_in(out.getvalue() + err.getvalue(), "all that guard said") == []
    return code, out.getvalue(), err.getvalue()


def test_the_result(story: Story, tmp_path: Path) -> None:
    """Exit 1 (it regressed); what was set, on which code, that it helped, and the report."""
    code, out, _ = ended(story, tmp_path, as_json=True)
    told = json.loads(out.splitlines()[-1])
    assert code == 1
    assert (told["schema"], told["type"]) == ("backout.guard/1", "result")
    assert (told["action"], told["verified"], told["verdict"]) == ("push_secret", True, "regressed")
    assert (told["secrets"], told["from_version"]) == (["JWT_SECRET"], story.bad.id)
    assert told["live_version"] == story.world.live.main
    assert told["live_version"] not in (story.bad.id, story.good.id)
    assert told["report_path"]
    assert told["run_id"].startswith("secrets-")
    assert told["guard_run_id"].startswith("guard-")


def test_in_words(story: Story, tmp_path: Path) -> None:
    """The verdict, what was set, and what to look at next: no rollback is advised."""
    code, out, err = ended(story, tmp_path, as_json=False)
    assert code == 1
    assert out.startswith("regressed: ")
    assert "Set: JWT_SECRET. Now live: version " in out
    assert "the same code" in out
    assert "backout secrets check -e production" in err
    assert "backout rollback" not in out + err
