"""Drizzle's migrations: files and rows, as drizzle-orm's own migrator writes and judges them."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template

from backout.analysis.recovery.migrations import assess, put_in_line
from backout.errors import UsageError
from backout.model.database.migrations import MigrationState
from backout.providers.files.drizzle import DrizzleMigrations
from backout.providers.node import find_own_folder
from backout.providers.postgres.restore.live import PostgresLive
from backout.providers.postgres.schema.history import DRIZZLE
from backout.providers.postgres.schema.schema import PostgresHistory
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.twin.npm import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

INIT = "CREATE TABLE users (id serial PRIMARY KEY);\n--> statement-breakpoint\nCREATE TABLE orders (id int);\n"
NOTE = "ALTER TABLE orders ADD COLUMN note text;\n-- ü\n"
LATE = "CREATE TABLE late (id int);\n"
MIGRATE = """
import pg from "pg";
import { drizzle } from "drizzle-orm/node-postgres";
import { migrate } from "drizzle-orm/node-postgres/migrator";
const pool = new pg.Pool({ connectionString: process.argv[2] });
await migrate(drizzle(pool), { migrationsFolder: process.argv[3] });
await pool.end();
"""
JOURNAL = {"0000_init": 1_700_000_000_111, "0001_note": 1_700_000_900_222}


def lay(folder: Path, files: Mapping[str, str], when: Mapping[str, int] = JOURNAL) -> Path:
    """Write what drizzle-kit 0.31 generates."""
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    for tag, text in files.items():
        (folder / f"{tag}.sql").write_text(text)
    entries = [
        {"idx": number, "version": "7", "when": when[tag], "tag": tag, "breakpoints": True}
        for number, tag in enumerate(when)
    ]
    journal = {"version": "7", "dialect": "postgresql", "entries": entries}
    (folder / "meta" / "_journal.json").write_text(json.dumps(journal))
    return folder


def lay_1(folder: Path, files: Mapping[str, str]) -> Path:
    """Write what drizzle-kit 1.0 generates."""
    for name, text in files.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "migration.sql").write_text(text)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("drizzle")
    server = PostgresServer(folder / "data", find_binaries(), settings={"fsync": "off", "track_commit_timestamp": "on"})
    server.create(cache_directory=template())
    port = server.start(password="canary-pw").port
    yield f"postgresql://postgres:canary-pw@127.0.0.1:{port}"
    server.stop(mode="immediate")


@pytest.fixture
def dsn(server: str) -> Iterator[str]:
    name = f"drizzle_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield f"{server}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def standing(dsn: str, folder: Path) -> dict[str, MigrationState]:
    """Return how each migration stands by the table and the files."""
    files = DrizzleMigrations(folder)
    state = PostgresHistory(lambda: dsn, DRIZZLE, names=files.read_names).read()
    return {each.name: each.state for each in assess(state, put_in_line(files.read())).migrations}


def test_the_journal_lists_the_files_in_drizzles_order(tmp_path: Path) -> None:
    """Not their names, and a file that it does not name is none."""
    lay(tmp_path, {"b": "1", "a": "2", "c": "3"}, {"b": 5_000, "a": 7_999})
    found = DrizzleMigrations(tmp_path).read()
    assert [(file.name, file.sql, file.stamp) for file in found] == [("b", "1", 5_000), ("a", "2", 7_999)]
    assert DrizzleMigrations(tmp_path).read_names().stamps == {"5": ("b",), "7": ("a",)}


def test_folders_of_drizzle_kit_1_are_read_by_their_names(tmp_path: Path) -> None:
    """The first 14 digits are the time, in UTC; what is missing in between is applied by the next run."""
    lay_1(tmp_path, {"20231115221332_note": "2", "20231114221320_init": "1"})
    found = DrizzleMigrations(tmp_path).read()
    assert [(file.name, file.sql, file.stamp) for file in found] == [
        ("20231114221320_init", "1", None),
        ("20231115221332_note", "2", None),
    ]
    assert DrizzleMigrations(tmp_path).read_names().get_name("1700000000", "") == "20231114221320_init"


@pytest.mark.parametrize("name", ["init", "20231399000000_init", "\N{FULLWIDTH DIGIT TWO}0231114221320_init"])
def test_a_folder_whose_name_has_no_time_is_named(tmp_path: Path, name: str) -> None:
    """It may be Prisma's: nothing is guessed."""
    with pytest.raises(UsageError, match="does not begin with the time of its making"):
        DrizzleMigrations(lay_1(tmp_path, {name: "1"})).read()


@pytest.mark.parametrize(
    ("journal", "said"),
    [
        ("{", "no journal of drizzle-kit"),
        ('{"entries": [{"tag": "gone", "when": 1}]}', "names gone, and there is no such file"),
        ('{"entries": [{"tag": "../outside", "when": 1}]}', "names ../outside, and there is no such file"),
        (None, "no meta/_journal.json, and no folder with a migration.sql"),
    ],
)
def test_a_folder_that_is_not_drizzles_is_named(tmp_path: Path, journal: str | None, said: str) -> None:
    folder = tmp_path / "drizzle"
    (folder / "meta").mkdir(parents=True)
    (tmp_path / "outside.sql").write_text("SELECT 1")
    if journal is not None:
        (folder / "meta" / "_journal.json").write_text(journal)
    with pytest.raises(UsageError, match=said):
        DrizzleMigrations(folder).read()


def test_a_migration_that_drizzle_passes_over_is_a_finding(dsn: str, tmp_path: Path) -> None:
    """Its `when` is before the newest row's: it never runs, and Drizzle does not say so. Another branch brought it."""
    write_rows(dsn, lay(tmp_path, {"0000_init": INIT, "0001_note": NOTE}))
    lay(tmp_path, {"0002_late": LATE}, {**JOURNAL, "0002_late": 1_700_000_500_000})
    assert standing(dsn, tmp_path)["0002_late"] is MigrationState.OUT_OF_ORDER
    lay(tmp_path, {"0002_late": LATE}, {**JOURNAL, "0002_late": 1_700_000_950_000})
    assert standing(dsn, tmp_path)["0002_late"] is MigrationState.PENDING
    (tmp_path / "0001_note.sql").write_text("-- other\n")
    assert standing(dsn, tmp_path)["0001_note"] is MigrationState.EDITED


def test_the_row_of_a_migration_is_found_by_its_name(dsn: str, tmp_path: Path) -> None:
    """`before migration NAME` takes the name of the file, which the table does not hold."""
    files = DrizzleMigrations(lay(tmp_path, {"0000_init": INIT, "0001_note": NOTE}))
    write_rows(dsn, tmp_path)
    live = PostgresLive(lambda: dsn, names=files.read_names)
    first, second = live.find_migration("0000_init"), live.find_migration("0001_note")
    assert first is not None
    assert second is not None
    assert (first.stored, second.stored, first.xid < second.xid) == ("1700000000", "1700000900", True)
    assert live.find_migration("0009_none") is None


def write_rows(dsn: str, folder: Path) -> None:
    """Write the rows that drizzle-orm 0.45.4 writes: the SHA-256 of each file, and the journal's `when`."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(b"CREATE SCHEMA drizzle")
        connection.execute(
            b"CREATE TABLE drizzle.__drizzle_migrations (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint)"
        )
        for file in DrizzleMigrations(folder).read():
            insert = b"INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (%s, %s)"
            connection.execute(insert, (file.checksum, file.stamp))


@pytest.mark.long
def test_the_real_migrator_writes_what_is_read(dsn: str, tmp_path: Path) -> None:
    """drizzle-orm's own `migrate` on a real Postgres: names, order, checksums, and what it passes over."""
    folder = lay(tmp_path / "drizzle", {"0000_init": INIT, "0001_note": NOTE})
    script = tmp_path / "migrate.mjs"
    script.write_text(MIGRATE)
    (tmp_path / "node_modules").symlink_to(CHECKOUT / "node_modules")

    node = find_own_folder()
    assert node is not None

    def migrate() -> None:
        argv = (str(node / "node"), str(script), dsn, str(folder))
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr

    assert set(standing(dsn, folder).values()) == {MigrationState.PENDING}
    migrate()
    assert set(standing(dsn, folder).values()) == {MigrationState.APPLIED}
    state = PostgresHistory(lambda: dsn, DRIZZLE, names=DrizzleMigrations(folder).read_names).read()
    assert [migration.name for migration in state.applied] == ["0000_init", "0001_note"]
    assert [migration.checksum for migration in state.applied] == [
        file.checksum for file in DrizzleMigrations(folder).read()
    ]
    assert all(migration.dated for migration in state.applied)
    lay(folder, {"0002_late": LATE}, {**JOURNAL, "0002_late": 1_700_000_500_000})
    migrate()
    assert standing(dsn, folder)["0002_late"] is MigrationState.OUT_OF_ORDER
    with psycopg.connect(dsn) as connection:
        assert connection.execute(b"SELECT to_regclass('late')").fetchone() == (None,)
