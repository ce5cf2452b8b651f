"""Applying FM5's migrations, and hand-made bad ones, to a real Postgres by Prisma's protocol."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import psycopg
import pytest

from backout.errors import BackoutError, Busy, Refused, UsageError
from backout.providers.postgres.binaries import find_binaries
from backout.providers.postgres.launcher import PostgresServer
from backout.twin.migrate import apply_migrations, apply_script

from fm5_app import FM5

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIGRATIONS = FM5 / "prisma" / "migrations"
NAMES = ("20260902091500_init", "20261014143000_order_note")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("postgres")
    server = PostgresServer(directory / "data", find_binaries(), settings={"fsync": "off"})
    server.create()
    yield server.start().socket_dsn
    server.stop(mode="immediate")


@pytest.fixture
def dsn(server: str) -> Iterator[str]:
    """An empty database."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE fm5")
        yield server.replace("dbname=postgres", "dbname=fm5")
        connection.execute("DROP DATABASE fm5 WITH (FORCE)")


def rows(dsn: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(statement.encode()).fetchall()


def write(folder: Path, name: str, script: str) -> Path:
    path = folder / name / "migration.sql"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script, encoding="utf-8")
    return path


def test_every_migration_is_applied_once_and_recorded_as_prisma_does(dsn: str) -> None:
    """The rows hold the file's SHA-256, a finishing time and one step; a second call finds nothing to do."""
    assert apply_migrations(dsn, MIGRATIONS) == NAMES
    assert apply_migrations(dsn, MIGRATIONS) == ()
    recorded = rows(
        dsn,
        "SELECT migration_name, checksum, finished_at >= started_at, applied_steps_count, rolled_back_at, logs, "
        "length(id) FROM _prisma_migrations ORDER BY started_at",
    )
    assert recorded == [(name, _sha256(name), True, 1, None, None, 36) for name in NAMES]
    columns = rows(dsn, "SELECT column_name FROM information_schema.columns WHERE table_name = 'orders'")
    assert ("note",) in columns


def _sha256(name: str) -> str:
    return hashlib.sha256((MIGRATIONS / name / "migration.sql").read_bytes()).hexdigest()


def test_the_seed_can_be_repeated_and_leaves_room_for_new_models(dsn: str) -> None:
    """Five models however often it runs, and the next id is free."""
    apply_migrations(dsn, MIGRATIONS)
    apply_script(dsn, FM5 / "prisma" / "seed.sql")
    apply_script(dsn, FM5 / "prisma" / "seed.sql")
    assert rows(dsn, "SELECT count(*) FROM models") == [(5,)]
    assert rows(dsn, "INSERT INTO models (name, price_cents) VALUES ('x', 1) RETURNING id > 5") == [(True,)]


def test_only_what_is_new_is_applied(dsn: str, tmp_path: Path) -> None:
    """A migration added later runs alone."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    shutil.rmtree(folder / NAMES[1])
    assert apply_migrations(dsn, folder) == NAMES[:1]
    assert apply_migrations(dsn, MIGRATIONS) == NAMES[1:]


@pytest.mark.parametrize("begin", ["", "BEGIN;"])
def test_a_failed_script_leaves_only_its_row_and_blocks_until_it_is_resolved(
    dsn: str, tmp_path: Path, begin: str
) -> None:
    """Nothing of the script stays; the row has the error; the next call refuses; once resolved it is applied again."""
    script = write(tmp_path, "1_bad", f"{begin} CREATE TABLE half (id int); SELECT no_such_function();")
    with pytest.raises(BackoutError, match=r"1_bad failed: .*no_such_function") as failure:
        apply_migrations(dsn, tmp_path)
    assert failure.value.where == str(script)
    assert rows(dsn, "SELECT to_regclass('half')") == [(None,)]
    assert rows(
        dsn, "SELECT finished_at, applied_steps_count, logs LIKE '%no_such_function%' FROM _prisma_migrations"
    ) == [(None, 0, True)]
    script.write_text("CREATE TABLE whole (id int)", encoding="utf-8")
    with pytest.raises(Refused, match="1_bad failed before") as refusal:
        apply_migrations(dsn, tmp_path)
    assert refusal.value.hint == "prisma migrate resolve --rolled-back 1_bad"
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE _prisma_migrations SET rolled_back_at = now()")
    assert apply_migrations(dsn, tmp_path) == ("1_bad",)
    assert rows(dsn, "SELECT to_regclass('whole')") == [("whole",)]


def test_migrations_before_the_failed_one_stay(dsn: str, tmp_path: Path) -> None:
    """Each script stands for itself."""
    write(tmp_path, "1_good", "CREATE TABLE one (id int)")
    write(tmp_path, "2_bad", "CREATE TABLE one (id int)")
    write(tmp_path, "3_after", "CREATE TABLE three (id int)")
    with pytest.raises(BackoutError, match="2_bad failed"):
        apply_migrations(dsn, tmp_path)
    assert rows(dsn, "SELECT to_regclass('one'), to_regclass('three')") == [("one", None)]


def test_two_at_once_do_not_apply_the_same_migration(dsn: str, tmp_path: Path) -> None:
    """While another holds Prisma's lock nothing is applied, and the wait ends with who is to blame."""
    write(tmp_path, "1_first", "CREATE TABLE one (id int)")
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(72707369)")
        with pytest.raises(Busy, match="another migration"):
            apply_migrations(dsn, tmp_path, lock_timeout_s=0.2)
        assert rows(dsn, "SELECT to_regclass('one')") == [(None,)]
    assert apply_migrations(dsn, tmp_path) == ("1_first",)


def test_a_missing_folder_is_named(dsn: str, tmp_path: Path) -> None:
    """A wrong path is not the same as nothing to do."""
    with pytest.raises(UsageError, match="no such folder"):
        apply_migrations(dsn, tmp_path / "nowhere")
    assert apply_migrations(dsn, tmp_path) == ()
