"""A workflow that asks before it deploys, on the twin: what could not be taken back is stopped, a hotfix is not."""

from __future__ import annotations

import shlex
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from backout.twin.npm import find_sample_application

from workflow_runner import Followed, Job, follow, read_yaml

if TYPE_CHECKING:
    from drillbook import Drillbook, Trial

WORKFLOW = """
on: push
jobs:
  deploy:
    runs-on: ubuntu-24.04
    steps:
      - name: preflight
        uses: OWNER/backout@COMMIT
        with:
          environment: production
          config: ${{ env.config }}
          preflight: "true"
          fixes: ${{ inputs.fixes }}
          allow: channels
          why: the twin has nobody to tell
      - name: deploy
        run: ./deploy.sh
"""
DROP = "20261201090000_drop_name"
SHA = "9d3ac17b20f84a1e8c2d45e6f7a8b9c0d1e2f304"
DEPLOY = """
import sys
from pathlib import Path
from backout.twin.wrangler import run_wrangler
folder, url, account, token, secrets, logs = sys.argv[1:]
words = ["deploy", "src/variants/good.js", "--env", "production", "--secrets-file", secrets]
run = run_wrangler(
    words, cwd=Path(folder), api_base_url=url, account_id=account, token_file=Path(token), log_dir=Path(logs)
)
sys.exit(run.returncode)
"""
"""What the pipeline deploys with: the real wrangler, pointed at the twin."""


def has_to_drop_a_column(trial: Trial) -> None:
    """Give the trial a working copy with a migration that the live code does not survive."""
    files = trial.folder / "prisma" / "migrations"
    shutil.copytree(find_sample_application(trial.folder) / "prisma" / "migrations", files)
    (files / DROP).mkdir()
    (files / DROP / "migration.sql").write_text('ALTER TABLE "models" DROP COLUMN "name";\n', encoding="utf-8")


def push(trial: Trial, name: str, *, fixes: str = "") -> Followed:
    """Run the workflow once, on a runner of its own; its deployment is the real wrangler's."""
    job = Job(trial.folder / name, {"GITHUB_SHA": SHA}).prepare().installed()
    stage = trial.book.stage
    twin, folder = stage.twin, stage.directory
    places = (stage.application, twin.api_base_url, twin.account_id, twin.api_token_file, folder / "secrets.env")
    script = shlex.join([sys.executable, "-c", DEPLOY, *map(str, (*places, folder / "wrangler"))])
    (job.workspace / "deploy.sh").write_text(f"#!/bin/sh\nexec {script}\n", encoding="utf-8")
    (job.workspace / "deploy.sh").chmod(0o755)
    return follow(job, WORKFLOW, {"env.config": str(trial.config), "inputs.fixes": fixes})


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_a_deployment_that_could_not_be_taken_back_is_stopped_and_a_hotfix_is_not(drillbook: Drillbook) -> None:
    """A migration that the live code does not survive: red, with the command; in an open incident the same is green."""
    drillbook.make_good_live()
    trial = drillbook.trial()
    has_to_drop_a_column(trial)
    stopped = push(trial, "first")
    asked = stopped.steps["preflight"]
    assert (list(stopped.steps), stopped.code) == (["preflight"], 1), asked.log
    assert asked.outputs["result"] == "not_ready"
    assert trial.live() == drillbook.good
    assert "❌ not ready: this deployment could not be taken back" in asked.summary
    assert f"{DROP} breaks the old code" in asked.summary
    assert "- pending migrations: `backout db migrations check prisma/migrations -e production" in asked.summary
    assert "| ✋ | channels |" in asked.summary
    assert "the twin has nobody to tell" in asked.summary

    trial.make_live(drillbook.bad)
    watched = trial.run("guard", "--mode", "observe", "--for", "8s", "--early", "--json")
    assert watched.code == 1, watched.err
    hotfix = push(trial, "third")
    assert hotfix.steps["preflight"].outputs["result"] == "advised", hotfix.steps["preflight"].log
    assert f"the incident {watched.json['run_id']} is open" in hotfix.steps["preflight"].summary
    assert (hotfix.code, trial.live() == drillbook.bad) == (0, False)


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
@pytest.mark.calm
def test_a_fix_is_named_where_the_journal_does_not_know_the_incident(drillbook: Drillbook) -> None:
    """The input `fixes` of a fresh runner: it says what is missing, and is green."""
    trial = drillbook.trial().forget_marks()
    job = Job(trial.folder / "runner", {"GITHUB_SHA": SHA}).prepare().installed()
    inputs = {"environment": "production", "config": str(trial.config), "preflight": "true"}
    ran = job.use({**inputs, "fixes": "rollback-6d1f"})
    assert (ran.code, ran.outputs["result"]) == (0, "advised"), ran.log
    assert "advice only, since this deployment fixes rollback-6d1f" in ran.summary
    assert "channels" in ran.summary


def test_the_workflow_is_one() -> None:
    """The part of YAML that is read here; the action has every input that it gives."""
    steps = read_yaml(WORKFLOW)["jobs"]["deploy"]["steps"]
    assert [step["name"] for step in steps] == ["preflight", "deploy"]
