"""The analytics endpoint, as far as it is implemented: invocations of one Worker, and the introspection of one type.

Like Cloudflare's it is minutes late, samples, and has no HTTP status: an answer of 500 is a success.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from aiohttp import web

from backout.model.outcomes import CANCELED, CUT_OFF, OK, has_failed
from backout.twin.api.analytics import estimate
from backout.twin.api.answers import ApiError, format_rfc3339, read_json_object
from backout.twin.api.context import get_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.twin.dataplane.counts import Row

DIMENSIONS = (
    "cacheStatus",
    "coloCode",
    "date",
    "datetime",
    "datetimeFifteenMinutes",
    "datetimeFiveMinutes",
    "datetimeHour",
    "datetimeMinute",
    "dispatchNamespaceName",
    "environmentName",
    "isDispatcher",
    "isPreview",
    "scriptName",
    "scriptTag",
    "scriptVersion",
    "status",
    "usageModel",
)
"""Dimensions by which invocations of Workers can be grouped, from an introspection of the real endpoint (2026-09)."""
_TYPES = {"AccountWorkersInvocationsAdaptiveDimensions": DIMENSIONS}
_INTROSPECTION = re.compile(
    r'^\s*(?:query\s*)?\{\s*__type\s*\(\s*name\s*:\s*"(\w+)"\s*\)\s*\{\s*fields\s*\{\s*name\s*\}\s*\}\s*\}\s*$'
)


_DATASET = re.compile(
    r"workersInvocationsAdaptive\s*\((?P<arguments>[^)]*)\)\s*\{\s*sum\s*\{(?P<sums>[^}]*)\}"
    r"\s*dimensions\s*\{(?P<dimensions>[^}]*)\}\s*\}"
)
_VARIABLE = re.compile(r"(\w+)\s*:\s*\$(\w+)")
_LIMIT = re.compile(r"limit\s*:\s*(\d+)")
_SUMS = frozenset({"requests", "errors"})
_STATUSES = {OK: "success", CANCELED: "clientDisconnected", CUT_OFF: CUT_OFF, "exception": "scriptThrewException"}
_LAG_S = 120.0


def make_routes(base: str) -> list[web.RouteDef]:
    """Return the route under the API's root."""
    return [web.post(base + "/graphql", answer)]


async def answer(request: web.Request) -> web.Response:
    """Answer an introspection of one type's field names, or the invocations of one Worker by its dimensions.

    Raises:
        ApiError: 501 for any other query.
    """
    body = await read_json_object(request)
    query, variables = body.get("query"), body.get("variables")
    text = query if isinstance(query, str) else ""
    if (found := _INTROSPECTION.match(text)) is not None:
        fields = _TYPES.get(found[1])
        type_ = None if fields is None else {"fields": [{"name": name} for name in fields]}
        return _render_data({"__type": type_})
    if (found := _DATASET.search(text)) is not None and isinstance(variables, dict):
        return _answer_invocations(request, text, found, variables)
    raise ApiError(501, 7003, "This twin answers introspections of one type, and invocations of one Worker only")


def _answer_invocations(
    request: web.Request, text: str, found: re.Match[str], variables: Mapping[str, object]
) -> web.Response:
    sums, dimensions = found["sums"].split(), found["dimensions"].split()
    given = {name: str(variables.get(variable, "")) for name, variable in _VARIABLE.findall(text)}
    unknown = [name for name in sums if name not in _SUMS]
    unknown += [name for name in dimensions if name not in ("datetime", "scriptVersion", "status", "scriptName")]
    if unknown:
        return _make_error_response(f"unknown field {unknown[0]!r}")
    if given.get("accountTag") != get_context(request).account_id:
        return _make_error_response("not authorized for that account")
    try:
        since, until = (_parse_second(given.get(name, "")) for name in ("datetime_geq", "datetime_lt"))
    except ValueError:
        return _make_error_response("cannot parse the time of a filter")
    script = given.get("scriptName", "")
    groups: dict[tuple[str, ...], dict[str, int]] = {}
    for row in get_context(request).analytics.rows(script, since, until, lag_s=_LAG_S):
        for outcome, number in row.by_outcome.items():
            named = _make_dimensions(row, script, outcome)
            total = groups.setdefault(tuple(named[name] for name in dimensions), dict.fromkeys(_SUMS, 0))
            total["requests"] += estimate(number, row.requests)
            total["errors"] += estimate(number, row.requests) if has_failed(outcome) else 0
    limit = _LIMIT.search(found["arguments"])
    rows = [
        {"sum": {name: total[name] for name in sums}, "dimensions": dict(zip(dimensions, key, strict=True))}
        for key, total in sorted(groups.items())
    ]
    dataset = rows[: int(limit[1]) if limit else 10]
    return _render_data({"viewer": {"accounts": [{"workersInvocationsAdaptive": dataset}]}})


def _make_dimensions(row: Row, script: str, outcome: str) -> dict[str, str]:
    resources = outcome in ("exceededCpu", "exceededMemory")
    status = _STATUSES.get(outcome, "exceededResources" if resources else "internalError")
    at = format_rfc3339(row.second).partition(".")[0] + "Z"
    return {"datetime": at, "scriptVersion": row.version, "status": status, "scriptName": script}


def _parse_second(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def _render_data(data: object) -> web.Response:
    return web.json_response({"data": data, "errors": None})


def _make_error_response(message: str) -> web.Response:
    return web.json_response({"data": None, "errors": [{"message": message, "path": None, "extensions": {}}]})
