"""The URL of a version's own: on the twin's API, and against what an API may say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backout.errors import BackoutError, Unmeasured
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.version_urls import CloudflareVersionUrls
from backout.twin.control.previews import find_preview

from scripted_server import answer, scripted_server
from twin_harness import ACCOUNT, TOKEN, Api, multipart, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripted_server import Step

VERSION = "7f1c0c9e-0000-4000-8000-000000000001"
OBJECTS = {"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room"}
SWITCH = "fm5/subdomain"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as running:
        yield running


def upload(api: Api, *bindings: dict[str, str], deploy: bool = True) -> str:
    meta = {"main_module": "index.js", "bindings": list(bindings)}
    form, content_type = multipart(meta, {"index.js": "export default {}; export class Room {}"})
    method, path = ("PUT", "fm5") if deploy else ("POST", "fm5/versions")
    assert api.call(method, path, form, **{"Content-Type": content_type}).status == 200
    return str(api.call("GET", "fm5/versions").result["items"][0]["id"])


def find(api: Api, version: str) -> str:
    return CloudflareVersionUrls(ApiClient(f"{api.url}/client/v4", lambda: TOKEN), ACCOUNT, "fm5").find(version)


def at(api: Api, host: str) -> str | None:
    """Return the version whose own URL has this host at the twin."""

    async def find_there() -> str | None:
        found = find_preview(api.control, host)
        return None if found is None else found.id

    told: str | None = api.run(find_there())
    return told


def test_a_version_answers_at_a_url_of_its_own(api: Api) -> None:
    """With traffic or without; the ingress knows the host, also as Cloudflare would spell it."""
    upload(api)
    idle = upload(api, deploy=False)
    api.call("POST", SWITCH, {"enabled": True, "previews_enabled": True})
    url = find(api, idle)
    assert url == f"http://{idle[:8]}-fm5.localhost:9"
    for host in (url.removeprefix("http://"), f"{idle[:8]}-fm5.twin.workers.dev"):
        assert at(api, host) == idle
    for host in ("fm5.localhost", f"{idle[:8]}-other.localhost", "00000000-fm5.localhost", f"{idle[:7]}-fm5.localhost"):
        assert at(api, host) is None


def test_there_is_none_where_they_are_off_and_with_durable_objects(api: Api) -> None:
    """Both are said, and nothing answers there."""
    version = upload(api)
    with pytest.raises(Unmeasured, match="version URLs are off"):
        find(api, version)
    assert at(api, f"{version[:8]}-fm5.localhost") is None
    api.call("POST", SWITCH, {"enabled": True, "previews_enabled": True})
    with_objects = upload(api, OBJECTS)
    with pytest.raises(Unmeasured, match="Durable Objects"):
        find(api, with_objects)
    assert at(api, f"{with_objects[:8]}-fm5.localhost") is None


def told(*results: object) -> list[Step]:
    """Answer with these results; None: not found."""
    nothing = {"success": False, "errors": [{"code": 10007, "message": "no"}], "result": None}
    return [
        answer(nothing, 404) if result is None else answer({"success": True, "errors": [], "result": result})
        for result in results
    ]


DETAIL: dict[str, Any] = {"id": VERSION, "number": 1, "metadata": {"created_on": "2026-11-01T00:00:00Z"}}
ON = {"enabled": True, "previews_enabled": True}
OWN = "https://7f1c0c9e-shop.acme.workers.dev"


@pytest.mark.parametrize(
    ("urls", "subdomain", "expected"),
    [
        ([OWN], "never asked", OWN),
        (None, "acme", OWN),
        ([], "acme", OWN),
        (["https://7f1c0c9e-shop.acme.workers.dev.evil.example", "http://7f1c0c9e-shop.acme.workers.dev"], "acme", OWN),
        (["https://7f1c0c9e-shop.evil.example/", "https://other-shop.acme.workers.dev"], "acme", OWN),
        (["http://7f1c0c9e-shop.localhost:1", "http://169.254.169.254/"], None, "http://7f1c0c9e-shop.localhost:1"),
        ([], "evil.example/", None),
        ([], "a b", None),
        ([], None, None),
    ],
)
def test_what_the_api_tells_is_taken_where_it_can_only_be_that_version(
    urls: object, subdomain: object, expected: str | None
) -> None:
    """Told or put together; never another host, and never in the clear but on this machine."""
    with scripted_server() as server:
        version = None if urls is None else {**DETAIL, "urls": urls}
        server.will(*told(ON, DETAIL, version, None if subdomain is None else {"subdomain": subdomain}))
        client = ApiClient(f"{server.url}/client/v4", lambda: TOKEN)
        finder = CloudflareVersionUrls(client, "acc", "shop")
        if expected is None:
            with pytest.raises(BackoutError):
                finder.find(VERSION)
        else:
            assert finder.find(VERSION) == expected
