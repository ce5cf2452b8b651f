"""What `backout objects` says, without a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
