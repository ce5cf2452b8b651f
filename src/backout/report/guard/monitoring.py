"""What `backout watch` shows, as a block, a line, or JSON values, and what was seen, in sentences; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.detector.wording import format_percent as name_share
from backout.model.guard.monitored import Response
from backout.model.guard.signals import ServiceState
from backout.model.guard.verdict import CriterionState
from backout.report.plans import format_criteria
from backout.report.text import format_fields, wrap_text
from backout.report.times import format_ago, format_clock, format_duration, format_percent, format_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.guard.connections import ConnectionUse
    from backout.model.guard.monitored import ErrorRate, Monitored, VersionSeen
    from backout.model.guard.monitoring import Reading
    from backout.model.guard.policy import Policy
    from backout.model.guard.signals import HealthReport, ServiceHealth
    from backout.model.guard.verdict import CriterionResult
    from backout.report.text import Paint

    Badge = Callable[[str, str], str]

_DIGITS = 8
_STATES = {ServiceState.OK: "good", ServiceState.DEGRADED: "warn", ServiceState.DOWN: "bad"}


def judge_reading(reading: Reading) -> tuple[str, str]:
    """Return how things are as (role, word): what failed, what is not decided, or "well"."""
    if reading.maintenance:
        return "bad", "closed: a maintenance version is live"
    if failed := _list_names(reading.criteria, CriterionState.FAILED):
        return "bad", f"not well: {', '.join(failed)}"
    if _list_names(reading.criteria, CriterionState.WAITING):
        return "note", "not decided yet"
    passed = _list_names(reading.criteria, CriterionState.PASSED)
    return ("good", "well") if passed else ("warn", "nothing is measured")


def _list_names(criteria: tuple[CriterionResult, ...], state: CriterionState) -> list[str]:
    return [each.name for each in criteria if each.state is state]


def format_reading(
    reading: Reading, environment: str, policy: Policy, width: int, *, badge: Badge, paint: Paint
) -> list[str]:
    """Return the block of one reading, its lines no longer than `width`."""
    role, word = judge_reading(reading)
    passed = format_clock(reading.at) + f" UTC, {format_elapsed(reading)}"
    head = f"{paint('strong', environment)}  {badge(role, word)}  {paint('dim', passed)}"
    since = f"since {format_clock(reading.live_since)} UTC ({format_ago(reading.live_since, reading.at)})"
    left = f", replaced {reading.left[:_DIGITS]}" if reading.left else ""
    rows = [("live", f"{reading.version[:_DIGITS]} {since}{left}")]
    if reading.live_problem:
        rows.append(("", badge("warn", f"not read again: {reading.live_problem}")))
    if reading.run is not None:
        step = f", step {reading.run.done + 1} of {reading.run.steps}: {reading.run.step}" if reading.run.step else ""
        rows.append(("run", f"{reading.run.id} {reading.run.state}{step}"))
    rows += _list_health_rows(reading, policy, badge)
    rows += [
        ("errors", _format_errors(reading, policy.criteria.error_rate_below)),
        ("response", _format_response(reading)),
        ("connections", _format_connections(reading)),
        ("criteria", describe_criteria(reading.criteria)),
    ]
    return [
        *wrap_text(head, width, hanging="  "),
        *format_fields(rows, width, paint=paint),
        *format_criteria(reading.criteria, width=width, paint=paint),
    ]


def format_elapsed(reading: Reading) -> str:
    """Return how long it has been watched, of how long.

    >>> from backout.model.guard.monitoring import Reading
    >>> format_elapsed(Reading(60.0, 10.0, 900.0, "v", "d", 0.0))
    '+10 s of 15 min'
    """
    until = "" if reading.for_s is None else f" of {_format_seconds(reading.for_s)}"
    return f"+{_format_seconds(reading.elapsed_s)}{until}"


def _format_seconds(seconds: float) -> str:
    return format_duration(round(seconds)).replace(".0 ", " ")


def _list_health_rows(reading: Reading, policy: Policy, badge: Badge) -> list[tuple[str, str]]:
    health = reading.health
    if health is None:
        return [("health", "not asked yet" if reading.has_health else "not set up")]
    if not health.measured:
        word = badge("bad", "down") if health.is_down else badge("warn", "not measured")
        return [("health", f"{word}: {health.why_unmeasured}")]
    took = "" if health.latency_ms is None else f", {health.latency_ms:.0f} ms"
    word = badge("bad", "down") if health.is_down else badge(_STATES.get(health.overall, "warn"), health.overall)
    rows = [("health", "; ".join((f"{word} ({health.status}{took})", *health.findings)))]
    return rows + [(f"  {each.name}", _format_service(each, policy, badge)) for each in health.services]


def _format_service(service: ServiceHealth, policy: Policy, badge: Badge) -> str:
    critical = policy.is_critical(service.name)
    role = _STATES.get(service.state, "warn")
    shown = badge("warn" if role == "bad" and not critical else role, service.state)
    details = [] if service.state is ServiceState.OK or critical else ["it may be: not critical"]
    details += [service.detail] if service.detail else []
    return shown + (f" ({'; '.join(details)})" if details else "")


def _format_errors(reading: Reading, limit: float) -> str:
    rate = reading.errors
    if rate is None:
        return "not set up"
    lost = f"; no new counts: {reading.counts_problem}" if reading.counts_problem else ""
    if rate.share is None:
        return f"no request in the last {_format_seconds(rate.window_s)}{lost}"
    return (
        f"{format_percent(rate.share)} ({_format_band(rate)}), limit {name_share(limit)}; "
        f"{rate.errors:,} of {rate.requests:,} in the last {_format_seconds(rate.window_s)}{lost}"
    )


def _format_band(rate: ErrorRate) -> str:
    return f"{format_percent(rate.low).removesuffix(' %')} to {format_percent(rate.high)}"


def _format_response(reading: Reading) -> str:
    if reading.errors is None:
        return "not set up"
    if reading.response == Response():
        return "no response time in these seconds"
    has_usual = reading.usual != Response()
    pairs = zip(_list_quantiles(reading.response), _list_quantiles(reading.usual), strict=True)
    parts = [
        f"{name} {_format_ms(now)}" + (f" ({_format_ms(usual)})" if has_usual else "")
        for (name, now), (_, usual) in pairs
    ]
    against = f"; in brackets: {reading.usual_from}" if has_usual else "; nothing to compare with"
    return ", ".join(parts) + against


def _list_quantiles(response: Response) -> tuple[tuple[str, float | None], ...]:
    return ("p50", response.p50_ms), ("p95", response.p95_ms), ("p99", response.p99_ms)


def _format_ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"


def _format_connections(reading: Reading) -> str:
    if reading.connections is None:
        if reading.connections_problem:
            return f"not read: {reading.connections_problem}"
        return "not read yet" if reading.has_connections else "not set up"
    lost = f"; not read again: {reading.connections_problem}" if reading.connections_problem else ""
    return describe_connections(reading.connections) + lost


def describe_connections(use: ConnectionUse) -> str:
    """Return how many connections are in use.

    >>> from backout.model.guard.connections import ConnectionUse
    >>> describe_connections(ConnectionUse(0.0, 7, 100, 2))
    '7 of 100 in use (server), 2 wait for a lock'
    """
    if use.refused:
        return f"none left ({use.scope}): {use.refused}"
    waiting = "" if use.waiting is None else f", {use.waiting} wait{'s' * (use.waiting == 1)} for a lock"
    return f"{use.used:,} of {use.limit:,} in use ({use.scope}){waiting}"


def describe_criteria(criteria: tuple[CriterionResult, ...]) -> str:
    """Return how many of the criteria that are set up are passed."""
    there = [each for each in criteria if each.state is not CriterionState.NOT_SET_UP]
    passed = sum(each.state is CriterionState.PASSED for each in there)
    return f"{passed} of {len(there)} passed"


def format_line(reading: Reading) -> str:
    """Return one reading as one line, for a file or a log."""
    rate, use = reading.errors, reading.connections
    parts = [f"{format_clock(reading.at)} {format_elapsed(reading)}", judge_reading(reading)[1]]
    parts.append(f"live {reading.version[:_DIGITS]}")
    if reading.live_problem:
        parts.append("what is live was not read again")
    if reading.run is not None:
        parts.append(f"{reading.run.id} step {min(reading.run.done + 1, reading.run.steps)}/{reading.run.steps}")
    if reading.health is not None:
        parts.append(f"health {describe_health(reading.health)}")
    if rate is not None and rate.share is not None:
        parts.append(f"errors {format_percent(rate.share)} ({_format_band(rate)}) of {rate.requests:,}")
        quantiles = "/".join("-" if ms is None else f"{ms:.0f}" for _, ms in _list_quantiles(reading.response))
        usual = "/".join("-" if ms is None else f"{ms:.0f}" for _, ms in _list_quantiles(reading.usual))
        compared = f" (before {usual})" if reading.usual != Response() else ""
        parts.append(f"p50/p95/p99 {quantiles} ms{compared}")
    elif rate is not None:
        parts.append("no counts" if reading.counts_problem else "no requests")
    if use is not None:
        parts.append(f"connections {use.used}/{use.limit}")
    waiting = _list_names(reading.criteria, CriterionState.WAITING)
    waits = f", waiting for: {', '.join(waiting)}" if waiting else ""
    return "  ".join([*parts, f"criteria {describe_criteria(reading.criteria)}{waits}"])


def describe_health(health: HealthReport) -> str:
    """Return a look at the health endpoint in a word or two."""
    troubled = [each.name for each in health.services if each.state is ServiceState.DOWN]
    if health.is_down or troubled:
        return f"DOWN ({', '.join(troubled) or health.status or health.reach})"
    return health.overall if health.measured else f"not measured ({health.reach})"


def list_seen(seen: Monitored) -> list[str]:
    """Return what was seen, a sentence each."""
    found = [f"Watched for {_format_seconds(seen.until - seen.since)}."]
    found += [_describe_version(each) for each in seen.versions]
    if seen.looks:
        down = f": {', '.join(seen.down)}" if seen.down else ""
        found.append(f"Health: {seen.bad_looks:,} of {seen.looks:,} looks found something critical down{down}.")
    if seen.fullest is not None:
        found.append(f"Database connections at their fullest: {describe_connections(seen.fullest)}.")
    return found


def _describe_version(seen: VersionSeen) -> str:
    name = f"Version {seen.version[:_DIGITS]} from {format_clock(seen.since)} UTC on"
    if not seen.requests:
        return f"{name}: no request was seen."
    failed = f"{seen.errors:,} of {seen.requests:,} requests failed ({format_percent(seen.errors / seen.requests)})"
    if seen.response == Response():
        return f"{name}: {failed}."
    times = ", ".join(f"{quantile} {_format_ms(ms)}" for quantile, ms in _list_quantiles(seen.response))
    usual = ", ".join(f"{quantile} {_format_ms(ms)}" for quantile, ms in _list_quantiles(seen.usual))
    against = f" against {usual} ({seen.usual_from})" if seen.usual_from else ""
    return f"{name}: {failed}; {times}{against}."


def make_reading_record(reading: Reading) -> dict[str, object]:
    """Return a reading as the JSON values of one line."""
    rate, health, run, use = reading.errors, reading.health, reading.run, reading.connections
    return {
        "at": format_time(reading.at),
        "elapsed_s": round(reading.elapsed_s, 3),
        "for_s": reading.for_s,
        "live_version": reading.version,
        "deployment_id": reading.deployment,
        "live_since": format_time(reading.live_since),
        "maintenance": reading.maintenance,
        "left_version": reading.left,
        "live_problem": reading.live_problem or None,
        "run": None
        if run is None
        else {"run_id": run.id, "state": run.state, "done": run.done, "steps": run.steps, "step": run.step},
        "health": None
        if health is None
        else {
            "reach": health.reach,
            "status": health.status,
            "overall": health.overall,
            "latency_ms": health.latency_ms,
            "services": {each.name: {"state": each.state, "detail": each.detail} for each in health.services},
        },
        "errors": None
        if rate is None
        else {
            "window_s": round(rate.window_s, 3),
            "requests": rate.requests,
            "errors": rate.errors,
            "error_rate": rate.share,
            "low": rate.low,
            "high": rate.high,
            "problem": reading.counts_problem or None,
        },
        "response": make_response_record(reading.response),
        "baseline": make_response_record(reading.usual) | {"from": reading.usual_from or None},
        "connections": _make_connections_record(use),
    }


def make_response_record(response: Response) -> dict[str, object]:
    """Return response times as JSON values."""
    return {f"{name}_ms": ms for name, ms in _list_quantiles(response)}


def _make_connections_record(use: ConnectionUse | None) -> dict[str, object] | None:
    if use is None:
        return None
    return {
        "used": use.used,
        "limit": use.limit,
        "waiting": use.waiting,
        "scope": use.scope,
        "refused": use.refused or None,
    }


def make_seen_record(seen: Monitored) -> dict[str, object]:
    """Return what was seen as JSON values."""
    return {
        "since": format_time(seen.since),
        "until": format_time(seen.until),
        "versions": [
            {
                "version": each.version,
                "since": format_time(each.since),
                "requests": each.requests,
                "errors": each.errors,
                "response": make_response_record(each.response),
                "baseline": make_response_record(each.usual) | {"from": each.usual_from or None},
            }
            for each in seen.versions
        ],
        "looks": seen.looks,
        "bad_looks": seen.bad_looks,
        "down": list(seen.down),
        "connections": _make_connections_record(seen.fullest),
    }
