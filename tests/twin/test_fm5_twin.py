"""FM5 on the twin: real wrangler, workerd, Postgres, R2 and email; its health under faults, its variants' defects."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from backout.twin.traffic import Limits, Traffic

from extent import long, rotated
from fm5_app import DEFECTS, ORDER, VARIANTS, WELL
from fm5_twin import HOST, Fm5Twin, fm5_twin
from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.rotating("sample application", 3)


@pytest.fixture(scope="module")
def fm5() -> Iterator[Fm5Twin]:
    with fm5_twin() as running:
        yield running


def health(fm5: Fm5Twin) -> tuple[int, str, dict[str, str]]:
    """Status code, status, status of each service."""
    reply = fm5.app.get("/health")
    body = reply.json
    return reply.status, body["status"], {name: service["status"] for name, service in body["services"].items()}


def becomes(fm5: Fm5Twin, expected: tuple[int, str, dict[str, str]]) -> None:
    """Wait until /health says exactly this (a service needs a moment to go down or to come back)."""
    seen: list[object] = []

    def matches() -> bool:
        seen[:] = [health(fm5)]
        return seen == [expected]

    until(matches, 20, f"/health says {expected}, it said {seen}", every_s=0.1)


def connects(fm5: Fm5Twin) -> dict[str, bool]:
    """Return whether the services that are servers of their own take a connection at this moment."""
    addresses = {"database": urlsplit(str(fm5.twin.postgres_dsn)), "storage": urlsplit(str(fm5.twin.s3_endpoint))}
    taken = {}
    for name, address in addresses.items():
        with socket.socket() as probe:
            taken[name] = probe.connect_ex((address.hostname, address.port)) == 0
    return taken


def test_good_serves_every_route_with_every_service(fm5: Fm5Twin) -> None:
    """All of it works: catalogue, files, orders with their email, sessions, health; each answer names the version."""
    version = fm5.live("good")
    app = fm5.app
    assert health(fm5) == (200, "ok", WELL)
    assert app.get("/health").json["version"]["id"] == version
    assert app.get("/api/models").json["models"][0]["name"] == "Bracket, 40 mm"
    key = "/api/files/drawing%20%C3%A4.txt"
    assert app.ask("PUT", key, b"lines", **{"content-type": "text/plain"}).status == 201
    stored = app.get(key)
    assert (stored.status, stored.body, stored.headers["content-type"]) == (200, b"lines", "text/plain")
    assert app.get("/api/files/nothing").status == 404
    assert (
        app.ask("POST", "/api/orders", {**ORDER, "email": "sent@example.com"}).json["order"]["confirmation"] == "sent"
    )
    assert fm5.twin.outbox is not None
    messages = [json.loads(path.read_bytes()) for path in Path(fm5.twin.outbox).glob("*.json")]
    assert ["sent@example.com"] in [message["to"] for message in messages]
    token = app.get("/api/session").json["token"]
    assert app.get("/api/session", Authorization=f"Bearer {token}").status == 200
    assert app.get("/").headers["x-fm5-version"] == version


@pytest.mark.parametrize(
    ("kind", "target", "expected"),
    [
        long("service-down", "database", (503, "error", {**WELL, "database": "error"})),
        long("service-down", "storage", (503, "error", {**WELL, "storage": "error"})),
        long("storage-denied", None, (503, "error", {**WELL, "storage": "error"})),
        ("service-down", "email", (200, "degraded", {**WELL, "email": "degraded"})),
    ],
)
def test_health_tells_which_service_is_down_and_that_it_is_back(
    fm5: Fm5Twin, kind: str, target: str | None, expected: tuple[int, str, dict[str, str]]
) -> None:
    """A critical service down is 503, email down is 200 and degraded, and both end with the fault.

    The twin answers when it is so, so that nobody meets what is only stopping or starting.
    """
    fm5.live("good")
    becomes(fm5, (200, "ok", WELL))
    with fm5.fault(kind, target):
        assert connects(fm5) == {"database": target != "database", "storage": target != "storage"}
        becomes(fm5, expected)
    assert connects(fm5) == {"database": True, "storage": True}
    becomes(fm5, (200, "ok", WELL))


@pytest.mark.long
def test_hyperdrives_cache_hides_an_outage_from_the_catalogue_but_not_from_health(fm5: Fm5Twin) -> None:
    """A list read a moment ago is answered although the database is down; /health asks what cannot be cached."""
    fm5.live("good")
    becomes(fm5, (200, "ok", WELL))
    assert fm5.app.get("/api/models").status == 200
    with fm5.fault("service-down", "database"):
        becomes(fm5, (503, "error", {**WELL, "database": "error"}))
        assert fm5.app.get("/api/models").status == 200
        assert fm5.app.get("/api/models/6").status == 500  # visitors ask for 1 to 5, so these may be cached
    becomes(fm5, (200, "ok", WELL))


@pytest.mark.long
def test_orders_are_taken_while_email_is_down(fm5: Fm5Twin) -> None:
    """Degraded means degraded: 201, the confirmation waits."""
    fm5.live("good")
    with fm5.fault("service-down", "email"):
        reply = fm5.app.ask("POST", "/api/orders", ORDER)
    assert (reply.status, reply.json["order"]["confirmation"]) == (201, "pending")


BUILT: dict[str, str] = {}
"""Which variant wrangler has built to which code, as far as tests have come."""


@pytest.mark.parametrize(
    "variant", ["wrong-table", *map(long, rotated([name for name in DEFECTS if name != "wrong-table"], 3))]
)
def test_each_variant_shows_its_defect_on_the_twin(fm5: Fm5Twin, variant: str) -> None:
    """Deployed over another version, it does what the README says, by code of its own; so does /health."""
    version = fm5.live(variant)
    assert BUILT.setdefault(fm5.code(version), variant) == variant
    for method, path, status in DEFECTS[variant]:
        reply = fm5.app.ask(method, path, ORDER if method == "POST" else None)
        assert (path, reply.status) == (path, status)
    reply = fm5.app.get("/health")
    assert (reply.status, reply.headers["x-fm5-version"]) == (200, version)
    email = "degraded" if variant == "health-email-down" else "ok"
    assert reply.json["services"]["email"]["status"] == reply.json["status"] == email


def test_every_variant_is_deployed_by_some_test() -> None:
    """A new variant cannot be forgotten here."""
    assert {*DEFECTS, "broken-start"} == set(VARIANTS)


@pytest.mark.long
def test_broken_start_is_refused_and_changes_nothing(fm5: Fm5Twin) -> None:
    """The upload fails with 10021 and the error's text; the version before stays live."""
    version = fm5.live("good")
    run = fm5.deploy("broken-start")
    assert run.returncode != 0
    assert "10021" in run.stderr
    assert "reading 'currency'" in run.stderr
    assert fm5.app.get("/").headers["x-fm5-version"] == version


@pytest.mark.long
def test_traffic_sees_a_good_version_and_then_the_bad_one(fm5: Fm5Twin) -> None:
    """No error on the good version; errors only, and counted to it, on the version that fails everything."""
    good = fm5.live("good")
    assert fm5.twin.ingress_url is not None
    traffic = Traffic(fm5.twin.ingress_url, HOST, 40, limits=Limits(for_s=120))
    traffic.start()
    until(lambda: traffic.summary().requests > 40, what="some visitors")
    bad = fm5.live("errors-all")
    until(lambda: any(v.version == bad and v.requests > 20 for v in traffic.summary().versions), what="the bad version")
    counts = {version.version: version for version in traffic.stop().versions}
    assert set(counts) == {good, bad}
    assert counts[good].errors == 0
    assert counts[bad].errors == counts[bad].requests
