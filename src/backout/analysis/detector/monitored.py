"""Adds up what is seen of a live version, for a person who watches and for the report."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from backout.analysis.statistics.beta import bound_share
from backout.model.guard.monitored import ErrorRate, Monitored, Response, VersionSeen
from backout.model.guard.probes import HEALTH
from backout.model.guard.signals import ServiceState, merge_counts, merge_latency, quantile_ms, sum_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backout.model.guard.connections import ConnectionUse
    from backout.model.guard.policy import Policy
    from backout.model.guard.signals import Counts, HealthReport

ALPHA = 0.01
"""How often the band of an error rate is wrong, at one look."""


def measure_response(latency: Mapping[int, int]) -> Response:
    """Return the three quantiles of a histogram."""
    return Response(quantile_ms(latency, 0.50), quantile_ms(latency, 0.95), quantile_ms(latency, 0.99))


class MonitoringTally:
    """Counts of what is live, one version after the other, and all looks.

    Args:
        since: when it began (Unix seconds).
        window_s: how many seconds `rate` and `response` look back.
    """

    def __init__(self, policy: Policy, since: float, window_s: float) -> None:
        self._policy = policy
        self._since = since
        self._window_s = window_s
        self._window: deque[Counts] = deque()
        self._past: list[VersionSeen] = []
        self._now: VersionSeen | None = None
        self._requests = self._errors = 0
        self._latency: dict[int, int] = {}
        self._looks = self._bad_looks = 0
        self._down: dict[str, None] = {}
        self._fullest: ConnectionUse | None = None

    def follow(self, version: str, since: float, baseline: Iterable[Counts] = (), usual_from: str = "") -> None:
        """Count this version from now on, its response times beside those of a baseline."""
        if self._now is not None:
            self._past.append(self._finish(self._now))
        usual = measure_response(merge_latency(baseline))
        self._now = VersionSeen(version, since, usual=usual, usual_from=usual_from if usual != Response() else "")
        self._window.clear()
        self._requests = self._errors = 0
        self._latency = {}

    def add(self, counts: Iterable[Counts]) -> None:
        """Take rows of final seconds, in order; those of other versions are passed over."""
        for row in counts:
            if self._now is None or row.version != self._now.version or row.second < int(self._now.since):
                continue
            self._requests += row.requests
            self._errors += row.errors
            self._latency = merge_counts((self._latency, row.latency))
            self._window.append(row)

    def add_health(self, report: HealthReport) -> None:
        """Take one look at the health endpoint; one that says nothing of services is none."""
        if not report.measured and not report.is_down:
            return
        down = [each.name for each in report.services if each.state is ServiceState.DOWN]
        down = [name for name in down if self._policy.is_critical(name)] or ([HEALTH] if report.is_down else [])
        self._looks += 1
        self._bad_looks += bool(down)
        self._down.update(dict.fromkeys(down))

    def add_connections(self, use: ConnectionUse) -> None:
        """Take one reading of the database's connections."""
        if self._fullest is None or use.share >= self._fullest.share:
            self._fullest = use

    @property
    def current(self) -> VersionSeen | None:
        """What was seen of the version that is live now, None before the first."""
        return None if self._now is None else self._finish(self._now)

    def measure_rate(self, now: float) -> ErrorRate:
        """Return the error rate of the last seconds, as far as they were watched."""
        self._drop_old(now)
        requests, errors = sum_counts(self._window)
        low, high = bound_share(errors, requests, ALPHA)
        since = self._since if self._now is None else self._now.since
        return ErrorRate(min(self._window_s, max(now - since, 0.0)), requests, errors, low, high)

    def measure_recent(self, now: float) -> Response:
        """Return the response times of the same seconds as `measure_rate`."""
        self._drop_old(now)
        return measure_response(merge_latency(self._window))

    def _drop_old(self, now: float) -> None:
        while self._window and self._window[0].second < now - self._window_s:
            self._window.popleft()

    def _finish(self, seen: VersionSeen) -> VersionSeen:
        return VersionSeen(
            seen.version,
            seen.since,
            self._requests,
            self._errors,
            measure_response(self._latency),
            seen.usual,
            seen.usual_from,
        )

    def summarize(self, until: float) -> Monitored:
        """Return what was seen up to a moment."""
        return Monitored(
            self._since,
            until,
            (*self._past, *([] if self._now is None else [self._finish(self._now)])),
            self._looks,
            self._bad_looks,
            tuple(self._down),
            self._fullest,
        )
