"""Hyperdrive configurations: `hyperdrive/configs`.

Whatever origin they name, a Worker that is bound to one reaches the twin's own Postgres; so no password is kept.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec.structs import replace

from backout.twin.api.answers import ApiError, format_rfc3339, make_page_info, read_json_object, render_result
from backout.twin.api.context import get_context
from backout.twin.control.records import HyperdriveConfig
from backout.twin.database.querycache import MAX_AGE_S, STALE_S, Policy

if TYPE_CHECKING:
    from backout.twin.control.records import ApiObject

_SECRET = ("password", "access_client_secret")
_PASSED_ON = ("mtls", "origin_connection_limit")


def make_routes(account: str) -> list[web.RouteDef]:
    """Return the routes under the path of the account."""
    configs = account + "/hyperdrive/configs"
    return [
        web.get(configs, list_configs),
        web.post(configs, create_config),
        web.get(configs + "/{id}", get_config),
        web.put(configs + "/{id}", change_config),
        web.patch(configs + "/{id}", change_config),
        web.delete(configs + "/{id}", delete_config),
    ]


def make_policy(config: HyperdriveConfig) -> Policy:
    """Return how a configuration caches."""
    caching = config.caching
    return Policy(
        enabled=caching.get("disabled") is not True,
        max_age_s=_parse_seconds(caching.get("max_age"), MAX_AGE_S),
        stale_s=_parse_seconds(caching.get("stale_while_revalidate"), STALE_S),
    )


async def list_configs(request: web.Request) -> web.Response:
    """List the configurations."""
    found = get_context(request).control.state.hyperdrives()
    return render_result([_describe(config) for config in found], info=make_page_info(len(found), len(found)))


async def create_config(request: web.Request) -> web.Response:
    """Make a configuration: a name, an origin, how it caches.

    Raises:
        ApiError: 400 without a name or an origin.
    """
    body = await read_json_object(request)
    name, origin = body.get("name"), body.get("origin")
    if not isinstance(name, str) or not name or not isinstance(origin, dict):
        raise ApiError(400, 10026, "A Hyperdrive configuration needs a name and an origin.")
    now = time.time()
    config = HyperdriveConfig(uuid.uuid4().hex, name, now, now, {})
    return _save(request, config, body)


async def get_config(request: web.Request) -> web.Response:
    """Show one."""
    return render_result(_describe(_get_config(request)))


async def change_config(request: web.Request) -> web.Response:
    """Change what the body names."""
    return _save(request, replace(_get_config(request), modified_at=time.time()), await read_json_object(request))


async def delete_config(request: web.Request) -> web.Response:
    """Forget one."""
    get_context(request).control.state.delete_hyperdrive(_get_config(request).id)
    return render_result(None)


def _save(request: web.Request, config: HyperdriveConfig, body: ApiObject) -> web.Response:
    name, origin, caching = body.get("name"), body.get("origin"), body.get("caching")
    if isinstance(origin, dict):
        kept = {key: value for key, value in origin.items() if key not in _SECRET}
        config = replace(config, origin={**config.origin, **kept})
    config = replace(
        config,
        name=name if isinstance(name, str) and name else config.name,
        caching=caching if isinstance(caching, dict) else config.caching,
        more={**config.more, **{key: body[key] for key in _PASSED_ON if body.get(key) is not None}},
    )
    ctx = get_context(request)
    ctx.control.state.save_hyperdrive(config)
    ctx.set_caching(config.id, make_policy(config))
    return render_result(_describe(config))


def _get_config(request: web.Request) -> HyperdriveConfig:
    wanted = request.match_info["id"]
    found = get_context(request).control.state.hyperdrive(wanted)
    if found is None:  # the number is a guess
        raise ApiError(404, 2000, f"Hyperdrive configuration {wanted} was not found.")
    return found


def _describe(config: HyperdriveConfig) -> ApiObject:
    return {
        "id": config.id,
        "name": config.name,
        "origin": config.origin,
        "caching": config.caching or {"disabled": False},
        "created_on": format_rfc3339(config.created_at),
        "modified_on": format_rfc3339(config.modified_at),
        **config.more,
    }


def _parse_seconds(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default
