"""How a deployment reaches what runs, asked through HTTP: the code of Durable Objects, and cohorts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twin_harness import Answer, Api, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as running:
        yield running


def upload(api: Api, number: int) -> str:
    """Upload a version, the first one live, and return its id."""
    api.upload("shop", f"export default {{n: {number}}}", deploy=number == 0)
    return str(api.call("GET", "shop/versions?deployable=true").result["items"][0]["id"])


def deploy(api: Api, *shares: tuple[str, float], **more: object) -> Answer:
    body = {"strategy": "percentage", "versions": [{"version_id": v, "percentage": p} for v, p in shares], **more}
    return api.call("POST", "shop/deployments", body)


@pytest.mark.parametrize(
    ("asked", "told", "delay_s"),
    [
        (None, {"mode": "deferred", "max_delay": 300}, 300),
        ({"mode": "deferred"}, {"mode": "deferred", "max_delay": 300}, 300),
        ({"mode": "deferred", "max_delay": 86_400}, {"mode": "deferred", "max_delay": 86_400}, 86_400),
        ({"mode": "immediate"}, {"mode": "immediate"}, 0),
    ],
)
def test_a_deployment_tells_when_objects_get_its_code(
    api: Api, asked: object, told: dict[str, object], delay_s: float
) -> None:
    """Of all ways to deploy the default is five minutes; each deployment has its own."""
    version = upload(api, 0)
    assert api.data_plane.delays["shop"] == 300
    made = deploy(api, (version, 100), **({} if asked is None else {"code_update_strategy": asked}))
    assert made.result["code_update_strategy"] == told
    assert api.call("GET", "shop/deployments").result["deployments"][0]["code_update_strategy"] == told
    assert api.data_plane.delays["shop"] == delay_s
    api.upload("shop", "export default {n: 1}", code_update_strategy=asked)
    assert api.data_plane.delays["shop"] == delay_s


@pytest.mark.parametrize(
    "asked",
    [
        "immediate",
        {"mode": "soon"},
        {"mode": "immediate", "max_delay": 5},
        {"mode": "deferred", "max_delay": 86_401},
        {"mode": "deferred", "max_delay": -1},
        {"mode": "deferred", "max_delay": True},
    ],
)
def test_another_way_to_update_objects_is_refused(api: Api, asked: object) -> None:
    """And nothing changes."""
    version = upload(api, 0)
    assert deploy(api, (version, 100), code_update_strategy=asked).status == 400
    assert len(api.call("GET", "shop/deployments").result["deployments"]) == 1
