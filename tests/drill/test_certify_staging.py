"""`backout certify --on ENV`: a trial in a staging of the team's own, which is as before afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from certify_lab import OLD
from certify_staging_lab import Staging
from cli_shell import backout

from backout import config
from backout.errors import BackoutError, Refused
from backout.journal.sqlite import SqliteJournal
from backout.model.database.certificate import TrialRequest
from backout.providers.clock import SystemClock
from backout.runbook.certify.certificates import list_counting
from backout.wiring.certify.application import StagingApplication
from backout.wiring.certify.borders import check_bindings

from scripted_server import answer, scripted_server
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = """\
[app]
name = "shop"

[environments.production]
platform = {{ provider = "cloudflare", script = "shop-production", account_id = "0123456789abcdef0123456789abcdef" }}
database = {{ provider = "postgres", url_env = "DATABASE_URL" }}
certify = {{ data = "{data}" }}

[environments.staging]
platform = {{ provider = "cloudflare", script = "shop-staging", account_id = "0123456789abcdef0123456789abcdef" }}
database = {{ provider = "postgres", url_env = "STAGING_DATABASE_URL" }}
"""
ADD = "ALTER TABLE orders ADD COLUMN colour text"
INSERT = (
    "INSERT INTO orders (customer_id, quantity, total, note, colour) SELECT max(id), $1, $2, $3, 'red' FROM customers"
)
NEW = {**OLD, "POST /orders": (f"{INSERT} RETURNING *", "quantity", "total", "note")}
DOCTOR = [sys.executable, "-m", "backout", "doctor", "-e", "staging"]
RESTORE = [sys.executable, "-m", "backout", "certify", "-e", "production", "--restore", "--on", "staging"]


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staging]:
    running = Staging(tmp_path_factory.mktemp("staging"))
    yield running
    running.stop()


def write_words(staging: Staging, new: str, *more: str) -> list[str]:
    """Return the command of a trial of this version, from the old one."""
    return [
        *(sys.executable, "-m", "backout", "certify", "-e", "production", "--on", "staging", "--old", staging.old),
        *("--new", new, "--migrations", "migrations", "--after", "0001_shop.sql", "--json", *(more or ("--yes",))),
    ]


def run(folder: Path, words: list[str]) -> tuple[int, dict[str, Any], str]:
    """Run a command; return exit code, answer, and what it said."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_what_the_file_alone_forbids(tmp_path: Path) -> None:
    """Production by its name, no place at all, rows of production elsewhere: before anything is asked or started."""
    (tmp_path / "new").mkdir()
    (tmp_path / "0001.sql").write_text("SELECT 1;")
    toml = SETTINGS.format(data="clone")
    (tmp_path / "backout.toml").write_text(toml, encoding="utf-8")
    words = ("certify", "--old", "new", "--new", "new", "--migrations", "0001.sql", "--after", "0001.sql")
    for more, code, said in (
        (("-e", "staging", "--on", "production"), 3, "production is protected"),
        (("-e", "production", "--on", "production"), 2, "no other environment"),
        (("-e", "production", "--on", "staging"), 2, "copied to this host alone"),
        (("-e", "production", "--restore"), 2, "which environment is missing"),
        (("-e", "staging", "--restore", "--on", "staging"), 5, "staging is not as it was"),  # by either name
    ):
        found = backout(tmp_path, *words, *more)
        assert found.code == code, found
        assert said in found.err, found
    (tmp_path / "backout.toml").write_text(SETTINGS.format(data="generated"), encoding="utf-8")
    found = backout(tmp_path, *words, "-e", "production", "--on", "staging", "--dry-run")
    assert found.code == 0, found
    assert "4. Set its database aside: renamed, closed, never written to." in found.out
    assert backout(tmp_path, *words, "-e", "production", "--on", "staging").code == 3  # no one is here to ask


def test_what_a_killed_trial_had_in_a_folder_is_removed_by_the_next(tmp_path: Path) -> None:
    """By the process that its name tells; that of a process that runs stays."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    temporary, left = tmp_path / "temporary", f"backout-staging-{ended.pid}-a1b2c3d4"
    for name in (left, f"backout-staging-{os.getpid()}-a1b2c3d4"):
        (temporary / name).mkdir(parents=True)
        (temporary / name / "token").touch()
    (tmp_path / "new").mkdir()
    (tmp_path / "0001.sql").write_text("SELECT 1;")
    (tmp_path / "backout.toml").write_text(SETTINGS.format(data="generated"), encoding="utf-8")
    words = ("--old", "new", "--new", "new", "--migrations", "0001.sql", "--after", "0001.sql", "--yes", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "backout", "certify", "-e", "production", "--on", "staging", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert "none is set" in json.loads(done.stdout)["what"], done
    assert [each.name for each in temporary.iterdir()] == [f"backout-staging-{os.getpid()}-a1b2c3d4"]


@pytest.mark.parametrize(
    "binding",
    [
        {"type": "service", "service": "shop-production", "entrypoint": "Orders"},
        {"type": "durable_object_namespace", "class_name": "Cart", "script_name": "shop-production"},
        {"type": "workflow", "workflow_name": "bills", "class_name": "Bills", "script_name": "shop-production"},
    ],
)
def test_code_bound_to_the_worker_of_production_is_refused(tmp_path: Path, binding: dict[str, str]) -> None:
    """Whatever runs in that Worker, it does with production's own bindings; nothing has to be asked to know."""
    (tmp_path / "backout.toml").write_text(SETTINGS.format(data="generated"), encoding="utf-8")
    production, place = (
        config.load(config.Environment(), start=tmp_path, environment=name) for name in ("production", "staging")
    )
    with pytest.raises(Refused, match=f"{binding['type']} of shop-production, which is the Worker of production"):
        check_bindings(place, {"bindings": [{"type": "version_metadata"}, {**binding, "name": "SHOP"}]}, [production])


def test_no_request_is_sent_once_the_place_is_not_the_trials_any_more() -> None:
    """Its lock was lost: another process may have put the team's own database back, which a request would write to."""
    lost = ["", "lost"]

    def check_held() -> None:
        if lost.pop(0):
            raise BackoutError("the session that held the lock was lost")

    with scripted_server() as server:
        server.will(answer({}))
        application = StagingApplication(f"{server.url}/health", {}, lambda _: None, lambda: "", check_held)
        assert application.send(TrialRequest("POST", "/orders"), 0).status == 200
        with pytest.raises(BackoutError, match="was lost"):
            application.send(TrialRequest("POST", "/orders"), 1)
        assert [each.method for each in server.asked] == ["POST"]


@pytest.mark.long
@pytest.mark.rotating("certify staging", 3)
def test_a_trial_in_staging(staging: Staging, tmp_path: Path) -> None:
    """A folder by wrangler: statements and rows are seen, the certificate is production's, and staging is as before."""
    staging.lay_out(tmp_path, ADD)
    staging.write_folder(tmp_path / "new", NEW)
    before = staging.look()
    code, found, said = run(tmp_path, write_words(staging, "new", "--yes", "--wrangler-env", "staging"))
    assert (code, found.get("reversible"), found.get("place")) == (0, True, "staging"), (found, said)
    assert [step["failed"] for step in found["steps"]] == [0, 0, 0, 0]
    assert found["coverage"]["statements_seen"] == found["coverage"]["statements"] == 7, found["not_exercised"]
    assert found["coverage"]["rows_read_again"] > 0
    journal = SqliteJournal(tmp_path / ".backout" / "journal.sqlite", SystemClock())
    (kept,) = list_counting(journal, "production", now=time.time())
    journal.close()
    assert (kept.place, kept.new_code) == ("staging", found["to_code"])
    assert any("none was refused" in what for what in found["not_exercised"])
    assert (staging.look(), staging.live()) == (before, staging.old)


@pytest.mark.long
@pytest.mark.rotating("certify staging", 3)
def test_no_way_back_in_staging(staging: Staging, tmp_path: Path) -> None:
    """The failing statement is quoted without a log of the server."""
    staging.lay_out(tmp_path, "ALTER TABLE customers RENAME COLUMN name TO full_name")
    before = staging.look()
    renamed = {
        route: (
            parts[0].replace("name) VALUES", "full_name) VALUES").replace("email, name", "email, full_name"),
            *parts[1:],
        )
        for route, parts in OLD.items()
        if "customers" in route
    }
    code, found, said = run(tmp_path, write_words(staging, staging.upload("new", {**OLD, **renamed})))
    assert (code, found.get("reversible")) == (1, False), (found, said)
    assert 'fails: column "name"' in found["blocker"]
    assert (staging.look(), staging.live()) == (before, staging.old)


@pytest.mark.long
@pytest.mark.rotating("certify staging", 3)
def test_what_a_killed_trial_left_is_put_back(staging: Staging, tmp_path: Path) -> None:
    """Kill -9 while the new code runs: no second trial begins, and one command puts everything back; twice."""
    staging.lay_out(tmp_path, ADD)
    before, words = staging.look(), write_words(staging, staging.upload("new", NEW))
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as running:
        await_line(running, "new code: the same", stream=running.stderr)
        running.send_signal(signal.SIGKILL)
    code, refused, _ = run(tmp_path, words)
    assert (code, refused["hint"]) == (3, "backout certify --restore --on staging -e production")
    _, looked, _ = run(tmp_path, [*DOCTOR, "--json"])
    (trial,) = (each for each in looked["checks"] if each["name"] == "trial")
    assert (trial["state"], "certify --restore --on staging" in trial["next"]) == ("missing", True), trial
    restore = [*RESTORE, "--json"]
    code, done, said = run(tmp_path, restore)
    assert (code, len(done["restored"])) == (0, 2), (done, said)
    assert (staging.look(), staging.live()) == (before, staging.old)
    assert run(tmp_path, restore)[1]["restored"] == []


@pytest.mark.long
@pytest.mark.rotating("certify staging", 3)
def test_a_running_trial_is_left_alone(staging: Staging, tmp_path: Path) -> None:
    """While it runs no other trial begins and nothing is put back from elsewhere; it goes on to its end."""
    staging.lay_out(tmp_path, ADD)
    before, words = staging.look(), write_words(staging, staging.upload("new", NEW))
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as running:
        await_line(running, "new code: the same", stream=running.stderr)
        running.send_signal(signal.SIGSTOP)  # as long as the others take
        try:
            during = staging.look()
            for other in ([*RESTORE, "--json"], words):
                code, refused, _ = run(tmp_path, other)
                assert (code, "a trial runs there" in refused["what"]) == (6, True), refused
            assert staging.look() == during
        finally:
            running.send_signal(signal.SIGCONT)
    assert running.returncode == 0
    assert (staging.look(), staging.live()) == (before, staging.old)


@pytest.mark.long
@pytest.mark.rotating("certify staging", 3)
def test_a_trial_that_is_told_to_end_puts_everything_back(staging: Staging, tmp_path: Path) -> None:
    """By SIGTERM, with a SIGHUP behind it; and the platform's token is in no file any more once wrangler has run."""
    staging.lay_out(tmp_path, ADD)
    staging.write_folder(tmp_path / "new", NEW)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before, words = staging.look(), write_words(staging, "new", "--yes", "--wrangler-env", "staging")
    token = staging.token_file.read_text(encoding="utf-8").strip().encode()
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as running:
        await_line(running, "new code: the same", stream=running.stderr)
        files = [each for each in temporary.rglob("*") if each.is_file()]
        assert files, "what wrangler wrote"
        assert [each for each in files if token in each.read_bytes()] == []
        for number in (signal.SIGTERM, signal.SIGHUP):
            running.send_signal(number)
    assert running.returncode == 130
    assert (staging.look(), staging.live()) == (before, staging.old)
    assert list(temporary.iterdir()) == []


@pytest.mark.long
@pytest.mark.rotating("certify staging", 3)
def test_where_no_trial_takes_place(staging: Staging, tmp_path: Path) -> None:
    """Not on production's server, behind a cache, or with production's database; nothing is touched."""
    staging.lay_out(tmp_path, ADD)
    before, new = staging.look(), staging.upload("new", NEW)
    words = write_words(staging, new)

    def refuse(words: list[str]) -> tuple[int, str]:
        code, answer, _ = run(tmp_path, words)
        return code, str(answer["what"])

    staging.set_caching(on=True)
    code, what = refuse(words)
    staging.set_caching(on=False)
    assert (code, "from its cache" in what) == (2, True), what
    code, what = refuse(write_words(staging, staging.upload("new", NEW, bound_to="production")))
    assert (code, "is that of production" in what) == (3, True), what
    service = {"type": "service", "name": "SHOP", "service": "shop-production"}
    code, what = refuse(write_words(staging, staging.upload("new", NEW, more=(service,))))
    assert (code, "service of shop-production, which is the Worker of production" in what) == (3, True), what
    text = (tmp_path / "backout.toml").read_text(encoding="utf-8")
    (tmp_path / "backout.toml").write_text(text.replace("7123/", f"{staging.read_identifier()}/"), encoding="utf-8")
    code, what = refuse(words)
    assert (code, "on the server of production" in what) == (3, True), what
    assert (staging.look(), staging.live()) == (before, staging.old)
