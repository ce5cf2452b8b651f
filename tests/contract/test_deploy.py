"""Prisma's deploy protocol on a real Postgres: FM5's migrations, hand-made bad ones, kills, poolers, missing rights."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template
from pooler import transaction_pooler
from psycopg.rows import dict_row

from backout.analysis.recovery.migrations import assess, put_in_line
from backout.errors import AuthError, BackoutError, Busy, ProviderUnavailable, Refused, UsageError
from backout.providers.files.migrations import PrismaMigrations
from backout.providers.postgres.schema.deploy import PrismaDeploy
from backout.providers.postgres.schema.schema import PostgresHistory
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.session import open_working

from fm5_app import FM5
from polling import until
from scripted_server import refused_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIGRATIONS = FM5 / "prisma" / "migrations"
NAMES = ("20260902091500_init", "20261014143000_order_note")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("postgres")
    server = PostgresServer(directory / "data", find_binaries(), settings={"fsync": "off"})
    server.create(cache_directory=template())
    port = server.start(password="canary-pw").port
    yield f"postgresql://postgres:canary-pw@127.0.0.1:{port}"
    server.stop(mode="immediate")


@pytest.fixture
def dsn(server: str) -> Iterator[str]:
    """An empty database."""
    name = f"deploy_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield f"{server}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def apply(dsn: str, folder: Path, *, lock_timeout_s: float = 10.0) -> tuple[str, ...]:
    return PrismaDeploy(lambda: dsn, lock_timeout_s=lock_timeout_s).apply(PrismaMigrations(folder).read())


def rows(dsn: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(statement.encode()).fetchall()


def run(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def write(folder: Path, name: str, script: str) -> Path:
    path = folder / name / "migration.sql"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script, encoding="utf-8")
    return path


def standing(dsn: str, folder: Path) -> dict[str, str]:
    report = assess(PostgresHistory(lambda: dsn).read(), put_in_line(PrismaMigrations(folder).read()))
    return {m.name: m.state.value for m in report.migrations}


def test_every_migration_is_applied_once_and_recorded_as_prisma_does(dsn: str) -> None:
    """The rows hold the file's SHA-256, a finishing time and one step; a second call finds nothing to do."""
    assert apply(dsn, MIGRATIONS) == NAMES
    assert apply(dsn, MIGRATIONS) == ()
    recorded = rows(
        dsn,
        "SELECT migration_name, checksum, finished_at >= started_at, applied_steps_count, rolled_back_at, logs, "
        "length(id) FROM _prisma_migrations ORDER BY started_at",
    )
    assert recorded == [(name, _sha256(name), True, 1, None, None, 36) for name in NAMES]
    assert standing(dsn, MIGRATIONS) == dict.fromkeys(NAMES, "applied")


def _sha256(name: str) -> str:
    return hashlib.sha256((MIGRATIONS / name / "migration.sql").read_bytes()).hexdigest()


def test_the_table_has_prismas_exact_shape(dsn: str) -> None:
    """Column by column as the schema engine makes it: its CLI reads the table by these."""
    apply(dsn, MIGRATIONS)
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        found = connection.execute(
            b"SELECT column_name AS name, data_type AS type, character_maximum_length AS length, "
            b"is_nullable AS nullable, column_default AS default FROM information_schema.columns "
            b"WHERE table_name = '_prisma_migrations' ORDER BY ordinal_position"
        ).fetchall()
    moment = "timestamp with time zone"
    assert [tuple(row.values()) for row in found] == [
        ("id", "character varying", 36, "NO", None),
        ("checksum", "character varying", 64, "NO", None),
        ("finished_at", moment, None, "YES", None),
        ("migration_name", "character varying", 255, "NO", None),
        ("logs", "text", None, "YES", None),
        ("rolled_back_at", moment, None, "YES", None),
        ("started_at", moment, None, "NO", "now()"),
        ("applied_steps_count", "integer", None, "NO", "0"),
    ]


def test_the_seed_can_be_repeated_and_leaves_room_for_new_models(dsn: str) -> None:
    """Five models however often it runs, and the next id is free."""
    apply(dsn, MIGRATIONS)
    seed = (FM5 / "prisma" / "seed.sql").read_text(encoding="utf-8")
    run(dsn, seed)
    run(dsn, seed)
    assert rows(dsn, "SELECT count(*) FROM models") == [(5,)]
    assert rows(dsn, "INSERT INTO models (name, price_cents) VALUES ('x', 1) RETURNING id > 5") == [(True,)]


def test_only_what_is_new_is_applied(dsn: str, tmp_path: Path) -> None:
    """A migration added later runs alone."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    shutil.rmtree(folder / NAMES[1])
    assert apply(dsn, folder) == NAMES[:1]
    assert apply(dsn, MIGRATIONS) == NAMES[1:]


@pytest.mark.parametrize("begin", ["", "BEGIN;"])
def test_a_failed_script_leaves_only_its_row_and_blocks_until_it_is_resolved(
    dsn: str, tmp_path: Path, begin: str
) -> None:
    """Nothing of the script stays; the row has the error; the next call refuses; once resolved it is applied again."""
    script = write(tmp_path, "1_bad", f"{begin} CREATE TABLE half (id int); SELECT no_such_function();")
    with pytest.raises(BackoutError, match=r"1_bad failed: .*no_such_function") as failure:
        apply(dsn, tmp_path)
    assert failure.value.where == "1_bad"
    assert rows(dsn, "SELECT to_regclass('half')") == [(None,)]
    assert rows(
        dsn, "SELECT finished_at, applied_steps_count, logs LIKE '%no_such_function%' FROM _prisma_migrations"
    ) == [(None, 0, True)]
    assert standing(dsn, tmp_path) == {"1_bad": "failed"}
    script.write_text("CREATE TABLE whole (id int)", encoding="utf-8")
    with pytest.raises(Refused, match="1_bad failed before") as refusal:
        apply(dsn, tmp_path)
    assert refusal.value.hint == "prisma migrate resolve --rolled-back 1_bad"
    run(dsn, "UPDATE _prisma_migrations SET rolled_back_at = now()")
    assert standing(dsn, tmp_path) == {"1_bad": "rolled back"}
    assert apply(dsn, tmp_path) == ("1_bad",)
    assert rows(dsn, "SELECT to_regclass('whole')") == [("whole",)]
    script.write_text("CREATE TABLE edited (id int)", encoding="utf-8")
    assert standing(dsn, tmp_path) == {"1_bad": "edited"}


def test_migrations_before_the_failed_one_stay(dsn: str, tmp_path: Path) -> None:
    """Each script stands for itself."""
    write(tmp_path, "1_good", "CREATE TABLE one (id int)")
    write(tmp_path, "2_bad", "CREATE TABLE one (id int)")
    write(tmp_path, "3_after", "CREATE TABLE three (id int)")
    with pytest.raises(BackoutError, match="2_bad failed"):
        apply(dsn, tmp_path)
    assert rows(dsn, "SELECT to_regclass('one'), to_regclass('three')") == [("one", None)]
    assert standing(dsn, tmp_path) == {"1_good": "applied", "2_bad": "failed", "3_after": "pending"}


def test_a_statement_that_cannot_run_in_a_transaction_goes_alone(dsn: str, tmp_path: Path) -> None:
    """With a comment above it, it does; beside another statement it fails, and the error says what to do."""
    write(tmp_path, "1_table", "CREATE TABLE t (n int);")
    write(tmp_path, "2_index", "-- alone\nCREATE INDEX CONCURRENTLY t_n ON t (n);\n")
    assert apply(dsn, tmp_path) == ("1_table", "2_index")
    write(tmp_path, "3_both", "CREATE TABLE u (n int); CREATE INDEX CONCURRENTLY u_n ON u (n);")
    with pytest.raises(BackoutError, match="cannot") as caught:
        apply(dsn, tmp_path)
    assert "a migration of its own" in str(caught.value.hint)
    assert rows(dsn, "SELECT to_regclass('t_n'), to_regclass('u')") == [("t_n", None)]


def test_scripts_that_change_the_session_do_not_lose_the_history(dsn: str, tmp_path: Path) -> None:
    """A baseline made by pg_dump empties the search path; an empty script is applied as well."""
    write(tmp_path, "1_dump", "SELECT pg_catalog.set_config('search_path', '', false); CREATE TABLE public.t (n int);")
    write(tmp_path, "2_empty", "-- nothing\n")
    write(tmp_path, "3_more", "CREATE TABLE public.u (n int);")
    assert apply(dsn, tmp_path) == ("1_dump", "2_empty", "3_more")


def test_prismas_schema_is_used_and_made(dsn: str, tmp_path: Path) -> None:
    """`?schema=` names where the tables and the history are."""
    write(tmp_path, "1_t", "CREATE TABLE t (n int);")
    apply(f"{dsn}?schema=shop&connection_limit=1", tmp_path)
    assert rows(dsn, "SELECT to_regclass('shop.t')::text, to_regclass('shop._prisma_migrations')::text") == [
        ("shop.t", "shop._prisma_migrations")
    ]
    assert standing(f"{dsn}?schema=shop", tmp_path) == {"1_t": "applied"}


def test_a_database_with_tables_and_no_history_is_refused(dsn: str, tmp_path: Path) -> None:
    """Prisma's P3005: its baseline is a decision; what an extension brought does not count."""
    write(tmp_path, "1_t", "CREATE TABLE t (n int);")
    run(dsn, "CREATE EXTENSION pg_stat_statements")
    assert apply(dsn, tmp_path) == ("1_t",)
    run(dsn, "DROP TABLE _prisma_migrations")
    with pytest.raises(Refused, match=r"tables \(t\) and no history"):
        apply(dsn, tmp_path)
    assert rows(dsn, "SELECT to_regclass('_prisma_migrations')") == [(None,)]


# --- several at once, and deaths ------------------------------------------------------------------------------------


SOMEBODY_ELSES = {
    "table": ("CREATE TABLE theirs (id int); ALTER TABLE theirs OWNER TO tenant", "DROP TABLE theirs"),
    "history": ("ALTER TABLE _prisma_migrations OWNER TO tenant", "ALTER TABLE _prisma_migrations OWNER TO postgres"),
    "function": (
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION f OWNER TO tenant",
        "DROP FUNCTION f",
    ),
    "trigger": (
        """CREATE SCHEMA apart;
        CREATE FUNCTION apart.g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER t BEFORE INSERT ON orders EXECUTE FUNCTION apart.g(); ALTER FUNCTION apart.g OWNER TO tenant""",
        "DROP SCHEMA apart CASCADE",
    ),
}


def test_a_superuser_runs_no_code_of_somebody_who_is_none(dsn: str, tmp_path: Path) -> None:
    """SET ROLE is no boundary in his session, so he is refused with the role that may; what is his own is applied."""
    apply(dsn, MIGRATIONS)
    run(dsn, "DO $$ BEGIN CREATE ROLE tenant; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    write(tmp_path, "20270101000000_more", "CREATE TABLE more (i int);")
    for make, drop in SOMEBODY_ELSES.values():
        run(dsn, make)
        with pytest.raises(Refused, match=r"belongs to tenant.*a superuser") as refused:
            apply(dsn, tmp_path)
        assert refused.value.hint == f"backout db roles migrate --database {dsn.rpartition('/')[2]} --owner tenant"
        assert rows(dsn, "SELECT to_regclass('more')::text, (SELECT count(*) FROM _prisma_migrations)") == [(None, 2)]
        run(dsn, drop)
    run(dsn, "CREATE SCHEMA theirs AUTHORIZATION tenant; CREATE TABLE theirs.queue (i int)")
    assert apply(dsn, tmp_path) == ("20270101000000_more",)


def test_the_wait_for_another_ends_and_names_it(dsn: str, tmp_path: Path) -> None:
    """While another holds Prisma's lock nothing is applied."""
    write(tmp_path, "1_first", "CREATE TABLE one (id int)")
    with psycopg.connect(dsn, autocommit=True, application_name="prisma") as other:
        other.execute(b"SELECT pg_advisory_lock(72707369)")
        with pytest.raises(Busy, match=rf"another migration is running: process {other.info.backend_pid} of prisma"):
            apply(dsn, tmp_path, lock_timeout_s=0.2)
        assert rows(dsn, "SELECT to_regclass('one')") == [(None,)]
    assert apply(dsn, tmp_path) == ("1_first",)


def test_of_two_at_once_each_migration_is_applied_by_one(dsn: str, tmp_path: Path) -> None:
    """The second waits for the first, and finds nothing to do."""
    for number in range(6):
        write(tmp_path, f"{number}_t", f"CREATE TABLE t{number} (n int); SELECT pg_sleep(0.02);")
    done: list[tuple[str, ...]] = []
    threads = [threading.Thread(target=lambda: done.append(apply(dsn, tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done, key=len) == [(), (), tuple(f"{number}_t" for number in range(6))]
    assert rows(dsn, "SELECT count(*), count(DISTINCT migration_name) FROM _prisma_migrations") == [(6, 6)]


APPLIER = """
import pathlib, sys
from backout.providers.files.migrations import PrismaMigrations
from backout.providers.postgres.schema.deploy import PrismaDeploy
PrismaDeploy(lambda: sys.argv[1]).apply(PrismaMigrations(pathlib.Path(sys.argv[2])).read())
"""


@pytest.mark.parametrize(
    ("script", "committed"),
    [
        ("CREATE TABLE t (n int); SELECT pg_sleep(60);", False),
        ("CREATE TABLE t (n int); COMMIT; SELECT pg_sleep(60);", True),
    ],
    ids=["in the script", "behind a commit"],
)
def test_a_killed_applier_leaves_a_row_that_status_names(
    dsn: str, tmp_path: Path, script: str, *, committed: bool
) -> None:
    """Kill -9 while the script runs: begun and never ended, nobody may go on, and drift tells what of it is there."""
    write(tmp_path, "1_slow", script)
    process = subprocess.Popen([sys.executable, "-c", APPLIER, dsn, str(tmp_path)])
    try:
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        ((pid,),) = until(lambda: rows(dsn, waiting), what="the script sleeps")
        assert standing(dsn, tmp_path) == {"1_slow": "failed"}
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    run(dsn, f"SELECT pg_terminate_backend({pid})")
    until(lambda: not rows(dsn, waiting), what="its session is gone")
    assert standing(dsn, tmp_path) == {"1_slow": "failed"}
    with pytest.raises(Refused, match="1_slow failed before"):
        apply(dsn, tmp_path)
    assert rows(dsn, "SELECT to_regclass('t') IS NOT NULL") == [(committed,)]


def test_a_killed_applier_before_the_last_entry(dsn: str, tmp_path: Path) -> None:
    """The script is committed and its row unfinished: the same, so nobody repeats it blindly."""
    write(tmp_path, "1_t", "CREATE TABLE t (n int);")
    run(dsn, "CREATE SCHEMA hook")
    slow = "BEGIN PERFORM pg_sleep(60); RETURN NEW; END"
    run(dsn, f"CREATE FUNCTION hook.slow() RETURNS trigger LANGUAGE plpgsql AS '{slow}'")
    write(tmp_path, "0_hook", "SELECT 1;")
    PrismaDeploy(lambda: dsn).apply(PrismaMigrations(tmp_path).read()[:1])
    run(
        dsn,
        "CREATE TRIGGER slow BEFORE UPDATE ON _prisma_migrations FOR EACH ROW EXECUTE FUNCTION hook.slow()",
    )
    process = subprocess.Popen([sys.executable, "-c", APPLIER, dsn, str(tmp_path)])
    try:
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        ((pid,),) = until(lambda: rows(dsn, waiting), what="the last entry is written")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    run(dsn, f"SELECT pg_terminate_backend({pid})")
    until(lambda: not rows(dsn, waiting), what="its session is gone")
    assert rows(dsn, "SELECT to_regclass('t')::text") == [("t",)]
    assert standing(dsn, tmp_path) == {"0_hook": "applied", "1_t": "failed"}
    with pytest.raises(Refused, match="1_t failed before"):
        apply(dsn, tmp_path)


def test_a_lost_connection_claims_nothing(dsn: str, tmp_path: Path) -> None:
    """Whether the script was applied is not known, and that is said."""
    write(tmp_path, "1_end", "SELECT pg_terminate_backend(pg_backend_pid());")
    with pytest.raises(ProviderUnavailable, match="whether it was applied is not known"):
        apply(dsn, tmp_path)
    assert standing(dsn, tmp_path) == {"1_end": "failed"}


# --- what a database can refuse -------------------------------------------------------------------------------------


def test_a_transaction_pooler_is_named(dsn: str, tmp_path: Path) -> None:
    """Prisma's lock would not hold behind it; nothing is applied."""
    write(tmp_path, "1_t", "CREATE TABLE t (n int);")
    with transaction_pooler(dsn) as pooled, pytest.raises(Refused, match="a transaction pooler stands between"):
        apply(pooled, tmp_path)
    assert rows(dsn, "SELECT to_regclass('_prisma_migrations')") == [(None,)]


@pytest.mark.parametrize("more", [{"keeps": 4}, {"clients": 1}], ids=["each had its own", "no second one"])
def test_a_transaction_pooler_that_gives_itself_away_late_is_refused(dsn: str, more: dict[str, int]) -> None:
    """Sessions that missed each other at first, beside the application's; and one that lets no second session in."""
    with transaction_pooler(dsn, **more) as pooled, pytest.raises(Refused, match="transaction pooler"):
        open_working(pooled).close()


def test_a_missing_right_is_an_auth_error(dsn: str, tmp_path: Path) -> None:
    """Since Postgres 15 nobody may create in public who was not allowed to."""
    write(tmp_path, "1_t", "CREATE TABLE t (n int);")
    role = f"r{uuid.uuid4().hex}"
    run(dsn, f"CREATE ROLE {role} LOGIN PASSWORD 'canary-pw'")
    try:
        with pytest.raises(AuthError, match="permission denied for schema public"):
            apply(dsn.replace("//postgres:", f"//{role}:"), tmp_path)
    finally:
        run(dsn, f"DROP ROLE {role}")


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    """The connection string's password is not told."""
    port = refused_url().rpartition(":")[2]
    with pytest.raises(ProviderUnavailable, match="the database cannot be read") as caught:
        apply(f"postgresql://u:canary-pw@127.0.0.1:{port}/x", tmp_path)
    assert "canary" not in f"{caught.value} {caught.value.hint}"


def test_a_missing_folder_is_named(dsn: str, tmp_path: Path) -> None:
    """A wrong path is not the same as nothing to do."""
    with pytest.raises(UsageError, match="no such folder"):
        apply(dsn, tmp_path / "nowhere")
    assert apply(dsn, tmp_path) == ()


def test_a_file_that_is_no_utf_8_is_named(dsn: str, tmp_path: Path) -> None:
    """With its line; the database was not asked."""
    write(tmp_path, "1_t", "").write_bytes(b"SELECT 1;\n-- \xff\n")
    with pytest.raises(UsageError, match="not UTF-8") as caught:
        apply(dsn, tmp_path)
    assert str(caught.value.where).endswith("migration.sql:2")
