"""The scope of a damage: from its first record in the WAL on, in its own database; against a ledger kept outside."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.errors import Refused
from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.providers.clock import SystemClock
from backout.runbook.recovery.restore import plan_rescue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Ledger = dict[int, str]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("scope"), template()) as made:
        made.base("aa-first")
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


def xid_of(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert row is not None
    return str(row[0])


def table(lab: Lab, name: str) -> Ledger:
    """Make a table, and return what is in it."""
    ledger = {number: f"good{number}" for number in range(1, 201)}
    with lab.connect() as connection:
        connection.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, v text)".encode())
        with connection.cursor().copy(f"COPY {name} FROM STDIN".encode()) as copy:
            for row in ledger.items():
                copy.write_row(row)
    return ledger


def found(lab: Lab, name: str, dbname: str = "postgres") -> Ledger:
    with psycopg.connect(lab.dsn, autocommit=True, dbname=dbname) as connection:
        return dict(connection.execute(f"SELECT id, v FROM {name}".encode()).fetchall())


def rescue(lab: Lab, target: str) -> None:
    tools = lab.tools()
    lab.run(plan_rescue(tools, target, conflicts="live", skip=(), queues=False), tools)


def test_a_transaction_that_was_open_across_the_backup_is_taken_back_whole(lab: Lab) -> None:
    """Rows that it wrote before the newest base and after it, of two tables, in a savepoint; others' stay."""
    one, other = table(lab, "early"), table(lab, "late")
    with lab.connect() as bad, lab.connect() as good:
        with bad.transaction():
            xid = xid_of(bad)
            bad.execute("DELETE FROM early WHERE id <= 100")
            bad.execute("SAVEPOINT s")
            bad.execute("UPDATE early SET v = 'bad' WHERE id > 190")
            good.execute("UPDATE early SET v = 'newer' WHERE id = 150")
            one[150] = "newer"
            lab.base("ab-within")
            bad.execute("UPDATE late SET v = 'bad' WHERE id % 2 = 0")
        good.execute("UPDATE late SET v = 'newer' WHERE id = 1")
        other[1] = "newer"
    lab.archived()
    rescue(lab, xid)
    assert (found(lab, "early"), found(lab, "late")) == (one, other)


@pytest.mark.long
def test_a_prepared_transaction_from_before_the_backup_is_taken_back_whole(lab: Lab) -> None:
    """Its rows lie before two base backups, its COMMIT PREPARED after them."""
    ledger = table(lab, "prepared")
    with lab.connect() as connection:
        connection.execute("BEGIN")
        xid = xid_of(connection)
        connection.execute("DELETE FROM prepared WHERE id < 50")
        connection.execute("PREPARE TRANSACTION 'bad'")
        lab.base("ac-one")
        lab.base("ad-two")
        connection.execute("COMMIT PREPARED 'bad'")
    lab.archived()
    rescue(lab, xid)
    assert found(lab, "prepared") == ledger


def test_one_that_began_before_all_wal_is_refused_and_nothing_is_touched(lab: Lab) -> None:
    """What would reach is said; the damage stays whole, not half repaired."""
    ledger = table(lab, "cut_off")
    with lab.connect() as bad, bad.transaction():
        xid = xid_of(bad)
        bad.execute("DELETE FROM cut_off WHERE id <= 100")
        only = lab.base("ae-only")
        bad.execute("UPDATE cut_off SET v = 'bad' WHERE id = 101")
    ledger = {key: value if key > 101 else "bad" for key, value in ledger.items() if key > 100}
    lab.archived()
    tools = lab.tools()
    wal = tuple(each for each in lab.backups.wal() if each.end_lsn > only.begin_lsn)

    class Cut(type(lab.backups)):  # type: ignore[misc]
        def wal(self) -> Any:
            return wal

    tools = lab.tools(backups=Cut(lab.backups.root))
    with pytest.raises(Refused, match="began before the WAL that is kept") as refused:
        plan_rescue(tools, xid, conflicts="live", skip=(), queues=False)
    assert any("would reach" in option for option in refused.value.options)
    assert found(lab, "cut_off") == ledger


@pytest.mark.long
def test_damage_in_another_database_is_refused_by_its_name(lab: Lab) -> None:
    """Its file nodes may be the same as here: whatever is in this database stays as it is."""
    ledger = table(lab, "here")
    with lab.connect() as connection:
        connection.execute("CREATE DATABASE shop TEMPLATE postgres")
    lab.base("af-two")
    with psycopg.connect(lab.dsn, autocommit=True, dbname="shop") as connection, connection.transaction():
        xid = xid_of(connection)
        connection.execute("DELETE FROM here")
    with lab.connect() as connection:
        connection.execute("UPDATE here SET v = 'newer' WHERE id = 3")
        ledger[3] = "newer"
    lab.archived()
    with pytest.raises(Refused, match=r"another database than postgres: shop \(object id \d+\)"):
        rescue(lab, xid)
    assert (found(lab, "here"), found(lab, "here", "shop")) == (ledger, {})
