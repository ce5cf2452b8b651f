"""Uploads and versions: `scripts/{script}` PUT, `scripts/{script}/versions`, and the content of a script."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from aiohttp import web

from backout.twin.api.answers import ApiError, format_rfc3339, make_page_info, render_result
from backout.twin.api.context import USER_EMAIL, USER_ID, get_context, get_script_name, get_source, is_true
from backout.twin.api.upload import read_upload
from backout.twin.control import semantics

if TYPE_CHECKING:
    from backout.twin.control.records import ApiObject, Script, Version

MAX_PER_PAGE = 100


def make_routes(scripts: str) -> list[web.RouteDef]:
    """Return the routes under the path of all scripts."""
    return [
        web.get(scripts, list_scripts),
        web.put(scripts + "/{script}", upload_script),
        web.post(scripts + "/{script}/versions", upload_version),
        web.get(scripts + "/{script}/versions", list_versions),
        web.get(scripts + "/{script}/versions/{version}", get_version),
    ]


def describe(version: Version) -> ApiObject:
    """Return a version as the API shows it; secrets by name only."""
    created = format_rfc3339(version.created_at)
    return {
        "id": version.id,
        "number": version.number,
        "metadata": {
            "created_on": created,
            "modified_on": created,
            "source": version.source,
            "author_id": USER_ID,
            "author_email": USER_EMAIL,
            "has_preview": False,
        },
        "annotations": version.annotations,
        "resources": {
            "bindings": semantics.list_public_bindings(version),
            "script": {"etag": version.etag, "handlers": version.handlers, "last_deployed_from": version.source},
            "script_runtime": {
                "compatibility_date": version.compatibility_date,
                "compatibility_flags": version.compatibility_flags,
                "usage_model": "standard",
                **({"migration_tag": version.migration_tag} if version.migration_tag else {}),
            },
        },
        "startup_time_ms": version.startup_time_ms,
    }


def describe_script(script: Script, version: Version) -> ApiObject:
    """Return the part of an upload's answer that names the script and its code."""
    created = format_rfc3339(version.created_at)
    return {
        "id": script.name,
        "tag": script.tag,
        "etag": version.etag,
        "handlers": version.handlers,
        "created_on": created,
        "modified_on": created,
        "usage_model": "standard",
    }


async def upload_script(request: web.Request) -> web.Response:
    """Upload and deploy at once, creating the script when it is new."""
    ctx = get_context(request)
    upload = await read_upload(request, ctx.control.blobs)
    version = await ctx.control.upload(get_script_name(request), upload, deploy=True, source=get_source(request))
    script = ctx.control.script(version.script)
    deployment = uuid.UUID(version.id).hex  # wrangler turns these digits into the version id it prints
    return render_result(
        {
            **describe_script(script, version),
            "deployment_id": deployment,
            "startup_time_ms": version.startup_time_ms,
            "has_assets": version.assets is not None,
            "has_modules": bool(version.modules),
        }
    )


async def upload_version(request: web.Request) -> web.Response:
    """Upload without deploying."""
    ctx = get_context(request)
    ctx.control.script(get_script_name(request))
    upload = await read_upload(request, ctx.control.blobs)
    return render_result(
        describe(await ctx.control.upload(get_script_name(request), upload, deploy=False, source=get_source(request)))
    )


async def list_versions(request: web.Request) -> web.Response:
    """List versions, newest first; `deployable=true` is those in the window, otherwise pages of `per_page`."""
    ctx = get_context(request)
    name = get_script_name(request)
    script = ctx.control.script(name)
    if is_true(request, "deployable"):
        newest = ctx.control.state.versions(name, limit=semantics.WINDOW)
        inside = [v for v in newest if v.number > script.last_number - semantics.WINDOW]
        return render_result({"items": [describe(v) for v in inside]}, info=make_page_info(len(inside), len(inside)))
    page, per_page = get_number(request, "page", 1), min(get_number(request, "per_page", 10), MAX_PER_PAGE)
    items = ctx.control.state.versions(name, limit=per_page, offset=(page - 1) * per_page)
    info = make_page_info(ctx.control.state.version_count(name), len(items), page, per_page)
    return render_result({"items": [describe(v) for v in items]}, info=info)


async def get_version(request: web.Request) -> web.Response:
    """Show one version."""
    return render_result(
        describe(get_context(request).control.version(get_script_name(request), request.match_info["version"]))
    )


async def list_scripts(request: web.Request) -> web.Response:
    """List the scripts with what is live of each."""
    state = get_context(request).control.state
    result: list[ApiObject] = []
    for script in state.scripts():
        latest = state.latest(script.name)
        if latest is not None:
            created = {
                "created_on": format_rfc3339(script.created_at),
                "modified_on": format_rfc3339(script.modified_at),
            }
            result.append({**describe_script(script, latest), **created, "tags": script.tags})
    return render_result(result)


def get_number(request: web.Request, name: str, default: int) -> int:
    """Return a number of the query that counts from 1. Raises ApiError: 400 for anything else."""
    text = request.query.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise ApiError(400, 10026, f"{name} must be a positive number.")
    return int(text)
