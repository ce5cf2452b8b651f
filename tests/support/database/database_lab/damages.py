"""What goes wrong: each in one transaction, as the owner; and the ways back that are tried for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Damage:
    """One transaction that should never have been.

    Args:
        statements: what it ran.
        prepared: whether it was committed by COMMIT PREPARED.
    """

    name: str
    statements: tuple[str, ...]
    prepared: bool = False


DAMAGES: Final = (
    Damage("update without where", ("UPDATE shop.orders SET status = 'lost', price = 0",)),
    Damage("delete and its cascade", ("DELETE FROM shop.customers WHERE id % 2 = 0",)),
    Damage("insert garbage", ("INSERT INTO shop.floats (id, a) SELECT g, 0 FROM generate_series(900, 950) g",)),
    Damage("truncate many", ("TRUNCATE shop.floats, shop.dates, shop.documents, shop.odd_types",)),
    Damage("truncate, restart, cascade", ("TRUNCATE shop.identity, shop.customers RESTART IDENTITY CASCADE",)),
    Damage("drop a column", ("ALTER TABLE shop.dates DROP COLUMN b",)),
    Damage("drop columns of many", tuple(f"ALTER TABLE shop.plain_{n:02} DROP COLUMN c" for n in range(3, 12))),
    Damage(
        "retype a column", ("ALTER TABLE shop.floats ALTER COLUMN b TYPE float8", "UPDATE shop.floats SET b = b * 2")
    ),
    Damage(
        "retype a column and back",
        ("ALTER TABLE shop.dates ALTER COLUMN b TYPE date", "ALTER TABLE shop.dates ALTER COLUMN b TYPE timestamptz"),
    ),
    Damage("rename a column", ("ALTER TABLE shop.versioned RENAME COLUMN v TO w", "UPDATE shop.versioned SET w = 'x'")),
    Damage("drop a table", ("DROP TABLE shop.documents",)),
    Damage("drop with dependents", ("DROP TABLE shop.orders CASCADE",)),
    Damage("drop a schema", ('DROP SCHEMA "Größe X" CASCADE',)),
    Damage("shift keys", ("UPDATE shop.odd_types SET id = id + 1000",)),
    Damage("move between partitions", ("UPDATE shop.days SET id = id + 100, v = 'moved' WHERE id < 6",)),
    Damage("drop a partition", ("DROP TABLE shop.days_high",)),
    Damage(
        "rows of circles and trees",
        (
            "SET CONSTRAINTS ALL DEFERRED",
            "DELETE FROM shop.circle_a WHERE id < 6",
            "DELETE FROM shop.circle_b WHERE id < 6",
            "UPDATE shop.tree SET up = NULL",
            "DELETE FROM shop.tree WHERE id > 10",
        ),
    ),
    Damage("large objects", ("SELECT lo_unlink(4242)", "SELECT lo_put(4343, 0, 'spoilt')")),
    Damage("break the links of a circle", ("UPDATE shop.circle_a SET b = 11 - b", "UPDATE shop.circle_b SET a = NULL")),
    Damage("exchange unique values", ("UPDATE shop.deferred SET rank = 230 - rank",)),
    Damage(
        "without a key, unlogged",
        ("UPDATE shop.unkeyed SET a = 'x'", "DELETE FROM shop.cache", "DELETE FROM shop.outbox"),
    ),
    Damage(
        "behind row security",
        (
            "ALTER TABLE shop.forced NO FORCE ROW LEVEL SECURITY",
            "UPDATE shop.forced SET v = 'x'",
            "ALTER TABLE shop.forced FORCE ROW LEVEL SECURITY",
            "DELETE FROM shop.policed",
        ),
    ),
    Damage(
        "a bad deployment",
        (
            'UPDATE shop."Odd Name" SET "Sp ace" = NULL',
            "SAVEPOINT a",
            "DELETE FROM billing.invoices WHERE id > 4",
            "SAVEPOINT b",
            "ALTER TABLE shop.generated DROP COLUMN b CASCADE",
            "RELEASE b",
            "SAVEPOINT c",
            "DELETE FROM shop.people",
            "ROLLBACK TO c",
            "UPDATE shop.people SET name = 'X'",
            "DELETE FROM shop.big WHERE id = 1",
        ),
    ),
    Damage("prepared", ("UPDATE shop.parent SET v = 'x'", "DELETE FROM shop.versioned WHERE id < 9"), prepared=True),
    Damage("detach a partition", ("ALTER TABLE shop.days DETACH PARTITION shop.days_high",)),
)
PATHS: Final = ("side", "rescue", "undo", "swap", "unswap", "dump")
