"""`backout db migrations status | apply | drift` from the command line, on real Postgres databases."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest
from cli_shell import backout
from kept import template

from backout.journal.sqlite import SqliteJournal
from backout.model.plan import Plan, PlanKind, Step
from backout.providers.clock import SystemClock
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

from fm5_app import FM5
from scripted_server import answer, refused_url, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli_shell import Answer

CONFIG = """
[app]
name = "fm5"
[environments.production]
platform = {{ provider = "cloudflare", script = "fm5-production", account_id = "a" }}
database = {{ provider = "postgres", url_env = "PRODUCTION_URL", migrations = "{tool}" }}
{more}
[environments.staging]
platform = {{ provider = "cloudflare", script = "fm5-staging", account_id = "a" }}
database = {{ provider = "postgres", url_env = "STAGING_URL", migrations = "{tool}" }}
"""
INIT, NOTE = "20260902091500_init", "20261014143000_order_note"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("postgres")
    server = PostgresServer(directory / "data", find_binaries(), settings={"fsync": "off"})
    server.create(cache_directory=template())
    port = server.start(password="canary-pw").port
    yield f"postgresql://postgres:canary-pw@127.0.0.1:{port}"
    server.stop(mode="immediate")


class Project:
    """A working copy with two environments, each with a database of its own."""

    def __init__(self, folder: Path, urls: dict[str, str]) -> None:
        self.folder = folder
        self.urls = urls

    def write(self, tool: str = "prisma", more: str = "") -> None:
        (self.folder / "backout.toml").write_text(CONFIG.format(tool=tool, more=more))

    def call(self, *arguments: str, **urls: str) -> Answer:
        return backout(self.folder, "db", "migrations", *arguments, variables=self.urls | urls)

    def run(self, environment: str, *statements: str) -> None:
        with psycopg.connect(self.urls[f"{environment.upper()}_URL"], autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@pytest.fixture
def project(server: str, tmp_path: Path) -> Iterator[Project]:
    shutil.copytree(FM5 / "prisma", tmp_path / "prisma")
    names = {key: f"cli_{uuid.uuid4().hex[:12]}" for key in ("PRODUCTION_URL", "STAGING_URL")}
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        for name in names.values():
            connection.execute(f"CREATE DATABASE {name}".encode())
        made = Project(tmp_path, {key: f"{server}/{name}" for key, name in names.items()})
        made.write()
        yield made
        for name in names.values():
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def nowhere() -> str:
    return f"postgresql://u:canary-pw@127.0.0.1:{refused_url().rpartition(':')[2]}/x"


def states(found: Answer) -> dict[str, str]:
    migrations = found.json["migrations"]
    assert isinstance(migrations, list)
    return {m["name"]: m["state"] for m in migrations}


# --- status ---------------------------------------------------------------------------------------------------------


def test_pending_is_in_order_and_both_environments_are_shown(project: Project) -> None:
    """The databases are new, and nothing is wrong."""
    found = project.call("status", "-e", "production", "--json")
    assert (found.code, found.json["schema"]) == (0, "backout.db-migrations-status/1")
    assert states(found) == {INIT: "pending", NOTE: "pending"}
    assert [c["in_order"] for c in found.json["comparisons"]] == [True]  # type: ignore[attr-defined]
    text = project.call("status", "-e", "production")
    assert "production: 2 pending; head none" in text.out
    assert "production beside staging: in order" in text.out


def test_a_migration_that_staging_never_ran_is_a_finding_from_either_side(project: Project) -> None:
    """With its name; what staging has alone is only not yet there."""
    assert project.call("apply", "-e", "production", "-m", "w", "--confirm", "production").code == 0
    found = project.call("status", "-e", "production")
    assert found.code == 1
    assert f"{INIT} is applied in production, and staging never ran it" in found.out
    assert project.call("status", "-e", "staging").code == 1
    assert project.call("apply", "-e", "staging", "--yes").code == 0
    assert project.call("status", "-e", "production").code == 0
    project.run("staging", "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) "
                "SELECT 'x', 'x', '3_next', now()")  # fmt: skip
    (project.folder / "prisma" / "migrations" / "3_next").mkdir()
    (project.folder / "prisma" / "migrations" / "3_next" / "migration.sql").write_text("SELECT 1")
    found = project.call("status", "-e", "production", "--against", "staging")
    assert found.code == 0
    assert "not yet in production: 3_next" in found.out


def test_what_prismas_status_calls_up_to_date_is_told(project: Project) -> None:
    """After `resolve --rolled-back` the migration is not there; and an edited one is named."""
    project.call("apply", "-e", "staging", "--yes")
    project.run("staging", "UPDATE _prisma_migrations SET rolled_back_at = now() WHERE migration_name LIKE '%_note'")
    (project.folder / "prisma" / "migrations" / INIT / "migration.sql").write_text("SELECT 1")
    found = project.call("status", "-e", "staging", "--json")
    assert found.code == 1
    assert states(found) == {INIT: "edited", NOTE: "rolled back"}


def test_a_database_that_is_away_is_exit_7_and_the_other_one_is_shown(project: Project) -> None:
    """Whichever it is; no password is told."""
    project.call("apply", "-e", "staging", "--yes")
    found = project.call("status", "-e", "production", "--json", PRODUCTION_URL=nowhere())
    assert (found.code, found.json["in_order"], found.json["migrations"]) == (7, None, [])
    assert found.json["others"][0]["head"] == NOTE  # type: ignore[index]
    found = project.call("status", "-e", "production", PRODUCTION_URL=nowhere())
    assert f"staging: head {NOTE}" in found.out
    found = project.call("status", "-e", "staging", PRODUCTION_URL=nowhere())
    assert found.code == 7
    assert "staging: 2 applied" in found.out
    assert "canary" not in found.out + found.err


def test_an_environment_without_a_connection_string_is_left_out_unless_it_is_named(project: Project) -> None:
    """Whoever has only staging's string can look at staging."""
    found = project.call("status", "-e", "staging", PRODUCTION_URL="")
    assert found.code == 0
    assert "not compared with production" in found.err
    assert project.call("status", "-e", "staging", "--against", "production", PRODUCTION_URL="").code == 4
    assert project.call("status", "-e", "staging", "--against", "nobody").code == 2


def test_a_wrong_password_is_exit_4(project: Project) -> None:
    """It is the person's to correct."""
    wrong = project.urls["PRODUCTION_URL"].replace("canary-pw", "canary-wrong")
    found = project.call("status", "-e", "production", PRODUCTION_URL=wrong)
    assert found.code == 4
    assert "canary" not in found.out + found.err


@pytest.mark.parametrize("tool", ["alembic", "django"])
def test_tools_whose_files_are_python(project: Project, tool: str) -> None:
    """Status reads them; apply names the tool's own command; drift wants their SQL."""
    project.write(tool)
    if tool == "alembic":
        folder, name = project.folder / "alembic" / "versions", "aaa"
        text = "revision = 'aaa'\ndown_revision = None\n"
        project.run("production", "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
                    "INSERT INTO alembic_version VALUES ('aaa')")  # fmt: skip
    else:
        folder, name, text = project.folder / "shop" / "migrations", "shop.aaa", "class Migration: dependencies = []\n"
        project.run("production", "CREATE TABLE django_migrations (id int, app text, name text, applied timestamptz)",
                    "INSERT INTO django_migrations VALUES (1, 'shop', 'aaa', now())")  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "aaa.py").write_text(text)
    found = project.call("status", "-e", "production", "--json")
    assert states(found) == {name: "applied"}
    assert found.json["findings"] == [f"{name} is applied in production, and staging never ran it"]
    found = project.call("apply", "-e", "staging", "--yes")
    assert found.code == 2
    assert tool in found.err
    found = project.call("drift", "-e", "staging")
    assert found.code == 2
    assert "--build build.sql" in found.err
    (project.folder / "build.sql").write_text("CREATE TABLE t (n int);")
    project.run("staging", "CREATE TABLE t (n bigint)")
    found = project.call("drift", "-e", "staging", "--build", "build.sql")
    assert found.code == 1
    assert "ALTER TABLE public.t ALTER COLUMN n TYPE integer" in found.out


def test_d1(project: Project) -> None:
    """Through the API of the platform, with the token that reads; only production has one here."""
    with scripted_server() as api:
        row = {"name": "0001_a.sql", "applied_at": "2026-11-24 10:00:00"}
        api.will(answer({"success": True, "errors": [], "result": [{"results": [row], "success": True}]}))
        (project.folder / "backout.toml").write_text(f"""
[app]
name = "fm5"
[environments.production]
platform = {{ provider = "cloudflare", script = "s", account_id = "a", api_base_url = "{api.url}/client/v4" }}
database = {{ provider = "d1", database_id = "6a1e6c1e", migrations = "d1" }}
""")
        (project.folder / "migrations").mkdir()
        for name in ("0001_a.sql", "0002_b.sql"):
            (project.folder / "migrations" / name).write_text("SELECT 1")
        found = project.call("status", "--json", CLOUDFLARE_API_TOKEN="canary-token")
        assert (found.code, states(found)) == (0, {"0001_a.sql": "applied", "0002_b.sql": "pending"})
        assert api.asked[0].target == "/client/v4/accounts/a/d1/database/6a1e6c1e/query"
        assert project.call("status").code == 4
        assert project.call("apply", "--yes", CLOUDFLARE_API_TOKEN="t").code == 2
        assert project.call("drift", CLOUDFLARE_API_TOKEN="t").code == 2


def test_no_tool_and_no_folder_are_usage_errors(project: Project) -> None:
    """Each with what to write."""
    shutil.rmtree(project.folder / "prisma")
    found = project.call("status", "-e", "production")
    assert found.code == 2
    assert "prisma/migrations" in found.err
    project.write("none")
    for command in ("status", "apply", "drift"):
        found = project.call(command, "-e", "production")
        assert found.code == 2
        assert "no migrations are set up" in found.err


# --- apply ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_applied_and_changes_nothing(project: Project) -> None:
    """The same names in the same order as the command itself."""
    (project.folder / "prisma" / "migrations" / NOTE / "migration.sql").write_text("ALTER TABLE orders DROP COLUMN id;")
    found = project.call("apply", "-e", "production", "--dry-run")
    assert [line.split()[:2] for line in found.out.splitlines() if line[0] != " "] == [
        ["safe", INIT],
        ["breaking", NOTE],
    ]
    found = project.call("apply", "-e", "production", "--dry-run", "--json")
    assert found.json["verdicts"][1] == {"name": NOTE, "verdict": "breaking", "reversible": "no"}  # type: ignore[index]
    assert (found.code, found.json["pending"], found.json["applied"]) == (0, [INIT, NOTE], [])
    assert states(project.call("status", "-e", "production", "--json")) == {INIT: "pending", NOTE: "pending"}
    found = project.call("apply", "-e", "production", "-m", "notes", "--confirm", "production", "--json")
    assert (found.json["pending"], found.json["applied"], found.json["reason"]) == ([INIT, NOTE], [INIT, NOTE], "notes")
    assert project.call("apply", "-e", "production").out == "nothing to apply\n"


def test_the_journal_keeps_who_applied_what_and_why(project: Project) -> None:
    """The intent before anything is changed, each migration, and a failure."""
    (project.folder / "prisma" / "migrations" / NOTE / "migration.sql").write_text("SELECT no_such_function()")
    assert project.call("apply", "-e", "production", "-m", "order notes", "--confirm", "production").code == 1
    journal = SqliteJournal(project.folder / ".backout" / "journal.sqlite", SystemClock())
    events = [event for event in journal.events(environment="production") if event.kind.startswith("migration.")]
    assert [event.kind for event in events] == ["migration.begin", "migration.applied", "migration.failed"]
    assert (events[0].data["reason"], events[0].data["pending"]) == ("order notes", [INIT, NOTE])
    assert events[1].data["migration"] == INIT
    assert "no_such_function" in str(events[2].data["why"])
    assert all(event.actor for event in events)
    journal.close()


def test_nothing_is_applied_while_a_rollback_runs(project: Project) -> None:
    """Exit 6 with what to type; a watch does not stop it."""
    with contextlib.closing(SqliteJournal(project.folder / ".backout" / "journal.sqlite", SystemClock())) as journal:
        watch = Plan(PlanKind.GUARD, "staging", "watch", (Step("watch", "watch"),))
        journal.submit(watch, actor="a", reason="r")
        assert project.call("apply", "-e", "staging", "--yes", "--lock-timeout", "1").code == 0
        rollback = Plan(PlanKind.ROLLBACK, "production", "roll back", (Step("activate", "activate"),))
        journal.submit(rollback, actor="a", reason="r")
        found = project.call("apply", "-e", "production", "-m", "w", "--confirm", "production")
        assert found.code == 6
        assert "roll back" in found.err


def test_production_wants_a_reason_and_its_name(project: Project) -> None:
    """Exit 3, and nothing was applied."""
    for typed in ((), ("--yes",), ("-m", "w"), ("--confirm", "production"), ("-m", "w", "--confirm", "staging")):
        assert project.call("apply", "-e", "production", *typed).code == 3, typed
        found = states(project.call("status", "-e", "production", "--json"))
        assert found == {INIT: "pending", NOTE: "pending"}, typed


def test_another_database_than_the_pinned_one_is_refused(project: Project) -> None:
    """Safety rule 1: nothing was applied."""
    project.write(more='pin = { database_system_identifier = "1/other" }')
    found = project.call("apply", "-e", "production", "-m", "w", "--confirm", "production")
    assert found.code == 3
    assert "pinned 1/other" in found.err
    assert states(project.call("status", "-e", "production", "--json")) == {INIT: "pending", NOTE: "pending"}


def test_a_failed_migration_stops_apply_until_it_is_resolved(project: Project) -> None:
    """The dry run says so as well."""
    (project.folder / "prisma" / "migrations" / NOTE / "migration.sql").write_text("SELECT no_such_function()")
    found = project.call("apply", "-e", "staging", "--yes", "--json")
    assert (found.code, found.json["error"]) == (1, "BackoutError")
    assert "no_such_function" in str(found.json["what"])
    for arguments in (("--yes",), ("--dry-run",)):
        found = project.call("apply", "-e", "staging", *arguments)
        assert found.code == 3
        assert f"prisma migrate resolve --rolled-back {NOTE}" in found.err
    found = project.call("status", "-e", "staging", "--json")
    assert (found.code, states(found)) == (1, {INIT: "applied", NOTE: "failed"})


# --- drift ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_drift_is_told_as_statements_both_ways(project: Project) -> None:
    """Exit 1 with drift, 0 without; a shadow on a given server leaves nothing behind."""
    project.call("apply", "-e", "staging", "--yes")
    assert project.call("drift", "-e", "staging").code == 0
    project.run("staging", "ALTER TABLE orders ADD COLUMN by_hand int", "CREATE ROLE app", "DROP ROLE app")
    found = project.call("drift", "-e", "staging", "--json")
    assert (found.code, found.json["schema"]) == (1, "backout.db-migrations-drift/1")
    assert found.json["statements"] == ["ALTER TABLE public.orders DROP COLUMN by_hand;"]
    found = project.call("drift", "-e", "staging", "--record", "--json", "--shadow-env", "PRODUCTION_URL")
    assert found.json["statements"] == ["ALTER TABLE public.orders ADD COLUMN by_hand integer;"]
    with psycopg.connect(project.urls["STAGING_URL"]) as connection:
        left = connection.execute(b"SELECT datname FROM pg_database WHERE datname LIKE 'backout_shadow_%'").fetchall()
    assert left == []


def test_roles_of_the_live_database_are_there_on_the_shadow(project: Project, server: str) -> None:
    """A policy for a role builds on a fresh server, too."""
    role = f"r{uuid.uuid4().hex}"
    script = project.folder / "prisma" / "migrations" / "3_policy" / "migration.sql"
    script.parent.mkdir()
    script.write_text(f"CREATE POLICY mine ON orders TO {role} USING (true);")
    project.run("staging", f"CREATE ROLE {role}")
    try:
        project.call("apply", "-e", "staging", "--yes")
        found = project.call("drift", "-e", "staging")
        assert (found.code, found.err) == (0, "")
    finally:
        project.run("staging", f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.long
def test_migrations_that_build_nothing_are_named(project: Project) -> None:
    """Exit 1 with the migration's name; exit 7 when the live database is away, exit 2 for a missing file."""
    (project.folder / "prisma" / "migrations" / NOTE / "migration.sql").write_text("SELECT no_such_function()")
    found = project.call("drift", "-e", "staging")
    assert found.code == 1
    assert f"migration {NOTE} failed" in found.err
    assert project.call("drift", "-e", "staging", STAGING_URL=nowhere()).code == 7
    assert project.call("drift", "-e", "staging", "--build", "nowhere.sql").code == 2
    assert project.call("drift", "-e", "staging", "--shadow-env", "NOT_SET").code == 4
