"""`backout audit`: the events of an old journal that hold a token are named, and a chain that somebody edited."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from backout.journal.sqlite import SqliteJournal
from backout.providers.clock import SystemClock

from private import write_private

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "tok-Canary_9f3/x+Q7k2_w8"
CONFIG = """
[app]
name = "fm5"
[environments.production]
platform = { provider = "cloudflare", script = "fm5", account_id = "0123456789abcdef0123456789abcdef" }
[environments.production.secrets]
source = { from = "file", path = "values.env" }
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a folder with a journal from before the mask: two events and a checkpoint hold what is secret."""
    write_private(tmp_path / "backout.toml", CONFIG)
    write_private(tmp_path / "values.env", "APP_KEY=app-canary-77aa11\n")
    encoded = base64.b64encode(f"ab:{TOKEN}".encode()).decode()
    with contextlib.closing(SqliteJournal(tmp_path / ".backout" / "journal.sqlite", SystemClock())) as journal:
        journal.note("production", "x.clean", "1", {"why": "nothing"}, actor="ops")
        journal.note("production", "x.plain", "2", {"steps": [{"title": f"GET ?k={TOKEN}"}]}, actor="ops")
        journal.note("production", "x.encoded", "3", {"why": encoded, "more": "app-canary-77aa11"}, actor="o")
        journal.save_checkpoint("guard-1", "detector", {"details": {TOKEN: TOKEN.replace("_", "\\_")}})
    return tmp_path


def test_scrub_names_what_holds_a_secret_and_how_to_retire_the_journal(old: Path) -> None:
    """Number, run, kind and place of each; exit 1; the secret itself is not said again."""
    variables = {"CLOUDFLARE_API_TOKEN": TOKEN}
    looked = backout(old, "audit", "scrub", "--dry-run", "--json", variables=variables)
    assert looked.code == 1, looked.err
    found = json.loads(looked.out)["found"]
    assert [(each["seq"], each["kind"]) for each in found] == [
        (2, "x.plain"), (3, "x.encoded"), (None, "checkpoint detector")
    ]  # fmt: skip
    assert found[0]["where"] == ["data.steps[0].title"]
    assert sorted(found[1]["where"]) == ["data.more", "data.why"]
    told = backout(old, "audit", "scrub", "--dry-run", variables=variables)
    journal = old / ".backout" / "journal.sqlite"
    lines = [line.strip() for line in told.err.splitlines()]
    assert f"mv {journal} {journal.with_name('journal.retired.sqlite')}" in lines, "alone on its line, to be pasted"
    assert (told.code, "x.encoded" in told.out) == (1, True)
    assert TOKEN not in looked.out + looked.err + told.out + told.err


def test_scrub_of_a_clean_journal_and_without_a_secret(old: Path) -> None:
    """Nothing found is exit 0, nothing known is exit 7; without --dry-run it says that nothing can be taken out."""
    write_private(old / "values.env", "APP_KEY=another-canary-1\n")
    clean = backout(old, "audit", "scrub", "--dry-run", "--json")
    assert (clean.code, json.loads(clean.out)["found"]) == (0, [])
    (old / "values.env").unlink()
    assert backout(old, "audit", "scrub", "--dry-run").code == 7
    refused = backout(old, "audit", "scrub")
    assert (refused.code, "cannot be taken out" in refused.err) == (2, True)


def test_verify_names_the_first_event_that_somebody_changed(old: Path) -> None:
    """Whole is exit 0, broken exit 1."""
    whole = backout(old, "audit", "verify", "--json")
    assert (whole.code, json.loads(whole.out)["events"]) == (0, 3)
    with contextlib.closing(sqlite3.connect(old / ".backout" / "journal.sqlite")) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE event SET actor = 'nobody' WHERE seq = 2")
        connection.commit()
    broken = backout(old, "audit", "verify", "--json")
    assert (broken.code, json.loads(broken.out)["broken_at"]) == (1, 2)
    journal = old / ".backout" / "journal.sqlite"
    assert f"mv {journal} {journal}.changed" in broken.err


def test_log_lists_the_newest_events_in_their_order(old: Path) -> None:
    """Of all environments or one, by kind and time; what steps record on their way only when it is asked for."""
    with contextlib.closing(SqliteJournal(old / ".backout" / "journal.sqlite", SystemClock())) as journal:
        journal.note("staging", "incident.noted", "4", {"id": "i", "text": "looks\x1b[31m well"}, actor="ada")
        journal.note("", "token.issued", "5", {"name": "ci"}, actor="ops")
        journal.note("staging", "step.progress", "6", {"seen": 1}, actor="ops")
    whole = backout(old, "audit", "log", "--json")
    assert whole.code == 0, whole.err
    events = json.loads(whole.out)["events"]
    assert [(each["seq"], each["environment"], each["kind"]) for each in events] == [
        (1, "production", "x.clean"), (2, "production", "x.plain"), (3, "production", "x.encoded"),
        (4, "staging", "incident.noted"), (5, None, "token.issued"),
    ]  # fmt: skip
    assert events[4]["data"]["name"] == "ci"
    assert events[4]["writer"] is None

    def list_kinds(*options: str) -> list[str]:
        return [each["kind"] for each in json.loads(backout(old, "audit", "log", "--json", *options).out)["events"]]

    assert list_kinds("--limit", "2") == ["incident.noted", "token.issued"]
    assert list_kinds("--kind", "x.*", "--limit", "1") == ["x.encoded"]
    assert list_kinds("--kind", "step.progress") == ["step.progress"]
    assert list_kinds("--since", "1h") == [each["kind"] for each in events]
    told = backout(old, "audit", "log", "-e", "production")
    assert "x.plain" in told.out
    assert "incident.noted" not in told.out
    assert "\x1b" not in backout(old, "audit", "log").out
    assert backout(old, "audit", "log", "--since", "soon").code == 2, "no time"
