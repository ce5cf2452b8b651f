"""The analytics endpoint, so far as it is there: the introspection of one type; other queries are refused."""

from __future__ import annotations

import re

from aiohttp import web

from backout.twin.answers import ApiError, json_object

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
"""By what invocations of Workers can be grouped, as somebody's introspection of the real endpoint showed (2026-09)."""
_TYPES = {"AccountWorkersInvocationsAdaptiveDimensions": DIMENSIONS}
_INTROSPECTION = re.compile(
    r'^\s*(?:query\s*)?\{\s*__type\s*\(\s*name\s*:\s*"(\w+)"\s*\)\s*\{\s*fields\s*\{\s*name\s*\}\s*\}\s*\}\s*$'
)


def routes(base: str) -> list[web.RouteDef]:
    """Return the route under the API's root."""
    return [web.post(base + "/graphql", answer)]


async def answer(request: web.Request) -> web.Response:
    """Answer an introspection of one type's field names."""
    query = (await json_object(request)).get("query")
    found = _INTROSPECTION.match(query) if isinstance(query, str) else None
    if found is None:
        raise ApiError(501, 7003, "This twin answers introspections of one type only")
    fields = _TYPES.get(found[1])
    type_ = None if fields is None else {"fields": [{"name": name} for name in fields]}
    return web.json_response({"data": {"__type": type_}, "errors": None})
