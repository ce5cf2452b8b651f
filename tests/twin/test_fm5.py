"""FM5 in a real workerd: its answers, what /health says of each service, and the defect of every variant."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.config.loading import find_mistakes
from backout.providers.child import find_free_ports

from fm5_app import FM5, VARIANTS, App, Bindings, email_provider, serving, start
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "canary-secret-that-must-not-appear-anywhere"
TEXTS = {"JWT_SECRET": SECRET, "EMAIL_API_KEY": SECRET + "-2"}


def services(app: App) -> dict[str, str]:
    return {name: service["status"] for name, service in app.get("/health").json["services"].items()}


# --- the application ------------------------------------------------------------------------------------------------


def test_health_names_every_service_that_is_not_bound() -> None:
    """Without bindings: 503, one reason for each service, and the version that says so."""
    with serving("good") as app:
        reply = app.get("/health")
    assert reply.status == 503
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-fm5-version"] == "version-1"
    body = reply.json
    assert (body["status"], body["version"]) == ("error", {"id": "version-1", "tag": "v1"})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
    messages = {name: service["message"] for name, service in body["services"].items()}
    assert messages == {
        "database": "the binding HYPERDRIVE is missing",
        "storage": "the binding MODELS is missing",
        "email": "the variable EMAIL_API_URL is missing",
    }
    assert {service["status"] for service in body["services"].values()} == {"error"}


def test_an_email_provider_that_is_down_degrades_and_one_without_address_is_an_error() -> None:
    """Ok, refused by the provider, then nobody there: only the first is ok, and none of them is worth an outage."""
    with email_provider() as provider, serving("good", Bindings({**TEXTS, "EMAIL_API_URL": provider.url})) as app:
        assert services(app)["email"] == "ok"
        provider.status = 503
        assert app.get("/health").json["services"]["email"]["message"] == "the email provider answered 503"
        assert services(app)["email"] == "degraded"
    port = find_free_ports(1)[0]
    with serving("good", Bindings({"EMAIL_API_URL": f"http://127.0.0.1:{port}"})) as app:
        assert services(app)["email"] == "degraded"


def test_a_hanging_service_costs_health_its_limit_and_no_more() -> None:
    """Database and email hang together: /health answers after the 1.5 s of one check, naming both."""
    with (
        email_provider() as provider,
        socket.create_server(("127.0.0.1", 0)) as silent,
        serving("good", Bindings({"EMAIL_API_URL": provider.url}, silent.getsockname()[1])) as app,
    ):
        provider.hold.clear()
        begin = time.monotonic()
        reply = app.get("/health")
        took_s = time.monotonic() - begin
        provider.hold.set()
    assert reply.status == 503
    latencies_ms = [reply.json["services"][name]["latency_ms"] for name in ("database", "email")]
    assert min(latencies_ms) >= 1400
    assert 1.4 < took_s < sum(latencies_ms) / 1000, "one after the other"
    assert reply.json["services"]["database"]["status"] == "error"
    assert reply.json["services"]["email"]["status"] == "degraded"


def test_no_secret_and_no_address_is_in_any_message() -> None:
    """Whatever an error says: values of secrets and connection strings stay inside."""
    address = f"http://user:{SECRET}@127.0.0.1:1/{SECRET}"
    bindings = Bindings({**TEXTS, "EMAIL_API_URL": address}, find_free_ports(1)[0], SECRET)
    with serving("good", bindings) as app:
        reply = app.get("/health")
    assert reply.status == 503
    assert reply.json["services"]["database"]["status"] == "error"
    assert SECRET.encode() not in reply.body
    assert b"://" not in reply.body


def test_a_session_is_signed_and_its_token_verified() -> None:
    """A guest's token is accepted, a changed one and one of another algorithm are not, and no secret means an error."""
    with serving("good", Bindings(TEXTS)) as app:
        token = app.get("/api/session").json["token"]
        assert app.get("/api/session", Authorization=f"Bearer {token}").json["session"]["sub"].startswith("guest-")
        header, payload, signature = token.split(".")
        unsigned = f"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}."
        other = "B" if signature.startswith("A") else "A"
        for bad in (f"{header}.{payload}.{other}{signature[1:]}", unsigned, "x", f"{header}.{payload}.$$$"):
            assert app.get("/api/session", Authorization=f"Bearer {bad}").status == 401
    with serving("good") as app:
        assert app.get("/api/session").status == 500


def test_mistakes_of_the_client_are_4xx() -> None:
    """Unknown paths, wrong methods and malformed bodies are the client's, and need no service to be told so."""
    with serving("good") as app:
        assert app.get("/nowhere").status == 404
        wrong = app.ask("DELETE", "/api/models")
        assert (wrong.status, wrong.headers["allow"]) == (405, "GET, POST, OPTIONS")
        assert app.get("/api/models/x").status == 400
        assert app.get("/api/models/99999999999").status == 400
        for body in (b"", b"[]", b"{", {"name": ""}, {"name": "x", "price_cents": -1}):
            assert app.ask("POST", "/api/models", body).status == 400
        for body in ({}, {"model_id": 1, "quantity": 0}, {"model_id": 1, "email": "nobody"}):
            assert app.ask("POST", "/api/orders", body).status == 400
        assert app.ask("HEAD", "/").status == 200
        assert b"<h1>FM5</h1>" in app.get("/").body


# --- the variants ---------------------------------------------------------------------------------------------------


def test_every_variant_is_documented() -> None:
    """The README's table and the folder agree."""
    readme = (FM5 / "README.md").read_text(encoding="utf-8")
    drills = readme.split("## Variants")[1].split("## ")[0]
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", drills, re.MULTILINE)) == set(VARIANTS)


def test_good_2_is_healthy_and_other_code() -> None:
    """The second good version answers alike and can be told apart."""
    with serving("good-2", Bindings(TEXTS)) as app:
        assert app.get("/").headers["x-fm5-release"] == "2026-11"
        assert app.get("/api/session").status == 200


def test_throws_on_one_route_only() -> None:
    """GET /api/models throws, everything else works."""
    with serving("throws-on-one-route", Bindings(TEXTS)) as app:
        assert app.get("/api/models").status == 500
        assert app.get("/").status == 200
        assert app.get("/api/session").status == 200


def test_errors_5_percent_fails_about_one_in_twenty_but_never_health() -> None:
    """600 requests: between 8 and 60 failures (a chance below 1e-4 to be outside); /health always answers itself."""
    with serving("errors-5-percent") as app:
        failures = sum(app.get("/").status == 500 for _ in range(600))
        assert 8 <= failures <= 60
        assert {app.get("/health").status for _ in range(40)} == {503}


def test_errors_all_fails_everything_but_health() -> None:
    """Every visitor gets a 500."""
    with serving("errors-all") as app:
        assert {app.get(path).status for path in ("/", "/api/models", "/nowhere")} == {500}
        assert app.get("/health").json["services"]


@pytest.mark.long
def test_slow_delays_a_few_requests_and_slow_all_delays_each() -> None:
    """About 3 % of 300 requests take SLOW_BY_MS longer; with slow-all every one; /health is not delayed."""
    with serving("slow", Bindings({"SLOW_BY_MS": "250"})) as app:
        delayed = sum(_seconds(app, "/") >= 0.25 for _ in range(300))
        assert 1 <= delayed <= 40
    with serving("slow-all", Bindings({"SLOW_BY_MS": "250"})) as app:
        assert min(_seconds(app, "/") for _ in range(5)) >= 0.25
        assert min(_seconds(app, "/health") for _ in range(10)) < 0.25


def _seconds(app: App, path: str) -> float:
    begin = time.perf_counter()
    app.get(path)
    return time.perf_counter() - begin


def test_missing_variable_throws_where_it_is_used_and_nowhere_else() -> None:
    """The variable is needed at use: other routes work, and setting it heals the Worker."""
    order = {"model_id": 1, "quantity": 0, "email": "a@example.com"}  # refused by FM5 before it needs a database
    with serving("missing-variable", Bindings(TEXTS)) as app:
        assert app.get("/api/models/x").status == 500
        assert app.ask("POST", "/api/orders", order).status == 500
        assert app.get("/api/session").status == 200
    with serving("missing-variable", Bindings({**TEXTS, "PAYMENTS_API_KEY": "test_1"})) as app:
        assert app.get("/api/models/x").status == 400
        assert app.ask("POST", "/api/orders", order).headers["x-fm5-payments"] == "test"


@pytest.mark.long
def test_leak_is_healthy_first_and_fails_more_and_more() -> None:
    """With a limit of 1 s: no failure before it, some after it, nothing but failures after twice as long."""
    with serving("leak", Bindings({"LEAK_FAILS_AFTER_S": "1"})) as app:
        assert {app.get("/").status for _ in range(5)} == {200}
        until(lambda: app.get("/").status == 500, 10, "the first failure")
        until(lambda: {app.get("/").status for _ in range(30)} == {500}, 10, "nothing but failures")
        assert app.get("/health").json["services"]


def test_broken_start_never_runs(tmp_path: Path) -> None:
    """Workerd ends with the error's text, which becomes the refusal of the upload."""
    process = start("broken-start", Bindings(), tmp_path, find_free_ports(1)[0])
    assert process.wait(timeout=PATIENCE_S) != 0
    output = (tmp_path / "output").read_text(encoding="utf-8")
    assert "Cannot read properties of undefined (reading 'currency')" in output


def test_health_email_down_degrades_email_only() -> None:
    """The wrong address is the variant's own; what the environment says does not matter."""
    with email_provider() as provider, serving("health-email-down", Bindings({"EMAIL_API_URL": provider.url})) as app:
        assert services(app)["email"] == "degraded"


def test_the_configuration_of_both_environments_binds_what_the_code_reads() -> None:
    """wrangler.jsonc: bindings are not inherited by environments, so that each has to have all of them."""
    text = (FM5 / "wrangler.jsonc").read_text(encoding="utf-8")
    config = json.loads(re.sub(r"(?m)(^|[\s,])//.*$", r"\1", text))
    for name in ("staging", "production"):
        environment = config["env"][name]
        assert environment["name"] == f"fm5-{name}"
        assert environment["r2_buckets"][0]["binding"] == "MODELS"
        assert environment["hyperdrive"][0]["binding"] == "HYPERDRIVE"
        assert environment["version_metadata"] == {"binding": "CF_VERSION"}
        assert environment["vars"]["EMAIL_API_URL"].startswith("https://")
        assert environment["triggers"]["crons"]


def test_backout_toml_is_without_mistakes() -> None:
    """The application's own configuration is a correct example of one."""
    file = FM5 / "backout.toml"
    assert find_mistakes(file.read_text(encoding="utf-8"), file) == ()


def test_many_requests_at_once_are_answered() -> None:
    """One workerd serves what the traffic generator sends at most at once."""
    with serving("good", Bindings(TEXTS)) as app:
        statuses: list[int] = []
        threads = [threading.Thread(target=lambda: statuses.append(app.get("/api/session").status)) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 64
