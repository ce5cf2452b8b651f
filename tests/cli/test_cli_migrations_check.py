"""`backout db migrations check`: the record that scripts rely on, the text for people, the exit codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

if TYPE_CHECKING:
    from pathlib import Path

BASE = 'CREATE TABLE "User" (id serial PRIMARY KEY, email text UNIQUE, name text);'


def project(folder: Path, *changes: str) -> str:
    for number, sql in enumerate([BASE, *changes]):
        (folder / "migrations" / f"000{number}_step").mkdir(parents=True)
        (folder / "migrations" / f"000{number}_step" / "migration.sql").write_text(sql)
    return "migrations"


def test_the_record_has_the_promised_keys(tmp_path: Path) -> None:
    """One object on one line, migrations in folder order, statements in the order of the file."""
    path = project(tmp_path, 'ALTER TABLE "User" ADD COLUMN x int; ALTER TABLE "User" ALTER name SET NOT NULL;')
    answer = backout(tmp_path, "db", "migrations", "check", path, "--json")
    assert answer.code == 0
    assert answer.json["schema"] == "backout.migrations/1"
    migrations = answer.json["migrations"]
    assert isinstance(migrations, list)
    assert [set(m) for m in migrations] == [{"name", "verdict", "reversible", "statements"}] * 2
    assert [(m["name"], m["verdict"], m["reversible"]) for m in migrations] == [
        ("0000_step", "safe", "yes"),
        ("0001_step", "safe-if", "if"),
    ]
    assert migrations[1]["statements"] == [
        {
            "sql": 'ALTER TABLE "User" ADD COLUMN x int',
            "class": "add-column",
            "verdict": "safe",
            "reversible": "if",
            "reason": migrations[1]["statements"][0]["reason"],
            "condition_sql": None,
        },
        {
            "sql": 'ALTER TABLE "User" ALTER name SET NOT NULL',
            "class": "set-not-null",
            "verdict": "safe-if",
            "reversible": "yes",
            "reason": "an insert or update of old code that leaves name null fails",
            "condition_sql": 'SELECT 1 FROM "User" WHERE name IS NULL LIMIT 1',
        },
    ]


def test_the_text_explains_the_worst_first(tmp_path: Path) -> None:
    """A line for each migration, then what is not safe, with the statement and the query that answers."""
    path = project(
        tmp_path,
        'ALTER TABLE "User" ADD COLUMN x int',
        'CREATE UNIQUE INDEX i ON "User" (name); ALTER TABLE "User" DROP COLUMN email',
        'ALTER TABLE "User" ALTER name SET NOT NULL',
    )
    answer = backout(tmp_path, "db", "migrations", "check", path)
    assert answer.code == 0
    lines = [line.strip() for line in answer.out.splitlines()]
    assert lines[0] == "4 migrations, each for the code that ran before it: 1 breaking, 1 safe-if, 2 safe."
    assert lines.index("0002_step: cannot be taken back without losing data") < lines.index(
        "0003_step: can be taken back"
    )
    assert any("DROP COLUMN email" in line for line in lines)
    assert any(line.startswith("safe for the data there if no row: SELECT 1") for line in lines)
    assert max(map(len, answer.out.splitlines())) <= 120


def test_what_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    """Exit 1, named on stderr, and never called safe."""
    path = project(tmp_path, "SELEKT 1;", "\\i other.sql")
    answer = backout(tmp_path, "db", "migrations", "check", path, "--json")
    assert answer.code == 1
    assert "0001_step: it cannot be read: syntax error" in answer.err
    assert "0002_step: psql runs something here" in answer.err
    migrations = answer.json["migrations"]
    assert isinstance(migrations, list)
    assert [m["verdict"] for m in migrations] == ["safe", "safe-if", "safe-if"]


@pytest.mark.parametrize("name", ["nothing", "nothing/here.sql"])
def test_a_missing_path_is_a_usage_error(tmp_path: Path, name: str) -> None:
    """Exit 2, and the path in the message."""
    answer = backout(tmp_path, "db", "migrations", "check", name, "--json")
    assert answer.code == 2
    assert answer.json["error"] == "UsageError"
    assert name in str(answer.json["where"])


def test_an_application_that_checks_the_head(tmp_path: Path) -> None:
    """Every migration is breaking, with a statement of its own that says why."""
    answer = backout(
        tmp_path, "db", "migrations", "check", project(tmp_path, "SELECT 1"), "--app-checks-head", "--json"
    )
    migrations = answer.json["migrations"]
    assert isinstance(migrations, list)
    assert [m["verdict"] for m in migrations] == ["breaking", "breaking"]
    assert migrations[1]["statements"][0]["class"] == "unknown-head"


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    """An empty list, exit 0, and a word on stderr."""
    (tmp_path / "migrations").mkdir()
    answer = backout(tmp_path, "db", "migrations", "check", "migrations", "--json")
    assert (answer.code, answer.json["migrations"]) == (0, [])
    assert "no migrations in migrations" in answer.err
