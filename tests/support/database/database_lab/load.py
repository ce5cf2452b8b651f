"""Clients that write by a seed, each its own keys, and note what was acknowledged."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any, Self

import psycopg

from database_lab.ledger import BY_NAME, Key, Ledger, Row
from database_lab.schema import TABLES, Table
from database_lab.values import value

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = 40
_WRITTEN = tuple(table for table in TABLES if table.written and table.key)


def initial(dice: random.Random) -> Iterator[tuple[Table, Key, Row]]:
    """Yield the rows that the database begins with."""
    for table in TABLES:
        for number in range(table.rows):
            yield table, _key(table, number), _row(table, number, dice)


def _key(table: Table, number: int) -> Key:
    return tuple(str(number) if place == 0 else str(number % 3) for place, _ in enumerate(table.key))


def _row(table: Table, number: int, dice: random.Random) -> Row:
    row: Row = {}
    for name, kind in table.columns.items():
        if kind == "ref":
            row[name] = str(number % 24)
        elif kind == "up":
            row[name] = None if number < 3 else str(number // 2)
        elif kind == "rank!":
            row[name] = str(number * 10)
        else:
            row[name] = value(kind, dice)
    if not table.key:
        row = {**row}
    return row


def insert(connection: psycopg.Connection[Any], table: Table, key: Key, row: Row) -> int:
    """Insert a row; return how many were."""
    names = [*table.key, *row]
    marks = ", ".join(["%s"] * len(names))
    query = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 ours
    return connection.execute(query, [*key, *row.values()]).rowcount  # type: ignore[call-overload,no-any-return]


def _only(table: Table) -> str:
    """Return it as SQL without its children: those have rows of the same keys."""
    return f"ONLY {table.name}" if table.name == "shop.parent" else table.name


class Client:
    """One writer: `part` of `parts`, so that no two write the same key."""

    def __init__(self, dsn: str, ledger: Ledger, seed: int, part: int, parts: int) -> None:
        self._dsn, self._ledger = dsn, ledger
        self._dice = random.Random(f"{seed}-{part}")  # noqa: S311 seeded, to be repeated
        self._numbers = range(part, KEYS, parts)
        self.committed = 0

    def write(self, count: int, stop: threading.Event | None = None, rest_s: float = 0.0) -> None:
        """Write so many statements, or until `stop`; one that the server refuses changed nothing, and is not noted."""
        with psycopg.connect(self._dsn, autocommit=True, prepare_threshold=None) as connection:
            connection.execute("SET lock_timeout = '3s'")
            done = 0
            while done < count and not (stop is not None and stop.is_set()):
                done += 1
                try:
                    self._one(connection)
                except psycopg.OperationalError as error:
                    if not isinstance(error, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
                        return  # the server went away: nothing was acknowledged
                except psycopg.Error:
                    continue
                if stop is not None:
                    stop.wait(rest_s)

    def _one(self, connection: psycopg.Connection[Any]) -> None:
        dice, table = self._dice, self._dice.choice(_WRITTEN)
        number = dice.choice(self._numbers)
        key, kind = _key(table, number), dice.random()
        where = " AND ".join(f"{name} = %s" for name in table.key)
        if kind < 0.25:
            row = _row(table, number, dice)
            if insert(connection, table, key, row):
                self._noted(table, key, row)
        elif kind < 0.35 and table.name not in ("shop.customers", "shop.orders"):
            if connection.execute(f"DELETE FROM {_only(table)} WHERE {where}", key).rowcount:  # type: ignore[call-overload] # noqa: S608 ours
                self.committed += 1
                self._ledger.remove(table.name, key)
        else:
            names = [name for name, what in table.columns.items() if what not in ("ref", "up")]
            name = dice.choice(names)
            new = value(table.columns[name], dice)
            query = f"UPDATE {_only(table)} SET {name} = %s WHERE {where}"  # noqa: S608 ours
            if connection.execute(query, [new, *key]).rowcount:  # type: ignore[call-overload]
                self._noted(table, key, {name: new})

    def _noted(self, table: Table, key: Key, row: Row) -> None:
        self.committed += 1
        self._ledger.put(table.name, key, row)


class Load:
    """Clients that write until they are stopped; at least one write is acknowledged before anything else happens."""

    def __init__(self, dsn: str, ledger: Ledger, seed: int, clients: int = 2) -> None:
        self._clients = [Client(dsn, ledger, seed, part, clients) for part in range(clients)]
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=each.write, args=(1_000_000, self._stop, 0.02), daemon=True)
            for each in self._clients
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Return when nobody writes any more; what is acknowledged is in the ledger."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def committed(self) -> int:
        return sum(each.committed for each in self._clients)


def write_some(dsn: str, ledger: Ledger, seed: int, count: int) -> None:
    """Write by one client."""
    Client(dsn, ledger, seed, 0, 1).write(count)


def unique_names() -> set[str]:
    """Return the names of the tables, as a check that none is there twice."""
    assert len(BY_NAME) == len(TABLES)
    return set(BY_NAME)
