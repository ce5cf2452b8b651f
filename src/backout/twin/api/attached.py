"""Containers, Workflows and Workers Builds: answers of the API alone, for what was told to it; nothing of it runs.

Sources, read 2026-12-01: API reference, "Containers" and "Workflows"; "Builds API reference" of the documentation;
wrangler 4.164 (`containers-shared`). Kept in memory: a twin that is started again has none.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec import field

from backout.model.value import Value
from backout.twin.api.answers import ApiError, format_rfc3339, make_page_info, read_json_object, render_result
from backout.twin.api.context import get_context

if TYPE_CHECKING:
    from backout.twin.control.records import ApiObject, Script

_OBJECTS = "durable_object_namespace"


class Attachments(Value, frozen=True):
    """What was told: applications by id, workflows and the states of their instances by name, triggers by id."""

    applications: dict[str, ApiObject] = field(default_factory=dict)
    workflows: dict[str, ApiObject] = field(default_factory=dict)
    instances: dict[str, Counter[str]] = field(default_factory=dict)
    triggers: dict[str, ApiObject] = field(default_factory=dict)


ATTACHMENTS: web.AppKey[Attachments] = web.AppKey("attachments")


def make_routes(account: str) -> list[web.RouteDef]:
    """Return the routes under the path of the account."""
    applications, workflow = account + "/containers/applications", account + "/workflows/{workflow}"
    return [
        web.get(applications, list_applications),
        web.post(applications, create_application),
        web.post(applications + "/{application}/rollouts", create_rollout),
        web.get(account + "/workers/durable_objects/namespaces", list_namespaces),
        web.get(account + "/workflows", list_workflows),
        web.put(workflow, put_workflow),
        web.post(workflow + "/instances", create_instance),
        web.post(account + "/builds/triggers", create_trigger),
        web.get(account + "/builds/workers/{tag}/triggers", list_triggers),
    ]


async def list_applications(request: web.Request) -> web.Response:
    """List the applications of containers."""
    return render_result(list(_get_told(request).applications.values()))


async def create_application(request: web.Request) -> web.Response:
    """Create one; what it is to run is told again."""
    body = await read_json_object(request)
    made = {**body, "id": str(uuid.uuid4()), "version": 1, "created_at": format_rfc3339(time.time())}
    _get_told(request).applications[str(made["id"])] = made
    return render_result(made)


async def create_rollout(request: web.Request) -> web.Response:
    """Begin a rollout, which nothing ends. Raises ApiError: 404 for another application."""
    application = _get_told(request).applications.get(request.match_info["application"])
    if application is None:
        raise ApiError(404, 1000, "APPLICATION_NOT_FOUND")
    application["active_rollout_id"] = str(uuid.uuid4())
    return render_result({"id": application["active_rollout_id"], "status": "progressing"})


async def list_namespaces(request: web.Request) -> web.Response:
    """List the namespaces of the Durable Objects that the newest versions have."""
    state = get_context(request).control.state
    found = [_describe_namespace(script, name) for script in state.scripts() for name in _list_classes(request, script)]
    return render_result(found, info=make_page_info(len(found), len(found)))


async def list_workflows(request: web.Request) -> web.Response:
    """List the workflows with the counts of their instances."""
    told = _get_told(request)
    found = [{**each, "instances": dict(told.instances[name])} for name, each in told.workflows.items()]
    return render_result(found, info=make_page_info(len(found), len(found)))


async def put_workflow(request: web.Request) -> web.Response:
    """Create a workflow or change it, as a deployment with one does."""
    name, body, told = request.match_info["workflow"], await read_json_object(request), _get_told(request)
    now = format_rfc3339(time.time())
    before = told.workflows.get(name, {"id": str(uuid.uuid4()), "name": name, "created_on": now, "triggered_on": None})
    told.workflows[name] = {**before, **body, "modified_on": now}
    told.instances.setdefault(name, Counter())
    return render_result({**told.workflows[name], "version_id": str(uuid.uuid4()), "is_deleted": 0})


async def create_instance(request: web.Request) -> web.Response:
    """Begin an instance, which waits for ever. Raises ApiError: 404 for another workflow."""
    counts = _get_told(request).instances.get(request.match_info["workflow"])
    if counts is None:
        raise ApiError(404, 10200, "workflow.not_found")
    counts["queued"] += 1
    return render_result({"id": str(uuid.uuid4()), "status": "queued"})


async def create_trigger(request: web.Request) -> web.Response:
    """Connect a repository's branch with a Worker, by its tag."""
    body = await read_json_object(request)
    made = {**body, "trigger_uuid": str(uuid.uuid4()), "deleted_on": None, "created_on": format_rfc3339(time.time())}
    _get_told(request).triggers[str(made["trigger_uuid"])] = made
    return render_result(made)


async def list_triggers(request: web.Request) -> web.Response:
    """List the triggers of a Worker."""
    tag = request.match_info["tag"]
    return render_result(
        [each for each in _get_told(request).triggers.values() if each.get("external_script_id") == tag]
    )


def _get_told(request: web.Request) -> Attachments:
    return request.config_dict[ATTACHMENTS]


def _list_classes(request: web.Request, script: Script) -> list[str]:
    latest = get_context(request).control.state.latest(script.name)
    own = [
        str(binding.get("class_name"))
        for binding in (latest.bindings if latest else ())
        if binding.get("type") == _OBJECTS and binding.get("script_name") in (None, script.name)
    ]
    return list(dict.fromkeys(own))


def _describe_namespace(script: Script, name: str) -> ApiObject:
    made = hashlib.sha256(f"{script.tag}/{name}".encode()).hexdigest()[:32]
    return {"id": made, "name": f"{script.name}_{name}", "script": script.name, "class": name, "use_sqlite": True}
