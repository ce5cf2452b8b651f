"""Port Traffic on a log of requests that the application, or the server before it, writes on this host."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from backout.model.signals import Counts, CountsPage, SourceTraits, bucket_of
from backout.providers.clock import SystemClock
from backout.providers.logs.growing import GrowingFile
from backout.providers.logs.request import Fields, Logged, Unreadable, logged

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from backout.ports import Clock

SETTLE_S: Final = 2.0
"""How long after a request ended its line is waited for at least."""
_LATE_S: Final = 600.0
_KEPT_S: Final = 2 * 3600


@dataclass(slots=True)
class _Row:
    """What one version answered in one second."""

    requests: int = 0
    errors: int = 0
    canceled: int = 0
    latency: dict[int, int] = field(default_factory=dict)

    def add(self, line: Logged) -> None:
        if line.canceled:
            self.canceled += 1
            return
        self.requests += 1
        self.errors += line.failed
        if line.latency_ms is not None:
            bucket = bucket_of(line.latency_ms)
            self.latency[bucket] = self.latency.get(bucket, 0) + 1


class LogTraffic:
    """Port Traffic; the counts of the last two hours are kept, as far as the file tells of them.

    Args:
        ignore_routes: these do not count, such as that of the health checks.
    """

    def __init__(
        self,
        path: Path,
        fields: Fields | None = None,
        *,
        ignore_routes: Collection[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self._file = GrowingFile(path)
        self._fields = fields or Fields()
        self._ignored = frozenset(ignore_routes)
        self._clock = clock or SystemClock()
        self._rows: dict[int, dict[str, _Row]] = {}
        self._newest = 0.0
        self._looked_at: float | None = None
        self._late: deque[tuple[float, float]] = deque()  # (when it was read, how late it was at the look before)
        self._first: dict[str, str] = {}
        self._unreadable: Counter[str] = Counter()
        self._has_status = True

    @property
    def traits(self) -> SourceTraits:
        """What this source can see; its lag is never smaller than what lines showed within ten minutes."""
        return SourceTraits("logs", self._lag_s, sampled=False, has_status=self._has_status, has_version=True)

    def read(self, since: int, until: int) -> CountsPage:
        """Return the counts of the seconds in [since, until), and every kind of line that could not be counted.

        A file without any line tells nothing, and one without a new line nothing newer: a log that is not written any
        more looks like an application without visitors.
        """
        now = self._clock.now()
        for place, line in self._file.lines():
            self._take(line, place, now)
        self._looked_at = now
        self._forget(now)
        rows = [
            Counts(version, second, row.requests, row.errors, row.canceled, dict(row.latency))
            for second, versions in self._rows.items()
            if since <= second < until
            for version, row in versions.items()
        ]
        rows.sort(key=lambda row: (row.second, row.version))
        complete_until = min(int(now - self._lag_s), int(self._newest) + 1) if self._newest else since
        unreadable = {f"{why} (first {self._first[why]})": number for why, number in self._unreadable.items()}
        return CountsPage(tuple(rows), complete_until, unreadable=unreadable)

    @property
    def _lag_s(self) -> float:
        return max((late for _, late in self._late), default=SETTLE_S)

    def _take(self, text: bytes, place: int, now: float) -> None:
        if not text.strip():
            return
        try:
            line = logged(text, self._fields)
            if line.at > now + SETTLE_S:
                raise Unreadable("its time is yet to come")  # noqa: TRY301 - one of the reasons, named below as all of them
        except Unreadable as error:
            self._first.setdefault(str(error), f"at byte {place} of {self._file.path.name}")
            self._unreadable[str(error)] += 1
            return
        self._newest = max(self._newest, line.at)
        if self._looked_at is not None and self._looked_at - line.at > SETTLE_S:
            self._late.append((now, self._looked_at - line.at + 1))
        if not line.is_request or line.route in self._ignored:
            return
        self._has_status = self._has_status and line.status is not None
        self._rows.setdefault(int(line.at), {}).setdefault(line.version, _Row()).add(line)

    def _forget(self, now: float) -> None:
        while self._late and self._late[0][0] < now - _LATE_S:
            self._late.popleft()
        for second in [second for second in self._rows if second < now - _KEPT_S]:
            del self._rows[second]
