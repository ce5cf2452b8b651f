"""Ready-made rules of traffic and health for a World."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.guard.answers import classify_unless_good
from backout.model.guard.routes import add_up
from backout.model.guard.signals import (
    Counts,
    HealthReport,
    Reach,
    RouteCounts,
    ServiceHealth,
    ServiceState,
    merge_counts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    TrafficRule = Callable[[int, str], Counts | None]


_SERVER_ERROR = 500


def quiet(second: int, version: str) -> Counts | None:  # noqa: ARG001 - a rule of traffic
    """Rule of traffic: there are no requests."""
    return None


def make_steady(requests: int, *, error_rate: float = 0.0, latency_bucket: int = 90) -> TrafficRule:
    """Return the rule of even traffic: `requests` per second and version; errors are spread evenly.

    >>> rule = make_steady(10, error_rate=0.25)
    >>> [rule(second, "v").errors for second in range(4)]
    [2, 3, 2, 3]
    """

    def rule(second: int, version: str) -> Counts:
        errors = int((second + 1) * requests * error_rate) - int(second * requests * error_rate)
        return Counts(version, second, requests, errors, latency={latency_bucket: requests} if requests else {})

    return rule


def make_answering(routes: Mapping[str, Mapping[int, int]], *, latency_bucket: int = 90) -> TrafficRule:
    """Return the rule of even traffic by route and status.

    Args:
        routes: {route: {HTTP status: requests a second and version}}.

    >>> rule = make_answering({"GET /": {200: 8, 404: 2}, "POST /api/orders": {500: 1}})
    >>> rule(0, "v").requests, rule(0, "v").errors, dict(rule(0, "v").classes)
    (11, 1, {<AnswerClass.NOT_FOUND: '404'>: 2})
    """
    parts = {name: _count_answers(statuses, latency_bucket) for name, statuses in routes.items()}
    whole = add_up(parts.values())

    def rule(second: int, version: str) -> Counts:
        return Counts(
            version,
            second,
            whole.requests,
            whole.errors,
            latency=whole.latency,
            routes=parts,
            classes=whole.classes,
        )

    return rule


def _count_answers(statuses: Mapping[int, int], latency_bucket: int) -> RouteCounts:
    number = sum(statuses.values())
    errors = sum(count for status, count in statuses.items() if status >= _SERVER_ERROR)
    classes = merge_counts(
        {found: count} for status, count in statuses.items() if (found := classify_unless_good(status))
    )
    return RouteCounts(number, errors, {latency_bucket: number}, classes)


def make_health(
    at: float,
    services: dict[str, ServiceState],
    *,
    version: str | None = None,
    latency_ms: float = 20.0,
) -> HealthReport:
    """Return the report of an application that tells these services, 503 when one of them is down."""
    states = set(services.values())
    down = ServiceState.DOWN in states
    overall = ServiceState.DOWN if down else ServiceState.OK if states <= {ServiceState.OK} else ServiceState.DEGRADED
    return HealthReport(
        at=at,
        reach=Reach.ANSWERED,
        status=503 if down else 200,
        overall=overall,
        services=tuple(ServiceHealth(name, state, latency_ms=5.0) for name, state in services.items()),
        latency_ms=latency_ms,
        version=version,
    )
