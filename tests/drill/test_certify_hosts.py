"""`backout certify` behind Caddy: the sample application on Node, old and new code as releases on a twin of a host."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from caddy_home import caddy_home
from cli_shell import backout
from values import replace

from backout.config import Environment, load
from backout.model.database.certificate import Certificate, Coverage, Phase, Step
from backout.model.database.migrations import MigrationReport, MigrationState, MigrationStatus
from backout.model.database.schema import AppliedMigration, SchemaState
from backout.providers.caddy.releases import hash_code
from backout.providers.files.sql_migrations import SqlMigrations
from backout.runbook.certify.certificates import record_certificate
from backout.twin.hosts import sealed
from backout.twin.hosts.stage import BUNDLE, HostsStage, find_node
from backout.wiring.certify.certificates import list_trials
from backout.wiring.records import open_journal

from drillbook import ENV, PROGRAM
from polling import PATIENCE_S, until
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator

FM5 = Path(__file__).resolve().parents[2] / "examples" / "fm5"
HEAD = "20261014143000_order_note"
SETTINGS = """\
[app]
name = "fm5"

[environments.production]
platform = { provider = "caddy", caddy = { releases = "releases", RUN } }
database = { provider = "postgres", url_env = "DATABASE_URL", migrations = "prisma", migrations_path = "migrations" }
secrets = { required = ["JWT_SECRET", "EMAIL_API_KEY"] }
certify = { requests = "certify.jsonl", seed = "seed.sql" }
"""
RUN = 'run = "node server.cjs"'
UNITS = 'start = "systemctl start shop@{release}", stop = "systemctl stop shop@{release}"'
REQUESTS = """\
{"method": "GET", "path": "/health"}
{"method": "POST", "path": "/api/models", "body": {"name": "H{{n}}", "price_cents": 9}, "save": {"model": "model.id"}}
{"method": "GET", "path": "/api/models"}
{"method": "GET", "path": "/api/models/{{model}}"}
{"method": "POST", "path": "/api/orders", "body": {"model_id": 1, "quantity": 2, "email": "a{{n}}@example.com"}}
"""


CERTIFICATE = Certificate(
    old="a folder", new="b", old_code="a", new_code="b", head="", migrations=(), steps=(Step(Phase.OLD, 2, 0),),
    coverage=Coverage(1, 1, 2, 2, 3), not_exercised=(), reversible=True, blocker=None, reasons=(), shapes=(), at=0.0,
    expires_at=0.0,
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the configuration, the requests, and migrations up to `HEAD`."""
    shutil.copytree(FM5 / "prisma" / "migrations", tmp_path / "migrations")
    shutil.copy(FM5 / "prisma" / "seed.sql", tmp_path)
    (tmp_path / "certify.jsonl").write_text(REQUESTS)
    (tmp_path / "backout.toml").write_text(SETTINGS.replace("RUN", RUN))
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "server.cjs").write_text(f"// {name}")
    return tmp_path


def migrate(project: Path, sql: str) -> None:
    """Add the migration that is tried."""
    folder = project / "migrations" / "20261130090000_next"
    folder.mkdir()
    (folder / "migration.sql").write_text(sql)


CERTIFY = ("certify", "-e", "production", "--old", "before", "--new", "after", "--after", HEAD)


def test_the_plan_names_the_releases_and_what_runs_them(project: Path) -> None:
    """Nothing is started; where units run releases, the command line has to be said."""
    migrate(project, "ALTER TABLE models ADD COLUMN material TEXT")
    shown = backout(project, *CERTIFY, "--dry-run")
    assert shown.code == 0, shown.err
    assert "no network where this host can deny it" in " ".join(shown.out.split())
    (project / "backout.toml").write_text(SETTINGS.replace("RUN", UNITS))
    refused = backout(project, *CERTIFY, "--dry-run")
    assert refused.code == 2
    assert "--run" in refused.err
    assert backout(project, *CERTIFY, "--dry-run", "--run", "node server.cjs").code == 0
    for more in (("--on", "production"), ("--wrangler-env", "production")):
        assert backout(project, *CERTIFY, "--dry-run", "--run", "node server.cjs", *more).code == 2


_KIND = 'provider = "postgres", url_env = "DATABASE_URL", migrations = "prisma", migrations_path = "m"'
DATABASE = f"database = {{ {_KIND} }}\n"


def test_the_live_release_is_the_old_code_and_its_trial_is_looked_up_by_it(tmp_path: Path) -> None:
    """Its id and the hash of its code are what a certificate is about; another release has none."""
    for name in ("0001", "0002"):
        (tmp_path / "m" / name).mkdir(parents=True)
        (tmp_path / "m" / name / "migration.sql").write_text("SELECT 1;\n")
    with caddy_home(tmp_path, DATABASE) as shop:
        live = str(shop.push("good").json["live"])
        words = ("certify", "--new", "build", "--after", "0001", "--dry-run", "--json")
        assert shop.run(*words).json["from"] == f"release {live}, which is live"
        assert shop.run(*words, "--old", live).json["from"] == f"release {live}"
        file = tmp_path / "backout.toml"
        config = load(Environment({}), start=tmp_path, path=file, environment="production")
        journal, now = open_journal(config), time.time()
        tried = SqlMigrations(tmp_path / "m").read()[1]
        about = {"head": "0001", "migrations": ((tried.name, tried.checksum),), "at": now, "expires_at": now + 60}
        for old_code in (shop.tools().versions.detail(live).code_hash, "other"):
            record_certificate(journal, "production", replace(CERTIFICATE, old_code=old_code, **about), actor="test")
        state = SchemaState(now, (AppliedMigration("0001", now, now),))
        report = MigrationReport((MigrationStatus("0002", MigrationState.PENDING),))
        (found,) = list_trials(config, state, report, within_s=PATIENCE_S)
        assert found.old_code == shop.tools().versions.detail(live).code_hash
        journal.close()


@pytest.fixture
def built(project: Path) -> Iterator[Path]:
    """That project with two variants of the sample application built for Node; its stage is never set up."""
    folder = Path(tempfile.mkdtemp(prefix="build-"))
    stage = HostsStage(folder)
    stage._make_folder(lambda _: None)
    for name, variant in (("before", "good"), ("after", "good-2")):
        shutil.rmtree(project / name)
        shutil.copytree(stage.build(variant), project / name)
    text = (project / "backout.toml").read_text().replace("node server.cjs", f"{find_node()} {BUNDLE}")
    (project / "backout.toml").write_text(text)
    yield project
    shutil.rmtree(folder)


REFUSES = """#!/bin/sh
case "$*" in *--net*) echo "unshare failed: Operation not permitted" >&2; exit 1;; esac
exec /usr/bin/unshare "$@"
"""
ADDS = "ALTER TABLE models ADD COLUMN material TEXT"


@pytest.mark.long
@pytest.mark.rotating("certify", 3)
@pytest.mark.parametrize(
    ("sql", "code", "reversible"),
    [(ADDS, 0, True), ("ALTER TABLE models RENAME COLUMN price_cents TO cents", 1, False)],
    ids=["there is a way back", "there is none"],
)
def test_the_sample_application_on_node(built: Path, sql: str, code: int, reversible: bool) -> None:
    """By real processes behind a real Caddy; the result says whether they had a network, and nothing is left."""
    migrate(built, sql)
    done = backout(built, *CERTIFY, "--json", "--no-input")
    assert done.code == code, done.out + done.err
    assert done.json["reversible"] is reversible
    (said,) = (each for each in done.json["not_exercised"] if each.startswith("calls to the outside"))  # type: ignore[attr-defined]
    assert ("there was no network" in said) is (sealed.find_obstacle() == "")
    assert done.json["steps"][0] == {"name": "old", "requests": 10, "failed": 0}  # type: ignore[index]
    assert done.json["from_code"] == hash_code(built / "before")  # as the release has it: preflight looks it up by that
    if not reversible:
        assert "price_cents" in str(done.json["blocker"])


@pytest.mark.long
@pytest.mark.rotating("certify", 3)
def test_a_host_that_denies_no_network_is_never_said_to(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial goes on, and its result names what was not kept out."""
    migrate(built, ADDS)
    (built / "bin").mkdir()
    refusing = built / "bin" / "unshare"
    refusing.write_text(REFUSES)
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{refusing.parent}:{os.environ['PATH']}")
    done = backout(built, *CERTIFY, "--json", "--no-input")
    assert done.code == 0, done.out + done.err
    (said,) = (each for each in done.json["not_exercised"] if each.startswith("calls to the outside"))  # type: ignore[attr-defined]
    assert "the network could not be denied (unshare failed: Operation not permitted)" in said
    assert "without a network" not in done.out + done.err


@pytest.mark.long
@pytest.mark.rotating("certify", 3)
def test_what_it_started_on_hosts_ends_with_it(built: Path) -> None:
    """Kill -9 in the middle: the twin and its releases end, though nothing was left to end them."""
    migrate(built, ADDS)
    argv = [str(PROGRAM), *CERTIFY]
    with subprocess.Popen(
        argv, cwd=built, env=ENV, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as run:
        await_line(run, "migrate: ", stream=run.stderr)
        mark = f"/backout-certify-{run.pid}-"
        assert any("supervise" in each for each in list_commands(mark))
        run.send_signal(signal.SIGKILL)
    until(lambda: list_commands(mark) == [], PATIENCE_S, "all is gone")


def list_commands(mark: str) -> list[str]:
    """Return the command lines of processes that work in the folder of a trial, or name it."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_text().replace("\0", " ")
            if mark in f"{words} {(place / 'cwd').readlink()}":
                found.append(words)
    return found
