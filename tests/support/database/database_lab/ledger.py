"""What clients know to be committed: the only oracle. No server is asked what is right, only what it holds."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from database_lab.schema import TABLES, Table
from database_lab.values import READ_WITH

if TYPE_CHECKING:
    from collections.abc import Mapping

Key = tuple[str, ...]
Row = dict[str, str | None]
Found = dict[str, dict[Key, Row] | str]
"""What a server holds, by table; of one that cannot be read, the error."""
LARGE = "large object"
"""What stands for a table of them: their contents by number."""
LARGE_OBJECTS = (4242, 4343)
BY_NAME = {table.name: table for table in TABLES}


@dataclass
class Ledger:
    """Committed rows by table and key; a table without a key has its rows as keys, counted by a number behind."""

    rows: dict[str, dict[Key, Row]] = field(default_factory=lambda: {table.name: {} for table in TABLES})
    touched: set[tuple[str, Key]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, table: str, key: Key, values: Mapping[str, str | None]) -> None:
        """Note a row, or some of its columns, once the server has acknowledged the commit."""
        with self.lock:
            self.rows[table].setdefault(key, {}).update(values)
            self.touched.add((table, key))

    def remove(self, table: str, key: Key) -> None:
        with self.lock:
            self.rows[table].pop(key, None)
            self.touched.add((table, key))

    def copied(self) -> Ledger:
        with self.lock:
            return Ledger(copy.deepcopy(self.rows), set())


def read(dsn: str, tables: tuple[Table, ...] = TABLES) -> Found:
    """Return the rows of a server as the ledger writes them; of a table or column that is not there, the error."""
    found: Found = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name, setting in READ_WITH.items():
            connection.execute(f"SET {name} = '{setting}'")  # type: ignore[call-overload]
        for table in tables:
            try:
                found[table.name] = _rows(connection, table)
            except psycopg.Error as error:
                found[table.name] = str(error).splitlines()[0]
        found[LARGE] = large_objects(connection)
    return found


def large_objects(connection: psycopg.Connection[Any]) -> dict[Key, Row]:
    """Return the large objects of a database, as whoever may read them all sees them."""
    query = "SELECT oid::text, md5(lo_get(oid)) FROM pg_largeobject_metadata"
    return {(number,): {"content": content} for number, content in connection.execute(query).fetchall()}


def _rows(connection: psycopg.Connection[Any], table: Table) -> dict[Key, Row]:
    names = [*table.key, *table.columns, *([table.linked] if table.linked else [])]
    only = "ONLY " if "PARTITION" not in table.after else ""
    texts = ", ".join(f"{name}::text" for name in names)
    rows: dict[Key, Row] = {}
    for values in connection.execute(f"SELECT {texts} FROM {only}{table.name}"):  # type: ignore[call-overload] # noqa: S608 ours
        row = dict(zip(names, values, strict=True))
        key = tuple(str(row.pop(name)) for name in table.key)
        if not table.key:
            count = 0
            while (key := (*map(str, values), str(count))) in rows:
                count += 1
        rows[key] = row
    return rows


def differences(
    wanted: Ledger | Mapping[str, Any], found: Found, *, but: frozenset[str] = frozenset()
) -> dict[str, list[str]]:
    """Return by table what is not as it has to be, each as a short sentence."""
    wrong: dict[str, list[str]] = {}
    rows = wanted.rows if isinstance(wanted, Ledger) else wanted
    for table, expected in rows.items():
        there = found[table]
        if table in but:
            continue
        if isinstance(there, str) or isinstance(expected, str):
            if there != expected:
                wrong[table] = [str(there)[:200]]
            continue
        said = [f"{key} is not there" for key in expected.keys() - there.keys()]
        said += [f"{key} should not be there" for key in there.keys() - expected.keys()]
        for key in expected.keys() & there.keys():
            said += [
                f"{key} {name}: {str(there[key].get(name))[:40]!r}, not {str(value)[:40]!r}"
                for name, value in expected[key].items()
                if there[key].get(name) != value
            ]
        if said:
            wrong[table] = said
    return wrong
