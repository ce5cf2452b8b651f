"""The runbook's rollback test in an environment of the team's own: the twin stands for their staging."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from backout.model.drill import DrillAction
from backout.twin.stage import SCRIPT
from backout.wiring.drills.catalogue import load_drills
from backout.wiring.drills.rehearsal import watch_there
from backout.wiring.drills.trial import Ended

from drillbook import ENV, PROGRAM
from polling import PATIENCE_S
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from drillbook import Drillbook, Trial

WATCHED = '"40s"'
DEPLOY = """\
import json, sys, urllib.request
url, token_file, version = sys.argv[1:]
body = {"strategy": "percentage", "versions": [{"version_id": version, "percentage": 100}]}
headers = {"Authorization": "Bearer " + open(token_file).read().strip(), "Content-Type": "application/json"}
urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).close()
"""
DRILL = """\
title = "Ours"
group = "other"
environment = "staging"
procedure = "rehearsal"
[commands]
good = {good}
bad = {bad}
[expect]
action = "rollback"
"""


def set_up(drillbook: Drillbook, environment: str) -> Trial:
    """Return a trial whose environment has this name, with our drill beside its backout.toml."""
    trial, twin = drillbook.trial(), drillbook.stage.twin
    broken = drillbook.deploy("bad/health-down")
    trial.make_live(drillbook.good, force=True)
    trial.replace((r"environments\.production", f"environments.{environment}"))
    script = trial.folder / "deploy.py"
    script.write_text(DEPLOY, encoding="utf-8")
    url = f"{twin.api_base_url}/accounts/{twin.account_id}/workers/scripts/{SCRIPT}/deployments"
    words = {
        name: json.dumps(shlex.join([sys.executable, str(script), url, str(twin.api_token_file), version]))
        for name, version in (("good", drillbook.good), ("bad", broken))
    }
    own = trial.folder / "drills"
    own.mkdir()
    (own / "staging-rollback-test.toml").write_text(DRILL.format(**words), encoding="utf-8")
    return trial


def run(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Run the program in a folder; return exit code and answer."""
    argv = [str(PROGRAM), *words, "--json"]
    done = subprocess.run(
        argv, cwd=folder, env=ENV, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S
    )
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
@pytest.mark.rotating("drills", 5)
def test_the_six_steps_in_staging(drillbook: Drillbook) -> None:
    """The team's own commands deploy; the broken version is rolled back, and no statistics of staging count it."""
    trial = set_up(drillbook, "staging")
    code, answer = run(trial.folder, "drill", "run", "staging-rollback-test", "-e", "staging")
    (drill,) = answer["drills"]
    assert code == 0, drill["missed"]
    assert (drill["environment"], drill["actual_action"], drill["passed"]) == ("staging", "rollback", True)
    assert 0 <= drill["act_s"] <= drill["rto_s"]
    assert drillbook.trial().live() == drillbook.good
    assert run(trial.folder, "runs", "list", "-e", "staging")[1]["runs"] == []
    assert not trial.reports()
    _, known = run(trial.folder, "status", "-e", "staging")
    assert known["drill"]["name"] == "staging-rollback-test"


@pytest.mark.long
@pytest.mark.rotating("drills", 5)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_a_stopped_drill_broke_does_not_stay(drillbook: Drillbook, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM put the good version back; after kill -9 `status` names the command that does."""
    trial, outside = set_up(drillbook, "staging"), drillbook.trial()
    file = trial.folder / "drills" / "staging-rollback-test.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r'(?m)^bad = "(.*)"$', r'bad = "\1; echo broken; sleep 15"', text), encoding="utf-8")
    argv = [str(PROGRAM), "drill", "run", "staging-rollback-test", "-e", "staging"]
    with subprocess.Popen(argv, cwd=trial.folder, env=ENV, stderr=subprocess.PIPE, text=True) as running:
        await_line(running, "broken", stream=running.stderr, patience_s=2 * PATIENCE_S)
        running.send_signal(number)
    is_killed = number == signal.SIGKILL
    assert (running.returncode, outside.live() == drillbook.good) == (-9 if is_killed else 130, not is_killed)
    said = subprocess.run(
        [str(PROGRAM), "status", "-e", "staging"],
        cwd=trial.folder,
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert ("broken on purpose by the drill staging-rollback-test" in said.stdout) is is_killed
    assert (f"backout rollback {drillbook.good} -e staging" in said.stderr) is is_killed
    _, looked = run(trial.folder, "doctor", "-e", "staging")
    (state,) = (each["state"] for each in looked["checks"] if each["name"] == "trial")
    assert state == ("missing" if is_killed else "ok")
    outside.make_live(drillbook.good, force=True)


@pytest.mark.long
@pytest.mark.rotating("drills", 5)
def test_production_is_only_watched(drillbook: Drillbook) -> None:
    """Guard looks at what is live, by production's own configuration; nothing is deployed, no statistics count it."""
    trial = drillbook.trial()
    ours = next(each.path for each in load_drills(trial.folder) if each.name == "production-watch")
    own = trial.folder / "drills"
    own.mkdir()
    (own / "production-watch.toml").write_text(
        ours.read_text(encoding="utf-8").replace('"5m"', WATCHED), encoding="utf-8"
    )
    before, runs = trial.tools().deployments.history(), run(trial.folder, "runs", "list", "-e", "production")
    code, answer = run(trial.folder, "drill", "run", "production-watch", "-e", "production")
    (drill,) = answer["drills"]
    assert code == 0, drill["missed"]
    assert (drill["environment"], drill["actual_action"], drill["passed"]) == ("production", "none", True)
    assert trial.tools().deployments.history() == before
    assert run(trial.folder, "runs", "list", "-e", "production") == runs
    _, known = run(trial.folder, "drill", "history")
    assert [each["name"] for each in known["drills"]] == ["production-watch"]


def test_production_is_watched_for_as_long_as_the_drill_says(tmp_path: Path) -> None:
    """Ours lasts five minutes, and guard gets more time than that; what it counts is said meanwhile and in the end."""
    ours = next(each for each in load_drills(tmp_path) if each.name == "production-watch")
    said: list[str] = []
    given: list[float] = []
    tick = {"type": "tick", "for_s": 300.0, "verdict": "inconclusive", "reason": "too few", "health": "ok", "errors": 1}
    end = {"type": "result", "verdict": "healthy", "reason": "1 of 900 failed", "action": "hold", "why": "observed"}

    def follow(_words: Sequence[str], hear: Callable[[str], None], within_s: float) -> Ended:
        given.append(within_s)
        for elapsed_s in (1.0, 11.0, 31.0, 299.0):
            hear(json.dumps({**tick, "elapsed_s": elapsed_s, "requests": int(3 * elapsed_s)}))
        return Ended(0, json.dumps(end), "")

    measured = watch_there(ours, follow, said.append)
    assert given[0] > float(ours.file.watch.lasts) + 60
    assert [line.partition(":")[0] for line in said[1:]] == ["1 of 300 s", "31 of 300 s", "299 of 300 s"]
    assert (measured.action, measured.requests, measured.bad_requests) == (DrillAction.NONE, 897, 1)
    assert measured.detail == "healthy: 1 of 900 failed; observed"


def test_nothing_broken_is_deployed_where_it_is_protected(tmp_path: Path) -> None:
    """Production by its name, and without a command that deploys something broken: exit 2, before anything is done."""
    toml = """\
[app]
name = "x"
[environments.{name}]
platform = {{ provider = "cloudflare", script = "x", account_id = "a" }}
deploy = {{ command = "true" }}
"""
    for name, said in (("production", "is protected"), ("staging", "commands.bad")):
        (tmp_path / "backout.toml").write_text(toml.format(name=name), encoding="utf-8")
        code, answer = run(tmp_path, "drill", "run", "staging-rollback-test", "-e", name)
        assert code == 2
        assert said in answer["what"]
