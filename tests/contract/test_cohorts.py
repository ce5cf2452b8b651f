"""Cohorts of a deployment, on the World and on the adapter with the API of the twin: read, kept, moved knowingly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from backout.errors import ProviderUnavailable
from backout.model.deployment import Share
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.retry import Retry

from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from backout.model.deployment import Deployment

    from platform_sides import Side


def told(deployment: Deployment) -> dict[str, dict[str, float]]:
    return {each.name: {str(share.version): share.percentage for share in each.shares} for each in deployment.cohorts}


def on_trial(side: Side) -> tuple[str, str]:
    """Deploy a version for one cohort alone; return (the others', the cohort's)."""
    first, second = side.upload("one"), side.upload("two")
    side.split((first, 100), (second, 0), employees=((second, 100),), beta=((first, 50), (second, 50)))
    return first, second


def test_a_version_that_serves_a_cohort_alone_has_traffic(side: Side) -> None:
    """No version is the only one then, whatever all the others get."""
    first, second = on_trial(side)
    live = side.deployments.history()[0]
    assert (live.main, live.sole) == (first, None)
    assert live.serves(second)
    assert told(live) == {"employees": {second: 100}, "beta": {first: 50, second: 50}}


def test_to_make_a_version_live_is_to_make_it_live_for_every_cohort(side: Side) -> None:
    """What becomes of cohorts that are not named is not documented, so each is."""
    first, _ = on_trial(side)
    side.deployments.history()
    made = side.deployments.activate(first, message="back")
    assert made.sole == first
    assert told(made) == {"employees": {first: 100}, "beta": {first: 100}}
    assert side.deployments.history()[0].sole == first


def test_what_moves_no_traffic_keeps_the_cohorts(side: Side) -> None:
    """Deployed again as a remark."""
    on_trial(side)
    before = side.deployments.history()[0]
    made = side.deployments.deploy(before.shares, message="said", cohorts=before.cohorts)
    assert told(made) == told(before)


def test_cohorts_that_are_not_kept_share_as_all_others_do(side: Side) -> None:
    """So do those whose versions the deployment does not have."""
    first, second = on_trial(side)
    before, third = side.deployments.history()[0], side.upload("three", deploy=False)
    shares = (Share(before.shares[0].version, 90), Share(type(before.main)(third), 10))
    made = side.deployments.deploy(shares, message="split", cohorts=before.cohorts)
    assert told(made) == {name: {first: 90, third: 10} for name in ("employees", "beta")}
    assert not made.serves(second)


def test_a_version_that_cohorts_alone_have_is_one_of_the_deployment(side: Side) -> None:
    """As in the documentation's example; a remark keeps the cohort on it, and moves it to no other version."""
    first, second = side.upload("one"), side.upload("two")
    side.split((first, 100), employees=((second, 100),))
    before = side.deployments.history()[0]
    assert [(share.version, share.percentage) for share in before.shares] == [(first, 100), (second, 0)]
    made = side.deployments.deploy(before.shares, message="said", cohorts=before.cohorts)
    assert told(made) == {"employees": {second: 100}}


ONE, TWO = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"


def shown(cohorts: object) -> dict[str, object]:
    found = {
        "id": "d-1",
        "created_on": "2026-11-30T10:00:00Z",
        "versions": [{"version_id": ONE, "percentage": 100}, {"version_id": TWO, "percentage": 0}],
        "cohorts": cohorts,
    }
    return {"success": True, "errors": [], "messages": [], "result": {"deployments": [found]}}


@pytest.mark.parametrize("cohorts", [None, []])
def test_no_cohorts_are_no_cohorts(cohorts: object) -> None:
    """Absent, null or empty."""
    with scripted_server() as server:
        server.will(answer(shown(cohorts)))
        client = ApiClient(server.url, lambda: "t" * 40, retry=Retry(attempts=1))
        (found,) = CloudflareDeployments(client, "a" * 32, "fm5").history()
    assert (found.cohorts, found.sole) == ((), ONE)


@pytest.mark.parametrize(
    "versions", [[], [{"version_id": TWO, "percentage": 900}], [{"version_id": TWO, "percentage": -1}]]
)
def test_a_cohort_that_cannot_be_is_no_answer(versions: object) -> None:
    """It is not known what has traffic then."""
    with scripted_server() as server:
        server.will(answer(shown([{"name": "employees", "versions": versions}])))
        client = ApiClient(server.url, lambda: "t" * 40, retry=Retry(attempts=1))
        with pytest.raises(ProviderUnavailable, match="impossible shares"):
            CloudflareDeployments(client, "a" * 32, "fm5").history()


def test_what_moves_no_traffic_keeps_settings_that_are_not_known() -> None:
    """A remark, and a proof at 0 %; what only tells of the deployment is left out, and a switch begins anew."""
    live = {
        "id": "d1",
        "created_on": "2026-12-01T10:00:00Z",
        "versions": [{"version_id": "v1", "percentage": 100}],
        "code_update_strategy": {"mode": "immediate"},
        "modified_on": "2026-12-01T10:00:00Z",
        "placement": {"regions": ["weur"]},
        "tags": [],
    }
    listed = answer({"success": True, "result": {"deployments": [live]}})
    with scripted_server() as server:
        made = answer({"success": True, "result": live})
        server.will(*[listed, made] * 4)
        client = ApiClient(f"{server.url}/client/v4", lambda: "a-token", retry=Retry(attempts=1))
        deployments = CloudflareDeployments(client, "account", "shop")
        shares = deployments.history()[0].shares
        other = type(shares[0].version)("v2")
        deployments.deploy(shares, message="a remark")
        deployments.history()
        deployments.deploy((*shares, Share(other, 0)), message="a proof")
        deployments.history()
        deployments.deploy((Share(shares[0].version, 90), Share(other, 10)), message="a split")
        deployments.history()
        deployments.activate("v2", message="a switch")
        client.close()
    sent = [json.loads(asked.body) for asked in server.asked if asked.method == "POST"]
    known = {"strategy", "versions", "annotations"}
    kept = [{name: value for name, value in body.items() if name not in known} for body in sent]
    assert kept == [{"placement": {"regions": ["weur"]}}] * 2 + [{}] * 2
