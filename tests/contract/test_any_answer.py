"""Whatever bytes a server sends, an adapter answers or raises an error of ours; what wrangler was answered is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backout.errors import BackoutError
from backout.model.guard.signals import HealthReport, Reach
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.secrets import CloudflareSecrets
from backout.providers.cloudflare.versions import CloudflareVersions
from backout.providers.exchange import Limits
from backout.providers.health.probe import HealthProbe
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry
from backout.providers.router.traffic import RouterTraffic

from extent import examples
from scripted_server import answer, raw_answer, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripted_server import ScriptedServer

RECORDED = Path(__file__).parent / "data" / "wrangler_requests.jsonl"
ONCE = Retry(attempts=1)
TOKEN = "canary-token-0123456789"

LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 503 X\r\n",
        b"HTTP/1.0 200\r\n",
        b"HTTP/9.9 999 X\r\n",
        b"HTTP/1.1 -1 X\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 302 Found\r\n",
        b"Location: http://[::1\r\n",
        b"Location: /\x80\xff\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: five\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Retry-After: -1\r\n",
        b"Retry-After: 99999999999999999999999\r\n",
        b"Date: 99 Foo 9999999 99:99:99\r\n",
        b"Content-Type: \xff\r\n",
        b"X: " + b"x" * 70_000 + b"\r\n",
        b"\r\n",
        b"ffffffffffffffff\r\n",
        b"-1\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b'{"success":true,"result":{"deployments":[]}}',
        b'{"success":true,"errors":[{"code":"x"}]}',
        b'{"status":"ok"}',
        b"null",
    ]
)
BYTES = st.lists(LINES | st.binary(max_size=20), max_size=8).map(b"".join)
RELAXED = examples(150)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


@RELAXED
@given(BYTES)
@example(b"HTTP/1.1 429 X\r\nRetry-After: 99999999999999999999999\r\nContent-Length: 0\r\n\r\n")
@example(b"HTTP/1.1 200 X\r\nDate: Mon, 99 Foo 99999 99:99:99 GMT\r\nContent-Length: 2\r\n\r\n{}")
def test_no_bytes_crash_the_api_client(server: ScriptedServer, data: bytes) -> None:
    """An answer, or an error that never holds the token."""
    server.will(raw_answer(data))
    limits = Limits(0.5, 0.5, 0.5, 100_000)
    client = ApiClient(server.url, lambda: TOKEN, clock=WorldClock(1000.0), retry=ONCE, limits=limits)
    port = CloudflareDeployments(client, "acc", "fm5")
    for call in (port.history, lambda: port.activate("v", message="x")):
        try:
            call()
        except BackoutError as error:
            assert TOKEN not in f"{error} {error.hint} {error.__cause__}"  # noqa: PT017 - an answer is right as well
    client.close()


@RELAXED
@given(BYTES)
def test_no_bytes_crash_the_traffic_source(server: ScriptedServer, data: bytes) -> None:
    """A page, or an error."""
    server.will(raw_answer(data))
    try:
        RouterTraffic(server.url, "fm5", lambda: TOKEN, clock=WorldClock(1000.0), retry=ONCE).read(1, 2)
    except BackoutError as error:
        assert TOKEN not in f"{error} {error.__cause__}"  # noqa: PT017


@RELAXED
@given(BYTES)
def test_no_bytes_crash_the_health_probe(server: ScriptedServer, data: bytes) -> None:
    """Always a report, and one that says why it is not measured."""
    server.will(raw_answer(data))
    probe = HealthProbe(server.url, timeout_s=0.5)
    report = probe.look()
    probe.close()
    assert isinstance(report, HealthReport)
    assert report.reach is Reach.ANSWERED or report.findings


def test_what_wrangler_was_answered_is_read() -> None:
    """Every recorded answer about deployments, versions and secrets becomes nouns with nothing lost that we use."""
    seen = {"deployments": 0, "versions": 0, "version": 0, "secrets": 0}
    with scripted_server() as server:
        client = ApiClient(server.url, lambda: TOKEN)
        deployments = CloudflareDeployments(client, "acc", "fm5")
        versions = CloudflareVersions(client, "acc", "fm5")
        for line in RECORDED.read_text("utf-8").splitlines():
            call = json.loads(line)
            if call["method"] != "GET" or call["status"] != 200 or "scripts/" not in call["path"]:
                continue
            result, last = call["response"]["result"], call["path"].rpartition("/")[2]
            server.will(answer(call["response"]))
            if last == "deployments":
                history = deployments.history()
                assert [d.id for d in history] == [d["id"] for d in result["deployments"]]
                assert all(d.created_at > 1_700_000_000 and d.shares for d in history)
                seen["deployments"] += 1
            elif last == "versions":
                assert {v.id for v in versions.recent()} == {v["id"] for v in result["items"]}
                seen["versions"] += 1
            elif "/versions/" in call["path"]:
                version = versions.detail(last)
                assert (version.id, version.code_hash) == (last, result["resources"]["script"]["etag"])
                assert len(version.bindings) == len(result["resources"]["bindings"])
                seen["version"] += 1
            elif last == "secrets":
                names = CloudflareSecrets(client, "acc", "fm5").names()
                assert names == tuple(sorted(secret["name"] for secret in result))
                seen["secrets"] += 1
    assert all(seen.values()), seen
