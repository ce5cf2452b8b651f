"""A table under random writes, a model of its rows, and what a rescue has to make of them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

    import psycopg

Rows = dict[int, list[str | None]]
COLUMNS = ("a", "b", "c")
KEYS = 120


class Writer:
    """Random writes to the table, and the same ones to a model of it."""

    def __init__(self, connection: psycopg.Connection[Any], rows: Rows, random_: random.Random, mark: str) -> None:
        self._connection = connection
        self._rows = rows
        self._random = random_
        self._mark = mark
        self._count = 0

    def write(self, many: int, *, savepoints: bool = False) -> None:
        for _ in range(many):
            if savepoints and self._random.random() < 0.2:
                self._connection.execute(f"SAVEPOINT s{self._count}")
            self._one()

    def _value(self) -> str | None:
        self._count += 1
        return None if self._random.random() < 0.1 else f"{self._mark}{self._count % 7}"

    def _one(self) -> None:
        key, kind = self._random.randrange(KEYS), self._random.random()
        if key not in self._rows:
            if kind < 0.5:
                values = [self._value() for _ in COLUMNS]
                self._connection.execute("INSERT INTO items VALUES (%s, %s, %s, %s)", (key, *values))
                self._rows[key] = values
        elif kind < 0.15:
            self._connection.execute("DELETE FROM items WHERE id = %s", (key,))
            del self._rows[key]
        else:
            place = self._random.randrange(len(COLUMNS))
            value = self._value()
            self._connection.execute(f"UPDATE items SET {COLUMNS[place]} = %s WHERE id = %s", (value, key))  # type: ignore[arg-type] # noqa: S608 ours
            self._rows[key][place] = value


def rescued(before: Rows, after: Rows, live: Rows) -> Rows:
    """Return what has to be there: the damage is gone where nobody wrote again, and everything else is as it is."""
    found = copy.deepcopy(live)
    for key in {*before, *after}:
        good, bad, now = before.get(key), after.get(key), live.get(key)
        if good is None:
            if now == bad:
                found.pop(key, None)
        elif bad is None:
            if now is None:
                found[key] = list(good)
        elif now is not None:
            found[key] = [g if g != b and n == b else n for g, b, n in zip(good, bad, now, strict=True)]
    return found
