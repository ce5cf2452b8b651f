"""The GitHub action: its metadata, and its steps run with bash as a runner does, against the twin."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.config.schema import JournalSection

from polling import until
from scripted_server import answer, scripted_server
from workflow_runner import ROOT, Job, read_yaml

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from drillbook import Drillbook, Trial
    from scripted_server import ScriptedServer

pytestmark = pytest.mark.rotating("pipelines", 3)

GITHUB_PAGE = (ROOT / "docs" / "github.md").read_text(encoding="utf-8")
ACTION = read_yaml((ROOT / "action.yml").read_text(encoding="utf-8"))
TOP = {"name", "author", "description", "inputs", "outputs", "runs", "branding"}
INPUT = {"description", "required", "default", "deprecationMessage"}
STEP = {"run", "shell", "if", "name", "id", "env", "working-directory", "uses", "with", "continue-on-error"}
SHA = "9d3ac17b20f84a1e8c2d45e6f7a8b9c0d1e2f304"
TOKEN = "ghs_canary0123456789"


def test_the_metadata_has_the_documented_keys_only() -> None:
    """Name, inputs, outputs with their values, composite steps with a shell each."""
    assert set(ACTION) <= TOP
    assert {"name", "description", "runs"} <= set(ACTION)
    assert set(ACTION["runs"]) == {"using", "steps"}
    assert ACTION["runs"]["using"] == "composite"
    identifier = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]*$")
    for name, each in ACTION["inputs"].items():
        assert identifier.match(name)
        assert set(each) <= INPUT
        assert each["description"]
        assert ("default" in each) != (each.get("required") == "true")
    for name, each in ACTION["outputs"].items():
        assert identifier.match(name)
        assert set(each) == {"description", "value"}
    for step in ACTION["runs"]["steps"]:
        assert set(step) <= STEP
        assert step["shell"] == "bash"


def test_no_input_stands_in_a_script() -> None:
    """What a workflow passes reaches the scripts as variables, so that it is never taken for shell text."""
    scripts = [step["run"] for step in ACTION["runs"]["steps"]]
    assert not [script for script in scripts if "${{" in script]
    values = [value for step in ACTION["runs"]["steps"] for value in (*step["env"].values(), *_places(step))]
    used = {name for value in values for name in re.findall(r"inputs\.([\w-]+)", value)}
    assert used == set(ACTION["inputs"])


def _places(step: dict[str, str]) -> list[str]:
    return [step[key] for key in ("working-directory",) if key in step]


@contextlib.contextmanager
def github(*, allowed: bool = True) -> Iterator[ScriptedServer]:
    """Answer as the API of deployments does: none of this commit yet; or no permission at all."""
    with scripted_server() as server:
        refused = answer({"message": "Resource not accessible by integration", "status": "403"}, 403)
        server.will(*([answer([]), answer({"id": 7}, 201), answer({"state": "x"}, 201)] if allowed else [refused]))
        yield server


def job(trial: Trial, server: ScriptedServer | None = None) -> Job:
    """Return a job in whose repository the trial's configuration lies."""
    variables = {"GITHUB_SHA": SHA, **({"GITHUB_API_URL": server.url} if server else {})}
    made = Job(trial.folder / "runner", variables).prepare().installed()
    (made.workspace / "app").mkdir()
    return made


def inputs(trial: Trial, **more: str) -> dict[str, str]:
    """Return the inputs of a short watch."""
    return {
        "environment": "production", "config": str(trial.config), "working-directory": "app", "for": "8s",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }  # fmt: skip


def shown(server: ScriptedServer) -> list[dict[str, object]]:
    """Return the statuses that were posted."""
    return [json.loads(asked.body) for asked in server.asked if asked.target.endswith("/statuses")]


def secrets_of(trial: Trial) -> list[str]:
    stage = trial.book.stage
    lines = (stage.directory / "secrets.env").read_text(encoding="utf-8").split()
    token = Path(str(stage.twin.api_token_file)).read_text(encoding="utf-8").strip()
    return [*(line.partition("=")[2] for line in lines), token, str(stage.twin.postgres_dsn), TOKEN]


def bad_is_live(drillbook: Drillbook) -> Trial:
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    return trial


@pytest.mark.long
def test_a_bad_deployment_is_rolled_back_and_the_pipeline_goes_red(drillbook: Drillbook) -> None:
    """Exit 1; outputs, the page with the incident report, and the status all say it; no secret is in any of them."""
    trial = bad_is_live(drillbook)
    with github() as server:
        ran = job(trial, server).use(inputs(trial, mode="act", github_token=TOKEN))
    assert ran.code == 1, ran.log
    assert trial.live() == drillbook.good
    assert ran.outputs["result"] == "rolled_back"
    assert ran.outputs["live-version"] == drillbook.good
    assert Path(ran.outputs["report-path"]).is_file()
    assert ran.outputs["run-id"].startswith("rollback-")
    assert "### backout guard, production: ↩️ rolled back" in ran.summary
    assert f"| Watched version | {drillbook.bad} |" in ran.summary
    assert f"| Live version, as read back | {drillbook.good} |" in ran.summary
    assert "<summary>The incident report</summary>" in ran.summary
    created = next(json.loads(asked.body) for asked in server.asked if asked.target.endswith("/deployments"))
    assert (created["ref"], created["environment"]) == (SHA, "production")
    assert [status["state"] for status in shown(server)] == ["in_progress", "failure"]
    last = shown(server)[-1]
    assert str(last["description"]).startswith(f"rolled back: version {drillbook.good[:8]} is live again: ")
    assert last["log_url"] == "https://github.com/owner/app/actions/runs/4711"
    first, *_, last_line = ran.log.rstrip().splitlines()
    assert re.fullmatch(r"::stop-commands::[0-9a-f]{32}", first)  # what an application says commands no runner
    assert last_line == first.replace("stop-commands::", "") + "::"
    everything = ran.log + ran.summary + str(ran.outputs) + str([asked.body for asked in server.asked])
    assert not [secret for secret in secrets_of(trial) if secret in everything]


@pytest.mark.long
@pytest.mark.calm
def test_a_gate_refuses_code_that_was_rolled_back(drillbook: Drillbook) -> None:
    """Asked before the deployment: exit 3 and `refused` for what is quarantined, 0 and `allowed` for anything else."""
    trial = bad_is_live(drillbook)
    rolled = trial.run("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")
    assert rolled.code == 0, rolled.err
    ours = job(trial)
    ours.variables = {"GITHUB_SHA": drillbook.bad}  # in a pipeline its commit, which the API does not know here
    refused = ours.use(inputs(trial, gate="true"))
    assert (refused.code, refused.outputs["result"]) == (3, "refused"), refused.log
    assert "### backout: refused" in refused.summary
    ours.variables = {"GITHUB_SHA": drillbook.good}
    allowed = ours.use(inputs(trial, gate="true"))
    assert (allowed.code, allowed.outputs["result"]) == (0, "allowed"), allowed.log
    assert trial.live() == drillbook.good


@pytest.mark.long
def test_a_good_deployment_is_green_whatever_the_status_says(drillbook: Drillbook) -> None:
    """Exit 0 and healthy; that the status may not be set is said once, and changes nothing."""
    trial = bad_is_live(drillbook)
    # What came before is quarantined then: no past to compare with, only the limits, which takes few requests.
    rolled = trial.run("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")
    assert rolled.code == 0, rolled.err
    with github(allowed=False) as server:
        ran = job(trial, server).use(inputs(trial, mode="act", github_token=TOKEN))
    assert ran.code == 0, ran.log
    assert (ran.outputs["result"], ran.outputs["live-version"]) == ("healthy", drillbook.good)
    assert "### backout guard, production: ✅ healthy" in ran.summary
    assert ran.log.count("the deployment's status could not be set") == 1
    assert "permissions: { deployments: write }" in ran.log
    assert len(server.asked) == 1


def test_the_recipe_for_the_journal_names_the_journal() -> None:
    """The same files in both steps, and what SQLite may have left beside it."""
    paths = re.findall(r"path: (\S*journal\S*)", GITHUB_PAGE)
    assert paths == [f"{JournalSection().path}*"] * 2
    keys = re.findall(r"key: (backout-\S.*)", GITHUB_PAGE)
    assert len(keys) == 2
    assert keys[0] == keys[1]


@pytest.mark.long
def test_the_journal_goes_to_the_next_runner(drillbook: Drillbook, tmp_path: Path) -> None:
    """What the recipe keeps of one runner is all that the next one needs to know of the first one's watch."""
    trial = bad_is_live(drillbook)
    rolled = trial.run("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")
    assert rolled.code == 0, rolled.err
    first = job(trial).use(inputs(trial))
    assert first.code == 0, first.log
    with tarfile.open(tmp_path / "cache", "w") as cache:
        for file in trial.folder.glob("journal.sqlite*"):
            cache.add(file, file.name)
    second = drillbook.trial().forget_marks()
    with tarfile.open(tmp_path / "cache") as cache:
        cache.extractall(second.folder, filter="data")
    known = [run["run_id"] for run in second.run("runs", "list", "--json").json["runs"]]
    assert first.outputs["run-id"] in known
    again = job(second).use(inputs(second))
    assert again.code == 0, again.log
    assert {first.outputs["run-id"], again.outputs["run-id"]} <= {
        run["run_id"] for run in second.run("runs", "list", "--json").json["runs"]
    }
    assert second.run("audit", "verify").code == 0


@pytest.mark.long
def test_a_regression_that_is_only_observed_is_red_too(drillbook: Drillbook) -> None:
    """Mode as configured (observe): exit 1, regressed, the bad version is still live and the page says what to do."""
    trial = bad_is_live(drillbook).replace((r'mode = "act"', 'mode = "observe"'))
    with github() as server:
        ran = job(trial, server).use(inputs(trial, github_token=TOKEN))
    assert ran.code == 1, ran.log
    assert (ran.outputs["result"], ran.outputs["live-version"]) == ("regressed", drillbook.bad)
    assert "roll back to version" in ran.summary
    assert shown(server)[-1]["state"] == "failure"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("apiToken", "CLOUDFLARE_API_TOKEN and CLOUDFLARE_ACCOUNT_ID in place of"),
        ("accountId", "CLOUDFLARE_API_TOKEN and CLOUDFLARE_ACCOUNT_ID in place of"),
        ("gitHubToken", "the inputs are called github-token and working-directory here"),
        ("workingDirectory", "the inputs are called github-token and working-directory here"),
        ("command", "run wrangler in a step of its own"),
    ],
)
def test_inputs_of_another_action_are_told_where_they_belong(tmp_path: Path, name: str, hint: str) -> None:
    """As cloudflare/wrangler-action has them; nothing is begun, and the value is not shown."""
    ran = Job(tmp_path / "runner", {"GITHUB_SHA": SHA}).prepare().installed().use({"environment": "x", name: TOKEN})
    assert ran.code == 2
    assert hint in ran.log
    assert TOKEN not in ran.log


@pytest.mark.long
@pytest.mark.calm
def test_every_error_is_told(drillbook: Drillbook) -> None:
    """A wrong configuration, a wrong call and a shell's text as an input: exit code, `error` and a page each time."""
    trial = drillbook.trial().replace((r"\[journal\]", "[journl]"))
    with github() as server:
        broken = job(trial, server).use(inputs(trial, github_token=TOKEN))
    assert (broken.code, broken.outputs["result"]) == (78, "error")
    assert "unknown key" in broken.summary
    assert [status["state"] for status in shown(server)] == ["in_progress", "error"]
    other = drillbook.trial()
    ours = job(other)
    wrong = ours.use(inputs(other, mode="perhaps"))
    assert (wrong.code, wrong.outputs["result"]) == (2, "error")
    assert "Exit code 2" in wrong.summary
    text = '$(touch pwned)"; touch pwned; "`touch pwned`'
    for name in ("environment", "mode", "for", "config", "wait-for-next", "version-id", "gate"):
        ended = ours.use({**inputs(other), name: text})
        assert name in ("wait-for-next", "gate") or ended.code != 0
    assert not list(ours.folder.rglob("pwned"))


@pytest.mark.long
@pytest.mark.calm
def test_a_cancelled_job_stops_the_watch_and_tells(drillbook: Drillbook) -> None:
    """The first signal ends the watch at its next boundary: exit 130, the status is not left in progress."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)

    def cancel(process: subprocess.Popen[str]) -> None:
        if (trial.folder / "runner" / "use-1" / "1").is_dir():
            is_run = ("running", "guard").__eq__
            until(lambda: is_run((trial.newest()["state"], trial.newest()["kind"])), 20, "it runs", process=process)
            process.send_signal(signal.SIGINT)

    with github() as server:
        ran = job(trial, server).use({**inputs(trial, github_token=TOKEN), "for": "60s"}, cancel)
    assert ran.code == 130, ran.log
    assert ran.outputs["result"] == "error"
    assert [status["state"] for status in shown(server)] == ["in_progress", "error"]
    assert trial.newest()["state"] == "interrupted"


def test_an_action_that_cannot_be_installed_says_so(tmp_path: Path) -> None:
    """No index, no Python: the step is red, and its page says that nobody watches the deployment."""
    ours = Job(tmp_path / "runner", {"GITHUB_SHA": SHA}).prepare()
    for python in ("no-such-python", "false"):
        ran = ours.use({"environment": "production", "python": python})
        assert ran.code != 0
        assert "this deployment is not watched" in ran.summary
        assert ran.outputs.get("result", "") == ""


@pytest.mark.rotating("installs", 4)
@pytest.mark.long
def test_the_install_step_installs_what_guard_needs(tmp_path: Path) -> None:
    """From hashes, into a folder of the runner, with nothing in the user's repository; the program starts from it."""
    action = tmp_path / "action"
    shutil.copytree(ROOT / "src", action / "src")
    shutil.copytree(ROOT / "requirements", action / "requirements")
    shutil.copy(ROOT / "action.yml", action / "action.yml")
    index = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    ours = Job(tmp_path / "runner", {"GITHUB_SHA": SHA, "HOME": os.environ.get("HOME", ""), **index}, action).prepare()
    (ours.workspace / "pip.py").write_text("raise SystemExit('the repository was imported')")
    ran = ours.use({"environment": "production"})
    assert (ran.code, ran.outputs["result"]) == (2, "error"), ran.log
    assert "no backout.toml here" in ran.log
    assert [path.name for path in ours.workspace.iterdir()] == ["pip.py"]
    again = ours.use({"environment": "production"})
    assert "no backout.toml here" in again.log
