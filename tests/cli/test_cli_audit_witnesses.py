"""`backout audit verify` and what deployments' messages say: a history that was written anew as a whole is found."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cli_shell import backout

from backout.journal.chain import hash_row
from backout.journal.sqlite import SqliteJournal
from backout.model.clock import to_utc
from backout.providers.clock import SystemClock

from private import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from cli_shell import Answer

GIT = shutil.which("git") or "git"
PLATFORM = '''
"""A platform of one file: what was made live, newest first."""
import datetime, json, pathlib, sys

asked = json.load(sys.stdin)
path = pathlib.Path("live.json")
made = json.loads(path.read_text())
if asked["command"] in ("activate", "shares"):
    top, told = made[0], asked.get("if_current")
    if "if_current" in asked and told != top["id"]:
        print(json.dumps({"error": "conflict", "message": top["id"]}))
        sys.exit()
    shares = asked.get("shares") or [{"version": asked["version"], "percentage": 100}]
    now = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
    made.insert(0, {"id": f"d{len(made) + 1}", "created_at": now, "shares": shares, "message": asked["message"]})
    path.write_text(json.dumps(made))
    print(json.dumps({"deployment": made[0]}))
elif asked["command"] == "current":
    print(json.dumps({"application": "shop", "deployment": made[0]}))
else:
    versions = [{"id": "v1", "created_at": made[-1]["created_at"], "number": 1}]
    print(json.dumps({"versions": versions, "deployments": made}))
'''
CONFIG = f"""
[app]
name = "shop"
[environments.production]
protected = false
[environments.production.platform]
provider = "command"
[environments.production.platform.command]
history = {json.dumps([sys.executable, "platform.py"])}
current = {json.dumps([sys.executable, "platform.py"])}
activate = {json.dumps([sys.executable, "platform.py"])}
"""
MARKS = '\n[marks]\nkey_env = "BACKOUT_MARKS_KEY"\n'
KEY = {"BACKOUT_MARKS_KEY": "a-key-of-the-marks-of-this-shop-0123456789"}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder with an application that is live, a journal, and a hold that backout wrote at the provider."""
    write_private(tmp_path / "backout.toml", CONFIG)
    write_private(tmp_path / "platform.py", PLATFORM)
    at = to_utc(SystemClock().now() - 3600).strftime("%Y-%m-%dT%H:%M:%SZ")
    first = {"id": "d1", "created_at": at, "shares": [{"version": "v1", "percentage": 100}], "message": "by hand"}
    write_private(tmp_path / "live.json", json.dumps([first]))
    with contextlib.closing(open_journal(tmp_path)) as journal:
        for number in range(3):
            journal.note("production", "x.noted", str(number), {"why": "a reason"}, actor="ann")
    hold(tmp_path)
    return tmp_path


def open_journal(folder: Path) -> SqliteJournal:
    return SqliteJournal(folder / ".backout" / "journal.sqlite", SystemClock())


def hold(folder: Path) -> None:
    done = backout(folder, "hold", "-e", "production", "--for", "1h", "-m", "a migration")
    assert done.code == 0, done.err


def verify(folder: Path, **variables: str) -> tuple[Answer, dict[str, Any]]:
    told = backout(folder, "audit", "verify", "--json", variables=variables)
    return told, json.loads(told.out)


def rewrite(folder: Path, since: int = 2, *, until: int = 99) -> None:
    """Write a whole new chain, as whoever owns the file can: the triggers off, another actor, every hash anew."""
    with contextlib.closing(sqlite3.connect(folder / ".backout" / "journal.sqlite")) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        rows = connection.execute("SELECT * FROM event ORDER BY seq").fetchall()
        connection.execute("DELETE FROM event")
        before = ""
        for row in rows[:until]:
            actor = "somebody else" if row[0] >= since else row[7]
            body = (*row[:7], actor, before)
            before = hash_row(body)
            connection.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*body, before))
        connection.execute("UPDATE head SET seq = ?, hash = ?", (len(rows[:until]), before))
        connection.commit()


def test_what_backout_deploys_says_how_far_the_journal_was(shop: Path) -> None:
    """The message has the first digits of the newest event's hash, and the reason still reads as it was typed."""
    with contextlib.closing(open_journal(shop)) as journal:
        events = list(journal.events())
    message = json.loads((shop / "live.json").read_text())[0]["message"]
    assert f"] journal={events[0].hash[:8]}/{events[2].hash[:12]} " in message
    told, found = verify(shop)
    assert told.code == 0, told.err
    assert found["witnesses"] == {"confirmed": 1, "differing": [], "other_journals": 0, "unread": []}
    assert "1 head of it in deployments' messages" in backout(shop, "audit", "verify").out
    status = backout(shop, "status", "-e", "production", "--json").json
    assert "a migration" in status["hold"]["why"]  # type: ignore[index]
    assert "journal=" not in status["hold"]["why"]  # type: ignore[index]


@pytest.mark.parametrize("how", ["another actor", "a shorter history"])
def test_a_history_that_was_written_anew_as_a_whole_is_found(shop: Path, how: str) -> None:
    """Its chain is whole; the deployment whose message contradicts it is named, and the exit code is 1."""
    hold(shop)
    if how == "another actor":
        rewrite(shop)
    else:
        rewrite(shop, since=99, until=1)
    told, found = verify(shop)
    assert told.code == 1
    assert (found["whole"], found["broken_at"]) == (True, None)
    assert found["witnesses"]["confirmed"] == 0
    assert [each["deployment"] for each in found["witnesses"]["differing"]] == ["d2", "d3"]
    assert found["witnesses"]["differing"][0]["environment"] == "production"
    assert "REWRITTEN: deployment d2 of production" in backout(shop, "audit", "verify").out


def test_another_journal_s_deployments_and_those_without_a_head_say_nothing(shop: Path) -> None:
    """A second machine's file, a message of an older backout, and a text that somebody else wrote."""
    (shop / ".backout" / "journal.sqlite").rename(shop / "away.sqlite")
    for end in ("-wal", "-shm"):
        (shop / ".backout" / f"journal.sqlite{end}").unlink(missing_ok=True)
    hold(shop)  # without any journal: it names none
    assert "journal=" not in json.loads((shop / "live.json").read_text())[0]["message"]
    with contextlib.closing(open_journal(shop)) as journal:
        journal.note("production", "x.noted", "1", {}, actor="ben")
    made = json.loads((shop / "live.json").read_text())
    other = {**made[0], "id": "d9", "shares": [{"version": "v2", "percentage": 100}]}
    with contextlib.closing(open_journal(shop)) as journal:
        witness = journal.read_witness()
    assert witness is not None
    other["message"] = f"[backout hold until=0] journal={witness.journal}/000000000000 lifted"
    (shop / "live.json").write_text(json.dumps([other, *made]))
    told, found = verify(shop)
    assert (told.code, found["witnesses"]["other_journals"], found["witnesses"]["confirmed"]) == (0, 1, 0)


def test_a_provider_that_is_not_read_is_said_and_changes_nothing(shop: Path) -> None:
    """The chain is checked all the same."""
    (shop / "platform.py").write_text("raise SystemExit(9)")
    told, found = verify(shop)
    assert (told.code, found["whole"]) == (0, True)
    assert [each["environment"] for each in found["witnesses"]["unread"]] == ["production"]


def test_the_commit_of_an_incident_s_report_names_the_head(shop: Path) -> None:
    """As a trailer of its message."""
    for words in (("init", "-q"), ("config", "user.name", "Ann"), ("config", "user.email", "ann@example.com")):
        subprocess.run([GIT, *words], cwd=shop, check=True)
    assert backout(shop, "incident", "open", "all is slow", "-e", "production").code == 0
    done = backout(shop, "incident", "report", "-e", "production", "--commit")
    assert done.code == 0, done.err
    said = subprocess.run([GIT, "log", "-1", "--format=%B"], cwd=shop, check=True, capture_output=True, text=True)
    with contextlib.closing(open_journal(shop)) as journal:
        heads = {f"{event.hash[:12]}" for event in journal.events()}
        first = next(journal.events())
    (line,) = [line for line in said.stdout.splitlines() if line.startswith("Backout-Journal: ")]
    journal_, _, head = line.removeprefix("Backout-Journal: ").partition("/")
    assert journal_ == first.hash[:8]
    assert head in heads


def test_an_archive_is_a_signed_witness_of_all_that_is_in_it(shop: Path) -> None:
    """It is written, read back, and compared by `audit verify`; the journal written anew as a whole is found by it."""
    archive = ("audit", "archive", "--before", "0 seconds ago", "--to", "old.jsonl")
    refused = backout(shop, *archive)
    assert (refused.code, "no key to sign" in refused.err) == (3, True)
    (shop / "backout.toml").write_text(CONFIG + MARKS)
    done = backout(shop, *archive, "--json", variables=KEY)
    assert done.code == 0, done.err
    assert (done.json["events"], done.json["left"]) == (3, 0)
    again = backout(shop, *archive, variables=KEY)
    assert (again.code, "File exists" in again.err) == (2, True)
    none = backout(shop, "audit", "archive", "--before", "2 hours ago", "--to", "x.jsonl", "--json", variables=KEY)
    assert (none.code, none.json["events"], (shop / "x.jsonl").exists()) == (0, 0, False)
    whole = backout(shop, "audit", "verify", "--archive", "old.jsonl", "--json", variables=KEY)
    assert (whole.code, whole.json["archive"]["same"]) == (0, True)  # type: ignore[index, call-overload]
    (shop / "live.json").write_text(json.dumps(json.loads((shop / "live.json").read_text())[-1:]))
    rewrite(shop)
    told = backout(shop, "audit", "verify", "--archive", "old.jsonl", variables=KEY)
    assert (told.code, "REWRITTEN: event 3" in told.out) == (1, True)
    assert backout(shop, "audit", "verify").code == 0, "nothing else tells it"
    assert backout(shop, "audit", "verify", "--archive", "none.jsonl", variables=KEY).code == 2
    broken = backout(shop, "audit", "archive", "--before", "never", "--to", "y.jsonl", variables=KEY)
    assert (broken.code, "not a time" in broken.err) == (2, True)
