"""Every edge of HTTP with the whole bag of nastiness: its own error or a value, in bounded time, and nothing else."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from nastiness import ANSWERS, BYTES, HEADERS, JSON, Nasty, body, filled

from backout.analysis.diagnosis.templates import Templates
from backout.errors import BackoutError
from backout.model.guard.count_query import CountQuery
from backout.model.triggers import TriggerKind
from backout.providers.cloudflare.analytics import AnalyticsTraffic
from backout.providers.cloudflare.bundles import CloudflareBundles
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.d1 import D1History
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.logs import TelemetryLogs
from backout.providers.cloudflare.secrets import CloudflareSecrets
from backout.providers.cloudflare.telemetry import TelemetryTraffic
from backout.providers.cloudflare.token import CloudflareTokens
from backout.providers.cloudflare.triggers import CloudflareTriggers
from backout.providers.cloudflare.versions import CloudflareVersions
from backout.providers.exchange import Limits
from backout.providers.github.builds import GitHubBuilds
from backout.providers.github.client import GitHubClient
from backout.providers.health.probe import HealthProbe
from backout.providers.memory import WorldClock
from backout.providers.neon.branches import NeonBranches
from backout.providers.notify.channel import SendFailed
from backout.providers.notify.http_post import Post
from backout.providers.prometheus.client import MetricsClient
from backout.providers.prometheus.promql import PromqlTraffic, Queries
from backout.providers.prometheus.traffic import PrometheusTraffic
from backout.providers.retry import Retry
from backout.providers.router.client import RouterClient
from backout.providers.router.logs import RouterLogs
from backout.providers.router.traffic import RouterTraffic
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings
from backout.providers.statuspage.incidents import StatusPages
from backout.providers.vendor_api import VendorApi
from backout.providers.xata.branches import XataBranches

from extent import sampled
from scripted_server import raw_answer, scripted_server
from situations import deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripted_server import ScriptedServer

    Call = Callable[[str], object]

NOW, ONCE, TOKEN = 1_800_000_000.0, Retry(attempts=1), "canary-token-0123456789"
LIMITS = Limits(1.0, 1.0, 1.0, 1_000_000)
CLOCK = WorldClock(NOW)
SECOND = int(NOW) - 300
AT = "2026-11-25T00:00:00.000Z"
SERVED = (deployment("d", 1.0, ("v", 100.0)),)
COUNTERS = Queries(*[CountQuery.parse('http_requests_total{version="{version}"}')] * 2)
RATES = Queries(*[CountQuery.parse('rate(http_requests_total{version="{version}"}[1m])')] * 2)


def api(url: str) -> ApiClient:
    return ApiClient(url, lambda: TOKEN, clock=CLOCK, retry=ONCE, limits=LIMITS)


def vendor(url: str) -> VendorApi:
    return VendorApi("Vendor", url, lambda: TOKEN, "hint", clock=CLOCK, retry=ONCE, limits=LIMITS)


def s3(url: str) -> S3Client:
    settings = S3Settings(url, S3Credentials("a", "b"), timeout_s=1.0, total_s=1.0, retry=ONCE)
    return S3Client(settings, CLOCK)


def s3_get(url: str) -> bytes:
    with s3(url) as client, client.get("b", "k") as found:
        return found.read()


def s3_put(url: str) -> object:
    with s3(url) as client:
        return client.put("b", "k", b"x")


def s3_head(url: str) -> object:
    with s3(url) as client:
        return client.head("b", "k")


def s3_list(url: str) -> object:
    with s3(url) as client:
        return client.list_page("b"), client.version_page("b"), client.list_buckets()


def health(url: str) -> object:
    probe = HealthProbe(url, timeout_s=1.0, clock=CLOCK)
    try:
        return probe.look(), probe.fetch("/")
    finally:
        probe.close()


def enveloped(result: object) -> dict[str, Any]:
    return {"success": True, "errors": [], "result": result}


DEPLOYMENT = {
    "id": "d", "created_on": AT, "strategy": "percentage", "source": "api", "author_email": "a@example.com",
    "versions": [{"version_id": "v", "percentage": 100}], "annotations": {"workers/message": "m"},
}  # fmt: skip
VERSION = {
    "id": "v", "number": 1, "metadata": {"created_on": AT, "author_email": "a"}, "annotations": {"workers/tag": "t"},
    "resources": {"script": {"etag": "e"}, "bindings": [{"type": "secret_text", "name": "S"}]},
}  # fmt: skip
ROW = {
    "version": "v", "second": SECOND, "requests": 3, "errors": 1, "canceled": 0, "latency": [[3, 2]],
    "routes": {"/a": {"requests": 3, "errors": 1, "latency": [[3, 2]]}},
}  # fmt: skip
EVENT = {
    "at": NOW - 5, "outcome": "exception", "scriptVersion": {"id": "v"},
    "exceptions": [{"name": "E", "message": ["m", {"a": 1}], "stack": "s"}],
    "logs": [{"level": "error", "message": ["m"]}], "event": {"response": {"status": 500}},
}  # fmt: skip
SERIES = {"metric": {"version": "v", "status": "500", "le": "0.5", "job": "j"}, "values": [[NOW, "1"], [NOW + 15, "2"]]}
INCIDENT = {
    "name": "n", "status": "investigating", "impact": "major", "created_at": AT, "started_at": AT, "shortlink": "s",
    "components": [{"name": "c"}], "incident_updates": [{"affected_components": [{"name": "c"}]}],
}  # fmt: skip
GROUPS = [
    {"key": "$workers.scriptVersion.id", "value": "v"}, {"key": "$workers.event.response.status", "value": 500},
]  # fmt: skip
TELEMETRY = {"calculations": [{"series": [{"time": AT, "data": [{"value": 3, "groups": GROUPS}]}]}]}
ANALYTICS = {"sum": {"requests": 1, "errors": 1}, "dimensions": {"datetime": AT, "scriptVersion": "v", "status": "s"}}
GRAPHQL = {"data": {"viewer": {"accounts": [{"workersInvocationsAdaptive": [ANALYTICS]}]}}}
BRANCH = {
    "id": "br", "name": "main", "current_state": "ready", "created_at": AT, "default": True, "parent_id": "p",
    "parent_lsn": "0/1", "parent_timestamp": AT,
}  # fmt: skip
XATA = {
    "id": "br", "name": "main", "createdAt": AT, "parentID": None, "backupsEnabled": True, "connectionString": "postgres://h/d",
    "status": {"statusType": "healthy"},
}  # fmt: skip
CHECKS = {"database:time": [{"status": "pass", "output": "", "observedValue": 1, "time": AT}]}
RUN = {"id": 1, "status": "completed", "conclusion": "failure", "head_sha": "s", "created_at": AT, "html_url": "u"}

MODULE = {"name": "a", "content_type": "t", "content_base64": "eA=="}
MIGRATION = {"name": "m", "applied_at": "2026-11-25 00:00:00"}
NEON_PROJECT = {"id": "p", "history_retention_seconds": 1, "created_at": AT}


def github(url: str) -> GitHubClient:
    return GitHubClient(url, lambda: TOKEN, clock=CLOCK, retry=ONCE, limits=LIMITS)


def metrics(url: str) -> MetricsClient:
    return MetricsClient(RouterClient(url, retry=ONCE))


def promql(url: str, queries: Queries) -> PromqlTraffic:
    return PromqlTraffic(metrics(url), queries, lambda: SERVED, clock=CLOCK)


CALLS: dict[str, Call] = {
    "deployments": lambda url: CloudflareDeployments(api(url), "a", "s").history(),
    "activate": lambda url: CloudflareDeployments(api(url), "a", "s").activate("v", message="m"),
    "versions": lambda url: CloudflareVersions(api(url), "a", "s").recent(),
    "version": lambda url: CloudflareVersions(api(url), "a", "s").detail("v"),
    "secrets": lambda url: CloudflareSecrets(api(url), "a", "s").names(),
    "token": lambda url: CloudflareTokens({"all": api(url)}, "a", clock=CLOCK).look(),
    "triggers": lambda url: CloudflareTriggers(api(url), "a", "s").read([TriggerKind.SCHEDULES]),
    "code": lambda url: CloudflareBundles(api(url), "a", "s").fetch("v"),
    "d1": lambda url: D1History(api(url), "a", "d", clock=CLOCK).read(),
    "telemetry": lambda url: TelemetryTraffic(api(url), "a", "s", clock=CLOCK).read(SECOND, SECOND + 9),
    "telemetry logs": lambda url: TelemetryLogs(api(url), "a", "s", Templates()).read(NOW - 60, NOW),
    "analytics": lambda url: AnalyticsTraffic(api(url), "a", "s", clock=CLOCK).read(SECOND, SECOND + 9),
    "router": lambda url: RouterTraffic(url, "s", clock=CLOCK, retry=ONCE).read(SECOND, SECOND + 9),
    "router logs": lambda url: RouterLogs(url, "s", key_of=Templates(), clock=CLOCK, retry=ONCE).read(NOW - 60, NOW),
    "prometheus": lambda url: PrometheusTraffic(metrics(url), clock=CLOCK).read(SECOND, SECOND + 9),
    "promql": lambda url: promql(url, COUNTERS).read(SECOND, SECOND + 9),
    "promql rates": lambda url: promql(url, RATES).read(SECOND, SECOND + 9),
    "status page": lambda url: StatusPages([url]).incidents(),
    "health": health,
    "neon": lambda url: NeonBranches(vendor(url), "p", "br").capabilities(),
    "xata": lambda url: XataBranches(vendor(url), "o", "p", "br").capabilities(),
    "github": lambda url: GitHubBuilds(github(url), "o/r").latest(),
    "notices": lambda url: Post(url).send(b"{}", {}, NOW),
    "s3 get": s3_get,
    "s3 put": s3_put,
    "s3 head": s3_head,
    "s3 list": s3_list,
}
SHAPES: dict[str, object] = {
    "deployments": enveloped({"deployments": [DEPLOYMENT]}),
    "activate": enveloped(DEPLOYMENT),
    "versions": enveloped({"items": [VERSION]}),
    "version": enveloped(VERSION),
    "secrets": enveloped([{"name": "S", "type": "secret_text"}]),
    "token": enveloped({"id": "t", "status": "active", "expires_on": AT}),
    "triggers": enveloped({"schedules": [{"cron": "* * * * *"}]}),
    "code": enveloped({**VERSION, "main_module": "a", "modules": [MODULE]}),
    "d1": enveloped([{"success": True, "results": [MIGRATION]}]),
    "telemetry": enveloped(TELEMETRY),
    "telemetry logs": enveloped({"events": {"events": [EVENT]}}),
    "analytics": GRAPHQL,
    "router": {"complete_until": SECOND, "counts": [ROW]},
    "router logs": {"events": [EVENT]},
    "prometheus": {"data": {"result": [SERIES]}},
    "promql": {"data": {"result": [SERIES]}},
    "promql rates": {"data": {"result": [SERIES]}},
    "status page": {"page": {"name": "n", "url": "u"}, "incidents": [INCIDENT]},
    "health": {"status": "ok", "version": "v", "services": {"database": {"status": "ok"}}, "checks": CHECKS},
    "neon": {"project": NEON_PROJECT, "branches": [BRANCH], "snapshots": [BRANCH]},
    "xata": {**XATA, "branches": [XATA]},
    "github": {"workflow_runs": [RUN], "jobs": [{**RUN, "steps": [{"name": "n", "number": 1}]}]},
}
"""What each call is answered when all is well; the others take no JSON."""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


def drive(server: ScriptedServer, call: Call, items: list[Nasty]) -> None:
    """Answer one call after the other with one thing after the other; every failure is named at the end."""
    failures: list[str] = []
    for item in items:
        server.will(raw_answer(item.content))
        begun = time.monotonic()
        try:
            call(server.url)
        except (BackoutError, SendFailed) as error:
            text = f"{error} {getattr(error, 'hint', '')}"
            if TOKEN in text or len(text) > 2000:
                failures.append(f"{item}: it says {text[:200]}")
        except Exception as error:  # noqa: BLE001 - that is what this test looks for
            failures.append(f"{item}: {type(error).__name__}: {str(error)[:100]}")
        if time.monotonic() - begun > 30:
            failures.append(f"{item}: it took {time.monotonic() - begun:.0f} s")
    assert not failures, "\n".join(failures[:20])


def bag(shape: object) -> list[Nasty]:
    """Return the whole bag as answers of a server."""
    bodies = [*BYTES, *JSON, *filled(shape)]
    heads = [
        Nasty(f"{each} ({status})", body(b"{}", each.content, status=status))
        for each in HEADERS
        for status in (200, 429)
    ]
    return [*(Nasty(each.name, body(each.content)) for each in bodies), *heads, *ANSWERS]


@pytest.mark.parametrize("edge", CALLS)
def test_an_answer(server: ScriptedServer, edge: str) -> None:
    """What is in the bag as the answer to one call: a third of it in the short suite, half of it in the whole one."""
    every = bag(SHAPES.get(edge, {}))
    drive(server, CALLS[edge], [every[number] for number in sampled(len(every), 3, everything=2)])


@pytest.mark.rotating("tables of everything", 2)
@pytest.mark.long
@pytest.mark.proof
@pytest.mark.parametrize("edge", SHAPES)
def test_every_answer(server: ScriptedServer, edge: str) -> None:
    """The same with everything odd at each place of an answer: an eighth of it here, in another place each time."""
    every = filled(SHAPES[edge], whole=True)
    chosen = [every[number] for number in sampled(len(every), 8, everything=8)]
    drive(server, CALLS[edge], [Nasty(each.name, body(each.content)) for each in chosen])


@pytest.mark.parametrize("edge", SHAPES)
def test_the_right_answer(server: ScriptedServer, edge: str) -> None:
    """The shape that is filled with odd things is one that the edge reads."""
    server.will(raw_answer(body(json.dumps(SHAPES[edge]).encode()), stay=True))
    assert CALLS[edge](server.url) is not None
