"""The telemetry query of Workers Logs, as far as backout uses it: invocations by version, outcome, status and trigger.

Like Cloudflare's it is late, returns nothing beyond the grouping, and reads a sample of many events. Counts that the
router has by route are returned as a path of that route, where a status stands for its class.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aiohttp import web

from backout.model.guard.answers import AnswerClass
from backout.twin.api.analytics import SAMPLE_ABOVE, estimate
from backout.twin.api.answers import ApiError, json_object, ok, rfc3339
from backout.twin.api.context import context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.twin.dataplane.counts import Row

_VERSION, _OUTCOME, _STATUS = "$workers.scriptVersion.id", "$workers.outcome", "$workers.event.response.status"
_EVENT, _TRIGGER = "$workers.eventType", "$metadata.trigger"
_KEYS = {_VERSION, _OUTCOME, _STATUS, _EVENT, _TRIGGER}
_STATUS_OF = {
    AnswerClass.REDIRECT: 302,
    AnswerClass.BAD_REQUEST: 400,
    AnswerClass.DENIED: 401,
    AnswerClass.NOT_FOUND: 404,
    AnswerClass.GONE: 410,
    AnswerClass.LIMITED: 429,
}
_OTHER_CLIENT_ERROR = 418
_SCRIPT = "$workers.scriptName"
_LAG_S = 30.0


def routes(account: str) -> list[web.RouteDef]:
    """Return the route under an account's path."""
    return [web.post(account + "/workers/observability/telemetry/query", query)]


async def query(request: web.Request) -> web.Response:
    """Answer a count in even buckets, grouped by what is known of invocations."""
    body = await json_object(request)
    parameters, timeframe = _table(body, "parameters"), _table(body, "timeframe")
    groups = [str(_of(each, "value")) for each in _list(parameters, "groupBys")]
    script = next((str(_of(each, "value")) for each in _list(parameters, "filters") if _of(each, "key") == _SCRIPT), "")
    operators = [_of(each, "operator") for each in _list(parameters, "calculations")]
    if body.get("view") != "calculations" or operators != ["count"] or not set(groups) <= _KEYS:
        raise ApiError(501, 7003, "This twin counts invocations by version, outcome, status and trigger only")
    begin, end = (int(_number(timeframe, key) // 1000) for key in ("from", "to"))
    shared = context(request)
    rows = shared.analytics.rows(script, begin, end, lag_s=_LAG_S)
    step_s = max(1, math.ceil((end - begin) / max(1, int(_number(body, "granularity") or 1))))
    series: dict[int, dict[tuple[object, ...], int]] = {}
    for row in rows:
        bucket = series.setdefault(begin + (row.second - begin) // step_s * step_s, {})
        known = _by_trigger(row) if _TRIGGER in groups else (*_invocations(row), *_runs(row))
        for named, number in known:
            key = tuple(named.get(name) for name in groups)
            bucket[key] = bucket.get(key, 0) + number
    sampled = any(row.requests > SAMPLE_ABOVE for row in rows)
    calculation = {
        "calculation": "count",
        "aggregates": [],
        "series": [
            {"time": rfc3339(at), "data": [_data(groups, key, number, step_s) for key, number in found.items()]}
            for at, found in sorted(series.items())
        ],
    }
    statistics = {"bytes_read": 0, "elapsed": 0.0, "rows_read": len(rows), "abr_level": 10 if sampled else 1}
    return ok({"run": {"status": "COMPLETED"}, "statistics": statistics, "calculations": [calculation]})


def _invocations(row: Row) -> Iterator[tuple[dict[str, object], int]]:
    """Yield what is known of a second's invocations; one that threw has no response."""
    statuses = dict(row.statuses)
    for outcome, number in row.by_outcome.items():
        if outcome == "ok":
            continue
        yield {**_make_fetch_fields(row), _OUTCOME: outcome, _STATUS: None}, estimate(number, row.requests)
        for status in (500, 499, *statuses):  # the router gave these to the visitors instead
            taken = min(number, statuses.get(status, 0))
            statuses[status] = statuses.get(status, 0) - taken
            number -= taken  # noqa: PLW2901 - what is left to find
    for status, number in statuses.items():
        if number > 0:
            yield {**_make_fetch_fields(row), _OUTCOME: "ok", _STATUS: status}, estimate(number, row.requests)


def _make_fetch_fields(row: Row) -> dict[str, object]:
    return {_VERSION: row.version, _EVENT: "fetch"}


def _runs(row: Row) -> Iterator[tuple[dict[str, object], int]]:
    """Yield the runs of schedules and queues; those have no response."""
    for name, (runs, failed) in row.triggers.items():
        kind, _, trigger = name.partition(" ")
        event = {_VERSION: row.version, _EVENT: "queue" if kind == "queue" else "scheduled", _TRIGGER: trigger}
        for outcome, number in (("exception", failed), ("ok", runs - failed)):
            if number > 0:
                yield {**event, _OUTCOME: outcome, _STATUS: None}, number


def _by_trigger(row: Row) -> Iterator[tuple[dict[str, object], int]]:
    """Yield the invocations by what they were about: requests that the router has no route of are left out."""
    yield from _runs(row)
    for name, route in row.routes.items():
        if " /" not in name:
            continue
        event = {**_make_fetch_fields(row), _TRIGGER: name.partition("?")[0], _OUTCOME: "ok"}
        statuses = {_STATUS_OF.get(each, _OTHER_CLIENT_ERROR): number for each, number in route.classes.items()}
        statuses[500] = route.errors
        statuses[200] = route.requests - sum(statuses.values())
        for status, number in statuses.items():
            if number > 0:
                yield {**event, _STATUS: status}, estimate(number, row.requests)


def _data(groups: list[str], key: tuple[object, ...], number: int, step_s: int) -> dict[str, object]:
    named = [{"key": name, "value": value} for name, value in zip(groups, key, strict=True) if value is not None]
    return {"count": number, "value": number, "interval": step_s, "sampleInterval": 1, "groups": named}


def _table(parent: object, key: str) -> dict[str, object]:
    value = _of(parent, key)
    return value if isinstance(value, dict) else {}


def _list(parent: object, key: str) -> list[object]:
    value = _of(parent, key)
    return value if isinstance(value, list) else []


def _of(parent: object, key: str) -> object:
    return parent.get(key) if isinstance(parent, dict) else None


def _number(parent: object, key: str) -> float:
    value = _of(parent, key)
    return float(value) if isinstance(value, int | float) else 0.0
