"""Answers counted one by one, for sources that see each of them: per version and second, and how late they come."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from backout.model.signals import Counts, bucket_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEPT_S: Final = 2 * 3600
_LATE_S: Final = 600.0


@dataclass(slots=True)
class _Row:
    requests: int = 0
    errors: int = 0
    canceled: int = 0
    latency: dict[int, int] = field(default_factory=dict)


class Tally:
    """The counts of the last two hours."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, _Row]] = {}

    def add(self, version: str, at: float, *, failed: bool, canceled: bool, latency_ms: float | None) -> None:
        """Count an answer that ended at that time (Unix seconds)."""
        row = self._rows.setdefault(int(at), {}).setdefault(version, _Row())
        if canceled:
            row.canceled += 1
            return
        row.requests += 1
        row.errors += failed
        if latency_ms is not None:
            bucket = bucket_of(latency_ms)
            row.latency[bucket] = row.latency.get(bucket, 0) + 1

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
                    yield Counts(version, second, row.requests, row.errors, row.canceled, dict(row.latency))


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
