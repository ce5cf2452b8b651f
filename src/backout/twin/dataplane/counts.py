"""Requests per version and second, the guard's source on the twin: two hours in memory, flushed to SQLite each second.

A second is final `GRACE_S` after its end; until then the outcome that the tail worker reports may still amend it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from backout.decoding import decode_raw
from backout.model.guard.answers import AnswerClass, classify_unless_good
from backout.model.guard.bodies import make_size_key
from backout.model.guard.chosen import Choice
from backout.model.guard.route_names import RouteNames
from backout.model.guard.routes import MOST_ROUTES, OTHER
from backout.model.guard.signals import find_bucket
from backout.model.outcomes import GONE, OK, has_failed, is_canceled
from backout.model.value import Value
from backout.twin.dataplane.tail_events import describe_call, get_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backout.twin.dataplane.exchange import Event

KEEP_S = 7200
GRACE_S = 0.3
_TABLE = """
CREATE TABLE IF NOT EXISTS counts (
  script TEXT NOT NULL, version TEXT NOT NULL, second INTEGER NOT NULL, row BLOB NOT NULL,
  PRIMARY KEY (script, second, version)
) WITHOUT ROWID
"""
_UPSERT = (
    "INSERT INTO counts (script, version, second, row) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (script, second, version) DO UPDATE SET row = excluded.row"
)


@dataclass(slots=True)
class RouteRow:
    """What a row has of one route; canceled answers and probes are left out.

    Args:
        classes: {class: answers} that were neither good nor errors.
        sizes: {key: answers} of the bodies of answers with status 200 to GET, see `make_size_key`.
        started: requests that began.
    """

    requests: int = 0
    errors: int = 0
    latency: dict[int, int] = field(default_factory=dict)
    classes: dict[AnswerClass, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    started: int = 0

    def as_json(self) -> dict[str, object]:
        """Return it as `/twin/v1/counts` shows it."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "latency": sorted(self.latency.items()),
            "classes": dict(sorted(self.classes.items())),
            "sizes": sorted(self.sizes.items()),
            "started": self.started,
        }


@dataclass(slots=True)
class Row:
    """What one version answered in one second (the second in which each answer ended).

    Args:
        requests: answers, canceled ones included, probes not.
        errors: of these, status >= 500 or an outcome that is neither ok nor canceled.
        canceled: of these, the client went away.
        probes: answers to backout's own probes.
        probe_ids: {id of a process: how many of them were its own}.
        statuses: {status: answers}; a canceled request without a status is under 499.
        by_outcome: {outcome: answers}.
        latency: {bucket: answers}, canceled ones left out, see `find_bucket`.
        routes: the same answers by route, see `model.guard.routes`.
        classes: {class: answers} that were neither good nor errors.
        started: requests that began in this second, probes not.
        triggers: {schedule or queue: (runs, failed)} that were heard of in this second.
        chosen: answers that count nowhere else, as their sender named the version.
        keyed: a row of its own for answers whose version a key chose.
        objects: {"fetch ok 200", "rpc exception": such calls of Durable Objects}, which are in no other figure.
    """

    version: str
    second: int
    requests: int = 0
    errors: int = 0
    canceled: int = 0
    probes: int = 0
    probe_ids: dict[str, int] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    by_outcome: dict[str, int] = field(default_factory=dict)
    latency: dict[int, int] = field(default_factory=dict)
    routes: dict[str, RouteRow] = field(default_factory=dict)
    classes: dict[AnswerClass, int] = field(default_factory=dict)
    started: int = 0
    triggers: dict[str, tuple[int, int]] = field(default_factory=dict)
    chosen: int = 0
    keyed: bool = False
    objects: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return the row as `/twin/v1/counts` shows it."""
        return {
            "version": self.version,
            "second": self.second,
            "requests": self.requests,
            "errors": self.errors,
            "canceled": self.canceled,
            "probes": self.probes,
            "statuses": {str(status): number for status, number in sorted(self.statuses.items())},
            "by_outcome": dict(sorted(self.by_outcome.items())),
            "latency": sorted(self.latency.items()),
            "routes": {name: route.as_json() for name, route in sorted(self.routes.items())},
            "classes": dict(sorted(self.classes.items())),
            "started": self.started,
            "triggers": dict(sorted(self.triggers.items())),
            "chosen": self.chosen,
            "keyed": self.keyed,
        }

    def route(self, name: str) -> RouteRow:
        """Return the counts of a route, of `OTHER` where there are too many."""
        if name not in self.routes and len(self.routes) >= MOST_ROUTES:
            name = OTHER
        return self.routes.setdefault(name, RouteRow())


class Answer(Value, frozen=True):
    """One answer to be counted; `probe`: backout's own look, not a visitor's request.

    route: its template. size: bytes of its body, None where that does not count (another status than 200, no GET).
    content_type: what its body is, "" unknown. choice: how its version was chosen. probe_id: whose look it was.
    """

    script: str
    version: str
    status: int
    outcome: str
    latency_ms: float
    probe: bool = False
    route: str = OTHER
    size: int | None = None
    content_type: str = ""
    choice: Choice = Choice.CHANCE
    probe_id: str = ""


def is_error(status: int, outcome: str) -> bool:
    """Whether an answer counts as an error."""
    return has_failed(outcome, status)


def _make_key(version: str, *, keyed: bool) -> str:
    """Return what a row is kept under, beside its second."""
    return f"{version} by key" if keyed else version


class CountBook:
    """The counts of one twin.

    Args:
        path: the SQLite file.
        now: the clock, Unix seconds.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._latest = 0.0
        self._rows: dict[str, dict[int, dict[str, Row]]] = {}
        self._names: dict[str, RouteNames] = {}
        self._dirty: set[tuple[str, int, str]] = set()
        self._mutex = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._load()

    @property
    def now(self) -> float:
        """The clock, which never goes back, so that a final second stays final."""
        self._latest = max(self._latest, self._now())
        return self._latest

    @property
    def complete_until(self) -> int:
        """Seconds below this one are final."""
        return int(self.now - GRACE_S)

    def began(self, script: str, version: str, route: str, *, keyed: bool = False) -> None:
        """Count that a visitor's request begins now."""
        row = self._row(script, version, int(self.now), keyed=keyed)
        row.started += 1
        row.route(self._names_of(script).find(route)).started += 1

    def ran(self, script: str, version: str, name: str, failed: bool) -> None:
        """Count that a schedule or a queue has run."""
        triggers = self._row(script, version, int(self.now)).triggers
        runs, failures = triggers.get(name, (0, 0))
        triggers[name] = (runs + 1, failures + failed)

    def called_object(self, event: Event) -> None:
        """Count the event of a Durable Object."""
        objects = self._row(str(event.get("scriptName")), get_version(event), int(self.now)).objects
        kind, outcome, status = describe_call(event)
        name = f"{kind} {outcome} {status or ''}".rstrip()
        objects[name] = objects.get(name, 0) + 1

    def count(self, answer: Answer) -> int:
        """Count one answer now and return its second."""
        second = int(self.now)
        row = self._row(answer.script, answer.version, second, keyed=answer.choice is Choice.KEYED and not answer.probe)
        if answer.probe:
            row.probes += 1
            if answer.probe_id:
                row.probe_ids[answer.probe_id] = row.probe_ids.get(answer.probe_id, 0) + 1
            return second
        if answer.choice is Choice.SENDER:
            row.chosen += 1
            return second
        row.requests += 1
        row.statuses[answer.status] = row.statuses.get(answer.status, 0) + 1
        row.by_outcome[answer.outcome] = row.by_outcome.get(answer.outcome, 0) + 1
        if is_canceled(answer.outcome):
            row.canceled += 1
            return second
        name = self._names_of(answer.script).choose(answer.route, answer.status)
        failed, bucket, route = is_error(answer.status, answer.outcome), find_bucket(answer.latency_ms), row.route(name)
        found = None if failed else classify_unless_good(answer.status)
        route.requests += 1
        for part in (row, route):
            part.errors += failed
            part.latency[bucket] = part.latency.get(bucket, 0) + 1
            if found is not None:
                part.classes[found] = part.classes.get(found, 0) + 1
        if answer.size is not None:
            size = make_size_key(answer.size, answer.content_type)
            route.sizes[size] = route.sizes.get(size, 0) + 1
        return second

    def amend(self, answer: Answer, second: int) -> bool:
        """Give an answer that was counted as ok its true outcome; False, and no change, when its second is final."""
        outcome = answer.outcome
        left_out = answer.probe or answer.choice is Choice.SENDER
        if left_out or second < self.complete_until or outcome in {OK, *GONE}:
            return False
        row = self._row(answer.script, answer.version, second, keyed=answer.choice is Choice.KEYED)
        if row.by_outcome.get(OK, 0) == 0:
            return False
        row.by_outcome[OK] -= 1
        if not row.by_outcome[OK]:
            del row.by_outcome[OK]
        row.by_outcome[outcome] = row.by_outcome.get(outcome, 0) + 1
        if not is_error(answer.status, OK):
            name = self._names_of(answer.script).find(answer.route)
            route = row.routes.get(name) or row.route(OTHER)
            found = classify_unless_good(answer.status)
            row.errors += 1
            route.errors = min(route.errors + 1, route.requests)
            if found is not None:
                for part in (row, route):
                    part.classes[found] = max(0, part.classes.get(found, 0) - 1)
        return True

    def rows(self, script: str, since: int, until: int | None = None) -> tuple[Row, ...]:
        """Return the rows with since <= second < until (None: up to now), oldest first."""
        return tuple(self._select(script, since, until))

    async def wait_beyond(self, second: int, wait_s: float) -> None:
        """Return as soon as `second` is final, after `wait_s` at the latest."""
        due_s = second + 1 + GRACE_S - self.now
        await asyncio.sleep(max(0.0, min(due_s, wait_s)))

    def forget(self, script: str) -> None:
        """Forget a removed script."""
        self._rows.pop(script, None)
        self._names.pop(script, None)
        self._dirty = {key for key in self._dirty if key[0] != script}
        with self._transaction() as database:
            database.execute("DELETE FROM counts WHERE script = ?", (script,))

    def flush(self) -> None:
        """Write what changed since the last flush, and drop what is older than two hours."""
        values = self._take_dirty()
        self._write(values, int(self.now) - KEEP_S)

    async def flush_forever(self) -> None:
        """Flush once a second, off the event loop; to be run as a task and cancelled at the end."""
        while True:
            await asyncio.sleep(1.0)
            oldest = int(self.now) - KEEP_S
            self._prune(oldest)
            dirty = set(self._dirty)
            try:
                await asyncio.to_thread(self._write, self._take_dirty(), oldest)
            except sqlite3.OperationalError:  # another process keeps the file locked: it is written the next time
                self._dirty |= dirty

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        with self._mutex:
            self._database.close()

    def _names_of(self, script: str) -> RouteNames:
        return self._names.setdefault(script, RouteNames())

    def _select(self, script: str, since: int, until: int | None) -> Iterator[Row]:
        seconds = self._rows.get(script, {})
        for second in sorted(s for s in seconds if s >= since and (until is None or s < until)):
            yield from seconds[second].values()

    def _row(self, script: str, version: str, second: int, *, keyed: bool = False) -> Row:
        key = _make_key(version, keyed=keyed)
        self._dirty.add((script, second, key))
        versions = self._rows.setdefault(script, {}).setdefault(second, {})
        row = versions.get(key)
        if row is None:
            row = versions[key] = Row(version, second, keyed=keyed)
        return row

    def _take_dirty(self) -> list[tuple[str, str, int, bytes]]:
        dirty, self._dirty = self._dirty, set()
        return [
            (script, version, second, msgspec.json.encode(self._rows[script][second][version]))
            for script, second, version in dirty
            if second in self._rows.get(script, {})
        ]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        # A flush runs in a thread, and goes on there when its task is cancelled: one connection, one at a time.
        with self._mutex:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")

    def _write(self, values: list[tuple[str, str, int, bytes]], oldest: int) -> None:
        with self._transaction() as database:
            # What was forgotten since it was taken stays forgotten.
            database.executemany(_UPSERT, [each for each in values if each[0] in self._rows])
            database.execute("DELETE FROM counts WHERE second < ?", (oldest,))

    def _prune(self, oldest: int) -> None:
        for seconds in self._rows.values():
            for second in [s for s in seconds if s < oldest]:
                del seconds[second]

    def _load(self) -> None:
        oldest = int(self.now) - KEEP_S
        with self._transaction() as database:
            database.execute(_TABLE)
            found = database.execute("SELECT script, row FROM counts WHERE second >= ?", (oldest,)).fetchall()
        for script, blob in found:
            with contextlib.suppress(msgspec.DecodeError):
                row = decode_raw(blob, Row)
                self._rows.setdefault(script, {}).setdefault(row.second, {})[
                    _make_key(row.version, keyed=row.keyed)
                ] = row
