"""`backout init --workflow`: what it writes is a workflow that fits the action, and its script runs."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

from cli_shell import backout

from backout.config.schema import JournalSection

from polling import PATIENCE_S
from workflow_runner import ROOT, read_yaml

if TYPE_CHECKING:
    from pathlib import Path

ACTION = read_yaml((ROOT / "action.yml").read_text(encoding="utf-8"))
PLACE = ".github/workflows/backout.yml"
CONFIG = """\
[app]
name = "shop"

[environments.production]
platform = { provider = "cloudflare", script = "shop", read_token_env = "READ_TOKEN" }
database = { provider = "postgres", url_env = "SHOP_DATABASE", migrations = "prisma" }
traffic = { provider = "telemetry" }
deploy = { command = "npm run deploy:production" }

[environments.staging]
platform = { provider = "cloudflare", script = "shop-staging", account_id = "0123456789abcdef0123456789abcdef" }

[notify.webhook]
url_env = "HOOK"
secret_env = "HOOK_KEY"
"""


def write(folder: Path, *words: str, environment: str = "production") -> Any:
    """Write the workflow and return it as parsed."""
    (folder / "backout.toml").write_text(CONFIG, encoding="utf-8")
    done = backout(folder, "init", "--workflow", "-e", environment, *words)
    assert done.code == 0, done.err
    text = (folder / PLACE).read_text(encoding="utf-8")
    return read_yaml(re.sub(r"(?m)[ ]+#.*$|^#.*$", "", text))


def test_it_fits_the_action_and_names_what_the_file_names(tmp_path: Path) -> None:
    """Every input is one of the action's, every variable of backout.toml is a secret, and the journal is kept."""
    job = write(tmp_path)["jobs"]["deploy"]
    ours = [step["with"] for step in job["steps"] if step.get("uses", "").startswith("OWNER/backout@")]
    assert len(ours) == 2
    assert {name for given in ours for name in given} <= set(ACTION["inputs"])
    assert {given["environment"] for given in ours} == {"production"}
    names = ("CLOUDFLARE_API_TOKEN", "HOOK", "HOOK_KEY", "READ_TOKEN", "SHOP_DATABASE")
    secrets = {name: f"${{{{ secrets.{name} }}}}" for name in names}
    assert job["env"] == {"CLOUDFLARE_ACCOUNT_ID": "${{ vars.CLOUDFLARE_ACCOUNT_ID }}", **secrets}
    kept = [step["with"]["path"] for step in job["steps"] if step.get("uses", "").startswith("actions/cache/")]
    assert kept == [f"{JournalSection().path}*"] * 2


def test_an_account_that_the_file_names_is_no_variable(tmp_path: Path) -> None:
    job = write(tmp_path, environment="staging")["jobs"]["deploy"]
    assert set(job["env"]) == {"CLOUDFLARE_API_TOKEN", "HOOK", "HOOK_KEY"}
    assert job["environment"] == "staging"


def test_its_script_tells_guard_which_version_was_deployed(tmp_path: Path) -> None:
    """As a runner runs it, with a deployment that writes what wrangler writes."""
    job = write(tmp_path)["jobs"]["deploy"]
    step = next(step for step in job["steps"] if step.get("id") == "deployed")
    programs = tmp_path / "bin"
    programs.mkdir()
    npm = programs / "npm"
    told = '{"type":"wrangler-session"}\\n{"type":"deploy","version_id":"v-1"}\\n'
    npm.write_text(
        f'#!/bin/sh\necho "$*" >> asked\nprintf \'{told}\' > "$WRANGLER_OUTPUT_FILE_PATH"\n', encoding="utf-8"
    )
    npm.chmod(0o755)
    variables = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "GITHUB_SHA": "9d3ac17b20f84a1e8c2d45e6f7a8b9c0d1e2f304",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "WRANGLER_OUTPUT_FILE_PATH": str(tmp_path / "wrangler.jsonl"),
    }
    done = subprocess.run(
        ["/bin/bash", "-e", "-c", step["run"]],
        cwd=tmp_path,
        env=variables,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output").read_text(encoding="utf-8") == "version-id=v-1\n"
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert asked == ["ci", "run deploy:production -- --tag 9d3ac17b20f8"]


def test_a_workflow_that_is_there_stays(tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / PLACE
    file.write_text("mine\n", encoding="utf-8")
    again = backout(tmp_path, "init", "--workflow", "-e", "production")
    assert (again.code, file.read_text(encoding="utf-8")) == (3, "mine\n")
    shown = backout(tmp_path, "init", "--workflow", "-e", "production", "--dry-run")
    assert "OWNER/backout@COMMIT" in shown.out
    assert file.read_text(encoding="utf-8") == "mine\n"
    forced = backout(tmp_path, "init", "--workflow", "-e", "production", "--force")
    assert forced.code == 0, forced.err
    assert "OWNER/backout@COMMIT" in file.read_text(encoding="utf-8")
