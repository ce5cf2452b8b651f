"""What `backout objects` says, without a store."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from backout.journal.sqlite import SqliteJournal
from backout.model.objects.versions import Moment
from backout.plan.objects import plan_restore
from backout.providers.clock import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

_CONFIG = """[app]
name = "shop"
[journal]
path = "journal.sqlite"
[environments.staging]
health = { url = "https://shop.example.com/health" }
[environments.staging.platform]
provider = "cloudflare"
script = "shop"
account_id = "0123"
[environments.staging.storage]
provider = "s3"
bucket = "models"
endpoint = "http://127.0.0.1:1"
credentials_env = "STORAGE"
"""


def test_a_dry_run_ends_no_restore_and_does_not_say_that_it_did(tmp_path: Path) -> None:
    """Of a restore that was interrupted before it changed anything there is nothing to take back."""
    (tmp_path / "backout.toml").write_text(_CONFIG)
    variables = {"STORAGE": '{"access_key_id": "a", "secret_access_key": "b"}'}
    journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock())
    plan = plan_restore("staging", "models", "", Moment(1.0, 2.0), snapshot=False)
    run = journal.submit(plan, actor="ops", reason="damage")
    undo = ("objects", "restore", "--undo", "-e", "staging", "--yes")
    shown = backout(tmp_path, *undo, "--dry-run", variables=variables)
    found = journal.find(run)
    assert found is not None
    assert (shown.code, found.state.is_over) == (0, False), shown.err
    assert shown.out.strip() == f"run {run} has changed no object: it would be ended"
    ended = backout(tmp_path, *undo, variables=variables)
    found = journal.find(run)
    assert found is not None
    assert (ended.code, found.state.is_over) == (0, True), ended.err
    assert ended.out.strip() == f"run {run} has changed no object: it is ended"


@pytest.mark.parametrize("journal", ["file", "server"])
def test_what_spreads_a_restore_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str) -> None:
    """A journal that other machines reach, and the extra; else nothing begins, and it is said how to get it."""
    text = _CONFIG if journal == "file" else _CONFIG.replace('path = "journal.sqlite"', 'url_env = "JOURNAL"')
    (tmp_path / "backout.toml").write_text(text)
    variables = {"STORAGE": '{"access_key_id": "a", "secret_access_key": "b"}', "JOURNAL": "postgresql://h/d"}
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "procrastinate" else find_spec(name))
    found = backout(
        tmp_path, "objects", "restore", "--to", "5 minutes ago", "--spread", "-e", "staging", variables=variables
    )
    assert found.code == 2
    said = "the journal is a file here" if journal == "file" else "needs procrastinate, which is not installed"
    assert said in found.err
    assert ("url_env" if journal == "file" else "pip install '.[worker]'") in found.err


def test_only_who_spreads_a_restore_or_works_loads_procrastinate() -> None:
    """It takes two thirds of a second of a processor, and an on-call tool must start at once."""
    script = (
        "import sys; import backout.wiring.tasks, backout.wiring.objects, backout.cli.objects.restore,"
        " backout.runbook.objects.restore; print([name for name in sys.modules if 'procrastinate' in name])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
