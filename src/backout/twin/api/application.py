"""The API as one aiohttp application: authentication, active faults, routes, and unknown routes."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import random
import time
from typing import TYPE_CHECKING

from aiohttp import web

from backout.twin.api import account as api_account
from backout.twin.api import (
    assets,
    attached,
    d1,
    deployments,
    graphql,
    hyperdrive,
    queues,
    r2,
    secrets,
    services,
    settings,
    tails,
    telemetry,
    twin,
    versions,
)
from backout.twin.api.answers import ApiError
from backout.twin.api.context import CONTEXT, ApiContext, get_context
from backout.twin.api.limiter import CALLS, GRAPHQL_CALLS, UNCOUNTED, Limiter
from backout.twin.faults import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BASE = "/client/v4"
TWIN = "/twin/v1"
_LOG = logging.getLogger("backout.twin.api.application")
_LIMITERS: web.AppKey[dict[bool, Limiter]] = web.AppKey("limiters")
"""Of GraphQL, and of all other calls."""
_OPEN_SUFFIX = "/workers/assets/upload"  # authenticated by the upload session's token


def add_api(app: web.Application, shared: ApiContext, more: Iterable[web.RouteDef] = ()) -> None:
    """Put the routes of the API, of the twin itself, and `more` (all behind the token) into the application."""
    account = BASE + "/accounts/{account}"
    scripts = account + "/workers/scripts"
    app[CONTEXT] = shared
    app[twin.FAULTS] = twin.FaultTools(shared.faults, shared.apply_faults)
    app[attached.ATTACHMENTS] = attached.Attachments()
    app[queues.QUEUES] = {}
    app[_LIMITERS] = {True: Limiter(GRAPHQL_CALLS), False: Limiter(CALLS)}
    for group in (
        api_account.make_routes(BASE),
        versions.make_routes(scripts),
        deployments.make_routes(scripts),
        secrets.make_routes(scripts),
        tails.make_routes(scripts),
        settings.make_routes(account),
        services.make_routes(account),
        assets.make_routes(account),
        attached.make_routes(account),
        graphql.make_routes(BASE),
        hyperdrive.make_routes(account),
        queues.make_routes(account),
        d1.make_routes(account),
        telemetry.make_routes(account),
        r2.make_routes(account),
        twin.make_routes(TWIN),
        more,
    ):
        app.add_routes(group)


@web.middleware
async def guard_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors in the envelope, apply the API's faults, check the token, and count what is unknown."""
    try:
        if request.path.startswith(BASE):
            await _suffer(request)
        _authenticate(request)
        if request.match_info.http_exception is not None:
            _raise_unknown_route(request)
        return _tell_limit(request, await handler(request))
    except ApiError as error:
        return _tell_limit(request, error.response())
    except web.HTTPException as error:
        if error.status < web.HTTPBadRequest.status_code:
            raise
        return ApiError(error.status, 10000 + error.status, error.reason).response()
    except Exception:  # noqa: BLE001 - the outermost edge: even a mistake of ours is an answer that clients can read
        _LOG.exception("%s %s failed", request.method, request.path)
        return ApiError(500, 10002, "workers.api.error.internal_server").response()


async def _suffer(request: web.Request) -> None:
    """Apply the faults that hit the API; a target is a text that the path has to contain."""
    faults = get_context(request).faults
    for fault in faults.active(FaultKind.API_SLOW):
        if _is_struck(fault, request):
            await asyncio.sleep(fault.latency_ms / 1000)
    if (limiter := _find_limiter(request)) is not None and (wait_s := limiter.take(time.time())) > 0:
        raise _make_throttled_error(wait_s)
    for fault in faults.active(FaultKind.API_RATE_LIMIT):
        if _is_struck(fault, request):
            raise _make_throttled_error(fault.retry_after_s)
    for fault in faults.active(FaultKind.API_DOWN):
        if _is_struck(fault, request):
            raise ApiError(503, 10013, "Service unavailable (a fault of this twin is on)")
    for fault in faults.active(FaultKind.API_TOKEN_REFUSED):
        if _is_struck(fault, request):
            raise _make_auth_error(request)


def _make_throttled_error(wait_s: float) -> ApiError:
    message = "Please wait and consider throttling your request speed"
    return ApiError(429, 971, message, headers={"Retry-After": f"{math.ceil(wait_s)}"})


def _find_limiter(request: web.Request) -> Limiter | None:
    """Return what counts a call, None where calls are not limited."""
    if not request.path.startswith(BASE) or not get_context(request).faults.active(FaultKind.API_LIMIT):
        return None
    return request.config_dict[_LIMITERS][request.path == f"{BASE}/graphql"]


def _tell_limit(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Tell how many calls are left, as each answer does: all of them, while none is counted."""
    if not response.prepared and request.path.startswith(BASE):
        limiter = _find_limiter(request)
        response.headers.update(UNCOUNTED if limiter is None else limiter.headers(time.time()))
    return response


def _is_struck(fault: Fault, request: web.Request) -> bool:
    if fault.target is not None and fault.target not in request.path:
        return False
    return fault.share >= 1.0 or random.random() < fault.share  # noqa: S311 - a drill, not a secret


def _authenticate(request: web.Request) -> None:
    """Check the bearer token and the account.

    Raises:
        ApiError: 9109 for a wrong token about the user, 10000 otherwise, as Cloudflare answers.
    """
    if request.path.endswith(_OPEN_SUFFIX) or request.path.startswith(tails.SOCKET_PATH + "/"):
        return
    shared = get_context(request)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    right = hmac.compare_digest(token.strip().encode(), shared.token.encode())
    if scheme.lower() != "bearer" or not right:
        raise _make_auth_error(request)
    if request.match_info.get("account", shared.account_id) != shared.account_id:
        raise ApiError(403, 10000, "Authentication error")


def _make_auth_error(request: web.Request) -> ApiError:
    if request.path.startswith(BASE + "/user"):
        return ApiError(401, 9109, "Invalid access token")
    return ApiError(401, 10000, "Authentication error")


def _raise_unknown_route(request: web.Request) -> None:
    route = f"{request.method} {request.path}"
    _LOG.warning("no answer for %s (%s)", route, request.headers.get("User-Agent", "no user agent"))
    get_context(request).control.state.count_unknown_route(route)
    raise ApiError(501, 7003, f"This twin has no answer for {route}")
