"""Answers counted one by one, for sources that see each of them: per version and second, and how late they come."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from backout.model.routes import MOST_ROUTES, OTHER, RouteNames, most_used
from backout.model.signals import Counts, RouteCounts, bucket_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KEPT_S: Final = 2 * 3600
_LATE_S: Final = 600.0


@dataclass(slots=True)
class Sum:
    """Answers being added up."""

    requests: int = 0
    errors: int = 0
    latency: dict[int, int] = field(default_factory=dict)

    def add(self, requests: int, errors: int, latency: Mapping[int, int]) -> None:
        """Add some more."""
        self.requests += requests
        self.errors += errors
        for bucket, number in latency.items():
            self.latency[bucket] = self.latency.get(bucket, 0) + number

    def as_route(self) -> RouteCounts:
        """Return the noun."""
        return RouteCounts(self.requests, self.errors, dict(self.latency))


@dataclass(slots=True)
class RowSum(Sum):
    """The same of one version and second, and of its routes."""

    canceled: int = 0
    routes: dict[str, Sum] = field(default_factory=dict)

    def route(self, name: str) -> Sum:
        """Return the sum of a route, a new one at first."""
        found = self.routes.get(name)
        if found is None:
            found = self.routes[name] = Sum()
        return found

    def as_counts(self, version: str, second: int) -> Counts:
        """Return the noun."""
        routes = {name: found.as_route() for name, found in self.routes.items()}
        latency = dict(self.latency)
        return Counts(version, second, self.requests, self.errors, self.canceled, latency, most_used(routes))


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: which version gave it, and when it ended (Unix seconds).

    status None or 0: not known. route: of its path, None: not known.
    """

    version: str
    at: float
    failed: bool
    canceled: bool
    latency_ms: float | None
    status: int | None = None
    route: str | None = None


class Tally:
    """The counts of the last two hours."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, RowSum]] = {}
        self._names = RouteNames()

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        row = self._rows.setdefault(int(answer.at), {}).setdefault(answer.version, RowSum())
        if answer.canceled:
            row.canceled += 1
            return
        latency = {} if answer.latency_ms is None else {bucket_of(answer.latency_ms): 1}
        row.add(1, answer.failed, latency)
        if answer.route is not None:
            name = self._names.choose(answer.route, answer.status)
            has_room = name in row.routes or len(row.routes) < MOST_ROUTES
            row.route(name if has_room else OTHER).add(1, answer.failed, latency)

    def counts(self, since: int, until: int) -> tuple[Counts, ...]:
        """Return the counts of the seconds in [since, until), oldest first."""
        return tuple(sorted(self._between(since, until), key=lambda row: (row.second, row.version)))

    def forget(self, now: float) -> None:
        """Drop what is older than two hours."""
        for second in [second for second in self._rows if second < now - _KEPT_S]:
            del self._rows[second]

    def _between(self, since: int, until: int) -> Iterator[Counts]:
        for second, versions in self._rows.items():
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
