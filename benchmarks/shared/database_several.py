"""A bad deployment of 58 transactions compared with one transaction of its kind: each as one rescue, as whole commands.

Each transaction updates, deletes and inserts rows of three tables, and all of them write the same 30 rows of each; good
transactions write some of these rows in between.
"""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import psycopg

MANY = 58
_TABLES = ("bench_carts", "bench_items", "bench_stock")
_ROWS = 20_000
_SHARED = 30


class Database(Protocol):
    """The benchmark's access to the database."""

    def backout(self, *arguments: str) -> tuple[float, dict[str, object]]:
        """Run a command of backout; return its seconds and its JSON answer."""
        ...

    def connected(self) -> AbstractContextManager[psycopg.Connection[tuple[object, ...]]]:
        """Yield a connection."""
        ...

    def lsn(self) -> str:
        """Return the WAL position."""
        ...

    def pass_on(self, lsn: str) -> None:
        """Write beyond a position, and wait until it is archived."""
        ...


def measure(bench: Database, rounds: int, samples: dict[str, list[float]]) -> None:
    """Rescue 58 transactions, and one, in turn; every row is compared with what it has to be."""
    dice = random.Random(58)  # noqa: S311 - the same rows in each run
    with bench.connected() as connection:
        for table in _TABLES:
            connection.execute(
                f"CREATE TABLE {table} (id int PRIMARY KEY, status text NOT NULL, n int NOT NULL)".encode()
            )
            connection.execute(f"INSERT INTO {table} SELECT g, 'new', 0 FROM generate_series(1, {_ROWS}) g".encode())
            connection.execute(f"VACUUM {table}".encode())  # as of any table that has been in service
    bench.backout("db", "backup", "--full")
    for number in range(rounds + 1):  # the first one unpacks the base
        for many in (1, MANY) if number % 2 else (MANY, 1):
            with bench.connected() as connection:
                wanted = _sums(connection)
                ids = [_damage(connection, dice) for _ in range(many)]
            bench.pass_on(bench.lsn())
            words = ("restore", " ".join(ids), "--rescue", "-m", "the benchmark", "--yes")
            took, _ = bench.backout("db", *words)
            with bench.connected() as connection:
                found = _sums(connection)
            if [(count, news, n - many) for count, news, n in found] != wanted:
                sys.exit(f"database: after the rescue of {many}: {found}, not as {wanted}")
            if number:
                samples.setdefault(f"rescue_of_{many}_s", []).append(round(took, 3))


def _damage(connection: psycopg.Connection[tuple[object, ...]], dice: random.Random) -> str:
    """Commit a bad transaction, and a good one behind it that counts on in a row of each table."""
    with connection.transaction():
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        for table in _TABLES:
            keys = dice.sample(range(_SHARED + 1, _ROWS), 25)
            mark = f"bad {dice.randrange(10**9)}"
            connection.execute(
                f"UPDATE {table} SET status = %s WHERE id <= {_SHARED} OR id = ANY(%s)".encode(), (mark, keys[:20])
            )
            connection.execute(f"DELETE FROM {table} WHERE id = ANY(%s)".encode(), (keys[20:],))
            new = [_ROWS + 1 + dice.randrange(10**9) for _ in range(5)]
            connection.execute(
                f"INSERT INTO {table} SELECT unnest(%s::int[]), 'bad', 0 ON CONFLICT DO NOTHING".encode(), (new,)
            )
    for table in _TABLES:
        connection.execute(f"UPDATE {table} SET n = n + 1 WHERE id = {dice.randint(1, _SHARED)}".encode())
    return str(row[0]) if row else sys.exit("database: no transaction")


def _sums(connection: psycopg.Connection[tuple[object, ...]]) -> list[tuple[int, int, int]]:
    """Return of each table how many rows there are, how many are as they were made, and how far they counted."""
    query = "SELECT count(*), count(*) FILTER (WHERE status = 'new'), sum(n) FROM {}"
    rows = [connection.execute(query.format(table).encode()).fetchone() for table in _TABLES]
    return [tuple(int(str(each)) for each in row) for row in rows if row]  # type: ignore[misc]
