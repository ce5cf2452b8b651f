"""Per-second counts and detector checkpoints; the rule: beside the journal, replaced and pruned, never history."""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec.structs import replace

from backout.decoding import make_decoder
from backout.journal.chain import format_canonical
from backout.journal.rows import Name, Number, decode_columns, reading
from backout.model.guard.answers import AnswerClass
from backout.model.guard.bodies import FAMILY, BodyKind
from backout.model.guard.signals import BUCKETS, Counts, RouteCounts, TriggerCounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backout.journal.store import Mask, Transaction
    from backout.model.plan import Json
    from backout.ports.journal_link import Connection


_Row = tuple[str, Number, Number, Number, Number, str, str, str]
Bucket = Annotated[int, msgspec.Meta(ge=0, lt=BUCKETS)]
_HISTOGRAM = make_decoder(dict[Bucket, Number])
_ROUTES = make_decoder(dict[str, list[Number]])
"""Decoders of their own: a guard that is resumed reads a month of seconds. What they raise is caught around it all."""
_CLASSES: Final = tuple(AnswerClass)
_CLASS, _SIZE, _STARTED, _TYPED = 300, 400, 500, 600
"""Keys of a route beside its buckets of latency: from these on its classes, in their order, and sizes; what began; the
sizes of bodies whose type is known, `FAMILY` for each family."""
_MOST_TYPED = _TYPED + FAMILY * len(BodyKind)


class _Answers(msgspec.Struct, omit_defaults=True):
    """The column `answers`: classes, requests that began, {trigger: (runs, failed)}, {route: {bucket: given up}}."""

    classes: dict[AnswerClass, Number] = {}
    started: Number = 0
    triggers: dict[Name, tuple[Number, Number]] = {}
    left: dict[Name, dict[Bucket, Number]] = {}


_ANSWERS = make_decoder(_Answers)


def keep(transaction: Transaction, environment: str, counts: Sequence[Counts]) -> None:
    """Store counts; a row for the same version and second replaces the earlier one."""
    transaction.connection.executemany(
        "INSERT INTO counts (environment, second, version, requests, errors, canceled, latency, routes, answers)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (environment, second, version) DO UPDATE SET"
        " requests = excluded.requests, errors = excluded.errors, canceled = excluded.canceled,"
        " latency = excluded.latency, routes = excluded.routes, answers = excluded.answers",
        [
            (
                environment,
                row.second,
                row.version,
                row.requests,
                row.errors,
                row.canceled,
                _format_histogram(row.latency),
                _format_routes(row.routes, transaction.mask),
                _format_answers(row, transaction.mask),
            )
            for row in counts
        ],
    )


def _format_histogram(latency: Mapping[int, int]) -> str:
    return msgspec.json.encode(dict(latency)).decode()


def _format_answers(row: Counts, mask: Mask) -> str:
    triggers = {str(mask(name)): (found.runs, found.failed) for name, found in row.triggers.items()}
    left = {str(mask(name)): dict(waits) for name, waits in row.left.items()}
    return msgspec.json.encode(_Answers(dict(row.classes), row.started, triggers, left)).decode()


def _format_routes(routes: Mapping[str, RouteCounts], mask: Mask) -> str:
    """Return {name: [requests, errors, key, count, key, count, ...]}: short, for a month of seconds is kept."""
    if not routes:
        return "{}"
    names = {name: str(mask(name)) for name in routes}
    flat = {names[name]: [route.requests, route.errors, *chain(*_list_pairs(route))] for name, route in routes.items()}
    return json.dumps(flat, separators=(",", ":"))


def _list_pairs(route: RouteCounts) -> Iterable[tuple[int, int]]:
    yield from route.latency.items()
    yield from ((_CLASS + _CLASSES.index(found), number) for found, number in route.classes.items())
    yield from ((key + (_TYPED - FAMILY if key >= FAMILY else _SIZE), number) for key, number in route.sizes.items())
    if route.started:
        yield _STARTED, route.started


def _parse_routes(text: str) -> dict[str, RouteCounts]:
    if text == "{}":
        return {}
    return {name: _make_route(*numbers) for name, numbers in _ROUTES.decode(text).items()}


def _make_route(requests: int, errors: int, *flat: int) -> RouteCounts:
    pairs = dict(zip(flat[::2], flat[1::2], strict=True))
    if not pairs or max(pairs) < BUCKETS:
        return RouteCounts(requests, errors, pairs)
    latency: dict[int, int] = {}
    classes: dict[AnswerClass, int] = {}
    sizes: dict[int, int] = {}
    started = pairs.pop(_STARTED, 0)
    for key, number in pairs.items():
        if key < BUCKETS:
            latency[key] = number
        elif key < _SIZE:
            classes[_CLASSES[key - _CLASS if key >= _CLASS else len(_CLASSES)]] = number
        elif key < _STARTED:
            sizes[key - _SIZE] = number
        elif _TYPED <= key < _MOST_TYPED:
            sizes[key - _TYPED + FAMILY] = number
        else:
            raise LookupError(key)
    return RouteCounts(requests, errors, latency, classes, sizes, started)


def _parse_histogram(text: str) -> dict[int, int]:
    return _HISTOGRAM.decode(text)


def read_counts(connection: Connection, environment: str, since: int, until: int) -> tuple[Counts, ...]:
    """Return the counts of the seconds in [since, until), by second and version."""
    rows = connection.execute(
        "SELECT version, second, requests, errors, canceled, latency, routes, answers FROM counts"
        " WHERE environment = ? AND second >= ? AND second < ? ORDER BY second, version",
        (environment, since, until),
    )
    found = decode_columns(rows.fetchall(), list[_Row], "a row of counts")
    with reading("a row of counts"):
        return tuple(_make_counts(row) for row in found)


def _make_counts(row: _Row) -> Counts:
    version, second, requests, errors, canceled, latency, routes, answers = row
    found = Counts(version, second, requests, errors, canceled, _parse_histogram(latency), _parse_routes(routes))
    if answers == "{}":
        return found
    more = _ANSWERS.decode(answers)
    triggers = {name: TriggerCounts(runs, failed) for name, (runs, failed) in more.triggers.items()}
    return replace(found, classes=more.classes, started=more.started, triggers=triggers, left=more.left)


def save_checkpoint(transaction: Transaction, run: str, name: str, data: Json) -> None:
    """Store the newest state of a detector. Raises TypeError when it is not JSON."""
    transaction.connection.execute(
        "INSERT INTO checkpoint (run, name, at, data) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (run, name) DO UPDATE SET at = excluded.at, data = excluded.data",
        (run, name, transaction.now, format_canonical(transaction.mask(data), name)),
    )


def prune(transaction: Transaction, older_than: float) -> int:
    """Delete counts and checkpoints from before that time (Unix seconds); return how many rows were deleted."""
    counts = transaction.connection.execute("DELETE FROM counts WHERE second < ?", (older_than,)).rowcount
    return counts + transaction.connection.execute("DELETE FROM checkpoint WHERE at < ?", (older_than,)).rowcount
