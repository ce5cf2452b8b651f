"""Port Traffic on two PromQL queries, all requests and bad ones, with the version's id in them.

A raw counter is never asked for a difference or a sum: its samples are read as they were scraped, and differences are
taken here, series by series. What the server computes (a rate, a recording rule) are estimates, and so advice.

Source: Prometheus documentation, "Querying basics" (3.x): what `[60s]` behind a selector answers; `rate` extrapolates.
VictoriaMetrics documentation, "Query latency" (2026): values of the last 30 seconds are withheld in `query_range`;
"Data becomes available for querying in a few seconds": three when measured (1.112), those of a new series last.
"""

from __future__ import annotations

import json
import math
from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import ProviderRejected
from backout.escaping import shorten
from backout.model.guard.signals import Counts, CountsPage, SourceTraits
from backout.model.value import Value
from backout.providers.clock import SystemClock
from backout.providers.prometheus.counters import Scrapes, Series, compute_increments, list_latency
from backout.providers.prometheus.deployed import LISTED_AT_MOST_S, DeployedVersions
from backout.providers.prometheus.traffic import SCRAPE_TIMEOUT_S
from backout.providers.tally import RowSum

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from backout.model.deployment import Deployment
    from backout.model.guard.count_query import CountQuery
    from backout.ports import Clock
    from backout.providers.prometheus.client import MetricsClient

    Rows = dict[tuple[str, int], RowSum]

_LOOKBACK_S, _LOOKBACK_SCRAPES = 60.0, 4
_WITHHELD_S: Final = 30.0
_HIDDEN_S: Final = 4.0
"""For so long a server may not show what it has scraped."""
_STEPS: Final = 240
_IMPOSSIBLE: Final = 1e9  # requests per second
_COUNTING: Final = {"counter": ("",), "histogram": ("_count", "_bucket"), "summary": ("_count",)}
"""How the names of counters end, by the type of their metric."""
_SUFFIXES: Final = ("_total", "_count", "_bucket")


class Queries(Value, frozen=True):
    """What is asked.

    Args:
        all, bad: of all requests, and of those that failed; both raw counters, or the source only gives advice.
        duration: the buckets of a classic histogram, None for no response times.
        seconds: how many seconds a unit of `duration` is.
        scrape_interval_s: how often it is scraped; when scrapes turn out to be rarer, that is what counts.
    """

    all: CountQuery
    bad: CountQuery
    duration: CountQuery | None = None
    seconds: float = 1.0
    scrape_interval_s: float = 15.0

    @property
    def estimated(self) -> str:
        """Why the counts are estimates, in words, "" where they are exact."""
        return next((f"{key}: {q.estimate}" for key, q in (("all", self.all), ("bad", self.bad)) if q.estimate), "")


class PromqlTraffic:
    """Port Traffic; a request is counted in the second of the scrape that first saw it.

    Args:
        history: lists the deployments, newest first: these versions are asked for.
    """

    def __init__(
        self,
        client: MetricsClient,
        queries: Queries,
        history: Callable[[], Sequence[Deployment]],
        *,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._queries = queries
        self._clock = clock or SystemClock()
        self._versions = DeployedVersions(history, self._clock)
        self._interval_s = queries.scrape_interval_s
        self._estimated = queries.estimated
        self._jobs: frozenset[str] = frozenset()
        self._type_doubt: str | None = None
        self._ages: deque[tuple[float, float]] = deque()

    @property
    def traits(self) -> SourceTraits:
        """What this source can see: as configured, and never more than its answers have shown."""
        return SourceTraits(
            "promql",
            self._lag_s,
            sampled=bool(self._estimated),
            has_status=True,
            has_version=True,
            estimated=self._estimated,
        )

    def read(self, since: int, until: int) -> CountsPage:
        """Return the counts of the versions that were deployed in [since, until).

        Final is what the newest scrape and the newest list of deployments cover.

        Raises:
            AuthError, ProviderUnavailable: of the server, or of the platform that lists the deployments.
            ProviderRejected: a query cannot be asked, or its answer is none that counts.
        """
        begin = since - max(_LOOKBACK_S, _LOOKBACK_SCRAPES * self._interval_s)
        listed_at, versions = self._versions.list_served(begin, until)
        rows: Rows = {}
        if self._queries.estimated:
            newest = self._add_rates(versions, since, until, rows)
        else:
            newest = self._add_samples(versions, begin, until, rows)
        settled = int(self._clock.now() - self._settle_s)
        complete_until = since if newest is None else min(int(newest) + 1, int(listed_at), settled)
        self._note_age(newest, until)
        found = [row.as_counts(version, second) for (version, second), row in rows.items() if since <= second < until]
        found.sort(key=lambda row: (row.second, row.version))
        unreadable = dict(_limit_errors(found))
        if newest is None and versions:
            unreadable[self._explain_silence(versions)] = 1
        page = CountsPage(tuple(_clamp(row) for row in found), max(complete_until, since), unreadable=unreadable)
        return replace(page, sampled=bool(self._estimated))

    @property
    def _settle_s(self) -> float:
        """How old a time must be until no sample of it can come any more."""
        return _WITHHELD_S if self._queries.estimated else min(self._interval_s, SCRAPE_TIMEOUT_S) + _HIDDEN_S

    @property
    def _lag_s(self) -> float:
        usual = self._interval_s + max(self._settle_s, LISTED_AT_MOST_S)
        return max([usual, *(age for _, age in self._ages)])

    def _note_age(self, newest: float | None, until: int) -> None:
        """Take note of how old the newest scrape is, for as long as a few scrapes take."""
        now = self._clock.now()
        if newest is not None and until >= int(now):
            self._ages.append((now, now - newest))
        while self._ages and self._ages[0][0] < now - _LOOKBACK_SCRAPES * self._interval_s:
            self._ages.popleft()

    # --- raw counters ---------------------------------------------------------------------------------------------

    def _add_samples(self, versions: Collection[str], begin: float, until: float, rows: Rows) -> float | None:
        """Add the growth of the counters to the rows; return when a process was scraped last, None: never."""
        queries = self._queries
        if not self._jobs:  # `up` is read first: what it knows of a scrape, the counters show all of
            self._jobs = _list_jobs(self._read(queries.all, versions, begin, until).values())
        up = [
            series for job in sorted(self._jobs) for series in self._client.read_samples(_select_up(job), begin, until)
        ]
        all_of = self._read(queries.all, versions, begin, until)
        bad_of = self._read(queries.bad, versions, begin, until)
        self._jobs |= _list_jobs(all_of.values())
        every = [series for found in (*all_of.values(), *bad_of.values()) for series in found]
        if not every:
            return None
        self._estimated = self._find_doubt(up, every)
        known = Scrapes.of(up, every)
        self._interval_s = max(queries.scrape_interval_s, known.spacing_s or 0.0)
        for version, series in all_of.items():
            for at, number in _list_growth(series, known):
                rows.setdefault((version, int(at)), RowSum()).add(number, 0, {})
        for version, series in bad_of.items():
            for at, number in _list_growth(series, known):
                rows.setdefault((version, int(at)), RowSum()).add(0, number, {})
        self._add_latency(versions, known, begin, until, rows)
        return known.newest

    def _add_latency(self, versions: Collection[str], known: Scrapes, begin: float, until: float, rows: Rows) -> None:
        duration = self._queries.duration
        if duration is None:
            return
        for version, series in self._read(duration, versions, begin, until).items():
            for _, at, bucket, number in list_latency(_cut(series, known), known, self._queries.seconds):
                row = rows.get((version, int(at)))
                if row is not None:
                    row.add(0, 0, {bucket: number})

    def _read(
        self, query: CountQuery, versions: Iterable[str], begin: float, until: float
    ) -> Mapping[str, Sequence[Series]]:
        return {v: self._client.read_samples(_fill(query.fill_selector, v), begin, until) for v in versions}

    def _find_doubt(self, up: Iterable[Series], every: Iterable[Series]) -> str:
        """Return why these samples do not prove to be of counters that were scraped, "" where they do."""
        if self._type_doubt is None:
            doubts = [self._check_type(query) for query in (self._queries.all, self._queries.bad)]
            self._type_doubt = next(filter(None, doubts), "")
        return self._type_doubt or _find_unscraped(up, every)

    def _check_type(self, query: CountQuery) -> str:
        """Return why a metric may be no counter; raises ProviderRejected where it is none, by the server's metadata."""
        name, types = query.name, self._client.read_types(query.name)
        wrong = [each for each in types if each not in _COUNTING or not name.endswith(_COUNTING[each])]
        if wrong:
            what = f"{name} is a {min(wrong)}, by the server's metadata, and no counter"
            raise ProviderRejected(what, status=200, where=shorten(query.text))
        if types or name.endswith(_SUFFIXES):
            return ""
        return f"whether {name} is a counter is not known: neither the server's metadata nor its name says so"

    def _explain_silence(self, versions: Collection[str]) -> str:
        query = shorten(_fill(self._queries.all.fill, min(versions)))
        return f"all: no series for any deployed version ({query}): is the label's value the version's id?"

    # --- estimates ------------------------------------------------------------------------------------------------

    def _add_rates(self, versions: Collection[str], since: int, until: int, rows: Rows) -> float | None:
        """Add what the rates sum up to; return when there was one last, None: never."""
        step_s = max(1, round(self._interval_s))
        block_s = _STEPS * step_s
        newest: float | None = None
        for version in versions:
            for start in range(since // block_s * block_s, until, block_s):
                end = min(start + block_s, until)
                if start + step_s > end:
                    continue
                every = dict(self._read_rates(self._queries.all, version, start, end, step_s))
                failed = dict(self._read_rates(self._queries.bad, version, start, end, step_s))
                newest = max([*every, *([] if newest is None else [newest])], default=None)
                good = _round_sums((at, max(rate - failed.get(at, 0.0), 0.0) * step_s) for at, rate in every.items())
                bad = _round_sums((at, rate * step_s) for at, rate in failed.items())
                for at, number in good:
                    rows.setdefault((version, int(at)), RowSum()).add(number, 0, {})
                for at, number in bad:
                    rows.setdefault((version, int(at)), RowSum()).add(number, number, {})
        return newest

    def _read_rates(
        self, query: CountQuery, version: str, start: int, end: int, step_s: int
    ) -> Sequence[tuple[float, float]]:
        found = self._client.read_rates(_fill(query.fill, version), start + step_s, end, step_s)
        return [(at, min(max(rate, 0.0), _IMPOSSIBLE)) for at, rate in found]


def _find_unscraped(up: Iterable[Series], every: Iterable[Series]) -> str:
    """Return which samples are not from the time of any scrape, so that how late they come is not known, "" if none."""
    scraped = {series.target: {at for at, _ in series.samples} for series in up}
    for series in every:
        times = scraped.get(series.target, set())
        if not {at for at, _ in series.samples if at <= max(times, default=math.inf)} <= times:
            job, instance = series.target
            return f"its samples are from no scrape that `up` knows (job {job!r}, instance {instance!r})"
    return ""


def _fill(fill: Callable[[str], str], version: str) -> str:
    try:
        return fill(version)
    except ValueError as error:
        raise ProviderRejected(f"no query can ask for it: {error}", status=200, where=shorten(version)) from error


def _select_up(job: str) -> str:
    """Return the selector of a job's `up`: PromQL's escapes are those of JSON."""
    return f"up{{job={json.dumps(job)}}}"


def _list_jobs(found: Iterable[Sequence[Series]]) -> frozenset[str]:
    return frozenset(series.labels.get("job", "") for each in found for series in each)


def _cut(series: Iterable[Series], known: Scrapes) -> Iterator[Series]:
    """Yield the series up to the newest scrape that is known: `up` was read before them."""
    for each in series:
        times = known.tried.get(each.target, ())
        samples = [(at, value) for at, value in each.samples if not times or at <= times[-1]]
        if samples:
            yield Series(each.labels, samples)


def _list_growth(series: Iterable[Series], known: Scrapes) -> Iterator[tuple[float, int]]:
    for each in _cut(series, known):
        yield from compute_increments(each, known).items()


def _round_sums(points: Iterable[tuple[float, float]]) -> Iterator[tuple[float, int]]:
    """Yield (time, whole number) so that the numbers up to any time sum to what was given, less a part of one.

    >>> list(_round_sums([(1, 0.4), (2, 0.4), (3, 0.4), (4, 2.0)]))
    [(3, 1), (4, 2)]
    """
    total, given = 0.0, 0
    for at, number in points:
        total += number
        whole = math.floor(total + 1e-9) - given
        if whole:
            yield at, whole
            given += whole


def _limit_errors(found: Iterable[Counts]) -> Iterator[tuple[str, int]]:
    more = sum(row.errors > row.requests for row in found)
    if more:
        yield "bad counts more requests than all: one of the two queries leaves out what the other counts", more


def _clamp(row: Counts) -> Counts:
    return replace(row, errors=min(row.errors, row.requests))
