"""The older and the newer name of a Worker: `workers/services/{name}` and the beta `workers/workers/{name}`."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from aiohttp import web

from backout.twin.api.answers import ApiError, format_rfc3339, make_page_info, read_json_object, render_result
from backout.twin.api.context import get_context, get_script_name, get_source
from backout.twin.api.secrets import parse_changes
from backout.twin.api.versions import MAX_PER_PAGE, get_number
from backout.twin.api.versions import describe as describe_version
from backout.twin.control import semantics
from backout.twin.control.previews import list_urls

if TYPE_CHECKING:
    from backout.twin.control.records import ApiObject, Deployment, Script, Version
    from backout.twin.control.state import BlobStore


def make_routes(account: str) -> list[web.RouteDef]:
    """Return the routes under the path of the account."""
    service, worker = account + "/workers/services/{script}", account + "/workers/workers/{script}"
    return [
        web.get(service, get_service),
        web.delete(service, delete_service),
        web.delete(account + "/workers/scripts/{script}", delete_service),
        web.get(account + "/workers/workers", list_workers),
        web.get(worker, get_worker),
        web.get(worker + "/versions", list_worker_versions),
        web.get(worker + "/versions/{version}", get_worker_version),
        web.patch(worker + "/versions/latest", patch_latest),
    ]


async def get_service(request: web.Request) -> web.Response:
    """Show the Worker as a service; wrangler asks this before anything else."""
    script = _get_script(request)
    return render_result(_render_service(script, get_context(request).control.state.latest(script.name)))


async def delete_service(request: web.Request) -> web.Response:
    """Delete the Worker with all its versions."""
    script = _get_script(request)
    control = get_context(request).control
    answer = _render_service(script, control.state.latest(script.name))
    await control.delete(script.name)
    return render_result(answer)


async def list_workers(request: web.Request) -> web.Response:
    """List the Workers page by page, in the order that is asked for."""
    state, query = get_context(request).control.state, request.query
    workers = [_render_worker(script, state.live(script.name)) for script in state.scripts()]
    key = query.get("order_by", "created_on")
    workers.sort(key=lambda worker: str(worker.get(key) or ""), reverse=query.get("order") == "desc")
    page, per_page = get_number(request, "page", 1), min(get_number(request, "per_page", 10), MAX_PER_PAGE)
    shown = workers[(page - 1) * per_page : page * per_page]
    return render_result(shown, info=make_page_info(len(workers), len(shown), page, per_page))


async def get_worker(request: web.Request) -> web.Response:
    """Show the Worker."""
    script = _find_worker_script(request)
    return render_result(_render_worker(script, get_context(request).control.state.live(script.name)))


async def list_worker_versions(request: web.Request) -> web.Response:
    """List the versions in the window."""
    state = get_context(request).control.state
    versions = state.versions(_find_worker_script(request).name, limit=semantics.WINDOW)
    return render_result(
        [describe_version(v) for v in versions], info={"count": len(versions), "total_count": len(versions)}
    )


async def get_worker_version(request: web.Request) -> web.Response:
    """Show one version, `latest` included; with `include=modules` also its code, as it was uploaded."""
    ctx = get_context(request)
    control, script = ctx.control, _find_worker_script(request)
    name = script.name
    wanted = request.match_info["version"]
    latest = control.state.latest(name) if wanted == "latest" else None
    version = latest or control.version(name, wanted)
    with_code = request.query.get("include") == "modules"
    return render_result(
        {
            **describe_version(version),
            **_render_beta(version),
            "urls": list_urls(script, version, ctx.socket_url),
            **(_render_code(version, control.blobs) if with_code else {}),
        }
    )


async def patch_latest(request: web.Request) -> web.Response:
    """Make a new version from the latest with other secrets, and do not deploy it."""
    body = await read_json_object(request)
    version = await get_context(request).control.change_secrets(
        _find_worker_script(request).name,
        parse_changes(body.get("env", {})),
        deploy=False,
        source=get_source(request),
        annotations=semantics.clean_annotations(body.get("annotations")),
    )
    return render_result(describe_version(version))


def _render_beta(version: Version) -> ApiObject:
    """Return what the beta API tells at the top level: secrets by name only, static files by how they are served."""
    assets: ApiObject = {} if version.assets is None else {"assets": {"config": version.assets_config}}
    return {
        "created_on": format_rfc3339(version.created_at),
        "bindings": semantics.list_public_bindings(version),
        "compatibility_date": version.compatibility_date,
        "compatibility_flags": version.compatibility_flags,
        "main_module": version.main_module,
        "source": version.source,
        **version.parts,
        **assets,
    }


def _render_code(version: Version, blobs: BlobStore) -> ApiObject:
    modules = [
        {
            "name": module.name,
            "content_type": module.content_type,
            "content_base64": base64.b64encode(blobs.path(module.blob).read_bytes()).decode(),
        }
        for module in version.modules
    ]
    return {"modules": modules}


def _get_script(request: web.Request) -> Script:
    script = get_context(request).control.state.script(get_script_name(request))
    if script is None:
        raise ApiError(404, 10090, "workers.api.error.service_not_found")
    return script


def _find_worker_script(request: web.Request) -> Script:
    """Return the script by its name or by its tag, both of which the beta API takes."""
    wanted = get_script_name(request)
    control = get_context(request).control
    by_tag = next((s for s in control.state.scripts() if s.tag == wanted), None)
    return by_tag or control.script(wanted)


def _render_service(script: Script, latest: Version | None) -> ApiObject:
    times: ApiObject = {
        "created_on": format_rfc3339(script.created_at),
        "modified_on": format_rfc3339(script.modified_at),
    }
    code: ApiObject = {
        "id": script.name,
        "tag": script.tag,
        "tags": script.tags,
        "last_deployed_from": script.last_deployed_from,
        "etag": latest.etag if latest else "",
        "handlers": latest.handlers if latest else (),
        **({"migration_tag": script.migration_tag} if script.migration_tag else {}),
    }
    environment = {"environment": "production", **times, "script": code}
    return {
        "id": script.name,
        **times,
        "default_environment": environment,
        "environments": [{"environment": "production", **times}],
    }


def _render_worker(script: Script, live: Deployment | None) -> ApiObject:
    return {
        "id": script.tag,
        "name": script.name,
        "created_on": format_rfc3339(script.created_at),
        "updated_on": format_rfc3339(script.modified_at),
        "deployed_on": format_rfc3339(live.created_at) if live else None,
        "tags": script.tags,
        "logpush": script.logpush,
        "tail_consumers": script.tail_consumers,
        "observability": script.observability,
        "subdomain": {"enabled": script.subdomain_enabled, "previews_enabled": script.previews_enabled},
        "references": {},
    }
