"""Port Traffic on Prometheus: the growth of the application's own counters between scrapes.

Source: Prometheus documentation, "HTTP API" (2.53 and 3.x): a query of a range selector (`metric[60s]`) answers the
samples as they were scraped; `query_range` answers values at even steps, with neither the times nor all of the samples.
Both versions are understood: a range's left end belongs to it in 2.x, and not in 3.x.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

import msgspec

from backout.errors import ConfigError, ProviderUnavailable
from backout.model.guard.answers import EVERY_CLASS, FAMILIES, AnswerClass, classify_unless_good
from backout.model.guard.routes import parse_route_name
from backout.model.guard.signals import BUCKETS, CountsPage, SourceTraits, find_bucket
from backout.model.value import Value
from backout.providers.clock import SystemClock
from backout.providers.prometheus.counters import Scrapes, Series, compute_increments, list_slots
from backout.providers.router.client import QUICK, RouterClient
from backout.providers.tally import RowSum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from backout.ports import Clock
    from backout.providers.retry import Retry
    from backout.providers.tally import Sum

SCRAPE_TIMEOUT_S: Final = 10.0
"""Prometheus' default: samples bear the time at which their scrape began, and may come this much later."""
_MISSED: Final = 2  # scrapes in a row, before "no scrape" counts as "nothing is known"
_LOOKBACK_S, _LOOKBACK_SCRAPES = 60.0, 4
_CHUNK_S: Final = 600
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


class _Result(msgspec.Struct):
    metric: dict[str, str]
    values: tuple[tuple[float, str], ...] = ()


class _Data(msgspec.Struct):
    result: tuple[_Result, ...]


class _Answer(msgspec.Struct):
    data: _Data


class PrometheusTraffic:
    """Port Traffic; a request is counted in the second of the scrape that first saw it, never before it ended.

    Args:
        url: of the server, `/api/v1/query` is appended.
        token: returns the bearer token; None sends none.

    Raises:
        ConfigError: the URL, or the expression for errors, cannot be used.
    """

    def __init__(
        self,
        url: str,
        metrics: Metrics | None = None,
        token: Callable[[], str] | None = None,
        *,
        clock: Clock | None = None,
        retry: Retry = QUICK,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._clock = clock or SystemClock()
        self._client = RouterClient(url, token, clock=self._clock, retry=retry)
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
        """Add the durations; a request counts as slow as its slot's upper bound, so none seems faster than it was.

        What is beyond the last finite bound counts as just beyond it.
        """
        series = list(buckets)
        finite = [bound for each in series if (bound := _parse_number(each.labels.get("le", ""))) is not None]
        last = max(finite, default=0.0)
        for labels, at, bound, number in list_slots(series, scrapes):
            edge_ms = min(bound, last) * self._metrics.seconds * 1000
            bucket = min(find_bucket(edge_ms) + (1 if math.isinf(bound) else 0), BUCKETS - 1)
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
        """Return the samples from `begin` to `end`, asked in pieces that no answer outgrows."""
        found: dict[frozenset[tuple[str, str]], list[tuple[float, float]]] = {}
        while begin < end:
            piece_s = min(_CHUNK_S, math.ceil(end - begin))
            begin += piece_s
            for result in self._query(f"{metric}{{{self._metrics.selector}}}[{piece_s}s]", min(begin, end)):
                labels = {name: value for name, value in result.metric.items() if name != "__name__"}
                samples = found.setdefault(frozenset(labels.items()), [])
                newest = samples[-1][0] if samples else -math.inf
                values = ((at, _parse_number(text)) for at, text in result.values if at > newest)
                samples += [(at, value) for at, value in values if value is not None]
        return [Series(dict(labels), samples) for labels, samples in found.items() if samples]

    def _query(self, query: str, at: float) -> tuple[_Result, ...]:
        answer = self._client.get("api/v1/query", {"query": query, "time": f"{at:.3f}"}, _Answer)
        return answer.data.result


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


def _parse_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError as error:
        raise ProviderUnavailable(
            f"the answer cannot be read: {text[:40]!r} is not a number", where="prometheus"
        ) from error
    return value if math.isfinite(value) else None
