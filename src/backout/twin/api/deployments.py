"""Deployments: `scripts/{script}/deployments`; a rollback is a POST that names an older version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from backout.twin.api.answers import ApiError, json_object, ok, rfc3339
from backout.twin.api.context import USER_EMAIL, context, is_true, script_name, source
from backout.twin.control import semantics

if TYPE_CHECKING:
    from backout.twin.control.records import ApiObject, Deployment

_SHOWN = 10


def routes(scripts: str) -> list[web.RouteDef]:
    """Return the routes under the path of all scripts."""
    return [
        web.get(scripts + "/{script}/deployments", list_deployments),
        web.post(scripts + "/{script}/deployments", create_deployment),
        web.get(scripts + "/{script}/deployments/{deployment}", get_deployment),
    ]


def describe(deployment: Deployment) -> ApiObject:
    """Return a deployment as the API shows it."""
    return {
        "id": deployment.id,
        "source": deployment.source,
        "strategy": "percentage",
        "author_email": USER_EMAIL,
        "annotations": deployment.annotations,
        "created_on": rfc3339(deployment.created_at),
        "versions": [{"version_id": s.version_id, "percentage": _plain(s.percentage)} for s in deployment.shares],
    }


async def list_deployments(request: web.Request) -> web.Response:
    """List the ten newest deployments; the first is live."""
    ctx = context(request)
    name = ctx.control.script(script_name(request)).name
    return ok({"deployments": [describe(d) for d in ctx.control.state.deployments(name, limit=_SHOWN)]})


async def get_deployment(request: web.Request) -> web.Response:
    """Show one deployment."""
    ctx = context(request)
    name = ctx.control.script(script_name(request)).name
    wanted = request.match_info["deployment"]
    for deployment in ctx.control.state.deployments(name):
        if deployment.id == wanted:
            return ok(describe(deployment))
    raise ApiError(404, 10100, f"Deployment {wanted} was not found.")


async def create_deployment(request: web.Request) -> web.Response:
    """Make versions live."""
    ctx = context(request)
    body = await json_object(request)
    if body.get("strategy", "percentage") != "percentage":
        raise ApiError(400, 10021, "The only strategy is percentage.")
    deployment = await ctx.control.deploy(
        script_name(request),
        semantics.parse_shares(body.get("versions")),
        semantics.clean_annotations(body.get("annotations")),
        force=is_true(request, "force"),
        source=source(request),
    )
    return ok(describe(deployment))


def _plain(percentage: float) -> float | int:
    return int(percentage) if percentage == int(percentage) else percentage
