"""Secrets: every change is a new version that goes live at once, except through the beta `versions/latest`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from backout.twin.api.answers import ApiError, read_json_object, render_result
from backout.twin.api.context import get_context, get_script_name, get_source
from backout.twin.control.records import SECRET_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.twin.control.records import ApiObject


def make_routes(scripts: str) -> list[web.RouteDef]:
    """Return the routes under the path of all scripts."""
    return [
        web.get(scripts + "/{script}/secrets", list_secrets),
        web.put(scripts + "/{script}/secrets", put_secret),
        web.delete(scripts + "/{script}/secrets/{name}", delete_secret),
        web.patch(scripts + "/{script}/secrets-bulk", change_secrets),
    ]


def parse_changes(given: object) -> dict[str, ApiObject | None]:
    """Return the changes of a merge-patch `{name: binding | null}`.

    Raises:
        ApiError: 400 when a value is neither null nor a secret with its text.
    """
    if not isinstance(given, dict):
        raise ApiError(400, 10026, "The changes must be an object of secrets by name.")
    return {str(name): None if value is None else _make_binding(str(name), value) for name, value in given.items()}


async def list_secrets(request: web.Request) -> web.Response:
    """List the names and types of the latest version's secrets."""
    ctx = get_context(request)
    name = ctx.control.script(get_script_name(request)).name
    latest = ctx.control.state.latest(name)
    bindings = latest.bindings if latest else ()
    return render_result([{"name": b["name"], "type": b["type"]} for b in bindings if b.get("type") in SECRET_TYPES])


async def put_secret(request: web.Request) -> web.Response:
    """Set one secret and deploy.

    Raises:
        ApiError: 400 when it has no name or no text; otherwise as `ControlPlane.change_secrets`.
    """
    body = await read_json_object(request)
    name = body.get("name")
    if not isinstance(name, str) or not name:
        raise ApiError(400, 10026, "A secret needs a name.")
    binding = _make_binding(name, body)
    await _change(request, {name: binding})
    return render_result({"name": name, "type": binding["type"]})


async def delete_secret(request: web.Request) -> web.Response:
    """Delete one secret and deploy.

    Raises:
        ApiError: 404 when there is none; otherwise as `ControlPlane.change_secrets`.
    """
    control = get_context(request).control
    name = request.match_info["name"]
    latest = control.state.latest(control.script(get_script_name(request)).name)
    if latest is None or name not in latest.secrets():
        raise ApiError(404, 10056, f"Binding {name} was not found.")
    await _change(request, {name: None})
    return render_result(None)


async def change_secrets(request: web.Request) -> web.Response:
    """Set and delete several secrets in one new version, and deploy."""
    body = await read_json_object(request)
    await _change(request, parse_changes(body.get("secrets")))
    return render_result({})


async def _change(request: web.Request, changes: Mapping[str, ApiObject | None]) -> None:
    await get_context(request).control.change_secrets(
        get_script_name(request), changes, deploy=True, source=get_source(request)
    )


def _make_binding(name: str, value: object) -> ApiObject:
    if not isinstance(value, dict):
        raise ApiError(400, 10026, f"Secret {name} must be an object or null.")
    kind = value.get("type", "secret_text")
    if kind not in SECRET_TYPES:
        raise ApiError(400, 10026, f"Secret {name} has the type {kind!r}, which is no secret.")
    if kind == "secret_text" and not isinstance(value.get("text"), str):
        raise ApiError(400, 10026, f"Secret {name} has no text.")
    return {**value, "name": name, "type": kind}
