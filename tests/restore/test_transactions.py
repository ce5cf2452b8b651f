"""The list of transactions, and the end of the archive as a target; against a ledger of what was committed."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kept import template
from recovery_lab import SEGMENT, Lab, PlainBackups, opened
from values import replace

from backout.analysis.recovery.recovery import Archive, find_stretches, find_transaction
from backout.model.database.wal import parse_lsn
from backout.providers.postgres.restore.wal_search import WalSearch
from backout.runbook.recovery.restore import plan_side
from backout.runbook.recovery.transactions import Wanted, list_transactions

from polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backout.model.database.recovery import BaseBackup
    from backout.model.database.wal import WalSegment


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("listed"), template()) as made:
        with made.connect() as connection:
            connection.execute(
                "CREATE TABLE orders (id int PRIMARY KEY, note text); CREATE TABLE carts (id int PRIMARY KEY);"
                "INSERT INTO orders SELECT g, repeat(md5(g::text), 200) FROM generate_series(1, 50) g;"
                "INSERT INTO carts SELECT generate_series(1, 30); CREATE TABLE emptied AS SELECT 1 AS id"
            )
            connection.execute("CREATE DATABASE shop TEMPLATE postgres")
        made.base("base")
        yield made


def committed(connection: psycopg.Connection[Any], *statements: str, back: bool = False) -> int:
    """Run them in one transaction and return its id as records bear it."""
    with connection.transaction(force_rollback=back):
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        for statement in statements:
            connection.execute(statement.encode())
    assert row is not None
    return int(row[0])


def test_each_transaction_is_listed_with_what_it_wrote(lab: Lab) -> None:
    """A DELETE that left nothing, a savepoint, one that went back, COPY, TRUNCATE, a prepared one, another database."""
    began = time.time()
    ledger: dict[int, dict[str, tuple[int, int, int, bool]]] = {}
    with lab.connect() as connection:
        ledger[committed(connection, "DELETE FROM orders WHERE id <= 7")] = {"public.orders": (0, 0, 7, False)}
        xid = committed(
            connection,
            "SAVEPOINT a; UPDATE orders SET note = 'x' WHERE id BETWEEN 10 AND 14; SAVEPOINT b",
            "INSERT INTO carts VALUES (100); ROLLBACK TO b; DELETE FROM carts WHERE id = 1",
            "INSERT INTO carts VALUES (101)",
        )
        ledger[xid] = {"public.orders": (0, 5, 0, False), "public.carts": (1, 0, 1, False)}
        gone = committed(connection, "DELETE FROM orders", back=True)
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            with connection.cursor().copy("COPY carts FROM STDIN") as copy:
                copy.write("".join(f"{number}\n" for number in range(200, 260)))
        assert row is not None
        ledger[int(row[0])] = {"public.carts": (60, 0, 0, False)}
        xid = committed(connection, "INSERT INTO orders VALUES (500, 'p'); PREPARE TRANSACTION 'p'")
        connection.execute("COMMIT PREPARED 'p'")
        ledger[xid] = {"public.orders": (1, 0, 0, False)}
        ledger[committed(connection, "TRUNCATE emptied")] = {"public.emptied": (0, 0, 0, True)}
    with psycopg.connect(lab.dsn, autocommit=True, dbname="shop") as connection:
        other = committed(connection, "DELETE FROM orders")
    lab.archived()
    heard: list[tuple[int, int]] = []
    found = list_transactions(
        lab.tools(), Wanted(began, time.time() + 1), lambda done, whole: heard.append((done, whole))
    )
    by_id = {each.commit.xid: each for each in found.transactions}
    told = {
        xid: {
            one.table: (one.rows.inserted, one.rows.updated, one.rows.deleted, one.rows.made_anew)
            for one in by_id[xid].wrote
        }
        for xid in ledger
    }
    assert told == ledger
    assert [each.commit.xid for each in found.transactions if each.commit.xid in ledger] == list(ledger)[::-1]
    assert gone not in by_id
    assert by_id[other].database == "shop"
    assert "of shop" in by_id[other].wrote[0].table
    assert heard
    assert heard[-1][0] == heard[-1][1]
    of_carts = list_transactions(lab.tools(), Wanted(began, time.time() + 1, "carts", 2), lambda _done, _whole: None)
    wanted = [xid for xid in ledger if "public.carts" in ledger[xid]][::-1]
    assert [each.commit.xid for each in of_carts.transactions] == wanted[:2]
    assert of_carts.more == len(wanted) - 2


@pytest.mark.long
def test_latest_reaches_the_last_commit_of_the_archive(lab: Lab) -> None:
    """Nothing is written behind it: the record itself is replayed."""
    with lab.connect() as connection:
        connection.execute("CREATE TABLE acknowledged (id int PRIMARY KEY)")
        for number in range(20):
            last = committed(connection, f"INSERT INTO acknowledged VALUES ({number})")
    tools = lab.tools()

    def received() -> bool:
        found = list_transactions(tools, Wanted(0, time.time() + 1, "acknowledged"), lambda _done, _whole: None)
        return any(each.commit.xid == last for each in found.transactions)

    until(received, what="the last commit is received", timeout_s=60)
    plan = plan_side(tools, "latest")
    lab.run(plan, tools)
    name = str(plan.step("db_side_open").args["name"])
    side = tools.sides.find(name)
    assert side is not None
    try:
        with psycopg.connect(side.dsn) as connection:
            assert connection.execute("SELECT array_agg(id ORDER BY id) FROM acknowledged").fetchone() == (
                list(range(20)),
            )
    finally:
        tools.sides.drop(name)


@dataclass
class CutOff(PlainBackups):
    """An archive whose server was lost when it had written this far."""

    end: int = 0

    def wal(self) -> tuple[WalSegment, ...]:
        received = [each for each in super().wal() if each.begin_lsn < self.end]
        last, rest = received[-1], received[:-1]
        content = self._cut(last.name)
        end = last.begin_lsn + -(-len(content.rstrip(b"\0")) // 8) * 8  # as `received_bytes` has it
        return (*rest, replace(last, end_lsn=end, partial=True))

    def fetch_wal(self, names: Sequence[str], into: Path, laid: Callable[[str], None] = lambda _name: None) -> None:
        last = super().wal()
        for name in names:
            super().fetch_wal([name], into)
            if any(each.name == name and each.begin_lsn < self.end <= each.begin_lsn + SEGMENT for each in last):
                (into / name).write_bytes(self._cut(name))
            laid(name)

    def _cut(self, name: str) -> bytes:
        return self.content(name)[: self.end % SEGMENT].ljust(SEGMENT, b"\0")


@pytest.mark.parametrize(
    "statements",
    [
        ("SAVEPOINT a", "INSERT INTO zeros VALUES (1)", "SAVEPOINT b", "INSERT INTO zeros VALUES (2)"),
        ("CREATE TABLE made (id int)",),
    ],
    ids=["savepoints", "definitions"],
)
def test_a_last_commit_whose_record_ends_with_zeros_is_reached(
    lab: Lab, tmp_path: Path, statements: tuple[str, ...]
) -> None:
    """What was received is told by its last byte that is no zero: the record is whole all the same."""
    with lab.connect() as connection:
        connection.execute("CREATE TABLE zeros (id int)")
        last = committed(connection, *statements)
        (flushed,) = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone() or ("0/0",)
        connection.execute("DROP TABLE zeros; DROP TABLE IF EXISTS made")
    lab.archived()
    (whole,) = find_stretches(Archive(lab.backups.backups(), lab.backups.wal(), {}), 1)
    wanted = find_transaction(lab.tools().wal.commits(whole), last)
    assert wanted is not None
    lost = CutOff(lab.backups.root, parse_lsn(flushed))
    (spans,) = find_stretches(Archive(lost.backups(), lost.wal(), {}), 1)
    assert spans[-1].end_lsn < lost.end  # it ends with zeros indeed
    search = WalSearch(lab.binaries, lost, tmp_path)
    assert search.last(spans) == wanted.lsn
    assert find_transaction(search.commits(spans), last) == wanted


@dataclass
class Late(PlainBackups):
    """An archive whose WAL begins at a position."""

    begin: int = 0

    def backups(self) -> tuple[BaseBackup, ...]:
        return tuple(each for each in super().backups() if each.begin_lsn >= self.begin)

    def wal(self) -> tuple[WalSegment, ...]:
        return tuple(each for each in super().wal() if each.end_lsn > self.begin)


@pytest.mark.long
def test_what_was_written_before_the_newest_backup_is_listed_too(lab: Lab, tmp_path: Path) -> None:
    """BEGIN; DELETE; the nightly backup; COMMIT: its rows lie in the WAL before the backup."""
    with lab.connect() as connection:
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("DELETE FROM orders WHERE id IN (20, 21, 22)")
            nightly = lab.base("nightly")
            lab.rows("INSERT INTO carts VALUES (7000) RETURNING 1")
        assert row is not None
    lab.archived()
    found = list_transactions(lab.tools(), Wanted(nightly.ended_at, time.time() + 1), lambda _done, _whole: None)
    (slow,) = [each for each in found.transactions if each.commit.xid == int(row[0])]
    assert [(each.table, each.rows.deleted) for each in slow.wrote] == [("public.orders", 3)]
    assert not found.is_cut
    late = Late(lab.backups.root, nightly.begin_lsn)  # without the WAL before it rows are missing
    tools = lab.tools(backups=late, wal=WalSearch(lab.binaries, late, tmp_path))
    assert list_transactions(tools, Wanted(nightly.ended_at, time.time() + 1), lambda _done, _whole: None).is_cut
