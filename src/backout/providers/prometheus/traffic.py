"""Port Traffic on Prometheus: the growth of the application's own counters between scrapes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.errors import ConfigError
from backout.model.guard.answers import EVERY_CLASS, FAMILIES, AnswerClass, classify_unless_good
from backout.model.guard.routes import parse_route_name
from backout.model.guard.signals import CountsPage, SourceTraits
from backout.model.value import Value
from backout.providers.clock import SystemClock
from backout.providers.prometheus.counters import Scrapes, Series, compute_increments, list_latency
from backout.providers.tally import RowSum

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from backout.ports import Clock
    from backout.providers.prometheus.client import MetricsClient
    from backout.providers.tally import Sum

SCRAPE_TIMEOUT_S: Final = 10.0
"""Prometheus' default: samples bear the time at which their scrape began, and may come this much later."""
_MISSED: Final = 2  # scrapes in a row, before "no scrape" counts as "nothing is known"
_LOOKBACK_S, _LOOKBACK_SCRAPES = 60.0, 4
_DIGITS: Final = 3
_FAMILY = re.compile(r"[1-5]xx")
_CANCELED: Final = "499"  # nginx' code for a client that went away


class Metrics(Value, frozen=True):
    """The application's names for its metrics.

    Args:
        requests: a counter with the labels `version` and `status`.
        duration: a classic histogram with `version`.
        selector: PromQL matchers that choose this application, such as `job="fm5"`.
        errors: a regular expression that the status of a failed request matches as a whole.
        seconds: how many seconds a unit of `duration` is.
        route, method: the labels of both that name the route and the method, where there are such.
        scrape_interval_s: how often it is scraped; when scrapes turn out to be rarer, that is what counts.
    """

    requests: str = "http_requests_total"
    duration: str = "http_request_duration_seconds_bucket"
    selector: str = ""
    version: str = "version"
    status: str = "status"
    route: str = "route"
    method: str = "method"
    errors: str = "5.."
    seconds: float = 1.0
    scrape_interval_s: float = 15.0


class PrometheusTraffic:
    """Port Traffic; a request is counted in the second of the scrape that first saw it, never before it ended.

    Args:
        client: of the server.

    Raises:
        ConfigError: the expression for errors cannot be used.
    """

    def __init__(
        self,
        client: MetricsClient,
        metrics: Metrics | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._clock = clock or SystemClock()
        self._client = client
        try:
            self._is_error = re.compile(self._metrics.errors).fullmatch
        except re.error as error:
            raise ConfigError((f"traffic.prometheus.errors: not a regular expression: {error}",)) from error
        self._interval_s = self._metrics.scrape_interval_s
        self._has_status = self._has_version = self._has_method = True
        self._classes = EVERY_CLASS

    @property
    def traits(self) -> SourceTraits:
        """What this source can see: as configured, and never more than its answers have shown."""
        return SourceTraits(
            "prometheus",
            self._lag_s,
            sampled=False,
            has_status=self._has_status,
            has_version=self._has_version,
            classes=self._classes if self._has_status else frozenset(),
            has_method=self._has_method,
        )

    def read(self, since: int, until: int) -> CountsPage:
        """Return the counts of the scrapes in [since, until).

        Final is what was scraped longer ago than a scrape may take. Where nothing was scraped for more than two
        intervals, nothing is known: the counts then reach as far as the last scrape.
        """
        metrics = self._metrics
        begin = since - max(_LOOKBACK_S, _LOOKBACK_SCRAPES * self._interval_s)
        requests = self._series(metrics.requests, begin, until)
        durations = self._series(metrics.duration, begin, until)
        jobs = {series.labels.get("job", "") for series in requests}  # `up` covers every target
        # asked last: each scrape that the others saw is in it
        up = [series for series in self._series("up", begin, until) if series.labels.get("job", "") in jobs]
        scrapes = Scrapes.of(up, requests)
        self._interval_s = max(metrics.scrape_interval_s, scrapes.spacing_s or 0.0)
        found: dict[tuple[str, int], RowSum] = {}
        self._count(requests, scrapes, found)
        self._time(durations, scrapes, found)
        rows = [row.as_counts(version, second) for (version, second), row in found.items() if since <= second < until]
        rows.sort(key=lambda row: (row.second, row.version))
        return CountsPage(tuple(rows), self._complete_until(since, until, scrapes.newest))

    @property
    def _settle_s(self) -> float:
        return min(self._interval_s, SCRAPE_TIMEOUT_S)

    @property
    def _lag_s(self) -> float:
        return self._interval_s + self._settle_s

    def _complete_until(self, since: int, until: int, newest: float | None) -> int:
        if newest is None:
            return since
        now = self._clock.now()
        settled = int(now - self._settle_s)
        looked_to = min(now, until)  # a question about the past says nothing of scrapes after it
        if looked_to - newest > _MISSED * self._interval_s + self._settle_s:
            return min(settled, int(newest) + 1)
        return settled

    def _count(self, requests: Iterable[Series], scrapes: Scrapes, found: dict[tuple[str, int], RowSum]) -> None:
        """Add the requests to the rows, and to their routes where the application names them."""
        names = self._metrics
        for series in requests:
            version, status = (series.labels.get(name, "") for name in (names.version, names.status))
            self._has_version = self._has_version and bool(version)
            self._has_status = self._has_status and bool(status)
            self._has_method = self._has_method and bool(series.labels.get(names.method))
            self._classes = self._classes & _find_told_classes(status)
            for at, number in compute_increments(series, scrapes).items():
                row = found.setdefault((version, int(at)), RowSum())
                if status == _CANCELED:
                    row.canceled += number
                    continue
                failed = bool(self._is_error(status))
                answers = None if failed else _parse_class(status)
                for each in self._parts(row, series.labels):
                    each.add(number, number if failed else 0, {})
                    each.add_class(answers, number)

    def _time(self, buckets: Iterable[Series], scrapes: Scrapes, found: dict[tuple[str, int], RowSum]) -> None:
        """Add the durations."""
        for labels, at, bucket, number in list_latency(buckets, scrapes, self._metrics.seconds):
            row = found.get((labels.get(self._metrics.version, ""), int(at)))
            if row is not None:
                row.add(0, 0, {bucket: number})
                route = row.routes.get(self._route(labels))  # the histogram may lack the label of the method
                if route is not None:
                    route.add(0, 0, {bucket: number})

    def _parts(self, row: RowSum, labels: Mapping[str, str]) -> Iterator[Sum]:
        """Yield what a request is counted in: the row, and its route when it has a name."""
        yield row
        route = self._route(labels)
        if route:
            yield row.route(route)

    def _route(self, labels: Mapping[str, str]) -> str:
        """Return the route that labels name, "" where they name none."""
        route = labels.get(self._metrics.route, "")
        return parse_route_name(route, labels.get(self._metrics.method, "")) if route else ""

    def _series(self, metric: str, begin: float, end: float) -> list[Series]:
        return self._client.read_samples(f"{metric}{{{self._metrics.selector}}}", begin, end)


def _find_told_classes(status: str) -> frozenset[AnswerClass]:
    """Return the classes that labels like this one distinguish: none for words such as "ok"."""
    if status.isascii() and status.isdecimal():
        return EVERY_CLASS
    return frozenset(FAMILIES.values()) if _FAMILY.fullmatch(status) else frozenset()


def _parse_class(status: str) -> AnswerClass | None:
    """Return the class of a label's status, None for good answers; its first digit may be all that it has ("4xx")."""
    if status.isascii() and status.isdecimal():
        return classify_unless_good(int(status[:_DIGITS]))
    found = FAMILIES.get(status)
    return None if found is AnswerClass.GOOD else found
