"""`backout doctor` as it is typed, without a platform: what this machine can tell, in every state of the journal."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_shell import Answer
from cli_shell import backout as typed

from backout.journal.sqlite import SqliteJournal
from backout.model.checkup import CheckState, Level
from backout.providers.clock import SystemClock

from scripted_server import scripted_server, token_answers

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
TOML = """
[app]
name = "shop"
[environments.production]
platform = { provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "backout.toml").write_text(TOML, encoding="utf-8")
    return tmp_path


def doctor(folder: Path, *arguments: str, **variables: str) -> Answer:
    return typed(folder, "doctor", *arguments, variables=variables)


def checks(answer: Answer) -> dict[str, dict[str, Any]]:
    found = answer.json["checks"]
    assert isinstance(found, list)
    return {check["name"]: check for check in found}


def test_the_answer_has_the_shape_of_the_contract(folder: Path) -> None:
    """Keys, words and the exit code; without a token that is what is missing, and the rest is told all the same."""
    answer = doctor(folder, "--json")
    assert answer.code == 1
    assert answer.json["schema"] == "backout.doctor/1"
    assert answer.json["ready"] is False
    found = checks(answer)
    for check in found.values():
        assert set(check) == {"name", "level", "state", "why", "next"}
        assert check["level"] in {level.value for level in Level}
        assert check["state"] in {state.value for state in CheckState}
    assert found["token"]["state"] == "missing"
    assert "CLOUDFLARE_API_TOKEN" in found["token"]["next"]
    assert found["platform"] == {
        "name": "platform",
        "level": "must",
        "state": "unmeasured",
        "why": "not asked: there is no token",
        "next": "backout doctor -e production",
    }
    assert {found[name]["state"] for name in ("config", "journal", "journal_writable", "git_ignore")} == {"ok"}
    assert {found[name]["state"] for name in ("health", "traffic", "database", "channels", "dead_man")} == {
        "not_set_up"
    }


def test_a_person_reads_a_table_with_what_closes_each_gap(folder: Path) -> None:
    """In 60 columns too, and without colours nothing is lost."""
    answer = doctor(folder, COLUMNS="60")
    head = " ".join(answer.out.split())
    assert head.startswith("production ✗ not ready, missing: token; not measured: platform, pin; ")
    assert "✗ token" in answer.out
    assert "→ set CLOUDFLARE_API_TOKEN" in answer.out
    words = [line for line in answer.out.splitlines() if not re.search(r"/| \[|→ backout|  #", line)]
    assert all(len(line) <= 60 for line in words)  # neither a path, nor a line of a file or to type is broken


def damaged(path: Path) -> None:
    path.write_bytes(b"\xff" * 8192)


def damaged_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO schema_version VALUES (99, 0)")


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE shopping (item TEXT)")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "name", "says"),
    [
        (damaged, "journal", "the journal is damaged"),
        (damaged_pages, "journal", "damaged"),
        (newer, "journal_schema", "written by a newer backout (version 99"),
        (foreign, "journal", "another program's database"),
        (a_folder, "journal", "the journal cannot be"),
    ],
)
def test_a_journal_that_is_of_no_use_is_a_gap_and_hides_nothing(
    folder: Path, harm: Callable[[Path], None], name: str, says: str
) -> None:
    """What is wrong with it stands in one sentence of plain text, and every other check is there."""
    path = _journal(folder)
    harm(path)
    answer = doctor(folder, "--json")
    found = checks(answer)
    assert answer.code == 1
    assert found[name]["state"] == "missing", found
    assert says in found[name]["why"]
    assert found[name]["next"]
    assert found[name]["why"].isprintable()
    assert {"token", "hold", "health", "database", "channels", "disk", "git_ignore"} <= set(found)


@pytest.mark.long
def test_a_journal_that_somebody_locks_is_told_after_two_seconds(folder: Path) -> None:
    """It can be read meanwhile, and cannot be written."""
    path = _journal(folder)
    holder = sqlite3.connect(path, isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        found = checks(doctor(folder, "--json"))
    finally:
        holder.close()
    assert found["journal"]["state"] == "ok"
    assert "another process keeps the journal's file locked" in found["journal_writable"]["why"]


def test_looking_changes_nothing_of_the_journal(folder: Path) -> None:
    """Its bytes are the same afterwards; one that does not exist is not made."""
    doctor(folder)
    assert not (folder / ".backout").exists()
    path = _journal(folder)
    before = path.read_bytes()
    doctor(folder)
    assert path.read_bytes() == before


def _journal(folder: Path) -> Path:
    path = folder / ".backout" / "journal.sqlite"
    book = SqliteJournal(path, SystemClock())
    book.note("production", "test.noted", "1", {"why": "a test"}, actor="test")
    book.close()
    return path


def test_the_hold_of_this_host_is_told_without_a_token(folder: Path) -> None:
    """It is a file: neither the platform nor the journal is asked."""
    held = typed(folder, "hold", "-e", "production", "-m", "restoring orders")
    assert held.code in (4, 5), held.err
    found = checks(doctor(folder, "--json"))
    assert found["hold"]["state"] == "allowed"
    assert "restoring orders" in found["hold"]["why"]


def test_a_channel_without_its_secret_and_one_that_nobody_reaches(folder: Path) -> None:
    """`--send` tries what can be tried, and says how it ended."""
    notify = '[notify.webhook]\nurl_env = "HOOK"\nsecret_env = "HOOK_SECRET"\n[notify.slack]\nurl_env = "SLACK"\n'
    (folder / "backout.toml").write_text(TOML + notify, encoding="utf-8")
    variables = {"HOOK": "http://127.0.0.1:9/hook", "HOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    looked = checks(doctor(folder, "--json", **variables))
    assert looked["channel_webhook"]["state"] == "unmeasured"
    assert looked["channel_slack"]["state"] == "missing"
    assert "SLACK" in looked["channel_slack"]["why"]
    sent = checks(doctor(folder, "--json", "--send", **variables))
    assert sent["channel_webhook"]["state"] == "missing"
    assert "the test notice did not arrive" in sent["channel_webhook"]["why"]


def test_records_that_git_would_take_are_told(folder: Path) -> None:
    """Backout's own folder ignores itself; another one has to be ignored by a line."""
    subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)  # noqa: S607 whichever git is here
    assert checks(doctor(folder, "--json"))["git_ignore"]["state"] == "ok"
    (folder / "backout.toml").write_text(f'{TOML}[journal]\npath = "state/journal.sqlite"\n', encoding="utf-8")
    loose = checks(doctor(folder, "--json"))["git_ignore"]
    assert loose["state"] == "missing"
    assert loose["next"] == "echo state >> .gitignore"
    (folder / ".gitignore").write_text("node_modules\nstate/\n", encoding="utf-8")
    assert checks(doctor(folder, "--json"))["git_ignore"]["state"] == "ok"
    (folder / "backout.toml").write_text(f'{TOML}[journal]\npath = "here.sqlite"\n', encoding="utf-8")
    assert checks(doctor(folder, "--json"))["git_ignore"]["state"] == "missing"


def test_a_setting_that_does_nothing_is_told(folder: Path) -> None:
    """What no other check judges stands under `config`."""
    found = checks(doctor(folder, "--json", BACKOUT_GAURD_MODE="act"))
    assert found["config"]["state"] == "missing"
    assert "BACKOUT_GAURD_MODE" in found["config"]["why"]


def test_doctor_names_what_the_token_lacks(folder: Path) -> None:
    """What the source of counts needs is a permission of its own, which no template for deploying has."""
    with scripted_server() as server:
        server.will(token_answers(server, ["Workers Scripts Write", "Workers KV Storage Write"]))
        platform = f'api_base_url = "{server.url}", script = "shop"'
        text = TOML.replace('script = "shop"', platform) + 'traffic = { provider = "telemetry" }\n'
        (folder / "backout.toml").write_text(text, encoding="utf-8")
        found = checks(doctor(folder, "--json", CLOUDFLARE_API_TOKEN="t" * 40))["token_permissions"]
    assert (found["level"], found["state"]) == ("should", "missing")
    assert 'it lacks "Workers Observability Write"' in found["why"]
    assert 'the template "Edit Cloudflare Workers" has no Workers Observability Write' in found["why"]
    assert found["next"] == 'put a token with "Workers Observability Write" into CLOUDFLARE_API_TOKEN'


def test_every_check_is_written_about() -> None:
    """The page names what the program asks, and nothing else."""
    told = set()
    for line in (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `") and line.count("|") == 4:
            told |= set(re.findall(r"`([a-z_]+)`", line.split("|")[1]))
    asked: set[str] = set()
    for path in ("analysis/checkup", "wiring", "runbook"):
        for file in (ROOT / "src" / "backout" / path).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            asked |= set(re.findall(r"\b(?:must|should|Question)\(\s*\"([a-z_]+)\"", text))
    tokens = {"token", "token_read", "token_rollback", "token_secrets", "token_permissions"}
    channels = {"channel_webhook", "channel_smtp", "channel_slack", "channel_pagerduty"}
    assert len(asked) > 25
    deeds = ("list", "read", "write", "delete", "read_version", "copy_version", "delete_version")
    permissions = {f"objects_{name}" for name in deeds}
    assert told - {"ok", "missing", "unmeasured", "not_set_up", "allowed"} == asked | tokens | channels | permissions


def test_what_is_to_be_set_is_shown_as_lines_for_this_very_file(folder: Path) -> None:
    """Each can be pasted, and then it is no gap any more: below a table of one line a header would be a mistake."""
    answer = doctor(folder)
    said = answer.out.partition("no channel is set up")[2].splitlines()
    start = next(number for number, line in enumerate(said) if "at the end of backout.toml:" in line)
    with (folder / "backout.toml").open("a", encoding="utf-8") as file:
        file.write("\n" + "\n".join(line.strip() for line in said[start + 1 : start + 3]) + "\n")
    found = checks(doctor(folder, "--json", SLACK_URL="http://127.0.0.1:9/hook"))
    assert found["channel_slack"]["state"] == "unmeasured"


TWO = f"""{TOML}
[environments.staging]
platform = {{ provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "other" }}
[journal]
path = "journal.sqlite"
"""


def test_an_error_says_it_for_the_environment_that_was_looked_at(tmp_path: Path) -> None:
    """A damaged journal: the hint leads to the deployments of staging, not to those of production."""
    (tmp_path / "b.toml").write_text(TWO, encoding="utf-8")
    (tmp_path / "journal.sqlite").write_bytes(b"\xa5" * 8192)
    failed = typed(tmp_path, "runs", "list", "-e", "staging", "--config", str(tmp_path / "b.toml"))
    assert failed.code == 1
    assert f"(backout deployments list -e staging --config {tmp_path}/b.toml), then: mkdir -p " in failed.err
