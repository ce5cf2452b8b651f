"""Per-second counts and detector checkpoints; the rule: beside the journal, replaced and pruned, never history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from backout.journal.chain import canonical
from backout.model.signals import Counts

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from backout.journal.store import Transaction
    from backout.model.plan import Json


def keep(transaction: Transaction, environment: str, counts: Sequence[Counts]) -> None:
    """Store counts; a row for the same version and second replaces the earlier one."""
    transaction.connection.executemany(
        "INSERT OR REPLACE INTO counts (environment, second, version, requests, errors, canceled, latency)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (environment, row.second, row.version, row.requests, row.errors, row.canceled, _histogram(row))
            for row in counts
        ],
    )


def _histogram(row: Counts) -> str:
    return json.dumps({str(bucket): number for bucket, number in row.latency.items()}, separators=(",", ":"))


def kept(connection: sqlite3.Connection, environment: str, since: int, until: int) -> tuple[Counts, ...]:
    """Return the counts of the seconds in [since, until), by second and version."""
    rows = connection.execute(
        "SELECT version, second, requests, errors, canceled, latency FROM counts"
        " WHERE environment = ? AND second >= ? AND second < ? ORDER BY second, version",
        (environment, since, until),
    )
    return tuple(
        Counts(version, second, requests, errors, canceled, {int(b): n for b, n in json.loads(latency).items()})
        for version, second, requests, errors, canceled, latency in rows
    )


def save_checkpoint(transaction: Transaction, run: str, name: str, data: Json) -> None:
    """Store the newest state of a detector. Raises TypeError when it is not JSON."""
    transaction.connection.execute(
        "INSERT OR REPLACE INTO checkpoint (run, name, at, data) VALUES (?, ?, ?, ?)",
        (run, name, transaction.now, canonical(data, name)),
    )


def prune(transaction: Transaction, older_than: float) -> int:
    """Delete counts and checkpoints from before that time (Unix seconds); return how many rows went."""
    counts = transaction.connection.execute("DELETE FROM counts WHERE second < ?", (older_than,)).rowcount
    return counts + transaction.connection.execute("DELETE FROM checkpoint WHERE at < ?", (older_than,)).rowcount
