"""The journal on a server as commands have it: by the variable that backout.toml names, never where a restore is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from cli_shell import backout
from journal import toy

from backout import config
from backout.errors import Refused
from backout.journal.rows import JournalUnavailable
from backout.journal.stop import StopRequest
from backout.wiring.journal_server import find_shared, refuse_restored
from backout.wiring.records import open_journal
from backout.wiring.worker import WorkerJournal

from polling import PATIENCE_S
from private import write_private
from scripted_server import refused_url

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
[app]
name = "fm5"
[journal]
url_env = "BACKOUT_JOURNAL_URL"
[environments.production]
platform = { provider = "cloudflare", script = "fm5", account_id = "0123456789abcdef0123456789abcdef" }
"""
DATABASE = """
database = { provider = "postgres", url_env = "DATABASE_URL" }
"""
PIN = """
pin = { database_system_identifier = "IDENTIFIER/app" }
"""


@pytest.fixture
def url(tmp_path: Path, journal_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the connection string of an empty database, beside a backout.toml that names its variable."""
    write_private(tmp_path / "backout.toml", CONFIG)
    monkeypatch.setenv(toy.SERVER, journal_server)
    return toy.url_of(tmp_path)


def load(folder: Path, text: str, variables: dict[str, str]) -> config.Config:
    write_private(folder / "backout.toml", text)
    return config.load(config.Environment(variables), start=folder, environment="production")


def test_commands_find_the_journal_on_the_server_that_the_variable_leads_to(tmp_path: Path, url: str) -> None:
    """Nothing is written beside backout.toml; what one folder recorded, a second one reads."""
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        write_private(folder / "backout.toml", CONFIG)
    here = {"BACKOUT_JOURNAL_URL": url}
    book = open_journal(load(tmp_path / "one", CONFIG, here))
    book.note("production", "x.noted", "1", {"why": "a reason"}, actor="ann")
    book.close()
    found = backout(tmp_path / "two", "audit", "verify", "--json", variables=here)
    assert (found.code, json.loads(found.out)["events"], json.loads(found.out)["whole"]) == (0, 1, True)
    assert not (tmp_path / "one" / ".backout").exists()
    assert not (tmp_path / "two" / ".backout" / "journal.sqlite").exists()
    file = backout(
        tmp_path / "two", "audit", "verify", "--json", variables={**here, "BACKOUT_JOURNAL_PATH": "own.sqlite"}
    )
    assert json.loads(file.out)["events"] == 0, "a file that a variable names has precedence"
    assert file.err.count("BACKOUT_JOURNAL_PATH is set: this command uses the file") == 1
    assert "BACKOUT_JOURNAL_PATH" not in found.err


def checks(folder: Path, variables: dict[str, str], *command: str) -> dict[str, tuple[str, str]]:
    """Return the state and the reason of each check."""
    found = json.loads(backout(folder, *command, "--json", variables=variables).out)
    return {each["name"]: (each["state"], each["why"]) for each in found["checks"]}


def test_doctor_says_what_the_journal_on_the_server_is_like(tmp_path: Path, url: str) -> None:
    """Not begun, begun by a role that could change it, away, of a newer version; no disk here is looked at."""
    here = {"BACKOUT_JOURNAL_URL": url}
    empty = checks(tmp_path, here, "doctor")
    assert (empty["journal"][0], "nothing has been written yet" in empty["journal"][1]) == ("ok", True)
    assert "disk" not in empty
    book = open_journal(load(tmp_path, CONFIG, here))
    book.note("production", "x.noted", "1", {}, actor="ann")
    book.close()
    owned = checks(tmp_path, here, "doctor")
    assert (owned["journal"][0], "1 event" in owned["journal"][1]) == ("ok", True)
    assert (owned["journal_writable"][0], owned["journal_server"][0]) == ("ok", "ok")
    assert (owned["journal_role"][0], "may change the journal's tables" in owned["journal_role"][1]) == (
        "missing",
        True,
    )
    told = backout(tmp_path, "audit", "verify", variables=here)
    assert (told.code, "may only append" in told.err) == (0, True)
    gone = {"BACKOUT_JOURNAL_URL": f"postgresql://me:{toy.PASSWORD}@{refused_url().removeprefix('http://')}/journal"}
    away = checks(tmp_path, gone, "doctor")
    assert (away["journal"][0], "does not answer" in away["journal"][1]) == ("missing", True)
    assert checks(tmp_path, {}, "doctor")["journal"][0] == "missing"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(b"INSERT INTO backout.schema_version VALUES (99, 0)")
    newer = checks(tmp_path, here, "doctor")
    assert (newer["journal"][0], "newer backout" in newer["journal"][1]) == ("missing", True)


def test_doctor_refuses_a_server_that_a_restore_replaces(tmp_path: Path, url: str) -> None:
    """The gravest: it would be gone when it is needed."""
    both = {"BACKOUT_JOURNAL_URL": url, "DATABASE_URL": f"{url.rpartition('/')[0]}/postgres"}
    write_private(tmp_path / "backout.toml", CONFIG + DATABASE)
    assert checks(tmp_path, both, "doctor")["journal_server"][0] == "missing"


def test_a_machine_without_the_variable_is_told_its_name(tmp_path: Path, url: str) -> None:
    """It does not begin a journal of its own instead, which nobody else would see."""
    found = backout(tmp_path, "runs", "list")
    assert found.code == 1
    assert "BACKOUT_JOURNAL_URL" in found.err
    assert not (tmp_path / ".backout").exists()
    book = open_journal(load(tmp_path, CONFIG, {}))
    with pytest.raises(JournalUnavailable, match="BACKOUT_JOURNAL_URL is not set"):
        book.note("production", "x.noted", "1", {}, actor="ann")


def test_a_server_that_a_restore_replaces_is_refused(tmp_path: Path, url: str) -> None:
    """By the identifier of the two clusters, whatever the databases are called; before a table is made there."""
    theirs = f"{url.rpartition('/')[0]}/postgres"
    both = {"BACKOUT_JOURNAL_URL": url, "DATABASE_URL": theirs}
    shared = load(tmp_path, CONFIG + DATABASE, both)
    assert list(find_shared(shared)) == [("production", True)]
    with pytest.raises(Refused, match="on the server of the database of production"):
        refuse_restored(shared)
    with pytest.raises(Refused):
        open_journal(shared).note("production", "x.noted", "1", {}, actor="ann")
    with psycopg.connect(url) as connection:
        assert connection.execute(b"SELECT FROM pg_namespace WHERE nspname = 'backout'").fetchone() is None
    typed = backout(tmp_path, "db", "restore", "2026-01-01T00:00:00Z", "--dry-run", variables=both)
    assert (typed.code, "on the server of the database of production" in typed.err) == (3, True), typed.err


@pytest.mark.parametrize("case", ["the pinned one", "another one", "not pinned"])
def test_a_database_that_does_not_answer_is_known_by_what_was_pinned(tmp_path: Path, url: str, case: str) -> None:
    """It is down when it has to be restored; without a pin nothing is known, and nothing is refused for that."""
    with psycopg.connect(url) as connection:
        (own,) = connection.execute(b"SELECT system_identifier::text FROM pg_control_system()").fetchone() or ("",)
    identifier = own if case == "the pinned one" else "7000000000000000001"
    text = CONFIG + DATABASE + ("" if case == "not pinned" else PIN.replace("IDENTIFIER", identifier))
    away = f"postgresql://app:canary-of-a-database@{refused_url().removeprefix('http://')}/app"
    found = load(tmp_path, text, {"BACKOUT_JOURNAL_URL": url, "DATABASE_URL": away})
    told = {"the pinned one": True, "another one": False, "not pinned": None}[case]
    assert list(find_shared(found)) == [("production", told)]


def test_a_role_that_may_not_ask_for_the_identifier_is_compared_by_the_start_of_its_server(
    tmp_path: Path, url: str
) -> None:
    """To the microsecond: a managed server revokes the one, and nobody can revoke the other."""
    role = f"plain_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{toy.PASSWORD}'".encode())
        connection.execute(b"REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    plain = url.replace("//postgres:", f"//{role}:")
    found = load(tmp_path, CONFIG + DATABASE, {"BACKOUT_JOURNAL_URL": plain, "DATABASE_URL": plain})
    assert list(find_shared(found)) == [("production", True)]


def test_a_journal_in_a_file_loads_nothing_of_postgres(tmp_path: Path) -> None:
    """An on-call tool has to start at once."""
    write_private(tmp_path / "backout.toml", CONFIG.replace('[journal]\nurl_env = "BACKOUT_JOURNAL_URL"\n', ""))
    program = (
        "import sys, pathlib; from backout import config; from backout.wiring.records import open_journal;"
        "book = open_journal(config.load(config.Environment({}), start=pathlib.Path.cwd(), environment='production'));"
        "book.note('production', 'x', '1', {}, actor='a'); book.close();"
        "print([name for name in sys.modules if 'psycopg' in name or 'postgres' in name])"
    )
    argv = [sys.executable, "-c", program]
    told = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip() == "[]"


def test_a_worker_renews_its_leases_while_an_environment_holds_the_journal(tmp_path: Path, url: str) -> None:
    """Two hundred environments wait for their turn on one connection; the leases do not wait with them."""
    made = load(tmp_path, CONFIG, {"BACKOUT_JOURNAL_URL": url})
    with contextlib.closing(WorkerJournal(made, ["production"])) as journal:
        book = journal.open(made, StopRequest())
        assert journal.leases.take(["production"]) == ("production",)
        renewed: list[frozenset[str]] = []
        thread = threading.Thread(target=lambda: renewed.append(journal.leases.renew().held), daemon=True)
        journal.leases.renew()
        with contextlib.suppress(JournalUnavailable), book._store.write("a long one"):  # the server ends a silent one
            thread.start()
            thread.join(PATIENCE_S / 4)
            assert renewed == [{"production"}]
