"""Per-second counts and detector checkpoints; the rule: beside the journal, replaced and pruned, never history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import msgspec

from backout.journal.chain import canonical
from backout.journal.rows import Number, columns, reading
from backout.model.signals import BUCKETS, Counts, RouteCounts

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from backout.journal.store import Mask, Transaction
    from backout.model.plan import Json


_Row = tuple[str, Number, Number, Number, Number, str, str]
_HISTOGRAM = msgspec.json.Decoder(dict[Annotated[int, msgspec.Meta(ge=0, lt=BUCKETS)], Number])
_ROUTES = msgspec.json.Decoder(dict[str, list[Number]])
"""Decoders of their own: a guard that is resumed reads a month of seconds. What they raise is caught around it all."""


def keep(transaction: Transaction, environment: str, counts: Sequence[Counts]) -> None:
    """Store counts; a row for the same version and second replaces the earlier one."""
    transaction.connection.executemany(
        "INSERT OR REPLACE INTO counts (environment, second, version, requests, errors, canceled, latency, routes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                environment,
                row.second,
                row.version,
                row.requests,
                row.errors,
                row.canceled,
                _histogram(row.latency),
                _routes(row.routes, transaction.mask),
            )
            for row in counts
        ],
    )


def _histogram(latency: Mapping[int, int]) -> str:
    return json.dumps({str(bucket): number for bucket, number in latency.items()}, separators=(",", ":"))


def _routes(routes: Mapping[str, RouteCounts], mask: Mask) -> str:
    """Return {name: [requests, errors, bucket, count, bucket, count, ...]}: short, for a month of seconds is kept."""
    names = {name: str(mask(name)) for name in routes}
    flat = {
        names[name]: [route.requests, route.errors, *(number for pair in route.latency.items() for number in pair)]
        for name, route in routes.items()
    }
    return json.dumps(flat, separators=(",", ":"))


def _as_routes(text: str) -> dict[str, RouteCounts]:
    if text == "{}":
        return {}
    return {
        name: RouteCounts(requests, errors, dict(zip(flat[::2], flat[1::2], strict=True)))
        for name, (requests, errors, *flat) in _ROUTES.decode(text).items()
    }


def _as_histogram(text: str) -> dict[int, int]:
    return _HISTOGRAM.decode(text)


def kept(connection: sqlite3.Connection, environment: str, since: int, until: int) -> tuple[Counts, ...]:
    """Return the counts of the seconds in [since, until), by second and version."""
    rows = connection.execute(
        "SELECT version, second, requests, errors, canceled, latency, routes FROM counts"
        " WHERE environment = ? AND second >= ? AND second < ? ORDER BY second, version",
        (environment, since, until),
    )
    found = columns(rows.fetchall(), list[_Row], "a row of counts")
    with reading("a row of counts"):
        return tuple(
            Counts(version, second, requests, errors, canceled, _as_histogram(latency), _as_routes(routes))
            for version, second, requests, errors, canceled, latency, routes in found
        )


def save_checkpoint(transaction: Transaction, run: str, name: str, data: Json) -> None:
    """Store the newest state of a detector. Raises TypeError when it is not JSON."""
    transaction.connection.execute(
        "INSERT OR REPLACE INTO checkpoint (run, name, at, data) VALUES (?, ?, ?, ?)",
        (run, name, transaction.now, canonical(transaction.mask(data), name)),
    )


def prune(transaction: Transaction, older_than: float) -> int:
    """Delete counts and checkpoints from before that time (Unix seconds); return how many rows went."""
    counts = transaction.connection.execute("DELETE FROM counts WHERE second < ?", (older_than,)).rowcount
    return counts + transaction.connection.execute("DELETE FROM checkpoint WHERE at < ?", (older_than,)).rowcount
