"""The parts of a Worker that belong to no version: settings, schedules, subdomain, custom domains, references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from msgspec.structs import replace

from backout.twin.api.answers import ApiError, format_rfc3339, read_json, read_json_object, render_result
from backout.twin.api.context import get_context, get_script_name
from backout.twin.control import semantics
from backout.twin.control.control import SUBDOMAIN
from backout.twin.control.cron import BadCron, parse_cron

if TYPE_CHECKING:
    from backout.twin.control.records import ApiObject, Script


def make_routes(account: str) -> list[web.RouteDef]:
    """Return the routes under the path of the account."""
    script = account + "/workers/scripts/{script}"
    return [
        web.get(script + "/settings", get_settings),
        web.get(script + "/script-settings", get_script_settings),
        web.patch(script + "/script-settings", patch_script_settings),
        web.get(script + "/schedules", get_schedules),
        web.put(script + "/schedules", put_schedules),
        web.get(script + "/subdomain", get_subdomain),
        web.post(script + "/subdomain", post_subdomain),
        web.post(script + "/domains/changeset", plan_domains),
        web.put(script + "/domains/records", put_domains),
        web.get(script + "/references", get_references),
        web.get(account + "/workers/subdomain", get_account_subdomain),
        web.get(account + "/workers/domains", list_domains),
        web.get(account + "/workers/services/{script}/environments/production/routes", list_routes),
        web.get(account + "/workers/tails/by-consumer/{script}", list_producers),
        web.get(account + "/storage/kv/namespaces", list_nothing),
    ]


_NO_TAIL_WORKER = ApiError(
    400, 10203, "Tail Worker does not exist on this account. Check the Worker name and try again."
)


def render_script_settings(script: Script) -> ApiObject:
    """Return the settings that are not part of a version."""
    return {
        "logpush": script.logpush,
        "tail_consumers": script.tail_consumers,
        "observability": script.observability,
        "tags": script.tags,
    }


async def get_settings(request: web.Request) -> web.Response:
    """Show the settings of the script together with those of its latest version."""
    ctx = get_context(request)
    script = ctx.control.script(get_script_name(request))
    latest = ctx.control.state.latest(script.name)
    versioned: ApiObject = {}
    if latest is not None:
        versioned = {
            "bindings": semantics.list_public_bindings(latest),
            "compatibility_date": latest.compatibility_date,
            "compatibility_flags": latest.compatibility_flags,
            "usage_model": "standard",
        }
    migration = {"migration_tag": script.migration_tag} if script.migration_tag else {}
    return render_result({**versioned, **migration, **render_script_settings(script)})


async def get_script_settings(request: web.Request) -> web.Response:
    """Show the settings that are not part of a version."""
    return render_result(render_script_settings(get_context(request).control.script(get_script_name(request))))


async def patch_script_settings(request: web.Request) -> web.Response:
    """Change the settings that are not part of a version; no new version, no deployment."""
    script = get_context(request).control.script(get_script_name(request))
    body = await read_json_object(request)
    if isinstance(tags := body.get("tags"), list):
        script = replace(script, tags=tuple(str(tag) for tag in tags))
    if isinstance(logpush := body.get("logpush"), bool):
        script = replace(script, logpush=logpush)
    if isinstance(observability := body.get("observability"), dict):
        script = replace(script, observability=observability)
    if isinstance(consumers := body.get("tail_consumers"), list):
        script = replace(script, tail_consumers=tuple(c for c in consumers if isinstance(c, dict)))
        semantics.check_consumers(script, get_context(request).control.state.scripts(), _NO_TAIL_WORKER)
    _save(request, script)
    return render_result(render_script_settings(script))


async def get_schedules(request: web.Request) -> web.Response:
    """List the cron schedules."""
    return render_result(_render_schedules(get_context(request).control.script(get_script_name(request))))


async def put_schedules(request: web.Request) -> web.Response:
    """Replace the cron schedules.

    Raises:
        ApiError: 400 for what is no list of cron expressions, 404 without the Worker.
    """
    script = get_context(request).control.script(get_script_name(request))
    body = await read_json(request)
    crons = [item.get("cron") for item in body if isinstance(item, dict)] if isinstance(body, list) else [None]
    if not all(isinstance(cron, str) and cron.strip() for cron in crons):
        raise ApiError(400, 10100, "Schedules are a list of objects, each with a cron expression.")
    for cron in crons:
        try:
            parse_cron(str(cron))
        except BadCron as error:
            raise ApiError(400, 10100, f"invalid cron string: {error}") from error
    script = replace(script, crons=tuple(str(cron) for cron in crons))
    _save(request, script)
    return render_result(_render_schedules(script))


async def get_subdomain(request: web.Request) -> web.Response:
    """Show whether the Worker answers at its workers.dev name."""
    return render_result(_render_subdomain(get_context(request).control.script(get_script_name(request))))


async def post_subdomain(request: web.Request) -> web.Response:
    """Switch the workers.dev name on or off."""
    script = get_context(request).control.script(get_script_name(request))
    body = await read_json_object(request)
    enabled = body.get("enabled", script.subdomain_enabled) is True
    previews = body.get("previews_enabled", script.previews_enabled) is True
    script = replace(script, subdomain_enabled=enabled, previews_enabled=previews)
    _save(request, script)
    return render_result(_render_subdomain(script))


async def plan_domains(request: web.Request) -> web.Response:
    """Say what setting these custom domains would change; nothing changes yet."""
    script = get_context(request).control.script(get_script_name(request))
    wanted = _parse_hostnames(await read_json(request))
    removed = [{"hostname": d} for d in script.domains if d not in wanted]
    added = [{"hostname": d} for d in wanted if d not in script.domains]
    return render_result({"added": added, "removed": removed, "updated": [], "conflicting": []})


async def put_domains(request: web.Request) -> web.Response:
    """Set the custom domains that the ingress answers for this Worker."""
    script = get_context(request).control.script(get_script_name(request))
    body = await read_json_object(request)
    script = replace(script, domains=_parse_hostnames(body.get("origins")))
    _save(request, script)
    return render_result([{"hostname": domain, "service": script.name} for domain in script.domains])


async def list_domains(request: web.Request) -> web.Response:
    """List the custom domains of all Workers, or of one."""
    wanted = request.query.get("service")
    scripts = [s for s in get_context(request).control.state.scripts() if wanted in (None, s.name)]
    return render_result(
        [{"hostname": d, "service": s.name, "environment": "production"} for s in scripts for d in s.domains]
    )


async def list_routes(request: web.Request) -> web.Response:
    """List the Worker's routes: none, as the ingress answers for names and has no zones."""
    get_context(request).control.script(get_script_name(request))
    return render_result([])


async def get_references(request: web.Request) -> web.Response:
    """Name the Workers that are bound to this one, and those that it is bound to."""
    control = get_context(request).control
    script = control.script(get_script_name(request))
    incoming = [
        {"service": other.name, "environment": "production", "name": binding["name"]}
        for other in control.state.scripts()
        if (latest := control.state.latest(other.name)) is not None
        for binding in latest.bindings
        if binding.get("type") == "service" and binding.get("service") == script.name
    ]
    return render_result(
        {"services": {"incoming": incoming, "outgoing": []}, "durable_objects": [], "dispatch_outbounds": []}
    )


async def list_producers(request: web.Request) -> web.Response:
    """List the Workers whose tail goes to this one."""
    name = request.match_info["script"]
    scripts = get_context(request).control.state.scripts()
    found = [s for s in scripts if any(c.get("service") == name for c in s.tail_consumers)]
    return render_result([{"consumer": {"service": name}, "producer": {"service": s.name}} for s in found])


async def get_account_subdomain(_request: web.Request) -> web.Response:
    """Show the account's workers.dev name."""
    return render_result({"subdomain": SUBDOMAIN})


async def list_nothing(_request: web.Request) -> web.Response:
    """List resources that a twin has none of."""
    return render_result([], info={"page": 1, "per_page": 100, "count": 0, "total_count": 0, "total_pages": 1})


def _render_schedules(script: Script) -> ApiObject:
    times = {"created_on": format_rfc3339(script.modified_at), "modified_on": format_rfc3339(script.modified_at)}
    return {"schedules": [{"cron": cron, **times} for cron in script.crons]}


def _render_subdomain(script: Script) -> ApiObject:
    return {"enabled": script.subdomain_enabled, "previews_enabled": script.previews_enabled}


def _parse_hostnames(given: object) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise ApiError(400, 10026, "Custom domains are a list of objects with a hostname.")
    return tuple(str(item["hostname"]) for item in given if isinstance(item, dict) and "hostname" in item)


def _save(request: web.Request, script: Script) -> None:
    get_context(request).control.save_settings(script)
