"""The telemetry query of Workers Logs, as far as backout uses it: invocations by version, outcome, status and trigger.

Like Cloudflare's it is late (by 30 s, or as the fault `telemetry-lag` says), holds what the Worker's settings keep,
returns nothing beyond the grouping, leaves out what lacks a key of the grouping, and reads a sample of many events. A
filter by "neq" or "is_null" keeps what lacks its key, which is a guess. Counts that the router has by route are
returned as a path of that route, where a status stands for its class. backout's own requests are among the
invocations, as they are at Cloudflare.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from backout.model.guard.answers import AnswerClass
from backout.twin.api.analytics import SAMPLE_ABOVE, SAMPLE_EVERY, estimate
from backout.twin.api.answers import ApiError, format_rfc3339, read_json_object, render_result
from backout.twin.api.context import get_context
from backout.twin.faults import FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.twin.control.records import Script
    from backout.twin.dataplane.counts import Row

_VERSION, _OUTCOME, _STATUS = "$workers.scriptVersion.id", "$workers.outcome", "$workers.event.response.status"
_EVENT, _TRIGGER = "$workers.eventType", "$metadata.trigger"
_PROBE, _MODEL = "$workers.event.request.headers.x-backout-probe", "$workers.executionModel"
_SCRIPT, _TYPE = "$workers.scriptName", "$metadata.type"
_PROBE_ID = "$workers.event.request.headers.x-backout-probe-id"
_KEYS = {_VERSION, _OUTCOME, _STATUS, _EVENT, _TRIGGER, _PROBE, _PROBE_ID, _MODEL}
_OPERATIONS: dict[object, Callable[[object, object], bool]] = {
    "eq": lambda found, wanted: found == wanted,
    "neq": lambda found, wanted: found != wanted,
    "is_null": lambda found, _wanted: found is None,
}
_STATUS_OF = {
    AnswerClass.REDIRECT: 302,
    AnswerClass.BAD_REQUEST: 400,
    AnswerClass.DENIED: 401,
    AnswerClass.NOT_FOUND: 404,
    AnswerClass.GONE: 410,
    AnswerClass.LIMITED: 429,
}
_OTHER_CLIENT_ERROR = 418
_LAG_S = 30.0


def make_routes(account: str) -> list[web.RouteDef]:
    """Return the route under an account's path."""
    return [web.post(account + "/workers/observability/telemetry/query", query)]


async def query(request: web.Request) -> web.Response:
    """Answer a count in even buckets, grouped by what is known of invocations.

    Raises:
        ApiError: 501 for any other query.
    """
    body = await read_json_object(request)
    parameters, timeframe = _get_table(body, "parameters"), _get_table(body, "timeframe")
    groups = [str(_get_value(each, "value")) for each in _list(parameters, "groupBys")]
    filters = [_Filter.parse(each) for each in _list(parameters, "filters")]
    script = next((str(each.value) for each in filters if each.key == _SCRIPT), "")
    filters = [each for each in filters if each.key not in (_SCRIPT, _TYPE)]
    operators = [_get_value(each, "operator") for each in _list(parameters, "calculations")]
    if (
        body.get("view") != "calculations"
        or operators != ["count"]
        or not {*groups, *(each.key for each in filters)} <= _KEYS
    ):
        raise ApiError(501, 7003, "This twin counts invocations by version, outcome, status and trigger only")
    begin, end = (int(_get_number(timeframe, key) // 1000) for key in ("from", "to"))
    shared = get_context(request)
    late = shared.faults.active(FaultKind.TELEMETRY_LAG)
    lag_s = late[-1].latency_ms / 1000 if late else _LAG_S
    kept = _find_kept_share(shared.control.state.script(script))
    rows = shared.analytics.rows(script, begin, end, lag_s=lag_s) if kept else ()
    step_s = max(1, math.ceil((end - begin) / max(1, int(_get_number(body, "granularity") or 1))))
    series: dict[int, dict[tuple[object, ...], int]] = {}
    for row in rows:
        bucket = series.setdefault(begin + (row.second - begin) // step_s * step_s, {})
        plain = (*_list_invocations(row), *_list_probes(row), *_list_runs(row), *_list_objects(row))
        for named, number in _group_by_trigger(row) if _TRIGGER in groups else plain:
            key = tuple(named.get(name) for name in groups)
            if None not in key and all(each.holds(named) for each in filters):
                bucket[key] = bucket.get(key, 0) + round(number * kept)
    sampled = any(row.requests > SAMPLE_ABOVE for row in rows)
    calculation = {
        "calculation": "count",
        "aggregates": [],
        "series": [
            {
                "time": format_rfc3339(at),
                "data": [
                    _render_data(groups, key, number, step_s, SAMPLE_EVERY if sampled else 1)
                    for key, number in found.items()
                ],
            }
            for at, found in sorted(series.items())
        ],
    }
    statistics = {"bytes_read": 0, "elapsed": 0.0, "rows_read": len(rows), "abr_level": 10 if sampled else 1}
    return render_result({"run": {"status": "COMPLETED"}, "statistics": statistics, "calculations": [calculation]})


class _Filter(NamedTuple):
    """A condition on one key."""

    key: str
    value: object
    operation: object

    @classmethod
    def parse(cls, each: object) -> _Filter:
        """Return the filter of a query.

        Raises:
            ApiError: 501 for an operation that is not known here.
        """
        operation = _get_value(each, "operation")
        if operation not in _OPERATIONS:
            raise ApiError(501, 7003, "This twin filters by eq, neq and is_null only")
        return cls(str(_get_value(each, "key")), _get_value(each, "value"), operation)

    def holds(self, named: dict[str, object]) -> bool:
        """Return whether invocations of which this is known meet it."""
        return _OPERATIONS[self.operation](named.get(self.key), self.value)


def _find_kept_share(script: Script | None) -> float:
    """Return the share of invocations that the Worker's settings keep; all of a Worker that is only counted."""
    if script is None:
        return 1.0
    kept = script.observability
    rate = kept.get("head_sampling_rate", 1)
    return float(rate) if kept.get("enabled") and isinstance(rate, int | float) else 0.0


def _list_invocations(row: Row) -> Iterator[tuple[dict[str, object], int]]:
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
    return {_VERSION: row.version, _EVENT: "fetch", _MODEL: "stateless"}


def _list_probes(row: Row) -> Iterator[tuple[dict[str, object], int]]:
    """Yield backout's own requests, which no count of the router has."""
    named = {**_make_fetch_fields(row), _PROBE: "1", _OUTCOME: "ok", _STATUS: 200}
    for probe_id, number in row.probe_ids.items():
        yield {**named, _PROBE_ID: probe_id}, number
    if others := row.probes - sum(row.probe_ids.values()):
        yield named, others


def _list_runs(row: Row) -> Iterator[tuple[dict[str, object], int]]:
    """Yield the runs of schedules and queues; those have no response."""
    for name, (runs, failed) in row.triggers.items():
        kind, _, trigger = name.partition(" ")
        event = {_VERSION: row.version, _EVENT: "queue" if kind == "queue" else "scheduled", _TRIGGER: trigger}
        event[_MODEL] = "stateless"
        for outcome, number in (("exception", failed), ("ok", runs - failed)):
            if number > 0:
                yield {**event, _OUTCOME: outcome, _STATUS: None}, number


def _list_objects(row: Row) -> Iterator[tuple[dict[str, object], int]]:
    """Yield the calls of Durable Objects, of which a fetch alone has a response."""
    for name, number in row.objects.items():
        kind, outcome, *status = name.split(" ")
        named = {_VERSION: row.version, _EVENT: kind, _MODEL: "durableObject", _OUTCOME: outcome}
        yield {**named, _STATUS: int(status[0]) if status else None}, number


def _group_by_trigger(row: Row) -> Iterator[tuple[dict[str, object], int]]:
    """Yield the invocations by what they were about: requests that the router has no route of are left out."""
    yield from _list_runs(row)
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


def _render_data(groups: list[str], key: tuple[object, ...], number: int, step_s: int, every: int) -> dict[str, object]:
    named = [{"key": name, "value": value} for name, value in zip(groups, key, strict=True)]
    return {"count": number, "value": number, "interval": step_s, "sampleInterval": every, "groups": named}


def _get_table(parent: object, key: str) -> dict[str, object]:
    value = _get_value(parent, key)
    return value if isinstance(value, dict) else {}


def _list(parent: object, key: str) -> list[object]:
    value = _get_value(parent, key)
    return value if isinstance(value, list) else []


def _get_value(parent: object, key: str) -> object:
    return parent.get(key) if isinstance(parent, dict) else None


def _get_number(parent: object, key: str) -> float:
    value = _get_value(parent, key)
    return float(value) if isinstance(value, int | float) else 0.0
