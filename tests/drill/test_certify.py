"""Old code, migration, new code, old code again: real workerd, real Postgres, seeded migrations; and the command."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from certify_cases import HARMLESS, IRREVERSIBLE
from certify_lab import FIRST, OLD, Case, make_bundle, open_stage, run_case
from certify_lab import REQUESTS as REQUESTS_OF_THE_SHOP
from cli_shell import backout
from kept import template
from values import replace

from backout.analysis.compatibility import judge
from backout.journal.sqlite import SqliteJournal
from backout.model.database.compatibility import Compatibility, MigrationFile
from backout.providers.clock import SystemClock
from backout.providers.files.migrations import PrismaMigrations
from backout.providers.postgres.schema.deploy import PrismaDeploy
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.runbook.certify.certificates import has_unknown_write, list_counting

from extent import by_extent, rotated
from polling import PATIENCE_S, until
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.database.certificate import Certificate
    from backout.wiring.certify.twin import CertifyStage

    from conftest import Record

FM5 = Path(__file__).resolve().parents[2] / "examples" / "fm5"
SETTINGS = """\
[app]
name = "fm5"

[environments.production]
platform = { provider = "cloudflare", script = "fm5-production", account_id = "0123456789abcdef0123456789abcdef" }
database = { provider = "postgres", url_env = "DATABASE_URL", migrations = "prisma" }
secrets = { required = ["JWT_SECRET", "EMAIL_API_KEY"] }
certify = { requests = "certify.jsonl", seed = "before/prisma/seed.sql" }
"""
REQUESTS = """\
{"method": "GET", "path": "/health"}
{"method": "POST", "path": "/api/models", "body": {"name": "H{{n}}", "price_cents": 9}, "save": {"model": "model.id"}}
{"method": "GET", "path": "/api/models"}
{"method": "GET", "path": "/api/models/{{model}}"}
{"method": "GET", "path": "/api/v1/models"}
{"method": "POST", "path": "/api/orders", "body": {"model_id": 1, "quantity": 2, "email": "a{{n}}@example.com"}}
"""
"""As in docs/certify.md."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CertifyStage]:
    with open_stage(tmp_path_factory.mktemp("certify")) as running:
        yield running


def describe(name: str, found: Certificate) -> str:
    """Return what a test that fails shows."""
    return f"{name}: {found.reversible}, {found.blocker}, {found.reasons}"


def test_the_seeds_are_told_apart_by_no_text() -> None:
    """Thirty of each, and the verdicts on their texts do not decide: the worst is "depends on" for both kinds."""
    assert (len(IRREVERSIBLE), len(HARMLESS)) == (30, 30)
    worst = [judge([FIRST, MigrationFile("2", case.sql)])[1].verdict for case in (*IRREVERSIBLE, *HARMLESS)]
    assert Compatibility.SAFE_IF in worst[:30]
    assert Compatibility.SAFE_IF in worst[30:]


@pytest.mark.long
@pytest.mark.proof
def test_seeded_migrations(stage: CertifyStage, proof: Record) -> None:
    """None that has no way back is called reversible; of the harmless ones few are left open, none is called false."""
    count = by_extent(1, 2, proof=30)
    bad = {case.name: run_case(stage, case) for case in rotated(IRREVERSIBLE, count)}
    good = {case.name: run_case(stage, case) for case in rotated(HARMLESS, count)}
    wrong = [describe(name, found) for name, found in bad.items() if found.reversible is True]
    wrong += [describe(name, found) for name, found in good.items() if found.reversible is False]
    left_open = [describe(name, found) for name, found in good.items() if found.reversible is None]
    caught = sum(found.reversible is False for found in bad.values())
    passed = len(good) - len(left_open)
    note = f"{caught} of {len(bad)} irreversible ones caught, {passed} of {len(good)} harmless ones passed, others open"
    claim = "a certificate is not wrong about a seeded migration"
    proof(claim, trials=len(bad) + len(good), failures=len(wrong), note=note)
    assert not wrong
    assert len(left_open) <= 5, left_open
    assert all(found.blocker for found in bad.values() if found.reversible is False)


@pytest.mark.long
def test_a_version_that_is_bound_to_a_bucket_is_brought_there(stage: CertifyStage) -> None:
    """As most that are live are; the bucket is made, empty, and is there already for the second version."""
    bundle = make_bundle("old", OLD)
    parts = json.loads(bundle.metadata)
    parts["bindings"].append({"type": "r2_bucket", "name": "FILES", "bucket_name": "files-of-the-shop"})
    bound = replace(bundle, metadata=json.dumps(parts).encode())
    assert [stage.upload(bound).hash for _ in range(2)] == [stage.upload(bundle).hash] * 2


@pytest.mark.long
def test_old_code_that_takes_the_schema_back_is_no_way_back(stage: CertifyStage) -> None:
    """It runs without an error, and removes the column that the new code needs."""
    adapting = {**OLD, "POST /start": ("ALTER TABLE orders DROP COLUMN IF EXISTS colour",)}
    sql = "ALTER TABLE orders ADD COLUMN colour text"
    requests = f'{{"method": "POST", "path": "/start", "by": "old"}}\n{REQUESTS_OF_THE_SHOP}'
    found = run_case(stage, Case("old code that adapts the schema", sql, requests=requests, old=adapting))
    assert found.reversible is False, describe("adapting", found)
    assert "column colour of" in str(found.blocker)


def make_project(folder: Path) -> list[str]:
    """Lay out the sample application as it was and with a new column, and return the command's arguments."""
    for name in ("before", "after"):
        shutil.copytree(FM5, folder / name, ignore=shutil.ignore_patterns("node_modules", ".wrangler"))
    (folder / "node_modules").symlink_to(FM5.parents[1] / "node_modules")
    next_one = folder / "after" / "prisma" / "migrations" / "20261130090000_material"
    next_one.mkdir()
    (next_one / "migration.sql").write_text("ALTER TABLE models ADD COLUMN material TEXT;\n")
    models = folder / "after" / "src" / "models.js"
    text = models.read_text(encoding="utf-8").replace(
        "(name, price_cents, file_key)", "(name, price_cents, file_key, material)"
    )
    models.write_text(text.replace("VALUES ($1, $2, $3)", "VALUES ($1, $2, $3, 'PLA')"), encoding="utf-8")
    (folder / "certify.jsonl").write_text(REQUESTS, encoding="utf-8")
    (folder / "backout.toml").write_text(SETTINGS, encoding="utf-8")
    return [
        *(sys.executable, "-m", "backout", "certify", "--old", "before", "--new", "after", "--json"),
        *("--migrations", "after/prisma/migrations", "--after", "20261014143000_order_note"),
        *("--wrangler-env", "production"),
    ]


def test_the_plan_and_mistakes(tmp_path: Path) -> None:
    """A dry run starts nothing and says what would be tried; what is missing is named, with what to type."""
    command = make_project(tmp_path)

    def run(*more: str) -> tuple[int, str, str]:
        done = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    code, answer, _ = run("--dry-run")
    record = json.loads(answer)
    assert (code, record["dry_run"], record["migrations"], record["requests"]) == (
        0,
        True,
        ["20261130090000_material"],
        6,
    )
    code, _, said = run("--after", "0042")
    assert code == 2
    assert "backout certify --new DIR --after NAME" in said
    (tmp_path / "certify.jsonl").write_text('{"method": "GET"}')
    assert "certify.jsonl:1" in run()[2]


@pytest.mark.long
@pytest.mark.rotating("certify", 3)
def test_the_sample_application(tmp_path: Path) -> None:
    """By wrangler, without a network: nothing fails, what could not be seen is named, and a certificate is kept."""
    done = subprocess.run(make_project(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert (done.returncode, found["reversible"], found["blocker"]) == (0, True, None), (found, done.stderr)
    assert [step["failed"] for step in found["steps"]] == [0, 0, 0, 0]
    assert found["coverage"]["rows_read_again"] == 2
    assert {"GET https://email.example.com/health", "POST https://email.example.com/emails"} < set(
        found["not_exercised"]
    )
    journal = SqliteJournal(tmp_path / ".backout" / "journal.sqlite", SystemClock())
    sql = (tmp_path / "after" / "prisma" / "migrations" / "20261130090000_material" / "migration.sql").read_bytes()
    (kept,) = list_counting(journal, "production", now=time.time())
    journal.close()
    assert (kept.old_code, kept.new_code) == (found["from_code"], found["to_code"])
    assert (kept.head, kept.migrations) == (
        "20261014143000_order_note",
        (("20261130090000_material", hashlib.sha256(sql).hexdigest()),),
    )
    other = "INSERT INTO models (name, price_cents, file_key, material) VALUES ('a', 1, NULL, 'ABS') RETURNING id"
    assert has_unknown_write(kept, [other])  # it returns other columns than the trial saw: another shape


@pytest.mark.parametrize(
    ("database", "says", "next_"),
    [
        (
            'provider = "d1", database_id = "0a0a0a0a-0000-4000-8000-000000000000", migrations = "d1"',
            "this is D1",
            "twin up",
        ),
        (
            'provider = "postgres", url_env = "DATABASE_URL", migrations = "alembic"',
            "alembic are Python",
            "--after 0001_name.sql",
        ),
        (
            'provider = "postgres", url_env = "DATABASE_URL", migrations = "django"',
            "django are Python",
            "--after 0001_name.sql",
        ),
    ],
)
def test_what_cannot_be_tried_is_refused_by_name(tmp_path: Path, database: str, says: str, next_: str) -> None:
    """With what to do instead, before anything is started."""
    usual = 'provider = "postgres", url_env = "DATABASE_URL", migrations = "prisma"'
    (tmp_path / "backout.toml").write_text(SETTINGS.replace(usual, database))
    (tmp_path / "new").mkdir()
    found = backout(tmp_path, "certify", "--old", "new", "--new", "new", "--after", "0001", "--dry-run")
    assert found.code == 2, found
    assert says in found.err
    assert next_ in found.err


def test_code_that_runs_elsewhere_is_refused_by_name(tmp_path: Path) -> None:
    """A trial has Workers, and releases behind Caddy; what says something without one is named."""
    commands = 'command = { history = ["./ask"], current = ["./look"], activate = ["./do"] }'
    toml = f'[app]\nname = "shop"\n[environments.production]\nplatform = {{ provider = "command", {commands} }}\n'
    (tmp_path / "backout.toml").write_text(toml)
    (tmp_path / "new").mkdir()
    found = backout(tmp_path, "certify", "--old", "new", "--new", "new", "--after", "0001", "--dry-run")
    assert found.code == 2, found
    assert "production runs elsewhere (command)" in found.err
    assert "backout db migrations check -e production" in found.err


@pytest.mark.long
@pytest.mark.rotating("certify", 3)
def test_the_rows_of_a_real_database(tmp_path: Path) -> None:
    """`certify.data = "clone"`: the trial has the rows of the database, where nothing is written."""
    command = make_project(tmp_path)
    binaries = find_binaries()
    server = PostgresServer(tmp_path / "live" / "data", binaries)
    server.create(cache_directory=template())
    dsn = server.start().socket_dsn
    try:
        PrismaDeploy(lambda: dsn).apply(PrismaMigrations(tmp_path / "before" / "prisma" / "migrations").read())
        with psycopg.connect(dsn, autocommit=True) as live:
            live.execute((tmp_path / "before" / "prisma" / "seed.sql").read_bytes())
            live.execute("INSERT INTO models (name, price_cents) SELECT 'M' || n, n FROM generate_series(1, 40) AS n")
            before = live.execute("SELECT count(*), sum(price_cents) FROM models").fetchone()
            (tmp_path / "url").write_text(dsn)
            (tmp_path / "url").chmod(0o600)
            text = (tmp_path / "backout.toml").read_text().replace('url_env = "DATABASE_URL"', 'url_file = "url"')
            clone = 'certify = { requests = "certify.jsonl", data = "clone" }'
            text = text.replace('certify = { requests = "certify.jsonl", seed = "before/prisma/seed.sql" }', clone)
            (tmp_path / "backout.toml").write_text(text)
            (tmp_path / "certify.jsonl").write_text(REQUESTS + '{"method": "GET", "path": "/api/models/40"}\n')
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            after = live.execute("SELECT count(*), sum(price_cents) FROM models").fetchone()
    finally:
        server.stop(mode="immediate")
    found = json.loads(done.stdout)
    assert (done.returncode, found["reversible"], found["blocker"]) == (0, True, None), (found, done.stderr)
    assert [step["failed"] for step in found["steps"]] == [0, 0, 0, 0]  # model 40 would be a 404 among generated rows
    assert before == after


@pytest.mark.long
@pytest.mark.rotating("certify", 3)
def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    """Kill -9 in the middle: the twin and all its parts end, though nothing was left to end them."""
    command = make_project(tmp_path)
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as running:
        await_line(running, "deploy the old code", stream=running.stderr)
        folders = find_folders(running.pid)
        running.send_signal(signal.SIGKILL)
    assert folders
    until(lambda: not any(folder in each for folder in folders for each in list_commands()), PATIENCE_S, "all is gone")
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def find_folders(parent: int) -> set[str]:
    """Return the folders of trials whose twin is a child of this process."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_text().split("\0")
            is_child = (place / "stat").read_text().rpartition(")")[2].split()[1] == str(parent)
        except OSError:
            continue
        found |= {str(Path(word).parent) for word in words if is_child and "backout-certify-" in word}
    return found


def list_commands() -> list[str]:
    """Return the command lines of all processes."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(place.read_text().replace("\0", " "))
        except OSError:
            continue
    return found
