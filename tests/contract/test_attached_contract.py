"""The port Attachments: Containers, Workflows and Workers Builds, on the twin's API and on any answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backout.model.attached import Attached, AttachedKind, BuildTrigger, Container, Workflow
from backout.providers.cloudflare.attached import CloudflareAttachments
from backout.providers.cloudflare.client import ApiClient

from scripted_server import answer, refused_url, scripted_server
from twin_harness import ACCOUNT, TOKEN, Api, multipart, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALL = tuple(AttachedKind)
OBJECTS = [{"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room"}]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as running:
        yield running


def call(api: Api, method: str, path: str, body: object = None) -> Any:
    return api.call(method, f"/client/v4/accounts/{ACCOUNT}/{path}", body).result


def upload(api: Api, script: str) -> str:
    """Upload a Worker with Durable Objects. Return its tag."""
    meta = {"main_module": "index.js", "bindings": OBJECTS}
    form, content_type = multipart(meta, {"index.js": "export default {}; export class Room {}"})
    return str(api.call("PUT", script, form, **{"Content-Type": content_type}).result["tag"])


def attachments(api: Api, tag: str | None = None) -> CloudflareAttachments:
    client = ApiClient(f"{api.url}/client/v4", lambda: TOKEN)
    return CloudflareAttachments(client, ACCOUNT, "fm5", find_tag=lambda: tag)


def test_a_worker_with_nothing_of_it(api: Api) -> None:
    """Empty is a fact; what is not asked for is not known, and costs nothing."""
    tag = upload(api, "fm5")
    assert attachments(api, tag).read(ALL) == Attached((), (), ())
    assert attachments(api, tag).read(()) == Attached()
    assert attachments(api, tag).read([AttachedKind.WORKFLOWS]) == Attached(workflows=())


def test_containers_of_its_own_objects(api: Api) -> None:
    """Another Worker's are not its own; a rollout that is under way is told."""
    for script in ("fm5", "other"):
        upload(api, script)
    spaces = {each["script"]: each["id"] for each in call(api, "GET", "workers/durable_objects/namespaces")}
    made = {
        script: call(
            api,
            "POST",
            "containers/applications",
            {
                "name": f"{script}-room",
                "scheduling_policy": "default",
                "configuration": {"image": f"registry.cloudflare.com/acc/{script}:1"},
                "durable_objects": {"namespace_id": space},
            },
        )
        for script, space in spaces.items()
    }
    call(api, "POST", "containers/applications", {"name": "alone", "configuration": {"image": "x"}})
    own = Container("fm5-room", "registry.cloudflare.com/acc/fm5:1")
    assert attachments(api).read([AttachedKind.CONTAINERS]).containers == (own,)
    call(api, "POST", f"containers/applications/{made['fm5']['id']}/rollouts", {})
    (rolling,) = attachments(api).read([AttachedKind.CONTAINERS]).containers or ()
    assert rolling.is_rolling


def test_instances_of_its_own_workflows(api: Api) -> None:
    """Those that have not ended, by workflow."""
    for name, script in (("orders", "fm5"), ("mail", "other")):
        call(api, "PUT", f"workflows/{name}", {"script_name": script, "class_name": "Orders"})
        call(api, "POST", f"workflows/{name}/instances", {})
    assert attachments(api).read([AttachedKind.WORKFLOWS]).workflows == (Workflow("orders", 1),)


def test_what_deploys_on_a_push(api: Api) -> None:
    """Of this Worker, and what makes something live; a trigger that only uploads versions does not."""
    tag = upload(api, "fm5")
    for trigger in (
        {"external_script_id": tag, "branch_includes": ["main"], "deploy_command": "npx wrangler deploy"},
        {"external_script_id": tag, "branch_includes": ["*"], "deploy_command": "npx wrangler versions upload"},
        {"external_script_id": "another", "branch_includes": ["prod"], "deploy_command": "npx wrangler deploy"},
    ):
        call(api, "POST", "builds/triggers", {**trigger, "repo_connection": {"repo_name": "shop"}})
    found = attachments(api, tag).read([AttachedKind.BUILDS])
    assert found.builds == (BuildTrigger(("main",), "npx wrangler deploy", "shop"),)
    assert attachments(api).read([AttachedKind.BUILDS]).unread == {"builds": "the Worker's tag is not known"}


def test_what_the_token_may_not_read_is_named_with_the_permission() -> None:
    """Each kind by itself: the others are told all the same."""
    refused = {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}], "result": None}
    with scripted_server() as server:
        fine = answer({"success": True, "result": []})
        server.will(answer(refused, 403), fine, answer(refused, 403))
        client = ApiClient(f"{server.url}/client/v4", lambda: TOKEN)
        found = CloudflareAttachments(client, ACCOUNT, "fm5", find_tag=lambda: "t").read(ALL)
    assert (found.containers, found.workflows, found.builds) == (None, (), None)
    assert found.unread == {
        "containers": 'the token may not read them (permission "Workers Containers Read")',
        "builds": 'the token may not read them (permission "Workers CI Read")',
    }


def test_an_api_that_does_not_answer_is_not_measured() -> None:
    """Once each, without repetitions: a rollback waits for it."""
    client = ApiClient(refused_url(), lambda: TOKEN)
    found = CloudflareAttachments(client, ACCOUNT, "fm5", find_tag=lambda: "t").read(ALL)
    assert (found.containers, found.workflows, found.builds) == (None, None, None)
    assert set(found.unread) == set(ALL)


@pytest.mark.parametrize("result", [None, {}, 7, [1], [{"name": None}], [{"instances": 3}]])
def test_any_answer_is_a_fact_or_not_measured(result: object) -> None:
    """Nothing of it ends a plan."""
    with scripted_server() as server:
        server.will(answer({"success": True, "result": result}))
        client = ApiClient(f"{server.url}/client/v4", lambda: TOKEN)
        found = CloudflareAttachments(client, ACCOUNT, "fm5", find_tag=lambda: "t").read(ALL)
    assert all(getattr(found, kind) is not None or kind in found.unread for kind in ALL)
