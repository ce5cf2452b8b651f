"""Cloudflare's rules, asked through HTTP: versions, deployments, secrets, bindings, buckets, tokens and faults."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from twin_harness import ACCOUNT, Answer, Api, multipart, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEEP = ["secret_text", "secret_key"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as running:
        yield running


def live(api: Api, script: str = "fm5") -> list[tuple[str, float]]:
    deployments = api.call("GET", f"{script}/deployments").result["deployments"]
    shares = [(v["version_id"], v["percentage"]) for v in deployments[0]["versions"]]
    assert [(v.id, p) for v, p in api.data_plane.live[script]] == shares
    return shares


def versions(api: Api, script: str = "fm5") -> list[str]:
    """Version ids, oldest first."""
    items = api.call("GET", f"{script}/versions?deployable=true").result["items"]
    return [item["id"] for item in reversed(items)]


def deploy(api: Api, *shares: tuple[str, float], query: str = "", message: str = "") -> Answer:
    body = {
        "strategy": "percentage",
        "versions": [{"version_id": v, "percentage": p} for v, p in shares],
        "annotations": {"workers/message": message},
    }
    return api.call("POST", f"fm5/deployments{query}", body)


def put_secret(api: Api, name: str, text: str) -> Answer:
    return api.call("PUT", "fm5/secrets", {"name": name, "text": text, "type": "secret_text"})


def test_an_upload_creates_the_script_and_is_live(api: Api) -> None:
    """PUT makes version 1, deploys it, and answers the version's id without hyphens as deployment_id."""
    assert api.call("GET", "fm5/deployments").code == 10007
    assert api.call("GET", f"/client/v4/accounts/{ACCOUNT}/workers/services/fm5").code == 10090
    result = api.upload("fm5", annotations={"workers/message": "first", "workers/tag": "v1"}).result
    (version_id,) = versions(api)
    assert result["deployment_id"] == version_id.replace("-", "")
    assert live(api) == [(version_id, 100)]
    detail = api.call("GET", f"fm5/versions/{version_id}").result
    assert detail["number"] == 1
    assert detail["annotations"] == {
        "workers/message": "first",
        "workers/tag": "v1",
        "workers/triggered_by": "upload",
    }
    assert detail["resources"]["script"]["etag"] == result["etag"]


def test_a_version_upload_is_not_live_and_needs_an_existing_script(api: Api) -> None:
    """POST versions never deploys, and refuses a script that was never uploaded (10007)."""
    assert api.upload("fm5", deploy=False).code == 10007
    first = api.upload("fm5", "export default {a: 1}").result
    second = api.upload("fm5", "export default {a: 2}", deploy=False).result
    assert live(api)[0][0].replace("-", "") == first["deployment_id"]
    assert [second["id"]] == versions(api)[1:]
    assert second["metadata"]["has_preview"] is False


def test_the_same_code_has_the_same_etag_whatever_the_configuration(api: Api) -> None:
    """The etag is a hash of the modules alone."""
    one = api.upload("fm5", "export default {a: 1}").result["etag"]
    same = api.upload("fm5", "export default {a: 1}", bindings=[{"name": "A", "type": "plain_text", "text": "b"}])
    other = api.upload("fm5", "export default {a: 2}").result["etag"]
    assert same.result["etag"] == one
    assert other != one


@pytest.mark.parametrize("percentages", [(), (50.0,), (60.0, 30.0), (40.0, 30.0, 30.0), (-10.0, 110.0), (100.0, 0.5)])
def test_a_deployment_holds_one_or_two_versions_that_sum_to_100(api: Api, percentages: tuple[float, ...]) -> None:
    """Everything else is refused and changes nothing."""
    for number in range(3):
        api.upload("fm5", f"export default {{n: {number}}}")
    before = live(api)
    answer = deploy(api, *zip(versions(api), percentages, strict=False))
    assert answer.status == 400
    assert answer.body["success"] is False
    assert live(api) == before


def test_a_split_with_zero_percent_is_kept_as_given(api: Api) -> None:
    """0 % and 100 % is a legal deployment: the 0 % version answers overrides only."""
    api.upload("fm5", "export default {n: 1}")
    api.upload("fm5", "export default {n: 2}")
    old, new = versions(api)
    result = deploy(api, (old, 0), (new, 100), message="probe").result
    assert live(api) == [(old, 0), (new, 100)]
    assert result["annotations"] == {"workers/message": "probe", "workers/triggered_by": "deployment"}
    assert deploy(api, (new, 90), (new, 10)).status == 400


def test_deployments_are_newest_first_and_at_most_ten(api: Api) -> None:
    """The list shows ten; the first one is live."""
    api.upload("fm5", "export default {n: 0}")
    api.upload("fm5", "export default {n: 1}")
    ids = versions(api)
    made = [deploy(api, (ids[n % 2], 100)).result["id"] for n in range(12)]
    shown = [d["id"] for d in api.call("GET", "fm5/deployments").result["deployments"]]
    assert shown == list(reversed(made))[:10]
    assert api.call("GET", f"fm5/deployments/{made[0]}").result["id"] == made[0]


def test_every_change_of_a_secret_is_a_new_live_version_without_its_value(api: Api) -> None:
    """PUT, bulk and DELETE each make one version, deploy it, keep the code, and never answer a value."""
    etag = api.upload("fm5").result["etag"]
    put_secret(api, "JWT_SECRET", "s3cret-value")
    change = {"secrets": {"A": {"name": "A", "text": "s3cret-value", "type": "secret_text"}, "JWT_SECRET": None}}
    assert api.call("PATCH", "fm5/secrets-bulk", change).status == 200
    assert [s["name"] for s in api.call("GET", "fm5/secrets").result] == ["A"]
    assert api.call("DELETE", "fm5/secrets/A?url_encoded=true").status == 200
    assert api.call("DELETE", "fm5/secrets/A?url_encoded=true").code == 10056
    ids = versions(api)
    assert len(ids) == 4
    assert live(api) == [(ids[3], 100)]
    details = [api.call("GET", f"fm5/versions/{version_id}") for version_id in ids]
    assert {d.result["resources"]["script"]["etag"] for d in details} == {etag}
    assert [d.result["annotations"]["workers/triggered_by"] for d in details] == ["upload"] + ["secret"] * 3
    assert details[1].result["resources"]["bindings"] == [{"name": "JWT_SECRET", "type": "secret_text"}]
    assert "s3cret-value" not in json.dumps([d.body for d in details] + [api.call("GET", "fm5/settings").body])


def test_a_secret_cannot_have_the_name_of_another_binding(api: Api) -> None:
    """10053 for one and for several at once; nothing is changed, and deleting is another matter."""
    api.upload("fm5", bindings=[{"name": "COLOR", "type": "plain_text", "text": "blue"}])
    before = versions(api)
    assert put_secret(api, "COLOR", "red").code == 10053
    change = {"secrets": {n: {"name": n, "text": "x", "type": "secret_text"} for n in ("A", "COLOR")}}
    assert api.call("PATCH", "fm5/secrets-bulk", change).code == 10053
    assert versions(api) == before


def test_a_secret_cannot_be_put_while_the_latest_version_is_not_live(api: Api) -> None:
    """10215 after a version upload and after a rollback; `versions/latest` still takes it, without deploying."""
    api.upload("fm5", "export default {n: 1}")
    (first,) = versions(api)
    api.upload("fm5", "export default {n: 2}", deploy=False)
    assert put_secret(api, "A", "1").code == 10215
    assert live(api) == [(first, 100)]
    patch = {"env": {"A": {"type": "secret_text", "text": "1"}}, "annotations": {"workers/message": "later"}}
    beta = f"/client/v4/accounts/{ACCOUNT}/workers/workers/fm5"
    made = api.call("PATCH", f"{beta}/versions/latest", patch).result
    assert made["annotations"] == {"workers/message": "later", "workers/triggered_by": "secret"}
    assert made["resources"]["bindings"] == [{"name": "A", "type": "secret_text"}]
    assert live(api) == [(first, 100)]
    assert deploy(api, (made["id"], 100)).status == 200, "a newer version brings its own secrets"


def test_an_older_version_with_other_secrets_needs_force(api: Api) -> None:
    """10220 names the changed secrets and changes nothing; force=true brings the old values back."""
    api.upload("fm5")
    put_secret(api, "JWT_SECRET", "old")
    put_secret(api, "API_KEY", "same")
    _, _, target = versions(api)
    put_secret(api, "JWT_SECRET", "new")
    before = live(api)
    refused = deploy(api, (target, 100))
    assert refused.code == 10220
    assert refused.body["errors"][0]["message"].endswith("have changed: JWT_SECRET")
    assert live(api) == before
    assert deploy(api, (target, 100), query="?force=true").status == 200
    bindings = {b.name: b.value for b in api.data_plane.live["fm5"][0][0].bindings}
    assert bindings == {"JWT_SECRET": "old", "API_KEY": "same"}


def test_code_that_throws_at_start_is_refused_with_the_runtimes_own_text(api: Api) -> None:
    """10021, and neither a version nor a script is left behind."""
    refused = api.upload("fm5", "throw new Error('THROWS AT START')")
    assert refused.code == 10021
    assert "Uncaught Error: THROWS AT START" in refused.body["errors"][0]["message"]
    assert api.call("GET", "fm5/deployments").code == 10007


def test_bindings_are_inherited_and_kept(api: Api) -> None:
    """`inherit` takes the previous binding, or fails with 10057 if asked to; keep_bindings keeps whole types."""
    first = [
        {"name": "A", "type": "plain_text", "text": "a"},
        {"name": "B", "type": "plain_text", "text": "b"},
        {"name": "S", "type": "secret_text", "text": "s"},
    ]
    api.upload("fm5", bindings=first)
    api.upload("fm5", bindings=[{"name": "A", "type": "inherit"}], keep_bindings=KEEP)
    shown = api.call("GET", "fm5/settings").result["bindings"]
    assert shown == [{"name": "A", "type": "plain_text", "text": "a"}, {"name": "S", "type": "secret_text"}]
    meta = {"main_module": "index.js", "bindings": [{"name": "Z", "type": "inherit"}]}
    form, content_type = multipart(meta, {"index.js": "export default {}"})
    refused = api.call("PUT", "fm5?bindings_inherit=strict", form, **{"Content-Type": content_type})
    assert refused.code == 10057
    assert len(versions(api)) == 2
    api.upload("fm5", bindings=[{"name": "Z", "type": "inherit"}])  # as documented: silently left out
    assert api.call("GET", "fm5/settings").result["bindings"] == [{"name": "S", "type": "secret_text"}]


@pytest.mark.parametrize("deploy", [True, False], ids=["put", "versions"])
def test_an_upload_that_says_nothing_of_secrets_keeps_them(api: Api, *, deploy: bool) -> None:
    """Wrangler 4.86 deploys without keep_bindings: secrets stay, variables do not."""
    first = [
        {"name": "A", "type": "plain_text", "text": "a"},
        {"name": "S", "type": "secret_text", "text": "s"},
    ]
    api.upload("fm5", bindings=first)
    api.upload("fm5", deploy=deploy)
    shown = api.call("GET", f"fm5/versions/{versions(api)[-1]}").result["resources"]["bindings"]
    assert shown == [{"name": "S", "type": "secret_text"}]


def test_hyperdrive_configurations(api: Api) -> None:
    """They are made, listed, changed and deleted; how one caches counts, and no answer and no file has the password."""
    configs = f"/client/v4/accounts/{ACCOUNT}/hyperdrive/configs"
    origin = {"scheme": "postgresql", "host": "db.example.com", "port": 5432, "database": "app", "user": "app"}
    made = api.call("POST", configs, {"name": "app", "origin": {**origin, "password": "canary-of-the-origin"}}).result
    assert (made["name"], made["origin"], made["caching"]) == ("app", origin, {"disabled": False})
    assert api.data_plane.policies[made["id"]].enabled
    assert api.call("GET", configs).result == [made]
    changed = api.call("PATCH", f"{configs}/{made['id']}", {"caching": {"disabled": True}}).result
    assert (changed["origin"], changed["caching"]) == (origin, {"disabled": True})
    assert not api.data_plane.policies[made["id"]].enabled
    assert api.call("POST", configs, {"name": "", "origin": {}}).status == 400
    assert api.call("DELETE", f"{configs}/{made['id']}").status == 200
    assert api.call("GET", f"{configs}/{made['id']}").status == 404


def test_a_version_whose_bucket_is_gone_cannot_be_deployed(api: Api) -> None:
    """10085 at upload and at deployment; the live one stays."""
    binding = [{"name": "MODELS", "type": "r2_bucket", "bucket_name": "fm5-models"}]
    assert api.upload("fm5", bindings=binding).code == 10085
    buckets = f"/client/v4/accounts/{ACCOUNT}/r2/buckets"
    assert api.call("POST", buckets, {"name": "fm5-models"}).result["name"] == "fm5-models"
    assert api.call("POST", buckets, {"name": "fm5-models"}).code == 10004
    assert api.upload("fm5", bindings=binding).status == 200
    assert api.upload("fm5", "export default {b: 2}").status == 200
    assert api.call("DELETE", f"{buckets}/fm5-models").status == 200
    assert api.call("GET", f"{buckets}/fm5-models").code == 10006
    old, new = versions(api)
    assert deploy(api, (old, 100)).code == 10085
    assert live(api) == [(new, 100)]


def test_buckets_follow_the_store_unless_a_fault_hides_it(api: Api) -> None:
    """A bucket made or deleted through S3 counts; while storage is denied or down the last known list does."""
    buckets = f"/client/v4/accounts/{ACCOUNT}/r2/buckets"
    api.buckets.made.add("made-by-s3")
    assert [b["name"] for b in api.call("GET", buckets).result["buckets"]] == ["made-by-s3"]
    api.call("PUT", "/twin/v1/faults", {"kind": "storage-denied", "target": "made-by-s3"})
    api.buckets.made.clear()
    assert api.call("GET", f"{buckets}/made-by-s3").status == 200
    api.call("DELETE", "/twin/v1/faults")
    assert api.call("GET", f"{buckets}/made-by-s3").code == 10006


def test_a_durable_object_migration_cannot_be_crossed(api: Api) -> None:
    """A version from before the migration is refused, and a migration in a version upload too (10211)."""
    api.upload("fm5", "export default {n: 1}")
    migrations = {"new_tag": "v1", "steps": [{"new_sqlite_classes": ["Counter"]}]}
    assert api.upload("fm5", "export default {n: 2}", deploy=False, migrations=migrations).code == 10211
    assert api.upload("fm5", "export default {n: 2}", migrations=migrations).status == 200
    service = api.call("GET", f"/client/v4/accounts/{ACCOUNT}/workers/services/fm5").result
    assert service["default_environment"]["script"]["migration_tag"] == "v1"
    old, new = versions(api)
    assert deploy(api, (old, 100)).code == 10211
    assert live(api) == [(new, 100)]


def test_only_the_100_newest_versions_can_be_deployed(api: Api) -> None:
    """The first of 101 versions is out of the window: not listed as deployable, still readable, refused."""
    api.upload("fm5", "export default {n: 0}")
    (oldest,) = versions(api)
    for number in range(100):
        api.upload("fm5", f"export default {{n: {number + 1}}}", deploy=False)
    inside = versions(api)
    assert len(inside) == 100
    assert oldest not in inside
    assert api.call("GET", f"fm5/versions/{oldest}").result["number"] == 1
    assert deploy(api, (inside[0], 100)).status == 200
    assert deploy(api, (oldest, 100)).status == 400
    last_page = api.call("GET", "fm5/versions?page=11&per_page=10")
    assert [item["id"] for item in last_page.result["items"]] == [oldest]
    assert last_page.body["result_info"]["total_count"] == 101


def test_a_message_is_cut_at_1000_bytes_inside_no_character(api: Api) -> None:
    """Cloudflare truncates; an umlaut at the border is dropped whole."""
    api.upload("fm5")
    (version_id,) = versions(api)
    message = deploy(api, (version_id, 100), message="x" + "ü" * 600).result["annotations"]["workers/message"]
    assert message == "x" + "ü" * 499


def test_the_token_and_the_account_are_checked(api: Api) -> None:
    """A wrong or missing token is 401 with the documented codes, another account 403."""
    wrong = api.call("GET", "fm5/deployments", token="wrong")
    assert (wrong.status, wrong.code) == (401, 10000)
    assert api.call("GET", "/client/v4/user/tokens/verify", token="wrong").code == 9109
    assert api.call("GET", "/twin/v1/status", token="").status == 401
    assert api.call("GET", "/client/v4/accounts/somebody/workers/scripts").status == 403
    assert api.call("GET", "/client/v4/user/tokens/verify").result["status"] == "active"
    assert api.call("GET", "/client/v4/accounts").result[0]["id"] == ACCOUNT


def test_what_the_twin_cannot_answer_is_501_and_counted(api: Api) -> None:
    """An unknown path is an error in the envelope, and stands in the list of unknown routes."""
    answer = api.call("GET", f"/client/v4/accounts/{ACCOUNT}/vectorize/indexes")
    assert (answer.status, answer.code, answer.body["success"]) == (501, 7003, False)
    assert api.call("DELETE", "/client/v4/user").status == 501
    assert api.call("GET", "/twin/v1/status").result["unknown_routes"] == [
        "DELETE /client/v4/user",
        f"GET /client/v4/accounts/{ACCOUNT}/vectorize/indexes",
    ]


def test_answers_carry_the_date_and_garbage_is_refused_in_the_envelope(api: Api) -> None:
    """The Date header lets a client measure its clock; a body that is no JSON is a 400, not a crash."""
    api.upload("fm5")
    assert "Date" in api.call("GET", "fm5/deployments").headers
    for method, path in (("POST", "fm5/deployments"), ("PUT", "fm5/secrets"), ("PUT", "fm5"), ("PUT", "fm5/schedules")):
        answer = api.call(method, path, b"{not json")
        assert (answer.status, answer.body["success"]) == (400, False), path
    assert api.call("POST", "fm5/deployments", [1]).status == 400


def test_settings_schedules_subdomain_and_domains_are_kept_beside_the_versions(api: Api) -> None:
    """None of them makes a version; each reads back."""
    api.upload("fm5")
    api.call("PATCH", "fm5/script-settings", {"tags": ["cf:service=fm5"], "observability": {"enabled": True}})
    api.call("PUT", "fm5/schedules", [{"cron": "*/5 * * * *"}])
    api.call("POST", "fm5/subdomain", {"enabled": False})
    plan = api.call("POST", "fm5/domains/changeset?replace_state=true", [{"hostname": "fm5.example.com"}])
    api.call("PUT", "fm5/domains/records", {"origins": [{"hostname": "fm5.example.com"}]})
    assert plan.result["added"] == [{"hostname": "fm5.example.com"}]
    assert api.call("GET", "fm5/settings").result["tags"] == ["cf:service=fm5"]
    assert [s["cron"] for s in api.call("GET", "fm5/schedules").result["schedules"]] == ["*/5 * * * *"]
    assert api.control.domains == {"fm5.example.com": "fm5"}
    api.call("POST", "fm5/subdomain", {"enabled": True})
    assert api.control.domains == {"fm5.example.com": "fm5", "fm5.twin.workers.dev": "fm5"}
    worker = api.call("GET", f"/client/v4/accounts/{ACCOUNT}/workers/workers/fm5").result
    assert worker["subdomain"] == {"enabled": True, "previews_enabled": False}
    assert len(versions(api)) == 1
    assert [d["hostname"] for d in api.call("GET", f"/client/v4/accounts/{ACCOUNT}/workers/domains").result] == [
        "fm5.example.com"
    ]


def test_a_deleted_worker_is_gone(api: Api) -> None:
    """DELETE stops it and forgets every version; a new upload starts at number 1 again."""
    api.upload("fm5")
    service = f"/client/v4/accounts/{ACCOUNT}/workers/services/fm5"
    assert api.call("DELETE", service).result["id"] == "fm5"
    assert "fm5" not in api.data_plane.live
    assert api.call("DELETE", service).code == 10090
    api.upload("fm5")
    assert len(versions(api)) == 1


def test_objects_of_a_bucket_go_in_and_out_unchanged(api: Api) -> None:
    """PUT, GET and DELETE of a key with slashes and spaces."""
    buckets = f"/client/v4/accounts/{ACCOUNT}/r2/buckets"
    api.call("POST", buckets, {"name": "fm5-models"})
    thing = f"{buckets}/fm5-models/objects/a%20folder/b.bin"
    data = bytes(range(256)) * 300
    assert api.call("PUT", thing, data, **{"Content-Type": "model/stl"}).result["key"] == "a folder/b.bin"
    got = api.call("GET", thing)
    assert (got.body, got.headers["Content-Type"]) == (data, "model/stl")
    assert api.call("DELETE", thing).status == 200
    assert api.call("GET", thing).status == 404
    assert api.call("PUT", f"{buckets}/nosuch/objects/x", b"").code == 10006


def test_api_faults_hit_the_api_and_not_the_twins_own_endpoints(api: Api) -> None:
    """Down is 503, 429 carries Retry-After, a target narrows by path, and clearing ends it."""
    api.upload("fm5")
    api.call("PUT", "/twin/v1/faults", {"kind": "api-429", "retry_after_s": 7, "target": "/deployments"})
    limited = api.call("GET", "fm5/deployments")
    assert (limited.status, limited.headers["Retry-After"]) == (429, "7")
    assert api.call("GET", "fm5/settings").status == 200
    api.call("PUT", "/twin/v1/faults", {"kind": "api-down"})
    assert api.call("GET", "fm5/settings").status == 503
    assert [f["kind"] for f in api.call("GET", "/twin/v1/faults").result["faults"]] == ["api-429", "api-down"]
    assert len(api.call("DELETE", "/twin/v1/faults?kind=api-down").result["faults"]) == 1
    assert api.call("GET", "fm5/settings").status == 200
    assert len(api.call("DELETE", "/twin/v1/faults").result["faults"]) == 1
    api.call("PUT", "/twin/v1/faults", {"kind": "api-slow", "latency_ms": 300, "duration_s": 60})
    began = time.monotonic()
    assert api.call("GET", "fm5/settings").status == 200
    assert time.monotonic() - began >= 0.3
    api.call("DELETE", "/twin/v1/faults")
    assert api.call("PUT", "/twin/v1/faults", {"kind": "no-such"}).status == 400
    assert api.call("PUT", "/twin/v1/faults", {"kind": "service-down", "target": "moon"}).status == 400


def test_a_tail_is_registered_with_an_address_and_an_end(api: Api) -> None:
    """POST answers id, a websocket address with the id, and when it ends; the socket needs no token."""
    api.upload("fm5")
    made = api.call("POST", "fm5/tails", {"filters": []}).result
    assert made["url"] == f"ws://127.0.0.1:9/client/v4/tail-sockets/{made['id']}"
    assert 0 < datetime.fromisoformat(made["expires_at"]).timestamp() - time.time() <= 6 * 3600
    assert api.call("GET", f"/client/v4/tail-sockets/{made['id']}", token="").status == 404
    assert api.call("DELETE", f"fm5/tails/{made['id']}").status == 200


def test_assets_are_uploaded_in_a_session_and_served_with_their_types(api: Api) -> None:
    """Only missing files are asked for; the completion token puts them into the version."""
    manifest = {"/a.css": {"hash": "a" * 32, "size": 6}, "/b.html": {"hash": "b" * 32, "size": 2}}
    opened = api.call("POST", "fm5/assets-upload-session", {"manifest": manifest}).result
    assert sorted(h for bucket in opened["buckets"] for h in bucket) == ["a" * 32, "b" * 32]
    boundary = "----files"
    form = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{h}"; filename="{h}"\r\nContent-Type: {kind}\r\n\r\n'
        f"{text}\r\n"
        for h, kind, text in (("a" * 32, "text/css", "Ym9keXt9"), ("b" * 32, "text/html", "aGk="))
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    path = f"/client/v4/accounts/{ACCOUNT}/workers/assets/upload?base64=true"
    data = f"{form}--{boundary}--\r\n".encode()
    assert api.call("POST", path, data, token="x.y.z", **headers).status == 401
    done = api.call("POST", path, data, token=opened["jwt"], **headers)
    assert done.status == 201
    api.upload("fm5", assets={"jwt": done.result["jwt"], "config": {"html_handling": "none"}})
    version = api.data_plane.live["fm5"][0][0]
    assert {p: (f.read_bytes(), kind) for p, (f, kind) in version.assets.items()} == {
        "/a.css": (b"body{}", "text/css"),
        "/b.html": (b"hi", "text/html"),
    }
    assert json.loads(version.assets_config) == {"html_handling": "none"}
    again = api.call("POST", "fm5/assets-upload-session", {"manifest": manifest}).result
    assert again["buckets"] == []


def test_everything_is_still_there_after_a_restart(api: Api, tmp_path: Path) -> None:
    """A second control plane on the same files brings the same deployment back up, secrets included."""
    api.upload("fm5", bindings=[{"name": "S", "type": "secret_text", "text": "kept"}])
    before = live(api)
    with running_api(tmp_path) as again:
        assert live_after_restore(again) == before
        assert again.data_plane.live["fm5"][0][0].bindings[0].value == "kept"


def live_after_restore(api: Api) -> list[tuple[str, float]]:
    api.restore()
    return live(api)
