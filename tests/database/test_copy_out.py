"""Reading what COPY sends: the rows, the server's errors, and a session that stays of use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template

from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.copy_out import read_copy
from backout.providers.postgres.server.launcher import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = "COPY (SELECT n, repeat('x', 200) FROM generate_series(1, 50000) AS n) TO STDOUT"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = PostgresServer(tmp_path_factory.mktemp("copied") / "data", find_binaries(), settings={"fsync": "off"})
    server.create(cache_directory=template())
    yield server.start().socket_dsn
    server.stop(mode="immediate")


@pytest.fixture
def session(address: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(address) as connection:
        yield connection


def test_each_row_is_read_once(session: psycopg.Connection[tuple[object, ...]]) -> None:
    """More than fits into a buffer; the transaction is open afterwards, as after any statement."""
    rows = [row.split(b"\t") for row in read_copy(session, MANY)]
    assert [int(row[0]) for row in rows] == [*range(1, 50_001)]
    assert {row[1] for row in rows} == {b"x" * 200 + b"\n"}
    assert session.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    assert session.execute("SELECT 1").fetchone() == (1,)


def test_values_belong_to_the_query(session: psycopg.Connection[tuple[object, ...]]) -> None:
    query = "COPY (SELECT n FROM generate_series(1, 9) AS n WHERE n = ANY(%s) OR n::text = %s) TO STDOUT"
    assert [*read_copy(session, query, ([3, 4], "9"))] == [b"3\n", b"4\n", b"9\n"]


def test_an_error_is_the_servers(session: psycopg.Connection[tuple[object, ...]]) -> None:
    """Before the first row, and behind some."""
    with pytest.raises(psycopg.errors.UndefinedTable):
        [*read_copy(session, "COPY nothing_here TO STDOUT")]
    session.rollback()
    with pytest.raises(psycopg.errors.DivisionByZero):
        [*read_copy(session, "COPY (SELECT 1 / (40000 - n) FROM generate_series(1, 50000) AS n) TO STDOUT")]
    session.rollback()
    assert session.execute("SELECT 1").fetchone() == (1,)


def test_a_session_whose_rows_are_not_all_read_is_of_use(session: psycopg.Connection[tuple[object, ...]]) -> None:
    """What was not read is given up; the transaction is over with it."""
    rows = read_copy(session, MANY)
    assert next(rows).startswith(b"1\t")
    rows.close()  # type: ignore[attr-defined]
    session.rollback()
    assert session.execute("SELECT 1").fetchone() == (1,)
