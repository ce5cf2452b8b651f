"""Deployments: `scripts/{script}/deployments`; a rollback is a POST that names an older version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from backout.twin.api.answers import ApiError, format_rfc3339, read_json_object, render_result
from backout.twin.api.context import USER_EMAIL, get_context, get_script_name, get_source, is_true
from backout.twin.control import semantics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.twin.control.records import ApiObject, Deployment, Share

_SHOWN = 10


def make_routes(scripts: str) -> list[web.RouteDef]:
    """Return the routes under the path of all scripts."""
    return [
        web.get(scripts + "/{script}/deployments", list_deployments),
        web.post(scripts + "/{script}/deployments", create_deployment),
        web.get(scripts + "/{script}/deployments/{deployment}", get_deployment),
    ]


def describe(deployment: Deployment) -> ApiObject:
    """Return a deployment as the API shows it."""
    cohorts = [{"name": name, "versions": _render_shares(shares)} for name, shares in deployment.cohorts.items()]
    return {
        "id": deployment.id,
        "source": deployment.source,
        "strategy": "percentage",
        "author_email": USER_EMAIL,
        "annotations": deployment.annotations,
        "created_on": format_rfc3339(deployment.created_at),
        "versions": _render_shares(deployment.shares),
        **({"cohorts": cohorts} if cohorts else {}),
        "code_update_strategy": deployment.code_update_strategy,
    }


def _render_shares(shares: Sequence[Share]) -> list[ApiObject]:
    return [{"version_id": share.version_id, "percentage": _make_plain(share.percentage)} for share in shares]


async def list_deployments(request: web.Request) -> web.Response:
    """List the ten newest deployments; the first is live."""
    ctx = get_context(request)
    name = ctx.control.script(get_script_name(request)).name
    return render_result({"deployments": [describe(d) for d in ctx.control.state.deployments(name, limit=_SHOWN)]})


async def get_deployment(request: web.Request) -> web.Response:
    """Show one deployment.

    Raises:
        ApiError: 404 when there is none, or no such Worker.
    """
    ctx = get_context(request)
    name = ctx.control.script(get_script_name(request)).name
    wanted = request.match_info["deployment"]
    for deployment in ctx.control.state.deployments(name):
        if deployment.id == wanted:
            return render_result(describe(deployment))
    raise ApiError(404, 10100, f"Deployment {wanted} was not found.")


async def create_deployment(request: web.Request) -> web.Response:
    """Make versions live.

    Raises:
        ApiError: 400 for another strategy than percentage, or an unknown one of updates; otherwise as `parse_shares`
            and `ControlPlane.deploy`.
    """
    ctx = get_context(request)
    body = await read_json_object(request)
    if body.get("strategy", "percentage") != "percentage":
        raise ApiError(400, 10021, "The only strategy is percentage.")
    update = semantics.parse_update_strategy(body.get("code_update_strategy"))
    shares = semantics.parse_shares(body.get("versions"))
    deployment = await ctx.control.deploy(
        get_script_name(request),
        shares,
        semantics.clean_annotations(body.get("annotations")),
        force=is_true(request, "force"),
        source=get_source(request),
        cohorts=semantics.parse_cohorts(body.get("cohorts"), shares),
        update=update,
    )
    return render_result(describe(deployment))


def _make_plain(percentage: float) -> float | int:
    return int(percentage) if percentage == int(percentage) else percentage
