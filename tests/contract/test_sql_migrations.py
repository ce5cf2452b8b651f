"""Port MigrationFiles on folders as the tools lay them out: names, order, encodings, and what is no SQL."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from backout.errors import UsageError
from backout.providers.files.sql_migrations import SqlMigrations

if TYPE_CHECKING:
    from pathlib import Path


def lay(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


LAYOUTS = (
    ("prisma", {"20240102_b/migration.sql": "b", "20240101_a/migration.sql": "a", "migration_lock.toml": "x"},
     ["20240101_a", "20240102_b"]),
    ("d1", {"0002_b.sql": "b", "0001_a.sql": "a", "0010_c.sql": "c"}, ["0001_a.sql", "0002_b.sql", "0010_c.sql"]),
    ("numbers count as numbers", {"10_c.sql": "c", "9_b.sql": "b", "1_a.sql": "a"}, ["1_a.sql", "9_b.sql", "10_c.sql"]),
    ("prisma counts no numbers", {"10_b/migration.sql": "a", "1_a/migration.sql": "b", "9_c/migration.sql": "c"},
     ["10_b", "1_a", "9_c"]),
    ("golang-migrate", {"1_a.up.sql": "a", "1_a.down.sql": "x", "2_b.up.sql": "b", "2_b.down.sql": "x"},
     ["1_a.up.sql", "2_b.up.sql"]),
    ("flyway", {"V1__a.sql": "a", "V1.1__b.sql": "b", "U1__a.sql": "x", "R__views.sql": "c"},
     ["V1__a.sql", "V1.1__b.sql", "R__views.sql"]),
    ("diesel", {"2024-01-01_a/up.sql": "a", "2024-01-01_a/down.sql": "x", "2024-01-02_b/up.sql": "b"},
     ["2024-01-01_a", "2024-01-02_b"]),
    ("drizzle", {"0000_a.sql": "a", "meta/_journal.json": "{}", "0001_b.sql": "b"}, ["0000_a.sql", "0001_b.sql"]),
    ("sql beside python", {"versions/x.py": "", "0001.sql": "a"}, ["0001.sql"]),
)  # fmt: skip


@pytest.mark.parametrize(("files", "names"), [row[1:] for row in LAYOUTS], ids=[row[0] for row in LAYOUTS])
def test_layouts_names_and_order(tmp_path: Path, files: dict[str, str], names: list[str]) -> None:
    """Folder or file name, in the order in which the tool applies them; what undoes is left out."""
    found = SqlMigrations(lay(tmp_path, files)).read()
    assert [file.name for file in found] == names
    assert [file.sql for file in found] == ["a", "b", "c"][: len(names)]


def test_one_file_is_a_history_of_one(tmp_path: Path) -> None:
    """Its name is the file's, or the folder's where the tool gives every file the same name."""
    lay(tmp_path, {"0001_a.sql": "a", "20240101_b/migration.sql": "b"})
    assert SqlMigrations(tmp_path / "0001_a.sql").read()[0].name == "0001_a.sql"
    assert SqlMigrations(tmp_path / "20240101_b" / "migration.sql").read()[0].name == "20240101_b"
    assert SqlMigrations(tmp_path / "20240101_b").read()[0].name == "20240101_b"


def test_the_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    """As Prisma computes it, the byte order mark included; the mark is no SQL."""
    content = b"\xef\xbb\xbfSELECT 1;\r\n"
    (found,) = SqlMigrations(lay(tmp_path, {"x/migration.sql": content})).read()
    assert found.sql == "SELECT 1;\r\n"
    assert found.checksum == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "mark", ["-- migrate:down", "-- +goose Down", "-- +migrate Down", "--  Down Migration", "--//@UNDO"]
)
def test_what_undoes_in_the_same_file_is_cut_off(tmp_path: Path, mark: str) -> None:
    """dbmate, goose, sql-migrate, node-pg-migrate, MyBatis."""
    text = f"-- up\nCREATE TABLE t (a int);\n{mark}\nDROP TABLE t;\n"
    (found,) = SqlMigrations(lay(tmp_path, {"1.sql": text})).read()
    assert "CREATE" in found.sql
    assert "DROP" not in found.sql


@pytest.mark.parametrize("name", ["x/migration.sql", "x/up.sql"])
def test_what_a_tool_runs_whole_is_read_whole(tmp_path: Path, name: str) -> None:
    """Prisma and Diesel know no such marks: what stands behind one is applied."""
    (found,) = SqlMigrations(
        lay(tmp_path, {name: "CREATE TABLE t (a int);\n-- Down Migration\nDROP TABLE u;\n"})
    ).read()
    assert "DROP" in found.sql


def test_a_folder_before_its_first_migration_is_empty(tmp_path: Path) -> None:
    """That is an answer, no error."""
    assert SqlMigrations(tmp_path).read() == ()


BAD: tuple[tuple[str, dict[str, str | bytes], str, str, str], ...] = (
    ("utf-16", {"1.sql": "SELECT 1".encode("utf-16")}, "1.sql", "UTF-16", "iconv"),
    ("latin-1", {"1.sql": b"SELECT 1;\nSELECT '\xe4'"}, "1.sql:2", "not UTF-8", "UTF-8"),
    ("a folder for a file", {"x/migration.sql/y": "a", "z/migration.sql": "b"}, "x/migration.sql", "cannot read", ""),
    ("alembic", {"versions/1_a.py": "revision = '1'"}, "", "Alembic", "alembic upgrade"),
    ("django", {"0001_initial.py": "class Migration(migrations.Migration): pass"}, "", "Django", "sqlmigrate"),
    ("one level up", {"migrations/0001_a/migration.sql": "a"}, "", "deeper", "migrations"),
)


@pytest.mark.parametrize(("files", "where", "what", "hint"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_cannot_be_used_is_named(
    tmp_path: Path, files: dict[str, str | bytes], where: str, what: str, hint: str
) -> None:
    """Which file, why, and what to do."""
    with pytest.raises(UsageError, match=what) as found:
        SqlMigrations(lay(tmp_path, files)).read()
    assert where in str(found.value.where)
    assert hint in str(found.value.hint)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    """Named as it was typed."""
    with pytest.raises(UsageError, match="no such file or folder"):
        SqlMigrations(tmp_path / "nothing").read()
