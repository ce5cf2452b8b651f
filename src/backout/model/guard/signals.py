"""Measurements: per-second counts, latency histograms, and health reports."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from msgspec import field

from backout.model.clock import format_duration
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backout.model.guard.answers import AnswerClass

Key = TypeVar("Key")
LATE_S = 30.0
"""A source that is later than this says nothing about now."""
BUCKETS = 256
BUCKET_RATIO = 1.044
_LOG_RATIO = math.log(BUCKET_RATIO)


def find_bucket(latency_ms: float) -> int:
    """Return the histogram bucket of a latency: 0 up to 1 ms, then one bucket per 4.4 %, 255 from about 59 s on.

    >>> find_bucket(0.3), find_bucket(81.0), find_bucket(1e9)
    (0, 102, 255)
    """
    if latency_ms <= 1.0:
        return 0
    return min(int(math.log(latency_ms) / _LOG_RATIO), BUCKETS - 1)


def get_bucket_floor_ms(bucket: int) -> float:
    """Return the smallest latency of a bucket, in milliseconds."""
    return 0.0 if bucket == 0 else BUCKET_RATIO**bucket


class TriggerCounts(Value, frozen=True):
    """The number of runs that were not requests, and how many of them failed.

    Source: a schedule is named by its expression ("cron */5 * * * *"), a queue by its name ("queue orders").
    """

    runs: int
    failed: int


class RouteCounts(Value, frozen=True):
    """What one row of counts has of one route, in the words of `Counts`.

    Args:
        sizes: {key: count} of the bodies of its answers with status 200 to GET, see `model.guard.bodies.make_size_key`.
    """

    requests: int
    errors: int
    latency: Mapping[int, int] = field(default_factory=dict)
    classes: Mapping[AnswerClass, int] = field(default_factory=dict)
    sizes: Mapping[int, int] = field(default_factory=dict)
    started: int = 0


class Counts(Value, frozen=True):
    """The answers of one version in one second, the second in which they ended.

    Args:
        version: version id.
        second: Unix second.
        requests: answers counted (canceled ones and our own probes are not).
        errors: answers with `outcome` other than ok, or status >= 500.
        canceled: the client went away.
        latency: {bucket: count} over the same requests, see `find_bucket`.
        routes: {name: counts} of the same requests, as far as the source tells their routes; see `model.guard.routes`.
        classes: {class: count} of those that were answered neither well nor with an error, as far as the source tells.
        started: requests that began in this second, where the source shows that (`SourceTraits.has_started`).
        triggers: {name: counts} of the schedules and queues that ran, where the source shows them (`has_triggers`).
        left: {route: {bucket: count}} of the canceled ones by how long they had waited, as far as the source tells.
        chosen: requests that count nowhere above, as their sender chose the version (`model.guard.chosen`). Not kept.
    """

    version: str
    second: int
    requests: int
    errors: int
    canceled: int = 0
    latency: Mapping[int, int] = field(default_factory=dict)
    routes: Mapping[str, RouteCounts] = field(default_factory=dict)
    classes: Mapping[AnswerClass, int] = field(default_factory=dict)
    started: int = 0
    triggers: Mapping[str, TriggerCounts] = field(default_factory=dict)
    left: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    chosen: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened in that second, so that the row tells nothing."""
        return not (self.requests or self.canceled or self.started or self.triggers or self.chosen)


class CountsPage(Value, frozen=True):
    """Counts of all versions; they are final for seconds below `complete_until`.

    `sampled`: these counts are estimates, although the source usually counts exactly (safety rule 13).
    `unreadable`: {why something could not be counted, and where it was first: how often so far}.
    """

    counts: tuple[Counts, ...]
    complete_until: int
    sampled: bool = False
    unreadable: Mapping[str, int] = field(default_factory=dict)


class SourceTraits(Value, frozen=True):
    """What a source of counts can and cannot see (the basis for automatic action).

    Args:
        lag_s: the longest delay before a request is seen.
        sampled: counts are estimates.
        has_status: HTTP statuses are seen.
        has_version: counts are per version.
        classes: the classes of answers that are distinguished; empty where statuses are not seen, or only 5xx.
        has_method: routes come with their method.
        has_started: it is seen when a request begins, not only its end.
        has_sizes: how long bodies were.
        has_types: with their content types.
        has_triggers: failures of schedules and queues are seen.
        has_choice: requests whose sender chose the version are told apart, and left out.
        has_known_lag: `lag_s` is documented or was measured, and is no guess.
        estimated: why counts that are `sampled` are estimates, in words; "": it samples.
    """

    name: str
    lag_s: float
    sampled: bool
    has_status: bool
    has_version: bool
    classes: frozenset[AnswerClass] = frozenset()
    has_method: bool = False
    has_started: bool = False
    has_sizes: bool = False
    has_types: bool = False
    has_triggers: bool = False
    has_choice: bool = False
    has_known_lag: bool = True
    estimated: str = ""

    @property
    def may_act(self) -> bool:
        """Whether an automatic rollback may rest on this source alone."""
        return not self.list_shortfalls()

    def list_shortfalls(self) -> Sequence[str]:
        """Return why no automatic rollback may rest on this source alone, in words; none where one may."""
        late = f"it comes {format_duration(self.lag_s)} late"
        if not self.has_known_lag:
            late = "how late it comes was not measured yet"
        return (
            *([self.estimated or "it samples"] if self.sampled else []),
            *([] if self.has_status else ["it sees no HTTP statuses"]),
            *([] if self.has_version else ["it does not tell versions apart"]),
            *([late] if self.lag_s >= LATE_S else []),
        )


def sum_counts(counts: Iterable[Counts]) -> tuple[int, int]:
    """Return (requests, errors) summed.

    >>> sum_counts([Counts("v", 1, 10, 2), Counts("v", 2, 5, 0)])
    (15, 2)
    """
    requests = errors = 0
    for row in counts:
        requests += row.requests
        errors += row.errors
    return requests, errors


def merge_latency(counts: Iterable[Counts | RouteCounts]) -> dict[int, int]:
    """Return one histogram over all of them."""
    return merge_counts(row.latency for row in counts)


def merge_counts(tables: Iterable[Mapping[Key, int]]) -> dict[Key, int]:
    """Return {key: sum} over several tables of counts."""
    found: dict[Key, int] = {}
    for table in tables:
        for key, number in table.items():
            found[key] = found.get(key, 0) + number
    return found


def limit_counts(table: Mapping[Key, int], limit: int) -> dict[Key, int]:
    """Return counts that sum to no more than a limit, for a source whose parts do not add up; zeros are left out.

    >>> limit_counts({"404": 3, "401": 2, "429": 0}, 4)
    {'404': 3, '401': 1}
    """
    found: dict[Key, int] = {}
    for key, number in table.items():
        taken = min(number, limit)
        if taken > 0:
            found[key] = taken
            limit -= taken
    return found


def quantile_ms(latency: Mapping[int, int], q: float) -> float | None:
    """Return the latency quantile `q` in [0,1] in milliseconds (upper edge of its bucket, so at most 4.4 % high).

    None when nothing was measured.
    """
    number = sum(latency.values())
    if not number:
        return None
    rank = max(1, math.ceil(q * number))
    seen = 0
    for bucket in sorted(latency):
        seen += latency[bucket]
        if seen >= rank:
            return get_bucket_floor_ms(bucket + 1)
    return None  # pragma: no cover - the ranks above are at most `number`


class ServiceState(StrEnum):
    """One service as the application reports it."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"


class Criticality(StrEnum):
    """The severity of a service's failure; it comes from backout.toml, never from the application."""

    CRITICAL = "critical"
    DEGRADABLE = "degradable"


class ServiceHealth(Value, frozen=True):
    """One service in a health report; `detail` is the application's own words, cut to 200 characters."""

    name: str
    state: ServiceState
    detail: str = ""
    latency_ms: float | None = None


class Reach(StrEnum):
    """Whether the health endpoint could be asked at all."""

    ANSWERED = "answered"
    UNREACHABLE = "unreachable"  # refused, reset, DNS, TLS: the edge or the application is not there
    TIMED_OUT = "timed_out"
    UNREADABLE = (
        "unreadable"  # it answered something that is no health report (HTML, 10 MB, invalid JSON, a foreign redirect)
    )


class HealthReport(Value, frozen=True):
    """One look at the health endpoint.

    Args:
        at: Unix seconds.
        status: HTTP status or None.
        overall: the application's own summary.
        services: per service.
        findings: contradictions and oddities, whole sentences.
        latency_ms: of the whole call.
        version: version id that answered, when the response says so.
    """

    at: float
    reach: Reach
    status: int | None = None
    overall: ServiceState = ServiceState.UNKNOWN
    services: tuple[ServiceHealth, ...] = ()
    findings: tuple[str, ...] = ()
    latency_ms: float | None = None
    version: str | None = None

    @property
    def why_unmeasured(self) -> str:
        """Return why it says nothing of the services, "" where it does."""
        if self.measured:
            return ""
        answered = "what it answers" if self.status is None else f"it answers {self.status}, and that"
        words = {
            Reach.UNREACHABLE: "it cannot be reached",
            Reach.TIMED_OUT: "it does not answer in time",
            Reach.UNREADABLE: f"{answered} is no health report",
        }
        return words.get(self.reach, str(self.reach))

    @property
    def measured(self) -> bool:
        """Whether the report says anything about services (an unreadable answer does not)."""
        return self.reach is Reach.ANSWERED

    @property
    def is_down(self) -> bool:
        """Whether the endpoint itself says no: 5xx, unreachable, or no answer in time."""
        if self.reach in (Reach.UNREACHABLE, Reach.TIMED_OUT):
            return True
        return self.status is not None and self.status >= 500

    def service(self, name: str) -> ServiceHealth | None:
        """Return the service of that name, or None when the report does not mention it."""
        return next((service for service in self.services if service.name == name), None)
