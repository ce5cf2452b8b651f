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


def deploy(api: Api, *shares: tuple[str, float], force: bool = False, **more: object) -> Answer:
    body = {"strategy": "percentage", "versions": [{"version_id": v, "percentage": p} for v, p in shares], **more}
    return api.call("POST", f"shop/deployments{'?force=true' if force else ''}", body)


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


def cohort(name: str, *shares: tuple[str, float]) -> dict[str, object]:
    return {"name": name, "versions": [{"version_id": v, "percentage": p} for v, p in shares]}


def test_a_cohort_may_have_a_version_of_its_own(api: Api) -> None:
    """It runs, it is shown where it was given, and it is back after a start."""
    one, two = upload(api, 0), upload(api, 1)
    made = deploy(api, (one, 100), cohorts=[cohort("Canary", (one, 50), (two, 50)), cohort("staff", (two, 100))])
    assert [each["version_id"] for each in made.result["versions"]] == [one]
    assert [each["name"] for each in made.result["cohorts"]] == ["Canary", "staff"]
    for _ in range(2):
        assert [(version.id, share) for version, share in api.data_plane.live["shop"]] == [(one, 100), (two, 0)]
        assert api.data_plane.cohorts["shop"] == {"Canary": {one: 50, two: 50}, "staff": {two: 100}}
        api.data_plane.cohorts.clear()
        api.restore()
    assert deploy(api, (two, 100)).status == 200
    assert api.data_plane.cohorts["shop"] == {}


def test_cohorts_have_limits(api: Api) -> None:
    """Names, their number, their versions and percentages; nothing changes."""
    one, two = upload(api, 0), upload(api, 1)
    three = upload(api, 2)
    wrong = (
        [cohort("employees-2", (one, 100))],
        [cohort("", (one, 100))],
        [cohort("a b", (one, 100))],
        [cohort("canary", (one, 100)), cohort("CANARY", (two, 100))],
        [cohort(f"c{n}", (one, 100)) for n in range(6)],
        [cohort("canary", (one, 50), (two, 40))],
        [cohort("canary", (two, 50), (three, 50))],
        [{"name": "canary"}],
    )
    assert [deploy(api, (one, 100), cohorts=cohorts).status for cohorts in wrong] == [400] * len(wrong)
    assert deploy(api, (one, 90), (two, 10), cohorts=[cohort("canary", (three, 100))]).status == 400
    assert len(api.call("GET", "shop/deployments").result["deployments"]) == 1
    assert deploy(api, (one, 100), cohorts=[cohort(f"c{n}", (two, 100)) for n in range(5)]).status == 200


def test_versions_with_other_exports_share_no_deployment(api: Api) -> None:
    """Not even at 0 %; each alone may be live, and a secret's change keeps what was declared."""
    one = upload(api, 0)
    declared = {"Room": {"type": "durable-object", "storage": "sqlite"}}
    api.upload("shop", "export default {n: 1}", exports=declared)
    two = str(api.call("GET", "shop/versions?deployable=true").result["items"][0]["id"])
    refused = deploy(api, (two, 100), (one, 0))
    assert (refused.status, refused.code) == (400, 100405)
    assert deploy(api, (two, 100), cohorts=[cohort("staff", (one, 100))]).code == 100405
    body = {"name": "KEY", "text": "k", "type": "secret_text"}
    assert api.call("PUT", "shop/secrets", body).status == 200
    three = str(api.call("GET", "shop/versions?deployable=true").result["items"][0]["id"])
    for shares in ([(two, 90), (three, 10)], [(one, 100)]):
        assert deploy(api, *shares, force=True).status == 200


def test_a_worker_has_at_most_ten_tails(api: Api) -> None:
    """Those that nobody reads count as well, until they are deleted."""
    upload(api, 0)
    tails = [api.call("POST", "shop/tails", {}).result["id"] for _ in range(10)]
    refused = api.call("POST", "shop/tails", {})
    assert refused.status == 400
    assert "maximum of 10" in str(refused.body)
    assert api.call("DELETE", f"shop/tails/{tails[0]}").status == 200
    assert api.call("POST", "shop/tails", {}).status == 200


def test_graphql_has_a_quota_of_its_own(api: Api) -> None:
    """300 in five minutes, apart from all other calls."""
    api.call("PUT", "/twin/v1/faults", {"kind": "api-limit"})
    graphql = "/client/v4/graphql"
    asked = [api.call("POST", graphql, {"query": '{ __type(name: "X") { fields { name } } }'}) for _ in range(301)]
    assert [answer.status for answer in asked] == [200] * 300 + [429]
    assert asked[0].headers["Ratelimit-Policy"] == '"default";q=300;w=300'
    assert api.call("GET", "/client/v4/user").status != 429
