"""Answers counted one by one, for sources that see each of them: per version and second, and how late they come."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from backout.model.guard.answers import classify_unless_good
from backout.model.guard.bodies import make_size_key
from backout.model.guard.chosen import settle_keyed
from backout.model.guard.route_names import RouteNames
from backout.model.guard.routes import MOST_ROUTES, OTHER, select_most_used
from backout.model.guard.signals import Counts, RouteCounts, TriggerCounts, find_bucket
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from backout.model.guard.answers import AnswerClass

_KEPT_S: Final = 2 * 3600
_LATE_S: Final = 600.0
_MOST_TRIGGERS: Final = 64
_OK_STATUS: Final = 200
_NONE: Final[Mapping[int, int]] = {}


@dataclass(slots=True)
class Sum:
    """Answers being added up; what few of them have is kept only where there is some."""

    requests: int = 0
    errors: int = 0
    latency: dict[int, int] = field(default_factory=dict)
    classes: dict[AnswerClass, int] | None = None
    sizes: dict[int, int] | None = None

    def add(self, requests: int, errors: int, latency: Mapping[int, int]) -> None:
        """Add some more."""
        self.requests += requests
        self.errors += errors
        for bucket, number in latency.items():
            self.latency[bucket] = self.latency.get(bucket, 0) + number

    def add_class(self, found: AnswerClass | None, number: int) -> None:
        """Add to the class of so many of them; None for good ones and errors, which are none of these."""
        if found is not None and number:
            self.classes = self.classes or {}
            self.classes[found] = self.classes.get(found, 0) + number

    def add_size(self, length: int, content_type: str) -> None:
        """Add the length of a body in bytes, with its content type, "" where that is not known."""
        self.sizes = self.sizes or {}
        key = make_size_key(length, content_type)
        self.sizes[key] = self.sizes.get(key, 0) + 1

    def as_route(self) -> RouteCounts:
        """Return the noun."""
        return RouteCounts(
            self.requests, self.errors, dict(self.latency), dict(self.classes or {}), dict(self.sizes or _NONE)
        )


@dataclass(slots=True)
class RowSum(Sum):
    """The same of one version and second, of its routes, and of what else it was started by."""

    canceled: int = 0
    routes: dict[str, Sum] = field(default_factory=dict)
    triggers: dict[str, tuple[int, int]] | None = None
    left: dict[str, dict[int, int]] | None = None
    chosen: int = 0

    def route(self, name: str) -> Sum:
        """Return the sum of a route, a new one at first."""
        found = self.routes.get(name)
        if found is None:
            found = self.routes[name] = Sum()
        return found

    def add_trigger(self, name: str, runs: int, failed: int) -> None:
        """Add runs of a schedule or a queue."""
        self.triggers = self.triggers or {}
        if name in self.triggers or len(self.triggers) < _MOST_TRIGGERS:
            before = self.triggers.get(name, (0, 0))
            self.triggers[name] = (before[0] + runs, before[1] + failed)

    def add_left(self, route: str, bucket: int, number: int = 1) -> None:
        """Add canceled ones by how long they had waited, see `find_bucket`."""
        self.left = self.left or {}
        waits = self.left.setdefault(route if route in self.left or len(self.left) < MOST_ROUTES else OTHER, {})
        waits[bucket] = waits.get(bucket, 0) + number

    def as_counts(self, version: str, second: int) -> Counts:
        """Return the noun."""
        return Counts(
            version,
            second,
            self.requests,
            self.errors,
            self.canceled,
            dict(self.latency),
            select_most_used({name: found.as_route() for name, found in self.routes.items()}),
            dict(self.classes or {}),
            triggers={name: TriggerCounts(*found) for name, found in (self.triggers or {}).items()},
            left={name: dict(waits) for name, waits in (self.left or {}).items()},
            chosen=self.chosen,
        )


class Answer(Value, frozen=True):
    """One answer: which version gave it, and when it ended (Unix seconds).

    status None or 0: not known. route: its template, None: not known. size: bytes of the body of an answer to GET,
    None: not known; content_type: what it is, "": not known. keyed: a key that came with the request chose the version.
    """

    version: str
    at: float
    failed: bool
    canceled: bool
    latency_ms: float | None
    status: int | None = None
    route: str | None = None
    size: int | None = None
    content_type: str = ""
    keyed: bool = False


class Tally:
    """The counts of the last two hours.

    Attributes:
        takes_keyed: answers whose version a key chose count as all others; otherwise they are left out.
    """

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, RowSum]] = {}
        self._keyed: dict[int, dict[str, RowSum]] = {}
        self._names = RouteNames()
        self.takes_keyed = True

    def learn(self, names: Iterable[str]) -> None:
        """Take the names of routes that are known from before."""
        self._names.learn(names)

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        row = self._row(answer.at, answer.version, keyed=answer.keyed)
        if answer.canceled:
            row.canceled += 1
            if answer.route is not None and answer.latency_ms is not None:
                row.add_left(self._names.find(answer.route), find_bucket(answer.latency_ms))
            return
        parts: list[Sum] = [row]
        if answer.route is not None:
            name = self._names.choose(answer.route, answer.status)
            has_room = name in row.routes or len(row.routes) < MOST_ROUTES
            parts.append(row.route(name if has_room else OTHER))
        latency = {} if answer.latency_ms is None else {find_bucket(answer.latency_ms): 1}
        found = None if answer.failed else classify_unless_good(answer.status)
        for part in parts:
            part.add(1, answer.failed, latency)
            part.add_class(found, 1)
        if answer.size is not None and answer.status == _OK_STATUS and len(parts) > 1:
            parts[1].add_size(answer.size, answer.content_type)

    def add_trigger(self, version: str, at: float, name: str, *, failed: bool) -> None:
        """Count a run of a schedule or a queue that ended then."""
        self._row(at, version).add_trigger(name, 1, int(failed))

    def leave_out(self, version: str, at: float) -> None:
        """Count an answer that ended then as one whose sender had chosen the version."""
        self._row(at, version).chosen += 1

    def _row(self, at: float, version: str, *, keyed: bool = False) -> RowSum:
        rows = self._keyed if keyed else self._rows
        return rows.setdefault(int(at), {}).setdefault(version, RowSum())

    def counts(self, since: int, until: int) -> tuple[Counts, ...]:
        """Return the counts of the seconds in [since, until), oldest first."""
        rows, keyed = (_list_between(found, since, until) for found in (self._rows, self._keyed))
        return settle_keyed(rows, keyed, wanted=self.takes_keyed)

    def forget(self, now: float) -> None:
        """Drop what is older than two hours."""
        for rows in (self._rows, self._keyed):
            for second in [second for second in rows if second < now - _KEPT_S]:
                del rows[second]


def _list_between(rows: Mapping[int, Mapping[str, RowSum]], since: int, until: int) -> Iterator[Counts]:
    for second, versions in rows.items():
        if since <= second < until:
            for version, row in versions.items():
                yield row.as_counts(version, second)


class Lateness:
    """How long answers stay unseen: at least `least_s`, and as long as was seen within the last ten minutes."""

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._late: deque[tuple[float, float]] = deque()

    @property
    def seconds(self) -> float:
        """The longest that one was late."""
        return max((late_s for _, late_s in self._late), default=self._least_s)

    def note(self, now: float, late_s: float) -> None:
        """Take note of an answer that was seen so long after it ended."""
        if late_s > self._least_s:
            self._late.append((now, late_s))
        while self._late and self._late[0][0] < now - _LATE_S:
            self._late.popleft()
