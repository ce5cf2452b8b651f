"""An archive with a hole: what is after it and a newer base backup is found and restored; what lies in it is not."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest
from backup_lab import Lab, running_lab
from kept import template

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli_shell import Answer

SETTINGS = {"max_slot_wal_keep_size": "64MB", "max_wal_size": "48MB", "min_wal_size": "32MB"}
PRISMA = (
    "CREATE TABLE _prisma_migrations (id text PRIMARY KEY, migration_name text, started_at timestamptz DEFAULT now(), "
    "finished_at timestamptz, rolled_back_at timestamptz, applied_steps_count int DEFAULT 0)"
)


@dataclass
class Holed:
    """A server with a backup from before WAL was received, one from after, and a migration since."""

    lab: Lab
    within: str = ""
    """A time in the hole."""
    first_hint: str = ""

    def migrate(self, name: str, script: str) -> None:
        """Apply a migration as Prisma does: the row, the script, the row again."""
        with psycopg.connect(self.lab.dsn, autocommit=True) as connection:
            connection.execute("INSERT INTO _prisma_migrations (id, migration_name) VALUES (%s, %s)", (name, name))
            connection.execute(script.encode())
            connection.execute("UPDATE _prisma_migrations SET finished_at = now() WHERE id = %s", (name,))

    def archived(self) -> None:
        """Return when all of the WAL until now is received."""
        lsn = str(self.lab.value("SELECT pg_logical_emit_message(true, 'lab', 'x')::text"))
        self.lab.execute("SELECT pg_logical_emit_message(true, 'lab', 'y')", "SELECT pg_switch_wal()")
        until(lambda: self.restore(lsn, "--side", "--dry-run").code == 0, what="the WAL is archived", timeout_s=60)

    def restore(self, *arguments: str) -> Answer:
        return self.lab.backout("db", "restore", *arguments, "-e", "lab")


@pytest.fixture(scope="module")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holed]:
    root = tmp_path_factory.mktemp("holed")
    with running_lab(root, template(), SETTINGS) as lab:
        found = Holed(lab)
        lab.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)", PRISMA)
        found.migrate("init", "INSERT INTO orders SELECT g, 'n' || g FROM generate_series(1, 100) g")
        first = lab.backout("db", "backup")
        assert first.code == 0, first.err
        lab.execute("SELECT pg_switch_wal()", "INSERT INTO orders VALUES (900, 'lost')", "SELECT pg_switch_wal()")
        found.within = str(lab.value("SELECT to_char(now() AT TIME ZONE 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"))
        lab.execute("INSERT INTO orders VALUES (901, 'lost')", "SELECT pg_switch_wal()")
        lab.execute("CHECKPOINT", "SELECT pg_switch_wal()", "CHECKPOINT")  # the server keeps no WAL for nobody
        lab.configure('wal = "stream"', {"PATH": os.environ["PATH"]})
        found.first_hint = lab.backout("db", "backups", "list").err
        for typed in (("db", "wal", "start"), ("db", "backup", "--full")):
            answer = lab.backout(*typed)
            assert answer.code == 0, answer.err
        try:
            found.migrate("split", "ALTER TABLE orders DROP COLUMN note")
            found.archived()
            yield found
        finally:
            lab.backout("db", "wal", "stop")


def test_a_migration_behind_a_hole_is_found_by_its_name(holed: Holed) -> None:
    """Backup, WAL switched on, backup, migrate: the second backup leads to the moment before the migration."""
    answer = holed.restore("before migration split", "--side", "--dry-run")
    assert answer.code == 0, answer.err
    assert "began the migration" in answer.out


def test_a_transaction_behind_a_hole_is_found_by_its_id(holed: Holed) -> None:
    """As it stands in the rows of the live database."""
    xid = str(holed.lab.value("SELECT xmin::text FROM _prisma_migrations WHERE id = 'split'"))
    answer = holed.restore(xid, "--side", "--dry-run")
    assert answer.code == 0, answer.err
    assert f"the COMMIT record of transaction {xid}" in answer.out


def test_the_transaction_of_a_migration_is_listed(holed: Holed) -> None:
    """By the command itself, with the number of holes before it."""
    xid = int(str(holed.lab.value("SELECT xmin::text FROM _prisma_migrations WHERE id = 'split'")))
    answer = holed.lab.backout("db", "transactions", "-e", "lab", "--json")
    assert answer.code == 0, answer.err
    found = answer.json["transactions"]
    assert isinstance(found, list)
    assert next(each["tables"] for each in found if each["xid"] == xid) == [
        {"table": "public._prisma_migrations", "inserted": 0, "updated": 1, "deleted": 0, "made_anew": False}
    ]
    assert answer.json["holes"] == 1


@pytest.mark.long
def test_several_transactions_are_foreseen_together(holed: Holed) -> None:
    """As ids side by side; a time that reaches into the hole is refused."""
    listed = holed.lab.backout("db", "transactions", "-e", "lab", "--json").json["transactions"]
    assert isinstance(listed, list)
    ids = [str(each["xid"]) for each in listed if each["tables"] or each["changes_schema"]][:3]
    answer = holed.restore(*ids, "--dry-run", "--json")
    assert answer.code == 0, answer.err
    plan = answer.json["plan"]
    assert isinstance(plan, dict)
    assert "3 transactions damaged" in str(plan["why"])
    refused = holed.restore("--since", holed.within, "--dry-run")
    assert refused.code == 3
    assert "what else was committed then is not known" in refused.err


def test_a_dropped_column_behind_a_hole_is_found(holed: Holed) -> None:
    """The catalog names the transaction, the WAL behind the hole has it."""
    answer = holed.restore("before drop of orders.note", "--side", "--dry-run")
    assert answer.code == 0, answer.err


def test_a_time_within_the_hole_is_refused_as_such(holed: Holed) -> None:
    """What was committed first after it nobody knows: the first commit behind the hole would be a later moment."""
    answer = holed.restore(holed.within, "--side", "--dry-run")
    assert answer.code == 3, answer.out
    assert "lies in a hole of the archive" in answer.err
    assert "backout db backups list -e lab" in answer.err


def test_a_transaction_in_the_hole_is_refused_with_the_hole(holed: Holed) -> None:
    """To type the same again would not help: where WAL is missing is said."""
    xid = str(holed.lab.value("SELECT xmin::text FROM orders WHERE id = 901"))
    answer = holed.restore(xid, "--side", "--dry-run")
    assert answer.code == 3, answer.out
    assert re.search(r"WAL is missing from 0/[0-9A-F]+ to 0/[0-9A-F]+\)", answer.err), answer.err


@pytest.mark.long
def test_a_migration_before_the_hole_is_named_as_out_of_reach(holed: Holed) -> None:
    """It was applied before the first backup: nothing that is kept has its commit."""
    answer = holed.restore("before migration init", "--side", "--dry-run")
    assert answer.code == 3, answer.out
    assert "no commit of transaction" in answer.err


def test_wal_is_begun_before_the_backup_that_is_to_lead_on(holed: Holed) -> None:
    """The order that is told makes no hole; a backup that was there before leads to its own moment alone."""
    typed = [line.removeprefix("next:").strip() for line in holed.first_hint.splitlines() if "backout db" in line]
    assert typed == ["backout db wal start -e lab", "backout db backup -e lab"]


@pytest.mark.long
def test_the_side_instance_behind_the_hole_shows_the_column(holed: Holed) -> None:
    """Restored, and looked at: the moment before the migration is there."""
    answer = holed.restore("before migration split", "--side", "--json")
    assert answer.code == 0, answer.err
    made = answer.json["side"]
    assert isinstance(made, dict)
    try:
        with psycopg.connect(made["dsn"]) as side:
            row = side.execute("SELECT note FROM orders WHERE id = 1").fetchone()
        assert row == ("n1",)
    finally:
        dropped = holed.restore("--drop-side", str(made["name"]))
        assert dropped.code == 0, dropped.err
